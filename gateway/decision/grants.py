"""From a coalition Consent to grants in the register: what a survivor allowed, to whom, for what, until when.

A coalition Consent always has base deny, whatever its policyRule or root type says; a permit without receiver, scope, classes and end
gives nothing. A role's or team's address stands for the unit it belongs to, so that a unit's backups are reached by the same consent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.decision.compiling import Rejected, RejectReason, Resolve, compile_consent
from gateway.decision.rules import ALWAYS, Actor, CompiledConsent, Effect, Rule
from gateway.identity import PartyId, ShelfId, ThreadId, shelf_party
from gateway.parties.model import AddressKind, ConsentScope, Policy

__all__ = [
    "Grant",
    "GrantState",
    "actor_resolver",
    "compile_grants",
    "compile_recorded",
    "permits_of",
    "receiver_problem",
    "terms_of",
    "zone_of",
]


MOST_GRANTS: Final = 20
"""One conversation names few receivers; a Consent that names more is not one, and gives nothing."""


class GrantState(StrEnum):
    """Where a grant stands. Expiry is not a state: it follows from the time."""

    ACTIVE = "active"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Grant:
    """One receiver, one scope, from one permit of one Consent.

    `starts` and `ends` are both included; `ends` None is "until withdrawn". `rule` is the whole consent, present only when it says
    more than the other fields (exclusions, nested provisions, further conditions), and is then asked for every class.
    """

    id: str
    thread: ThreadId
    consent_id: str
    consent_version: int
    recorder: ShelfId
    receiver_party: PartyId
    receiver_unit: str | None
    scope: str
    classes: frozenset[str]
    purposes: frozenset[str]
    starts: int
    ends: int | None
    state: GrantState = GrantState.ACTIVE
    rule: CompiledConsent | None = None


def actor_resolver(policy: Policy) -> Resolve:
    """References to the directory as actors: Organization/party, HealthcareService/address, PractitionerRole/address.

    A role keeps its role code, so that an exclusion of one role excludes only that role.
    """

    def resolve(reference: str) -> Actor | None:
        kind, _, name = reference.partition("/")
        if kind == "Organization":
            return Actor(party=name) if PartyId(name) in policy.parties else None
        address = policy.addresses.get(name)
        if address is None or address.kind != kind:
            return None
        return Actor(party=address.party, unit=address.unit, role=address.role if address.kind is AddressKind.ROLE else None)

    return resolve


def zone_of(policy: Policy, party: PartyId) -> tzinfo:
    """The time zone in which a party's dates without a time are meant."""
    known = policy.parties.get(party)
    name = policy.timezones.get(known.region) if known else None
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def compile_recorded(consent: Mapping[str, Any], policy: Policy, recorder: PartyId) -> CompiledConsent | Rejected:
    """A Consent as a party of this policy recorded it: names from the directory, dates in the recorder's time zone."""
    return compile_consent(consent, resolve=actor_resolver(policy), zone=zone_of(policy, recorder))


def compile_grants(
    consent: Mapping[str, Any],
    *,
    consent_id: str,
    version: int,
    thread: ThreadId,
    recorder: ShelfId,
    policy: Policy,
    at: int,
    new_id: Callable[[], str],
    compiled: CompiledConsent | Rejected | None = None,
) -> tuple[list[Grant], list[Rejected]]:
    """The grants of one Consent as its recorder wrote it, and what of it gives none and why. Pure and total.

    A permit whose period has passed still makes a grant (which is over), so that its recorder can be told that it ended. `compiled` is
    what `compile_recorded` made of the Consent, if that is at hand.
    """
    party = shelf_party(recorder)
    if compiled is None:
        compiled = compile_recorded(consent, policy, party)
    if isinstance(compiled, Rejected):
        return [], [compiled]
    if compiled.status != "active":
        return [], [Rejected(RejectReason.NOT_ACTIVE, "Consent.status")]
    if compiled.policy_rule == "OPTOUT":
        # The record of a withdrawal: evidence of what happened, not a rule (DOMAIN 4e). It never permits.
        permits = any(r.effect is Effect.PERMIT for r in compiled.rules)
        return [], [Rejected(RejectReason.CONTRADICTORY_ROOT, "Consent.policyRule")] if permits else []
    rule = _with_base_deny(compiled)
    kind = policy.parties[party].kind if party in policy.parties else ""
    rejected: list[Rejected] = []
    grants: list[Grant] = []
    for permit in permits_of(rule):
        terms = terms_of(permit, rule, policy, at)
        if isinstance(terms, Rejected):
            rejected.append(terms)
            continue
        for actor in dict.fromkeys(permit.actors or ()):  # a receiver named twice is one receiver
            if len(grants) == MOST_GRANTS:
                return [], [Rejected(RejectReason.TOO_DEEP, "Consent.provision.provision")]
            unfit = receiver_problem(actor, policy.scopes[terms.scope], policy, party, kind)
            if unfit is not None:
                rejected.append(Rejected(unfit, permit.path + ".actor"))
                continue
            grant = Grant(
                id=new_id(),
                thread=thread,
                consent_id=consent_id,
                consent_version=version,
                recorder=recorder,
                receiver_party=PartyId(actor.party or ""),
                receiver_unit=actor.unit,
                scope=terms.scope,
                classes=permit.classes or frozenset(),
                purposes=terms.purposes,
                starts=terms.starts,
                ends=terms.ends,
                rule=rule if _says_more(rule) else None,
            )
            grants.append(grant)
    return grants, rejected


