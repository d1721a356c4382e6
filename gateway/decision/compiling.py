"""From a FHIR R4 Consent to a `CompiledConsent`, or to the reason why it is not understood.

Nothing is guessed: a member, code system, actor or period that this module does not know rejects the whole Consent, which then
permits nothing and waits for a human. A Consent that has a regular extension is understood without it; that is what separates
an extension from a modifier extension (R4 2.4.0.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from enum import StrEnum
from typing import Any, Final

from gateway.decision.hierarchy import CONFIDENTIALITY_RANK, with_narrower
from gateway.decision.reading import boundary, codings, evidence, has_modifier, items_of, reference_of
from gateway.decision.rules import ALWAYS, Actor, CompiledConsent, Effect, Period, Rule
from gateway.vocabulary import (
    CONSENT_SCOPE,
    CONSENT_SCOPE_STD,
    DATA_CLASS,
    PURPOSE,
    V3_ACT_CODE,
    V3_ACT_REASON,
    V3_CONFIDENTIALITY,
    V3_PARTICIPATION_TYPE,
)

__all__ = ["RejectReason", "Rejected", "Resolve", "compile_consent"]

_CONSENT_ACTION: Final = "http://terminology.hl7.org/CodeSystem/consentaction"
_RESOURCE_TYPES: Final = "http://hl7.org/fhir/resource-types"
_MAX_DEPTH: Final = 8
_MAX_RULES: Final = 500
_STATUSES: Final = frozenset({"draft", "proposed", "active", "rejected", "inactive", "entered-in-error"})
_BASE_OF: Final = {"OPTIN": Effect.PERMIT, "OPTINR": Effect.DENY, "OPTOUT": Effect.DENY, "OPTOUTE": Effect.DENY}
_MEANINGS: Final = frozenset({"instance", "related", "dependents", "authoredby"})
_PROVISION: Final = frozenset("id extension type period actor action securityLabel purpose class code dataPeriod data provision".split())
"""The members of Consent.provision in R4; a primitive's `_` sibling is not among them: a value that is only hinted at is not understood."""

Resolve = Callable[[str], Actor | None]
"""Whom a reference names; None when that is not known."""


