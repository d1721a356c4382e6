"""A small invented coalition, and consents and questions about it, for the tests of decisions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from gateway.clock import instant
from gateway.decision.ask import Ask
from gateway.decision.compiling import Rejected
from gateway.decision.grants import Grant, compile_grants
from gateway.identity import PartyId, ShelfId, StatusView, ThreadId
from gateway.parties.model import (
    Address,
    AddressKind,
    Agreement,
    Basis,
    ClassRule,
    ConsentScope,
    DataClass,
    MatrixRow,
    Party,
    Policy,
    Service,
    Unit,
    Verification,
)
from gateway.vocabulary import CONSENT_SCOPE, CONSENT_SCOPE_STD, DATA_CLASS, EXT_EVIDENCE, PURPOSE, V3_ACT_CODE, V3_ACT_REASON
from gateway.vocabulary import V3_PARTICIPATION_TYPE as PARTICIPATION

NOW = 1_800_000_000_000
HOUR = 3_600_000
THREAD = ThreadId("thread-1")
POLICE, SUPPORT, HOSPITAL, INCOME, FAR = (PartyId(p) for p in ("constable", "harbour", "clinic", "pantry", "shore"))
BASE = ("pid", "alias", "age-band", "language", "access", "urgency")
CLASSES = (*BASE, "envelope", "needs", "reason", "source", "safety-flag", "meeting-place", "safe-contact", "legal-name", "status")


def _unit(name: str, own: bool) -> Unit:
    return Unit(name, name, own)


def _party(name: PartyId, kind: str, region: str, units: Sequence[Unit] = (), view: StatusView = StatusView.FULL) -> Party:
    shelves = (ShelfId(name), *(ShelfId(f"{name}/{u.id}") for u in units if u.own_shelf))
    return Party(name, name.title(), kind, "other", region, view, tuple(units), shelves, (), frozenset(), ())


PARTIES = {
    p.id: p
    for p in (
        _party(POLICE, "police", "bay", (_unit("north", True), _unit("south", True)), StatusView.MINIMAL),
        _party(SUPPORT, "victim-services", "bay", (_unit("ht", False), _unit("ipv", False))),
        _party(HOSPITAL, "hospital", "bay"),
        _party(INCOME, "income-support", "bay", (_unit("east", True), _unit("west", True))),
        _party(FAR, "victim-services", "ocean"),
    )
}


def _address(name: str, party: PartyId, kind: AddressKind, unit: str | None = None, role: str | None = None) -> Address:
    return Address(name, kind, party, unit, PARTIES[party].shelf_of(unit), name, role, frozenset(), None)


ADDRESSES = {
    a.id: a
    for a in (
        _address("constable.north", POLICE, AddressKind.TEAM, "north"),
        _address("constable.south", POLICE, AddressKind.TEAM, "south"),
        _address("harbour.ht-cic", SUPPORT, AddressKind.ROLE, "ht", "ht-cic"),
        _address("harbour.ipv-cic", SUPPORT, AddressKind.ROLE, "ipv", "cic"),
        _address("harbour.on-call", SUPPORT, AddressKind.ROLE, None, "cic-on-call"),
        _address("clinic.nurse", HOSPITAL, AddressKind.ROLE, None, "dvsacc-nurse"),
        _address("pantry.east", INCOME, AddressKind.TEAM, "east"),
        _address("pantry.west", INCOME, AddressKind.TEAM, "west"),
    )
}


def _scope(
    name: str, purposes: str, hours: int | None = 72, notices: str = "limits", by: str = "", names_unit: bool = False
) -> ConsentScope:
    lifetime = None if hours is None else timedelta(hours=hours)
    return ConsentScope(name, frozenset(purposes.split()), lifetime, frozenset(notices.split()), frozenset(by.split()), names_unit)


SCOPES = {
    s.id: s
    for s in (
        _scope("warm-transfer", "COC victim-support"),
        _scope("hospital-fast-track", "ERTREAT"),
        _scope("income-support", "ELIGDTRM ENROLLM"),
        _scope("share-legal-name", "ELIGDTRM COC"),
        _scope("cross-region", "COC"),
        _scope("police-statement", "law-enforcement", notices="limits court-evidence", names_unit=True),
        _scope("court-support", "HLEGAL", None, "limits not-confidential"),
        _scope("contact-follow-up", "victim-support", by="victim-services"),
    )
}
SERVICES = {
    name: Service(name, name, frozenset(owners), frozenset(needs.split()))
    for name, owners, needs in (
        ("crisis-counselling", (SUPPORT, FAR), "food income housing"),
        ("fast-track", (HOSPITAL,), ""),
        ("emergency-income", (INCOME,), "income food"),
        ("statement", (POLICE,), ""),
    )
}


def _rules(names: str, *more: ClassRule) -> dict[str, ClassRule]:
    return {**{name: ClassRule(name) for name in (*BASE, *names.split())}, **{rule.data_class: rule for rule in more}}


def _row(
    name: str,
    kinds: str,
    scope: str | None,
    service: str,
    purposes: str,
    classes: Mapping[str, ClassRule],
    basis: str = "consent-express",
    cross: bool = False,
) -> MatrixRow:
    sender, receiver = kinds.split()
    return MatrixRow(name, sender, receiver, basis, scope, frozenset({service}), classes, frozenset(purposes.split()), cross)


ROWS = (
    _row(
        "p-vs",
        "police victim-services",
        "warm-transfer",
        "crisis-counselling",
        "COC victim-support",
        _rules("needs reason source safety-flag meeting-place safe-contact"),
    ),
    _row("vs-h", "victim-services hospital", "hospital-fast-track", "fast-track", "ERTREAT", _rules("safety-flag")),
    _row(
        "vs-is",
        "victim-services income-support",
        "income-support",
        "emergency-income",
        "ELIGDTRM",
        _rules(
            "meeting-place",
            ClassRule("needs", frozenset({"income", "food", "housing"})),
            ClassRule("safety-flag", frozenset({"device-watched"})),
            ClassRule("legal-name", scope="share-legal-name"),
        ),
    ),
    _row("vs-p", "victim-services police", "police-statement", "statement", "law-enforcement", _rules("meeting-place")),
    _row("vs-p-duty", "victim-services police", None, "statement", "law-enforcement", _rules(""), "alleged-duty"),
    _row("vs-p-harm", "victim-services police", None, "statement", "THREAT", _rules("meeting-place safety-flag"), "serious-harm"),
    _row(
        "vs-vs",
        "victim-services victim-services",
        "cross-region",
        "crisis-counselling",
        "COC",
        _rules("needs", ClassRule("safe-contact", from_state="introduced")),
        cross=True,
    ),
)
KINDS = frozenset(p.kind for p in PARTIES.values())


def _basis(name: str, needs_consent: bool, enabled: bool = True, by: frozenset[str] = KINDS) -> Basis:
    return Basis(name, "invented", needs_consent, by, Verification.UNVERIFIED, enabled)


POLICY = Policy(
    version="test",
    epoch=1,
    parties=PARTIES,
    addresses=ADDRESSES,
    services=SERVICES,
    agreements=(
        Agreement("bay", frozenset({POLICE, SUPPORT, HOSPITAL, INCOME}), frozenset({"bay"}), 0, None),
        Agreement("bay-ocean", frozenset({SUPPORT, FAR}), frozenset({"bay", "ocean"}), 0, NOW + 1_000 * HOUR),
        Agreement("too-small", frozenset({POLICE, FAR}), frozenset({"bay"}), 0, None),
        Agreement("over", frozenset({HOSPITAL, FAR}), frozenset({"bay", "ocean"}), 0, NOW),
    ),
    rows=ROWS,
    scopes=SCOPES,
    bases={
        b.id: b
        for b in (
            _basis("consent-express", True),
            _basis("alleged-duty", False, enabled=False),
            _basis("serious-harm", False, by=frozenset({"victim-services"})),
        )
    },
    clocks=(),
    classes={name: DataClass(name, (), "R", (), False) for name in CLASSES},
    forbidden={},
    ingest={},
    mixed_units=frozenset({"care"}),
    clients={},
    endpoints={},
    timezones={"bay": "America/Toronto", "ocean": "America/Halifax"},
    codes={},
    always=frozenset({"envelope", "pid", "urgency", "status"}),
)


def coding(system: str, code: str) -> dict[str, str]:
    return {"system": system, "code": code}


def concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [coding(system, code)]}


def actor(reference: str) -> dict[str, Any]:
    return {"role": concept(PARTICIPATION, "IRCP"), "reference": {"reference": reference}}


LOCAL_PURPOSES = ("victim-support", "law-enforcement")


def provision(
    effect: str,
    *nested: Mapping[str, Any],
    to: Sequence[str] = (),
    scope: str | Sequence[str] = (),
    purposes: Sequence[str] = (),
    classes: Sequence[str] = (),
    period: tuple[int | None, int | None] | None = None,
    **more: object,
) -> dict[str, Any]:
    """One provision; what is left out is absent."""
    scopes = (scope,) if isinstance(scope, str) else scope
    made: dict[str, Any] = {"type": effect}
    if to:
        made["actor"] = [actor(reference) for reference in to]
    if scopes:
        made["code"] = [concept(CONSENT_SCOPE, code) for code in scopes]
    if purposes:
        made["purpose"] = [coding(PURPOSE if p in LOCAL_PURPOSES else V3_ACT_REASON, p) for p in purposes]
    if classes:
        made["class"] = [coding(DATA_CLASS, c) for c in classes]
    if period:
        made["period"] = {name: instant(at) for name, at in zip(("start", "end"), period, strict=True) if at is not None}
    if nested:
        made["provision"] = list(nested)
    return made | more


def evidence(giver: str = "survivor", notices: Sequence[str] = ("limits",), mode: str = "verbal") -> dict[str, Any]:
    parts = [("mode", mode), ("recorder-role", "police-officer"), ("giver", giver), *(("notice", n) for n in notices)]
    return {"url": EXT_EVIDENCE, "extension": [{"url": url, "valueCode": code} for url, code in parts]}


def consent(*provisions: Mapping[str, Any], by: PartyId = POLICE, policy_rule: str = "OPTINR", **more: object) -> dict[str, Any]:
    """A Consent in the coalition's shape."""
    made: dict[str, Any] = {
        "resourceType": "Consent",
        "status": "active",
        "scope": concept(CONSENT_SCOPE_STD, "patient-privacy"),
        "category": [concept(V3_ACT_CODE, "IDSCL")],
        "patient": {"reference": "Patient/p"},
        "dateTime": instant(NOW - HOUR),
        "performer": [{"reference": "Patient/p"}],
        "organization": [{"reference": f"Organization/{by}"}],
        "policyRule": concept(V3_ACT_CODE, policy_rule),
        "extension": [evidence()],
        "provision": {"provision": list(provisions)} if provisions else {},
    }
    return made | more


