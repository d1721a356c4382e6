"""Evaluating FHIR R4 Consents (R4 Consent, "provision"): who may have what, for which purpose, now.

The whole rule, in order:

1. A consent counts only when it is `active`, about the right subject and within its period. Of several that carry one identifier
   only the latest given counts.
2. Its rules are tried deepest first, and at one depth denials before permits. The first that matches decides.
3. Attributes of a rule AND, values of an attribute OR, an absent attribute matches all. An attribute the request lacks never
   satisfies a permit and always satisfies a deny.
4. A permit below another provision also needs each provision around it to match: an exception cannot reach further than what it
   is an exception to. A deny needs only its own conditions. The root is not counted as "around": it bounds the base alone.
5. If no rule matches, the base decides within the root's conditions.
6. Over several consents, one denial (a matching deny, or a standing refusal) overrides every permit; a consent that merely
   permits nothing here is silent. No permit at all is a denial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.decision.compiling import Rejected, RejectReason, compile_consent
from gateway.decision.hierarchy import CONFIDENTIALITY_RANK
from gateway.decision.rules import Actor, CompiledConsent, ConsentRequest, Effect, Period, Rule

__all__ = [
    "Actor",
    "CompiledConsent",
    "ConsentRequest",
    "Effect",
    "Period",
    "RejectReason",
    "Rejected",
    "Rule",
    "Verdict",
    "Why",
    "compile_consent",
    "evaluate",
    "excludes",
    "excluding",
]


class Why(StrEnum):
    """Why a verdict is what it is."""

    RULE_PERMITS = "rule-permits"
    BASE_PERMITS = "base-permits"
    RULE_DENIES = "rule-denies"
    STANDING_REFUSAL = "standing-refusal"
    NO_RULE_MATCHES = "no-rule-matches"
    NOT_ACTIVE = "not-active"
    OTHER_SUBJECT = "other-subject"
    OUTSIDE_PERIOD = "outside-period"
    SUPERSEDED = "superseded"
    NO_CONSENT = "no-consent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: the rule that decided (a FHIRPath), and the position of its consent among those given."""

    permit: bool
    why: Why
    rule: str | None = None
    consent: int | None = None


_PERMITTING = (Why.RULE_PERMITS, Why.BASE_PERMITS)
_DENYING = (Why.RULE_DENIES, Why.STANDING_REFUSAL)
_SILENCE = (Why.NO_RULE_MATCHES, Why.OUTSIDE_PERIOD, Why.NOT_ACTIVE, Why.SUPERSEDED, Why.OTHER_SUBJECT)
"""Which silence is reported when nothing permits: the one nearest to a permit."""


def evaluate(consents: Sequence[CompiledConsent], request: ConsentRequest) -> Verdict:
    """Whether the consents together permit the request. Pure and total."""
    rank = _rank(request.labels)
    permit: Verdict | None = None
    silent: Verdict | None = None
    gone = _superseded(consents, request.at) if len(consents) > 1 else ()
    for position, consent in enumerate(consents):
        why, rule = (Why.SUPERSEDED, None) if position in gone else _judge(consent, request, rank)
        if why in _DENYING:
            return Verdict(False, why, rule.path if rule else None, position)
        if why in _PERMITTING:
            permit = permit or Verdict(True, why, rule.path if rule else None, position)
        elif silent is None or _SILENCE.index(why) < _SILENCE.index(silent.why):
            silent = Verdict(False, why, None, position)
    return permit or silent or Verdict(False, Why.NO_CONSENT)


def excludes(consent: CompiledConsent, request: ConsentRequest) -> bool:
    """Whether this consent shuts this receiver out by name (`excluding`)."""
    return excluding(consent, request) is not None


def excluding(consent: CompiledConsent, request: ConsentRequest) -> Rule | None:
    """The rule by which this consent shuts this receiver out by name: a deny that names an actor, and wins within its own consent.

    Such an exclusion holds for whatever else is permitted; a deny that names nobody only narrows the consent it stands in.
    """
    why, rule = _judge(consent, request, _rank(request.labels))
    return rule if why is Why.RULE_DENIES and rule is not None and rule.actors is not None else None


def _judge(consent: CompiledConsent, request: ConsentRequest, rank: int | None) -> tuple[Why, Rule | None]:
    """One consent's own answer, and the rule that gave it."""
    if consent.status != "active":
        return Why.NOT_ACTIVE, None
    if request.patient is not None and request.patient != consent.patient:
        return Why.OTHER_SUBJECT, None
    if not consent.period.holds(request.at):
        return Why.OUTSIDE_PERIOD, None
    rules = consent.rules
    for rule in rules:
        if rule.effect is Effect.DENY:
            if _touches(rule, request, rank):
                return Why.RULE_DENIES, rule
        elif _covers(rule, request, rank) and (not rule.within or all(_covers(rules[i], request, rank) for i in rule.within)):
            return Why.RULE_PERMITS, rule
    if consent.base is Effect.PERMIT:
        return (Why.BASE_PERMITS, consent.root) if _covers(consent.root, request, rank) else (Why.NO_RULE_MATCHES, None)
    if consent.standing and _touches(consent.root, request, rank):
        return Why.STANDING_REFUSAL, consent.root
    return Why.NO_RULE_MATCHES, None