class RejectReason(StrEnum):
    """Why a Consent, or one of its provisions, gives no grant."""

    MALFORMED = "malformed"
    MODIFIER_EXTENSION = "modifier-extension"
    IMPLICIT_RULES = "implicit-rules"
    UNKNOWN_STATUS = "unknown-status"
    NOT_PRIVACY = "not-a-privacy-consent"
    NO_BASE = "no-base"
    UNKNOWN_POLICY_RULE = "unknown-policy-rule"
    CONTRADICTORY_ROOT = "contradictory-root"
    UNKNOWN_TYPE = "unknown-type"
    UNKNOWN_ELEMENT = "unknown-element"
    UNKNOWN_CODE = "unknown-code"
    UNKNOWN_ACTOR = "unknown-actor"
    UNKNOWN_ACTOR_ROLE = "unknown-actor-role"
    BAD_PERIOD = "bad-period"
    TOO_DEEP = "too-deep"
    # said of one permit of a consent that is otherwise understood
    NOT_ACTIVE = "not-active"
    NO_RECEIVER = "no-receiver"
    NO_UNIT = "no-unit"
    NO_SCOPE = "no-scope"
    NO_CLASSES = "no-classes"
    NO_PURPOSE = "no-purpose"
    NO_END = "no-end"
    SELF_SERVING = "self-serving"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not understood, or permitting nothing: the reason, and the element (a FHIRPath, never a value)."""

    reason: RejectReason
    expression: str


class _NotUnderstood(Exception):
    def __init__(self, reason: RejectReason, expression: str) -> None:
        super().__init__(reason.value)
        self.rejected = Rejected(reason, expression)


def compile_consent(consent: Mapping[str, Any], *, resolve: Resolve, zone: tzinfo = UTC) -> CompiledConsent | Rejected:
    """Compile one Consent. Total: anything at all gives a CompiledConsent or a Rejected.

    `zone` is where a date without a time is meant (a consent "until the 3rd" ends with the 3rd there).
    """
    try:
        return _compile(consent, resolve, zone)
    except _NotUnderstood as refused:
        return refused.rejected


def _compile(consent: Mapping[str, Any], resolve: Resolve, zone: tzinfo) -> CompiledConsent:
    if not isinstance(consent, dict) or consent.get("resourceType") != "Consent":
        raise _NotUnderstood(RejectReason.MALFORMED, "Consent")
    if "implicitRules" in consent or "_implicitRules" in consent:
        raise _NotUnderstood(RejectReason.IMPLICIT_RULES, "Consent.implicitRules")
    if has_modifier(consent):
        raise _NotUnderstood(RejectReason.MODIFIER_EXTENSION, "Consent.modifierExtension")
    status = consent.get("status")
    if not isinstance(status, str) or status not in _STATUSES:
        raise _NotUnderstood(RejectReason.UNKNOWN_STATUS, "Consent.status")
    if "patient-privacy" not in codings(consent.get("scope"), CONSENT_SCOPE_STD):
        raise _NotUnderstood(RejectReason.NOT_PRIVACY, "Consent.scope")
    policy_rule = _policy_rule(consent)
    provision = consent.get("provision")
    if provision is None and "_provision" not in consent:
        provision = {}
    if not isinstance(provision, dict):
        raise _NotUnderstood(RejectReason.MALFORMED, "Consent.provision")
    walk = _Walk(resolve, zone)
    base, standing = _base(provision, policy_rule)
    root = walk.rule(provision, "Consent.provision", 0, (), base)
    period = root.period or ALWAYS
    said = evidence(consent)
    return CompiledConsent(
        status=status,
        patient=reference_of(consent.get("patient")),
        base=base,
        standing=standing,
        root=root,
        rules=walk.in_order(),
        period=period,
        given=_given(consent, zone),
        identifiers=_identifiers(consent),
        policy_rule=policy_rule,
        giver=next(iter(said.get("giver", ())), None),
        notices=frozenset(said.get("notice", ())),
        recorder=_recorder(consent),
    )


def _base(provision: Mapping[str, Any], policy_rule: str | None) -> tuple[Effect, bool]:
    """The root rule: its own type, else what policyRule says; and whether a base deny is the survivor's refusal."""
    if "type" not in provision:
        if policy_rule is None:
            raise _NotUnderstood(RejectReason.NO_BASE, "Consent.policyRule")
        base = _BASE_OF[policy_rule]
        return base, policy_rule in ("OPTOUT", "OPTOUTE")
    base = _effect(provision["type"], "Consent.provision")
    if policy_rule is not None and _BASE_OF[policy_rule] is not base:
        raise _NotUnderstood(RejectReason.CONTRADICTORY_ROOT, "Consent.provision.type")
    return base, base is Effect.DENY and policy_rule != "OPTINR"


def _policy_rule(consent: Mapping[str, Any]) -> str | None:
    if "policyRule" not in consent:
        return None
    codes = codings(consent["policyRule"], V3_ACT_CODE)
    if len(codes) != 1 or not codes <= _BASE_OF.keys():
        raise _NotUnderstood(RejectReason.UNKNOWN_POLICY_RULE, "Consent.policyRule")
    return next(iter(codes))