GIVEN = (*BASE, "needs", "reason", "source", "safety-flag", "meeting-place", "safe-contact")


def warm(*nested: Mapping[str, Any], to: str = "Organization/harbour", **more: Any) -> dict[str, Any]:
    """The permit of a complete warm-transfer consent."""
    fields: dict[str, Any] = {"scope": "warm-transfer", "purposes": ("COC",), "classes": GIVEN, "period": (NOW - HOUR, NOW + HOUR)}
    return provision("permit", *nested, to=(to,), **(fields | more))


def grants_of(resource: Mapping[str, Any], by: str = "constable/north", policy: Policy = POLICY) -> tuple[list[Grant], list[Rejected]]:
    """Compile a Consent as its recorder wrote it just now."""
    numbers = itertools.count(1)
    return compile_grants(
        resource,
        consent_id="c",
        version=1,
        thread=THREAD,
        recorder=ShelfId(by),
        policy=policy,
        at=NOW,
        new_id=lambda: f"g{next(numbers)}",
    )


def granted(*resources: Mapping[str, Any], by: str = "constable/north") -> tuple[Grant, ...]:
    """The grants of several Consents, each of which must give at least one."""
    found: list[Grant] = []
    for i, resource in enumerate(resources):
        grants, rejected = grants_of(resource, by)
        assert grants and not rejected, rejected
        found += [replace(g, id=f"c{i}-{g.id}") for g in grants]
    return tuple(found)


def ask(grants: tuple[Grant, ...] = (), **more: Any) -> Ask:
    """The police offer a warm transfer to victim services, unless `more` says otherwise."""
    fields: dict[str, Any] = {
        "sender": PARTIES[POLICE],
        "sender_unit": "north",
        "receiver": PARTIES[SUPPORT],
        "receiver_unit": "ht",
        "receiver_role": "ht-cic",
        "service": SERVICES["crisis-counselling"],
        "purposes": frozenset({"COC"}),
        "at": NOW,
        "grants": grants,
        "present": frozenset({"alias", "age-band", "needs", "reason", "urgency"}),
        "state": "offered",
        "needs": frozenset({"food"}),
    }
    return Ask(**(fields | more))
