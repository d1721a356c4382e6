"""A Consent as the evaluator reads it: conditions as frozen sets, rules in the order in which they win, times as integers.

Made once, when a Consent is written (`gateway.decision.compiling`), kept in the register as JSON, and read on every decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Self

__all__ = ["ALWAYS", "Actor", "CompiledConsent", "ConsentRequest", "Effect", "Period", "Rule"]

_FORMAT: Final = 1


class Effect(StrEnum):
    """What a rule does (R4 `consent-provision-type`)."""

    PERMIT = "permit"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Period:
    """A time span in ms, both ends included (FHIR Period); None is open."""

    starts: int | None = None
    ends: int | None = None

    def holds(self, at: int) -> bool:
        """Whether an instant lies in the span."""
        return (self.starts is None or self.starts <= at) and (self.ends is None or at <= self.ends)


ALWAYS: Final = Period()


@dataclass(frozen=True, slots=True)
class Actor:
    """Whom a rule is about. What is set must all hold; at least one is set.

    `party` and `unit` are ids of the coalition, `role` a role code within the party, `person` and `group` references.
    """

    party: str | None = None
    unit: str | None = None
    role: str | None = None
    person: str | None = None
    group: str | None = None

    def names_someone(self) -> bool:
        """False for an actor that says nothing, which would match everybody."""
        return not (self.party is None and self.unit is None and self.role is None and self.person is None and self.group is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRequest:
    """What is asked of a consent. An attribute that is None is *not known*: it never satisfies a permit and always satisfies a deny.

    `purposes` are all the purposes at once: a permit must cover each, a deny needs only one.
    `data` holds facts about the one resource asked for, as ``meaning|reference`` with R4's `consent-data-meaning` codes:
    ``instance|Observation/1``, ``related|Encounter/2``, ``dependents|...``, ``authoredby|Practitioner/3``.
    `labels` are the resource's security labels (v3-Confidentiality and v3-ActCode codes); `data_period` its clinically relevant time.
    """

    receiver_party: str | None
    receiver_unit: str | None = None
    receiver_role: str | None = None
    receiver_person: str | None = None
    receiver_groups: frozenset[str] | None = None
    scope: str | None = None
    purposes: frozenset[str] = frozenset()
    data_class: str | None = None
    resource_type: str | None = None
    codes: frozenset[str] | None = None
    action: str | None = "disclose"
    at: int
    labels: frozenset[str] | None = None
    data_period: Period | None = None
    data: frozenset[str] | None = None
    patient: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One provision. Attributes AND, values OR, None matches all (R4 `Consent.provision`).

    `within` are the positions, in the same consent, of the provisions around this one (the root is not among them). `codes` mixes
    consent scopes (bare codes) with codes of the content (``system|code``); `classes` likewise data classes with ``type|Observation``.
    `ceiling` is a rank of `CONFIDENTIALITY_RANK`: the highest that a permit reaches, the lowest that a deny touches.
    """

    path: str
    depth: int
    effect: Effect
    within: tuple[int, ...] = ()
    period: Period | None = None
    actors: tuple[Actor, ...] | None = None
    actions: frozenset[str] | None = None
    purposes: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    codes: frozenset[str] | None = None
    labels: frozenset[str] | None = None
    ceiling: int | None = None
    data_period: Period | None = None
    data: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledConsent:
    """A Consent understood in full.

    `rules` stand in the order in which they win: deeper first, and at one depth denials first. `standing` marks a base deny that is a
    refusal by the survivor (an explicit root deny, OPTOUT, OPTOUTE), which also overrides other consents; without it a base deny is
    only the absence of a permission (OPTINR).
    """

    status: str
    patient: str | None
    base: Effect
    standing: bool
    root: Rule
    rules: tuple[Rule, ...]
    period: Period = ALWAYS
    given: int | None = None
    identifiers: frozenset[str] = frozenset()
    policy_rule: str | None = None
    giver: str | None = None
    notices: frozenset[str] = field(default_factory=frozenset)
    recorder: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The form the register keeps; `from_json` is its inverse."""
        return {"format": _FORMAT, **_encode(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the register's form. Raises ValueError for one that this version does not know: it then permits nothing."""
        if stored.get("format") != _FORMAT:
            raise ValueError("a compiled consent of another format")
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in stored.items() if k in known}
        values["base"] = Effect(values["base"])
        values["root"] = _rule(values["root"])
        values["rules"] = tuple(_rule(r) for r in values["rules"])
        values["period"] = Period(**values["period"])
        values["identifiers"] = frozenset(values["identifiers"])
        values["notices"] = frozenset(values["notices"])
        return cls(**values)


def _encode(value: object) -> Any:
    """Dataclasses to dicts without their None members, sets to sorted lists."""
    if isinstance(value, Period | Actor | Rule | CompiledConsent):
        pairs = ((f.name, getattr(value, f.name)) for f in fields(value))
        kept = isinstance(value, CompiledConsent)
        return {name: _encode(v) for name, v in pairs if v is not None or kept}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    return value


def _rule(stored: Mapping[str, Any]) -> Rule:
    values = dict(stored)
    values["effect"] = Effect(values["effect"])
    values["within"] = tuple(values["within"])
    for name in ("actions", "purposes", "classes", "codes", "labels", "data"):
        if name in values:
            values[name] = frozenset(values[name])
    for name in ("period", "data_period"):
        if name in values:
            values[name] = Period(**values[name])
    if "actors" in values:
        values["actors"] = tuple(Actor(**a) for a in values["actors"])
    return Rule(**values)
