"""May this sender give this receiver anything for this service now, and which data classes? Five gates, every time (R1).

Agreement and region, legal basis, matrix row, consent, data class: the first gate that fails answers. What a refusal says depends only on
what its caller may know: a sender with the minimal status view is told `no-consent` whatever is wrong with a consent, and only the
recorder of a consent learns that it ended (DOMAIN 6). Pure and total; the caller commits the answer with its audit entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.decision.agreement import NotJoined, find_agreement
from gateway.decision.ask import Ask, Said
from gateway.decision.basis import BasisOff, usable_basis
from gateway.decision.explain import Gate, Note, Step, Trace
from gateway.decision.grants import Grant
from gateway.decision.live import Granted, NoGrant, usable_grants
from gateway.decision.plan import PolicyIndex, RowPlan, index_of
from gateway.parties.model import Agreement, Basis, ClassRule, MatrixRow, Policy
from gateway.problems import Refusal

__all__ = ["COURSE", "Ask", "Denial", "Gate", "Grant", "Permit", "Said", "decide"]

COURSE: Final = ("offered", "delivered", "acknowledged", "accepted", "en-route", "introduced", "handed-over")
"""The states of a transfer that goes well, in order (DOMAIN 4c); a class released `from` one of them also goes in the later ones."""

_MS: Final = timedelta(milliseconds=1)
_PLACE: Final = {state: i for i, state in enumerate(COURSE)}


@dataclass(frozen=True, slots=True)
class Permit:
    """What may go. `classes` are those present or made by the hub, each with what is allowed of it.

    `withheld` are those present that stay behind, each with its `Note`. `purpose` is the one under which it goes; `ends` the earliest
    end among the grants used and the row's own life (itself included), None without one.
    """

    row: MatrixRow
    agreement: Agreement
    basis: Basis
    grants: tuple[str, ...]
    purpose: str
    classes: Mapping[str, ClassRule]
    withheld: Mapping[str, str]
    ends: int | None
    trace: Trace
    at: int = 0  # when it was decided, for what depends on the day


@dataclass(frozen=True, slots=True)
class Denial:
    """Nothing may go: what the sender is told, and at which gate it failed (for the audit, never for the sender)."""

    refusal: Refusal
    gate: Gate
    trace: Trace


def decide(ask: Ask, policy: Policy) -> Permit | Denial:
    """Decide one disclosure from one sender to one receiver. The first row of the matrix that permits is the one used."""
    index = index_of(policy)
    agreement = find_agreement(index.agreements, ask.sender, ask.receiver, ask.at)
    if isinstance(agreement, NotJoined):
        return Denial(agreement.refusal, Gate.AGREEMENT, (Step(Gate.AGREEMENT, agreement.note),))
    joined = Step(Gate.AGREEMENT, Note.AGREEMENT_FOUND, agreement.id)
    if ask.basis is not None:
        named = usable_basis(policy.bases, ask.basis, ask.sender.kind)
        if isinstance(named, BasisOff):
            return Denial(Refusal.BASIS_OFF, Gate.BASIS, (joined, Step(Gate.BASIS, named.note)))
    plans = index.rows.get((ask.sender.kind, ask.receiver.kind, ask.service.id), ())
    furthest: Denial | None = None
    for plan in plans:
        if plan.row.region not in ("", ask.sender.region):
            continue  # another region's rule
        if ask.basis is not None and plan.row.basis != ask.basis:
            continue  # a named basis is answered by its own rows alone
        answer = _try_row(ask, plan, agreement, joined, policy, index)
        if isinstance(answer, Permit):
            return answer
        if furthest is None or _GATES[answer.gate] > _GATES[furthest.gate]:
            furthest = answer
    return furthest or Denial(Refusal.OUTSIDE_AGREEMENT, Gate.ROW, (joined, Step(Gate.ROW, Note.NO_ROW)))


_GATES: Final = {gate: i for i, gate in enumerate(Gate)}


def _try_row(ask: Ask, plan: RowPlan, agreement: Agreement, joined: Step, policy: Policy, index: PolicyIndex) -> Permit | Denial:
    """The gates after the agreement, for one row."""
    row = plan.row
    if row.cross_region != (ask.sender.region != ask.receiver.region):
        return Denial(Refusal.NOT_YOUR_REGION, Gate.AGREEMENT, (joined, Step(Gate.AGREEMENT, Note.REGION_NOT_COVERED, row.id)))
    basis = usable_basis(policy.bases, row.basis, ask.sender.kind)
    if isinstance(basis, BasisOff):
        return Denial(Refusal.BASIS_OFF, Gate.BASIS, (joined, Step(Gate.BASIS, basis.note, row.basis)))
    if ask.basis is None and not basis.needs_consent:
        return Denial(Refusal.NO_CONSENT, Gate.BASIS, (joined, Step(Gate.BASIS, Note.BASIS_NOT_NAMED, row.basis)))
    steps = (joined, Step(Gate.BASIS, Note.BASIS_FOUND, basis.id), Step(Gate.ROW, Note.ROW_FOUND, row.id))
    unfit = _unfit(ask, row)
    if unfit is not None:
        refusal, note = unfit
        return Denial(refusal, Gate.ROW, (*steps, Step(Gate.ROW, note, row.id)))
    purposes = ask.purposes & row.purposes
    if not purposes:
        return Denial(Refusal.PURPOSE_MISMATCH, Gate.ROW, (*steps, Step(Gate.ROW, Note.PURPOSE_NOT_IN_ROW, row.id)))
    if row.scope is not None:
        found = usable_grants(ask, row.scope, purposes, plan.classes, policy, index)
        if isinstance(found, NoGrant):
            return Denial(found.refusal, Gate.CONSENT, (*steps, *found.steps))
    elif basis.needs_consent:
        return Denial(Refusal.NO_CONSENT, Gate.CONSENT, (*steps, Step(Gate.CONSENT, Note.NO_GRANT, row.id)))
    else:
        found = Granted(min(purposes), (), None)
    return _classes(ask, plan, agreement, basis, found, purposes, steps, policy, index)


def _unfit(ask: Ask, row: MatrixRow) -> tuple[Refusal, Note] | None:
    """What the request itself says that keeps it from this row, whoever it is about."""
    if row.human_review:
        return Refusal.HUMAN_REVIEW_REQUIRED, Note.HUMAN_ANSWERS
    if ask.said is None:
        return None
    if row.age_bands is not None and ask.said.age_band not in row.age_bands:
        return Refusal.OUTSIDE_AGREEMENT, Note.AGE_NOT_IN_ROW
    if not row.requires_yes <= ask.said.yes:
        return Refusal.CHARGES_NOT_LAID, Note.NOT_SAID_YES
    return None


def _classes(
    ask: Ask,
    plan: RowPlan,
    agreement: Agreement,
    basis: Basis,
    found: Granted,
    purposes: frozenset[str],
    steps: Trace,
    policy: Policy,
    index: PolicyIndex,
) -> Permit | Denial:
    """The last gate: which of the classes present go."""
    granted = found.classes
    used = {g.id: g for g in found.grants}
    classes: dict[str, ClassRule] = dict(plan.always)
    withheld: dict[str, str] = {}
    coming = False
    for name, rule in plan.classes.items():
        if name not in ask.present:
            continue
        if rule.scope is not None:
            own = usable_grants(ask, rule.scope, purposes if granted is None else frozenset((found.purpose,)), {name: rule}, policy, index)
            if isinstance(own, NoGrant):
                note = Note.CLASS_NEEDS_OWN_CONSENT
            else:
                note = None
                used.update((g.id, g) for g in own.grants)
        elif granted is None or name in granted:
            note = None
        else:
            listed = any(name in g.classes for g in found.grants)
            note = Note.CLASS_DENIED_BY_CONSENT if listed else Note.CLASS_NOT_GRANTED
        if note is None and rule.from_state is not None and not _has_reached(ask, rule.from_state):
            note = Note.CLASS_NOT_YET
            coming = True
        if note is None and name == "needs" and rule.only is not None and ask.needs and rule.only.isdisjoint(ask.needs):
            note = Note.CLASS_NOT_FOR_SERVICE
        if note is None:
            classes[name] = rule
        else:
            withheld[name] = note.value
    sent = ask.present - plan.always.keys()
    for name in sorted(sent - plan.classes.keys()):
        withheld[name] = Note.CLASS_NOT_IN_ROW.value
    kept = tuple(Step(Gate.CLASS, Note(note), name) for name, note in withheld.items())
    if sent and len(classes) == len(plan.always) and not coming:
        return Denial(Refusal.MINIMUM_EXCEEDED, Gate.CLASS, (*steps, *kept, Step(Gate.CLASS, Note.NOTHING_LEFT)))
    if granted is None:
        rests: Trace = (Step(Gate.CONSENT, Note.CONSENT_NOT_NEEDED, basis.id),)
    else:
        rests = ()
    rests += tuple(Step(Gate.CONSENT, Note.GRANT_USED, grant) for grant in used)
    over = [g.ends for g in used.values() if g.ends is not None]
    if plan.row.life is not None:
        over.append((ask.at if ask.since is None else ask.since) + plan.row.life // _MS)
    ends = min(over, default=None)
    return Permit(
        row=plan.row,
        agreement=agreement,
        basis=basis,
        grants=tuple(used),
        purpose=found.purpose,
        classes=classes,
        withheld=withheld,
        ends=ends,
        trace=(*steps, *rests, *kept),
        at=ask.at,
    )


def _has_reached(ask: Ask, state: str) -> bool:
    if state == ask.state or state in ask.reached:
        return True
    here, there = _PLACE.get(ask.state), _PLACE.get(state)
    return here is not None and there is not None and here >= there
