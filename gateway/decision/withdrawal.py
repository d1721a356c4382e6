"""What a survivor takes back: the terms of a withdrawal record, and what is left of a grant after it. Pure.

A withdrawal is a Consent with policyRule ``OPTOUT`` (DOMAIN 4e): evidence of what she said, and not a rule. Each nested provision of type
deny is one thing that she takes back: scopes in `code`, receivers in `actor`, data classes in `class`; what it does not name is meant
whole, and a record without provisions takes back everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from gateway.decision.grants import Grant
from gateway.decision.rules import Actor, CompiledConsent, Effect, Rule
from gateway.parties.model import Policy
from gateway.problems import Finding, IssueCode, Refusal

__all__ = ["DEPUTIES", "Term", "is_withdrawal", "left_of", "taken_back"]

OPTOUT: Final = "OPTOUT"
DEPUTIES: Final = frozenset({"guardian", "substitute"})
"""Givers whose withdrawal a human looks at first: it stops no crisis help."""


@dataclass(frozen=True, slots=True)
class Term:
    """One thing taken back. None is everything; `receivers` are (party, unit), a unit of None being the whole party."""

    scopes: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    receivers: frozenset[tuple[str, str | None]] | None = None

    def covers(self, grant: Grant) -> bool:
        """Whether it is about this grant. A unit that is named takes back what the whole party was given, too: sooner too much than too
        little."""
        return (self.scopes is None or grant.scope in self.scopes) and (
            self.receivers is None
            or any(
                party == grant.receiver_party and (unit is None or grant.receiver_unit is None or unit == grant.receiver_unit)
                for party, unit in self.receivers
            )
        )

    def to_json(self) -> dict[str, Any]:
        """For the register."""
        return {
            "scopes": sorted(self.scopes) if self.scopes is not None else None,
            "classes": sorted(self.classes) if self.classes is not None else None,
            "receivers": sorted(self.receivers, key=str) if self.receivers is not None else None,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """As it was kept."""
        scopes, classes, receivers = raw["scopes"], raw["classes"], raw["receivers"]
        return cls(
            frozenset(scopes) if scopes is not None else None,
            frozenset(classes) if classes is not None else None,
            frozenset((party, unit) for party, unit in receivers) if receivers is not None else None,
        )


EVERYTHING: Final = Term()


def is_withdrawal(consent: Mapping[str, Any]) -> bool:
    """Whether a Consent as sent says that it is the record of a withdrawal. Asked before its shape is known to be right."""
    rule = consent.get("policyRule")
    codings = rule.get("coding") if isinstance(rule, dict) else None
    return isinstance(codings, list) and any(isinstance(c, dict) and c.get("code") == OPTOUT for c in codings)


def taken_back(compiled: CompiledConsent, policy: Policy, base: str) -> tuple[tuple[Term, ...], list[Finding]]:
    """The terms of a withdrawal record, or what is wrong with it: a withdrawal that can't be understood is never half done."""
    terms: list[Term] = []
    findings: list[Finding] = []
    if compiled.status != "active":
        findings.append(_wrong("A withdrawal is recorded as an active Consent.", f"{base}.status"))
    if _narrowed(compiled.root):
        findings.append(_wrong("Name what is withdrawn in nested provisions of type deny.", f"{base}.provision"))
    for rule in compiled.rules:
        at = base + rule.path.removeprefix("Consent")
        if rule.effect is not Effect.DENY or rule.depth != 1 or _more(rule):
            say = "A withdrawal names scopes (code), receivers (actor) and data classes (class), each in a nested provision of type deny."
            findings.append(_wrong(say, at))
            continue
        if not (rule.codes or frozenset()) <= policy.scopes.keys() or not (rule.classes or frozenset()) <= policy.classes.keys():
            findings.append(Finding(IssueCode.CODE_INVALID, "This scope or data class is not known here.", at, Refusal.UNKNOWN_CODE))
            continue
        receivers = frozenset(_receiver(actor) for actor in rule.actors) if rule.actors is not None else None
        if receivers is not None and any(party == "" for party, _ in receivers):
            findings.append(_wrong("Name the receiver as the directory does.", f"{at}.actor"))
            continue
        terms.append(Term(rule.codes, rule.classes, receivers))
    return tuple(terms) or (EVERYTHING,), findings


def left_of(grant: Grant, terms: Iterable[Term]) -> Grant | None:
    """The grant as it stands after a withdrawal: itself when it is not concerned, narrower, or nothing."""
    classes = grant.classes
    for term in terms:
        if term.covers(grant):
            if term.classes is None:
                return None
            classes -= term.classes
    if not classes:
        return None
    return grant if classes == grant.classes else replace(grant, classes=classes)


def _receiver(actor: Actor) -> tuple[str, str | None]:
    return actor.party or "", actor.unit


def _narrowed(root: Rule) -> bool:
    return _more(root) or not (root.codes is None and root.classes is None and root.actors is None)


def _more(rule: Rule) -> bool:
    """Whether a provision says more than a withdrawal can."""
    parts: Sequence[object] = (rule.period, rule.actions, rule.purposes, rule.labels, rule.ceiling, rule.data_period, rule.data)
    return any(part is not None for part in parts)


def _wrong(say: str, at: str) -> Finding:
    return Finding(IssueCode.BUSINESS_RULE, say, at)