def permits_of(consent: CompiledConsent) -> list[Rule]:
    """The permits that stand directly below the root, in the order in which they were written."""
    return [r for r in consent.rules if r.depth == 1 and r.effect is Effect.PERMIT]


def receiver_problem(actor: Actor, scope: ConsentScope, policy: Policy, recorder: PartyId, recorder_kind: str) -> RejectReason | None:
    """Why this actor cannot be the receiver of this scope in a consent that this party records (R19; units: DOMAIN 4e)."""
    if actor.party is None or PartyId(actor.party) not in policy.parties:
        return RejectReason.UNKNOWN_ACTOR
    if actor.party == recorder and recorder_kind not in scope.self_recording_kinds:
        return RejectReason.SELF_SERVING
    if scope.names_unit and actor.unit is None:
        return RejectReason.NO_UNIT
    return None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a permit gives beside its receivers and classes."""

    scope: str
    purposes: frozenset[str]
    starts: int
    ends: int | None


def terms_of(permit: Rule, consent: CompiledConsent, policy: Policy, at: int) -> Terms | Rejected:
    """The terms of a permit that stands directly below the root, or what it lacks."""
    if permit.actors is None:
        return Rejected(RejectReason.NO_RECEIVER, permit.path)
    if permit.codes is None or len(permit.codes) != 1:
        return Rejected(RejectReason.NO_SCOPE, permit.path)
    scope = policy.scopes.get(next(iter(permit.codes)))
    if scope is None:
        return Rejected(RejectReason.UNKNOWN_CODE, permit.path + ".code")
    if permit.classes is None:
        return Rejected(RejectReason.NO_CLASSES, permit.path)
    if not permit.classes <= policy.classes.keys():
        return Rejected(RejectReason.UNKNOWN_CODE, permit.path + ".class")
    purposes = scope.purposes if permit.purposes is None else permit.purposes & scope.purposes
    if not purposes:
        return Rejected(RejectReason.NO_PURPOSE, permit.path)
    own = permit.period or ALWAYS
    ends = [x for x in (own.ends, consent.period.ends) if x is not None]
    if not ends and scope.lifetime is not None:
        return Rejected(RejectReason.NO_END, permit.path)
    starts = [x for x in (own.starts, consent.period.starts, consent.given) if x is not None]
    return Terms(scope.id, purposes, max(starts, default=at), min(ends, default=None))


def _with_base_deny(consent: CompiledConsent) -> CompiledConsent:
    """The consent as the register reads it: base deny, and permits that reach a unit rather than one role in it."""
    rules = tuple(_to_units(r) if r.effect is Effect.PERMIT else r for r in consent.rules)
    root = Rule(path=consent.root.path, depth=0, effect=Effect.DENY)
    return replace(consent, base=Effect.DENY, standing=False, root=root, rules=rules)


def _to_units(rule: Rule) -> Rule:
    if rule.actors is None or all(a.role is None for a in rule.actors):
        return rule
    return replace(rule, actors=tuple(replace(a, role=None) for a in rule.actors))


def _says_more(consent: CompiledConsent) -> bool:
    """Whether a grant's own fields leave something of the consent out."""
    return any(
        r.depth > 1 or r.effect is Effect.DENY or not (r.actions is None and r.labels is None and r.data_period is None and r.data is None)
        for r in consent.rules
    )
