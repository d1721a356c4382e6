"""Scenario S1 against the region's own configuration: what each party may be sent, class by class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from gateway.decision.ask import Ask
from gateway.decision.coalition import check_coalition_consent
from gateway.decision.decide import Denial, Permit, decide
from gateway.decision.grants import Grant
from gateway.identity import PartyId
from gateway.parties.load import load_policy
from gateway.parties.model import Policy
from gateway.problems import Refusal
from tests.unit.decision.making import NOW, consent, evidence, grants_of, provision

ROOT: Final = Path(__file__).parents[3]
HOUR: Final = 3_600_000
BASE: Final = ("alias", "age-band", "language", "access", "cultural")
POLICE, SUPPORT, HOSPITAL, INCOME = (PartyId(p) for p in ("drps", "vsdr", "lakeridge", "ow-durham"))
SENT: Final = frozenset({*BASE, "urgency", "needs", "reason", "source", "safety-flag", "scene-cleared", "meeting-place"})


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(ROOT, registry=None)


def _consent(by: PartyId, to: str, scope: str, purposes: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, Any]:
    permit = provision("permit", to=[to], scope=scope, purposes=purposes, classes=(*BASE, *classes), period=(NOW - HOUR, NOW + 72 * HOUR))
    return consent(permit, by=by, extension=[evidence()])


C1_SUPPORT = _consent(
    POLICE,
    "PractitionerRole/vsdr.ht-cic",
    "warm-transfer",
    ("COC", "victim-support"),
    ("needs", "reason", "source", "safety-flag", "scene-cleared", "meeting-place"),
)
C1_HOSPITAL = _consent(POLICE, "Organization/lakeridge", "hospital-fast-track", ("ERTREAT",), ("eta", "support-person", "safety-flag"))
C2_INCOME = _consent(
    SUPPORT,
    "HealthcareService/ow-durham.htrt",
    "income-support",
    ("ELIGDTRM",),
    ("needs", "paperwork-waived", "meeting-place", "safe-contact", "safety-flag"),
)


def _grants(policy: Policy, resource: dict[str, Any], by: str) -> tuple[Grant, ...]:
    party = PartyId(by.partition("/")[0])
    assert check_coalition_consent(resource, policy.parties[party].kind, party, policy) == []
    grants, rejected = grants_of(resource, by, policy)
    assert len(grants) == 1
    assert not rejected
    return tuple(grants)


@pytest.fixture(scope="module")
def thread(policy: Policy) -> tuple[Grant, ...]:
    return (
        *_grants(policy, C1_SUPPORT, "drps/htu"),
        *_grants(policy, C1_HOSPITAL, "drps/htu"),
        *_grants(policy, C2_INCOME, "vsdr"),
    )


def _ask(policy: Policy, thread: tuple[Grant, ...], sender: PartyId, to: str, service: str, purpose: str, **more: Any) -> Ask:
    address = policy.addresses[to]
    fields: dict[str, Any] = {
        "sender": policy.parties[sender],
        "sender_unit": "htu" if sender == POLICE else None,
        "receiver": policy.parties[address.party],
        "receiver_unit": address.unit,
        "receiver_role": address.role,
        "service": policy.services[service],
        "purposes": frozenset({purpose}),
        "at": NOW,
        "grants": thread,
        "present": SENT,
        "state": "offered",
        "needs": frozenset({"crisis-counselling", "income", "safe-phone"}),
    }
    return Ask(**(fields | more))


def _goes(answer: Permit | Denial, policy: Policy) -> set[str]:
    assert isinstance(answer, Permit), answer
    return set(answer.classes) - policy.always


def test_police_to_the_counsellor_and_all_her_backups(policy: Policy, thread: tuple[Grant, ...]) -> None:
    for to in ("vsdr.ht-cic", "vsdr.cic-on-call", "vsdr.program-manager"):
        answer = decide(_ask(policy, thread, POLICE, to, "crisis-counselling", "COC"), policy)
        assert _goes(answer, policy) == SENT - {"urgency"}, "every class that was sent and consented to"


def test_victim_services_use_the_consent_that_police_recorded(policy: Policy, thread: tuple[Grant, ...]) -> None:
    present = SENT | {"eta", "support-person"}
    answer = decide(_ask(policy, thread, SUPPORT, "lakeridge.dvsacc-nurse", "dvsacc-fast-track", "ERTREAT", present=present), policy)
    assert _goes(answer, policy) == {*BASE, "eta", "support-person", "safety-flag"}, "never reason, source or needs"


def test_victim_services_to_income_support(policy: Policy, thread: tuple[Grant, ...]) -> None:
    present = SENT | {"paperwork-waived", "safe-contact"}
    answer = decide(_ask(policy, thread, SUPPORT, "ow-durham.htrt", "emergency-income", "ELIGDTRM", present=present), policy)
    assert _goes(answer, policy) == {*BASE, "needs", "paperwork-waived", "meeting-place", "safe-contact", "safety-flag"}
    assert isinstance(answer, Permit)
    assert answer.classes["safety-flag"].only == frozenset({"companion-not-safe", "device-watched"})
    needs = answer.classes["needs"].only
    assert needs is not None
    assert {"income", "safe-phone"} <= needs
    assert "crisis-counselling" not in needs


def test_another_office_has_no_consent(policy: Policy, thread: tuple[Grant, ...]) -> None:
    answer = decide(_ask(policy, thread, SUPPORT, "ow-durham.ajax-htrt", "emergency-income", "ELIGDTRM"), policy)
    assert isinstance(answer, Denial)
    assert answer.refusal is Refusal.NO_CONSENT


def test_the_hospital_and_income_support_have_no_way_to_police(policy: Policy, thread: tuple[Grant, ...]) -> None:
    for sender in (HOSPITAL, INCOME):
        address = next(a.id for a in policy.addresses.values() if a.party == POLICE)
        answer = decide(_ask(policy, thread, sender, address, "crisis-counselling", "COC"), policy)
        assert isinstance(answer, Denial)
        assert answer.refusal is Refusal.OUTSIDE_AGREEMENT