class _Walk:
    """Collects the nested provisions of one Consent."""

    def __init__(self, resolve: Resolve, zone: tzinfo) -> None:
        self._resolve = resolve
        self._zone = zone
        self._found: list[Rule] = []

    def in_order(self) -> tuple[Rule, ...]:
        """The rules as they win, with `within` pointing into that order."""
        order = sorted(range(len(self._found)), key=lambda i: (-self._found[i].depth, self._found[i].effect is Effect.PERMIT, i))
        place = {old: new for new, old in enumerate(order)}
        return tuple(replace(self._found[i], within=tuple(place[j] for j in self._found[i].within)) for i in order)

    def rule(self, p: Mapping[str, Any], path: str, depth: int, within: tuple[int, ...], effect: Effect) -> Rule:
        """Compile a provision and, after it, those nested in it."""
        for member in p:
            if member not in _PROVISION:
                raise _NotUnderstood(RejectReason.UNKNOWN_ELEMENT, path)
        labels, ceiling = self._labels(p, path, effect)
        made = Rule(
            path=path,
            depth=depth,
            effect=effect,
            within=within,
            period=_period(p, "period", path, self._zone),
            actors=self._actors(p, path),
            actions=_concepts(p, "action", path, _CONSENT_ACTION),
            purposes=_purposes(p, path, effect),
            classes=_classes(p, path),
            codes=_codes(p, path),
            labels=labels,
            ceiling=ceiling,
            data_period=_period(p, "dataPeriod", path, self._zone),
            data=_data(p, path),
        )
        inside = within
        if depth > 0:
            inside = (*within, len(self._found))
            self._found.append(made)
        for i, nested in enumerate(_members(p, "provision", path)):
            where = f"{path}.provision[{i}]"
            if depth >= _MAX_DEPTH or len(self._found) >= _MAX_RULES:
                raise _NotUnderstood(RejectReason.TOO_DEEP, where)
            self.rule(nested, where, depth + 1, inside, _effect(nested.get("type"), where))
        return made

    def _actors(self, p: Mapping[str, Any], path: str) -> tuple[Actor, ...] | None:
        if "actor" not in p:
            return None
        actors = []
        for i, item in enumerate(_members(p, "actor", path)):
            where = f"{path}.actor[{i}]"
            if not set(item) <= {"id", "extension", "role", "reference"}:
                raise _NotUnderstood(RejectReason.UNKNOWN_ELEMENT, where)
            if codings(item.get("role"), V3_PARTICIPATION_TYPE) != {"IRCP"}:
                raise _NotUnderstood(RejectReason.UNKNOWN_ACTOR_ROLE, where + ".role")
            named = reference_of(item.get("reference"))
            actor = self._resolve(named) if named else None
            if actor is None or not actor.names_someone():
                raise _NotUnderstood(RejectReason.UNKNOWN_ACTOR, where + ".reference")
            actors.append(actor)
        return tuple(actors)

    def _labels(self, p: Mapping[str, Any], path: str, effect: Effect) -> tuple[frozenset[str] | None, int | None]:
        if "securityLabel" not in p:
            return None, None
        sensitivity: set[str] = set()
        ranks: list[int] = []
        for i, coding in enumerate(_members(p, "securityLabel", path)):
            system, code = _coding(coding, f"{path}.securityLabel[{i}]")
            if system == V3_CONFIDENTIALITY and code in CONFIDENTIALITY_RANK:
                ranks.append(CONFIDENTIALITY_RANK[code])
            elif system == V3_ACT_CODE and code not in CONFIDENTIALITY_RANK:
                sensitivity.add(code)
            else:
                raise _NotUnderstood(RejectReason.UNKNOWN_CODE, f"{path}.securityLabel[{i}]")
        if effect is Effect.PERMIT:
            return frozenset(sensitivity), max(ranks) if ranks else None
        return with_narrower(sensitivity), min(ranks) if ranks else None


def _effect(value: object, path: str) -> Effect:
    if value == "permit":
        return Effect.PERMIT
    if value == "deny":
        return Effect.DENY
    raise _NotUnderstood(RejectReason.UNKNOWN_TYPE, path + ".type")


def _purposes(p: Mapping[str, Any], path: str, effect: Effect) -> frozenset[str] | None:
    if "purpose" not in p:
        return None
    codes = _coded(p, "purpose", path, {V3_ACT_REASON: "", PURPOSE: ""})
    return codes if effect is Effect.PERMIT else with_narrower(codes)


def _classes(p: Mapping[str, Any], path: str) -> frozenset[str] | None:
    return _coded(p, "class", path, {DATA_CLASS: "", _RESOURCE_TYPES: "type|"}) if "class" in p else None


def _codes(p: Mapping[str, Any], path: str) -> frozenset[str] | None:
    """Provision codes: a consent scope stands bare, a code of the content with its system; one concept's codings are alternatives."""
    if "code" not in p:
        return None
    found: set[str] = set()
    for i, concept in enumerate(_members(p, "code", path)):
        where = f"{path}.code[{i}]"
        if "coding" not in concept:
            raise _NotUnderstood(RejectReason.UNKNOWN_CODE, where)
        for coding in _members(concept, "coding", where):
            system, code = _coding(coding, where)
            found.add(code if system == CONSENT_SCOPE else f"{system}|{code}")
    return frozenset(found)