def _covers(rule: Rule, r: ConsentRequest, rank: int | None) -> bool:
    """Whether every condition surely holds: how a permit, and what stands around it, matches. What most often fails comes first."""
    if rule.classes is not None and r.data_class not in rule.classes and not _names_type(rule.classes, r):
        return False
    if rule.codes is not None and r.scope not in rule.codes and not (r.codes and not rule.codes.isdisjoint(r.codes)):
        return False
    if rule.purposes is not None and not (r.purposes and r.purposes <= rule.purposes):
        return False
    if rule.actors is not None and not _is_one(rule.actors, r):
        return False
    if rule.actions is not None and r.action not in rule.actions:
        return False
    if rule.period is not None and not rule.period.holds(r.at):
        return False
    if rule.labels is not None and not _label_covers(rule, rule.labels, r, rank):
        return False
    if rule.data_period is not None and not (r.data_period is not None and _contains(rule.data_period, r.data_period)):
        return False
    return rule.data is None or (r.data is not None and not rule.data.isdisjoint(r.data))


def _touches(rule: Rule, r: ConsentRequest, rank: int | None) -> bool:
    """Whether every condition may hold: how a deny matches. What the request does not say counts as matching."""
    if rule.classes is not None and r.data_class not in rule.classes and not _class_touches(rule.classes, r):
        return False
    if rule.codes is not None and r.scope not in rule.codes and not _code_touches(rule.codes, r):
        return False
    if rule.purposes is not None and r.purposes and rule.purposes.isdisjoint(r.purposes):
        return False
    if rule.actors is not None and not _may_be_one(rule.actors, r):
        return False
    if rule.actions is not None and r.action is not None and r.action not in rule.actions:
        return False
    if rule.period is not None and not rule.period.holds(r.at):
        return False
    if rule.labels is not None and not _label_touches(rule, rule.labels, r, rank):
        return False
    if rule.data_period is not None and r.data_period is not None and not _overlaps(rule.data_period, r.data_period):
        return False
    return rule.data is None or r.data is None or not rule.data.isdisjoint(r.data)


def _names_type(classes: frozenset[str], r: ConsentRequest) -> bool:
    return r.resource_type is not None and "type|" + r.resource_type in classes


def _class_touches(classes: frozenset[str], r: ConsentRequest) -> bool:
    """Whether a class may be among these, when the data class asked for is not."""
    if r.data_class is not None and r.resource_type is not None:
        return _names_type(classes, r)
    return any((r.resource_type if value.startswith("type|") else r.data_class) is None for value in classes) or _names_type(classes, r)


def _code_touches(codes: frozenset[str], r: ConsentRequest) -> bool:
    """Whether a code may be among these, when the scope asked for is not."""
    for value in codes:
        if "|" in value:
            if r.codes is None or value in r.codes:
                return True
        elif r.scope is None:
            return True
    return False


def _is_one(actors: tuple[Actor, ...], r: ConsentRequest) -> bool:
    for a in actors:
        if (
            (a.party is None or a.party == r.receiver_party)
            and (a.unit is None or a.unit == r.receiver_unit)
            and (a.role is None or a.role == r.receiver_role)
            and (a.person is None or a.person == r.receiver_person)
            and (a.group is None or (r.receiver_groups is not None and a.group in r.receiver_groups))
        ):
            return True
    return False


def _may_be_one(actors: tuple[Actor, ...], r: ConsentRequest) -> bool:
    for a in actors:
        if (
            (a.party is None or r.receiver_party is None or a.party == r.receiver_party)
            and (a.unit is None or r.receiver_unit is None or a.unit == r.receiver_unit)
            and (a.role is None or r.receiver_role is None or a.role == r.receiver_role)
            and (a.person is None or r.receiver_person is None or a.person == r.receiver_person)
            and (a.group is None or r.receiver_groups is None or a.group in r.receiver_groups)
        ):
            return True
    return False


def _rank(labels: frozenset[str] | None) -> int | None:
    """The high-water mark: the highest confidentiality among the labels; None when none says it."""
    if not labels:
        return None
    ranks = [CONFIDENTIALITY_RANK[code] for code in labels if code in CONFIDENTIALITY_RANK]
    return max(ranks) if ranks else None


def _label_covers(rule: Rule, labels: frozenset[str], r: ConsentRequest, rank: int | None) -> bool:
    """A permit's confidentiality code is a ceiling, a deny's a floor; a sensitivity code is there or not."""
    if rule.ceiling is not None and rank is not None and (rank <= rule.ceiling if rule.effect is Effect.PERMIT else rank >= rule.ceiling):
        return True
    return r.labels is not None and not labels.isdisjoint(r.labels)


def _label_touches(rule: Rule, labels: frozenset[str], r: ConsentRequest, rank: int | None) -> bool:
    return r.labels is None or (rule.ceiling is not None and rank is None) or _label_covers(rule, labels, r, rank)


def _contains(outer: Period, inner: Period) -> bool:
    """Whether the inner span lies wholly inside; an open end of the data's own span lies inside only an open end."""
    starts = outer.starts is None or (inner.starts is not None and outer.starts <= inner.starts)
    return starts and (outer.ends is None or (inner.ends is not None and inner.ends <= outer.ends))


def _overlaps(a: Period, b: Period) -> bool:
    before = a.ends is not None and b.starts is not None and a.ends < b.starts
    after = a.starts is not None and b.ends is not None and b.ends < a.starts
    return not before and not after


def _superseded(consents: Sequence[CompiledConsent], at: int) -> frozenset[int]:
    """Positions of consents that a later one with the same identifier replaces.

    One that is only proposed, was entered in error, has no date, or has not begun replaces nothing.
    """
    latest: dict[str, int] = {}
    for consent in consents:
        begun = consent.period.starts is None or consent.period.starts <= at
        if consent.given is not None and begun and consent.status in ("active", "inactive", "rejected"):
            for identifier in consent.identifiers:
                latest[identifier] = max(latest.get(identifier, consent.given), consent.given)
    return frozenset(
        position
        for position, consent in enumerate(consents)
        if any(i in latest and (consent.given is None or consent.given < latest[i]) for i in consent.identifiers)
    )
