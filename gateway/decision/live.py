"""The fourth gate: which grants of the thread allow this, and what a refusal may say of those that do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.decision.ask import Ask
from gateway.decision.consent import evaluate, excludes, excluding
from gateway.decision.explain import Gate, Note, Step, Trace
from gateway.decision.grants import Grant, GrantState
from gateway.decision.plan import PolicyIndex
from gateway.decision.rules import CompiledConsent, ConsentRequest
from gateway.identity import StatusView
from gateway.parties.model import ClassRule, Policy
from gateway.problems import Refusal

__all__ = ["Granted", "NoGrant", "excluding_rule", "in_force", "request_for", "usable_grants"]


@dataclass(frozen=True, slots=True)
class Granted:
    """The purpose, the grants used, and the classes they allow of those asked for; `classes` None where no consent is needed."""

    purpose: str
    grants: tuple[Grant, ...]
    classes: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class NoGrant:
    """What the sender is told, and why in full."""

    refusal: Refusal
    steps: Trace


def usable_grants(
    ask: Ask,
    scope: str,
    purposes: frozenset[str],
    classes: Mapping[str, ClassRule],
    policy: Policy,
    index: PolicyIndex,
) -> Granted | NoGrant:
    """The grants of `scope` that name this receiver, for the purpose among `purposes` that allows most of `classes`.

    Any party of the thread may use them, whoever recorded them. Of several with the same content the one that lasts longest is used.
    """
    known = policy.scopes.get(scope)
    whole_party = known is not None and not known.names_unit
    fitting: list[Grant] = []
    steps: list[Step] = []
    for grant in ask.grants:
        note = _misfit(grant, ask, scope, purposes, whole_party)
        if note is None:
            fitting.append(grant)
        else:
            steps.append(Step(Gate.CONSENT, note, grant.id))
    if fitting:
        best: Granted | None = None
        speaking = [g.rule for g in ask.grants if g.rule is not None and in_force(g, ask.at)]
        for purpose in sorted(purposes):
            found = _for_purpose(ask, fitting, speaking, purpose, classes, index)
            if found is not None and (best is None or len(found.classes or ()) > len(best.classes or ())):
                best = found
        if best is not None:
            return best
        steps.extend(Step(Gate.CONSENT, Note.RECEIVER_EXCLUDED, g.id) for g in fitting)
    steps.append(Step(Gate.CONSENT, Note.NO_GRANT))
    return NoGrant(_refusal(ask, steps), tuple(steps))


def in_force(grant: Grant, at: int) -> bool:
    """Whether a grant stands now."""
    return grant.state == GrantState.ACTIVE and grant.starts <= at and (grant.ends is None or at <= grant.ends)


def _misfit(grant: Grant, ask: Ask, scope: str, purposes: frozenset[str], whole_party: bool) -> Note | None:
    """The first thing about a grant that does not fit. Time comes last: a grant that "has ended" fits in all else."""
    if grant.receiver_party != ask.receiver.id:
        return Note.GRANT_OTHER_RECEIVER
    if grant.scope != scope:
        return Note.GRANT_OTHER_SCOPE
    if not _unit_fits(grant, ask, whole_party):
        return Note.GRANT_OTHER_UNIT
    if purposes.isdisjoint(grant.purposes):
        return Note.GRANT_OTHER_PURPOSE
    if grant.state != GrantState.ACTIVE:
        return Note.GRANT_WITHDRAWN if grant.state == GrantState.WITHDRAWN else Note.GRANT_SUPERSEDED
    if ask.at < grant.starts:
        return Note.GRANT_NOT_BEGUN
    if grant.ends is not None and grant.ends < ask.at:
        return Note.GRANT_ENDED
    return None


def _unit_fits(grant: Grant, ask: Ask, whole_party: bool) -> bool:
    """A unit without a shelf of its own shares one with the party's roles (on-call, manager): its grant reaches them, as its backups."""
    if grant.receiver_unit is None:
        return whole_party
    if ask.receiver_unit is None:
        return whole_party and ask.receiver.shelf_of(grant.receiver_unit) == ask.receiver.shelf_of(None)
    return grant.receiver_unit == ask.receiver_unit


def _for_purpose(
    ask: Ask,
    fitting: list[Grant],
    speaking: list[CompiledConsent],
    purpose: str,
    classes: Mapping[str, ClassRule],
    index: PolicyIndex,
) -> Granted | None:
    """What the grants allow for one purpose; None when every class of every one of them is excluded."""
    wanted = ask.present & classes.keys()
    usable: list[tuple[Grant, frozenset[str]]] = []
    for grant in fitting:
        if purpose in grant.purposes:
            allowed = grant.classes
            if speaking:
                asked = allowed & wanted
                allowed = _spoken(ask, grant, asked, speaking, purpose, index)
                allowed = allowed or _spoken(ask, grant, grant.classes - asked, speaking, purpose, index)
            if allowed:
                usable.append((grant, allowed))
    if not usable:
        return None
    if len(usable) > 1:
        usable.sort(key=lambda pair: (pair[0].ends is not None, -(pair[0].ends or 0), pair[0].id))
    grants: list[Grant] = []
    have: frozenset[str] = frozenset()
    for grant, allowed in usable:
        more = (allowed & wanted) - have
        if more or not grants:
            grants.append(grant)
            have |= more
    return Granted(purpose, tuple(grants), have)


def _spoken(
    ask: Ask, grant: Grant, classes: frozenset[str], speaking: list[CompiledConsent], purpose: str, index: PolicyIndex
) -> frozenset[str]:
    """Those of the classes that the grant's own consent allows in full, and from which no consent excludes this receiver by name."""
    allowed = set()
    for name in classes:
        request = request_for(ask, grant, name, purpose, index)
        if (grant.rule is None or evaluate((grant.rule,), request).permit) and not any(excludes(other, request) for other in speaking):
            allowed.add(name)
    return frozenset(allowed)


def request_for(ask: Ask, grant: Grant, name: str, purpose: str, index: PolicyIndex) -> ConsentRequest:
    """What is asked of a consent about one class, under one of its grants."""
    return ConsentRequest(
        receiver_party=ask.receiver.id,
        receiver_unit=ask.receiver_unit or grant.receiver_unit,
        receiver_role=ask.receiver_role,
        scope=grant.scope,
        purposes=frozenset((purpose,)),
        data_class=name,
        at=ask.at,
        labels=index.labels.get(name),
    )


def excluding_rule(consent: CompiledConsent, request: ConsentRequest) -> str | None:
    """The path of the rule by which a consent shuts this receiver out by name."""
    rule = excluding(consent, request)
    return rule.path if rule is not None else None


def _refusal(ask: Ask, steps: list[Step]) -> Refusal:
    """DOMAIN 6: who may know that there was a consent, and no longer is."""
    if ask.sender.view_of(ask.sender.shelf_of(ask.sender_unit)) is StatusView.MINIMAL:
        return Refusal.NO_CONSENT
    notes = {step.about: step.note for step in steps}
    shelf = ask.sender.shelf_of(ask.sender_unit)
    for grant in ask.grants:
        if notes.get(grant.id) is Note.GRANT_WITHDRAWN and grant.id in ask.recalled:
            return Refusal.CONSENT_WITHDRAWN
    for grant in ask.grants:
        if notes.get(grant.id) is Note.GRANT_ENDED and grant.recorder == shelf:
            return Refusal.CONSENT_EXPIRED
    return Refusal.NO_CONSENT