def _concepts(p: Mapping[str, Any], name: str, path: str, system: str) -> frozenset[str] | None:
    if name not in p:
        return None
    found: set[str] = set()
    for i, concept in enumerate(_members(p, name, path)):
        codes = codings(concept, system)
        if not codes:
            raise _NotUnderstood(RejectReason.UNKNOWN_CODE, f"{path}.{name}[{i}]")
        found |= codes
    return frozenset(found)


def _coded(p: Mapping[str, Any], name: str, path: str, systems: Mapping[str, str]) -> frozenset[str]:
    """A list of Codings from known systems, each with the prefix its system has in a rule."""
    found: set[str] = set()
    for i, item in enumerate(_members(p, name, path)):
        system, code = item.get("system"), item.get("code")
        prefix = systems.get(system) if isinstance(system, str) else None
        if prefix is None or not isinstance(code, str) or not code:
            raise _NotUnderstood(RejectReason.UNKNOWN_CODE, f"{path}.{name}[{i}]")
        found.add(prefix + code)
    return frozenset(found)


def _data(p: Mapping[str, Any], path: str) -> frozenset[str] | None:
    if "data" not in p:
        return None
    found: set[str] = set()
    for i, item in enumerate(_members(p, "data", path)):
        meaning, named = item.get("meaning"), reference_of(item.get("reference"))
        if not isinstance(meaning, str) or meaning not in _MEANINGS or named is None:
            raise _NotUnderstood(RejectReason.UNKNOWN_CODE, f"{path}.data[{i}]")
        found.add(f"{meaning}|{named}")
    return frozenset(found)


def _period(p: Mapping[str, Any], name: str, path: str, zone: tzinfo) -> Period | None:
    if name not in p:
        return None
    where = f"{path}.{name}"
    value = p[name]
    if not isinstance(value, dict) or not value or not set(value) <= {"id", "extension", "start", "end"}:
        raise _NotUnderstood(RejectReason.BAD_PERIOD, where)
    starts = boundary(value["start"], zone) if "start" in value else None
    ends = boundary(value["end"], zone, end=True) if "end" in value else None
    unread = ("start" in value and starts is None) or ("end" in value and ends is None)
    if unread or (starts is None and ends is None) or (starts is not None and ends is not None and ends < starts):
        raise _NotUnderstood(RejectReason.BAD_PERIOD, where)
    return Period(starts, ends)


def _given(consent: Mapping[str, Any], zone: tzinfo) -> int | None:
    if "dateTime" not in consent:
        return None
    given = boundary(consent["dateTime"], zone)
    if given is None:
        raise _NotUnderstood(RejectReason.BAD_PERIOD, "Consent.dateTime")
    return given


def _identifiers(consent: Mapping[str, Any]) -> frozenset[str]:
    found = set()
    for item in items_of(consent.get("identifier")):
        if isinstance(item, dict) and isinstance(item.get("value"), str):
            found.add(f"{item.get('system', '')}|{item['value']}")
    return frozenset(found)


def _recorder(consent: Mapping[str, Any]) -> str | None:
    named = [reference_of(o) for o in items_of(consent.get("organization"))]
    return named[0] if len(named) == 1 else None


def _members(holder: Mapping[str, Any], name: str, path: str) -> Iterable[Mapping[str, Any]]:
    """The objects of a repeating element; absent is none, but present and empty, or not objects, is not understood."""
    if name not in holder:
        return ()
    items = holder[name]
    if not isinstance(items, list) or not items or not all(isinstance(i, dict) for i in items):
        raise _NotUnderstood(RejectReason.MALFORMED, f"{path}.{name}")
    return items


def _coding(coding: Mapping[str, Any], path: str) -> tuple[str, str]:
    system, code = coding.get("system"), coding.get("code")
    if not isinstance(system, str) or not isinstance(code, str) or not code:
        raise _NotUnderstood(RejectReason.UNKNOWN_CODE, path)
    return system, code
