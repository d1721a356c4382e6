"""What a coalition refuses in the shape of a Consent, before it looks at any person."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.decision.coalition import check_coalition_consent
from gateway.identity import PartyId
from gateway.problems import Finding, IssueCode, Refusal
from gateway.vocabulary import EXT_EVIDENCE, V3_ACT_CODE
from tests.unit.decision.making import GIVEN, HOUR, NOW, POLICE, POLICY, SUPPORT, concept, consent, evidence, provision, warm


def check(resource: dict[str, Any], by: PartyId = POLICE, **more: Any) -> list[Finding]:
    return check_coalition_consent(resource, POLICY.parties[by].kind, by, POLICY, **more)


def refusals(found: list[Finding]) -> list[Refusal | None]:
    return [f.refusal for f in found]


def test_a_consent_as_people_give_it_is_accepted() -> None:
    assert check(consent(warm())) == []
    assert check(consent(warm(provision("deny", classes=["reason"]), to="PractitionerRole/harbour.ht-cic"))) == []


def test_every_finding_names_its_element_in_the_request() -> None:
    (found,) = check(consent(warm(classes=())), base="Bundle.entry[2].resource")
    assert (found.code, found.expression) == (IssueCode.REQUIRED, "Bundle.entry[2].resource.provision.provision[0]")


@pytest.mark.parametrize("notices", [(), ("limits",)])
def test_every_notice_of_the_scope_must_have_been_shown(notices: tuple[str, ...]) -> None:
    statement = warm(to="HealthcareService/constable.north", scope="police-statement", purposes=("law-enforcement",))
    assert refusals(check(consent(statement, by=SUPPORT, extension=[evidence(notices=notices)]), SUPPORT)) == [Refusal.NOTICE_MISSING]
    shown = evidence(notices=("limits", "court-evidence"))
    assert check(consent(statement, by=SUPPORT, extension=[shown]), SUPPORT) == []


def test_without_evidence_notice_and_giver_are_missing() -> None:
    found = check(consent(warm(), extension=[]))
    assert {Refusal.NOTICE_MISSING, Refusal.GIVER_NOT_VALID} <= set(refusals(found))
    twice = check(consent(warm(), extension=[evidence(), evidence()]))
    assert Refusal.NOTICE_MISSING in refusals(twice), "two accounts of one conversation are none"


RELATIVE = [{"reference": "RelatedPerson/r"}]


@pytest.mark.parametrize(
    ("giver", "performer", "age_band", "valid"),
    [
        ("survivor", None, None, True),
        ("survivor", RELATIVE, None, False),
        ("survivor", [], None, False),
        ("guardian", RELATIVE, "12-15", True),
        ("guardian", RELATIVE, "25plus", False),
        ("guardian", RELATIVE, "unknown-adult", False),
        ("guardian", RELATIVE, None, False),
        ("guardian", None, "12-15", False),
        ("substitute", RELATIVE, "unknown-maybe-minor", True),
        ("relative", RELATIVE, "12-15", False),
        ("companion", None, "25plus", False),
    ],
)
def test_who_may_give_it(giver: str, performer: list[Any] | None, age_band: str | None, valid: bool) -> None:
    resource = consent(warm(), extension=[evidence(giver)])
    if performer is not None:
        resource["performer"] = performer
    assert refusals(check(resource, age_band=age_band)) == ([] if valid else [Refusal.GIVER_NOT_VALID])


def test_nobody_records_a_consent_that_opens_others_data_to_itself() -> None:
    statement = warm(to="HealthcareService/constable.south", scope="police-statement", purposes=("law-enforcement",))
    shown = [evidence(notices=("limits", "court-evidence"))]
    assert refusals(check(consent(statement, extension=shown))) == [Refusal.SELF_SERVING_CONSENT]
    follow_up: dict[str, Any] = {"scope": "contact-follow-up", "purposes": ("victim-support",)}
    assert check(consent(warm(**follow_up), by=SUPPORT), SUPPORT) == []
    assert refusals(check(consent(warm(to="Organization/constable", **follow_up)))) == [Refusal.SELF_SERVING_CONSENT]


def test_a_self_serving_permit_hidden_beside_another_is_found() -> None:
    found = check(consent(warm(), warm(to="HealthcareService/constable.south")))
    assert Refusal.SELF_SERVING_CONSENT in refusals(found)


def test_one_consent_does_not_hang_on_another() -> None:
    linked = warm(data=[{"meaning": "related", "reference": {"reference": "Consent/other"}}])
    assert refusals(check(consent(linked))) == [Refusal.CONDITIONAL_SUPPORT]
    by_url = warm(data=[{"meaning": "related", "reference": {"reference": "urn:uuid:1"}}])
    assert refusals(check(consent(by_url), others=frozenset({"urn:uuid:1"}))) == [Refusal.CONDITIONAL_SUPPORT]
    assert check(consent(by_url)) == []
    bundled = consent(warm(), warm(to="Organization/clinic", scope="hospital-fast-track", purposes=("ERTREAT",)))
    assert refusals(check(bundled)) == [Refusal.CONDITIONAL_SUPPORT]
    assert refusals(check(consent(warm(scope=("warm-transfer", "income-support"))))) == [Refusal.CONDITIONAL_SUPPORT]


def test_one_receiver_each() -> None:
    (found,) = check(consent(warm(), warm(to="Organization/clinic")))
    assert (found.code, found.refusal) == (IssueCode.BUSINESS_RULE, None)


def test_a_mixed_unit_is_no_receiver() -> None:
    assert refusals(check(consent(warm(to="Organization/care")))) == [Refusal.MIXED_UNIT_ADDRESS]


OUTSIDE = "consent-scope", "data-class"
UNKNOWN: list[tuple[str, dict[str, Any], str]] = [
    ("scope", consent(warm(scope="everything")), "provision.provision[0].code"),
    ("class", consent(warm(classes=(*GIVEN, "narrative"))), "provision.provision[0].class"),
    ("policy rule", consent(warm(), policyRule=concept(V3_ACT_CODE, "EMRGONLY")), "policyRule"),
    ("category", consent(warm(), category=[concept("http://loinc.org", "59284-0")]), "category"),
    ("modifier extension", consent(warm(), modifierExtension=[{"url": "x"}]), "modifierExtension"),
    ("implicit rules", consent(warm(), implicitRules="http://x"), "implicitRules"),
    (
        "actor role",
        consent(warm() | {"actor": [{"role": concept(V3_ACT_CODE, "X"), "reference": {"reference": "Organization/harbour"}}]}),
        "provision.provision[0].actor[0].role",
    ),
]


@pytest.mark.parametrize(("resource", "element"), [u[1:] for u in UNKNOWN], ids=[u[0] for u in UNKNOWN])
def test_an_unknown_code_is_named(resource: dict[str, Any], element: str) -> None:
    (found,) = check(resource)
    assert (found.refusal, found.expression) == (Refusal.UNKNOWN_CODE, "Consent." + element)


def test_a_purpose_outside_the_scope_is_refused_even_beside_a_good_one() -> None:
    assert refusals(check(consent(warm(purposes=("COC", "HRESCH"))))) == [Refusal.PURPOSE_MISMATCH]


@pytest.mark.parametrize("more", [{"classes": ()}, {"scope": ()}, {"period": (NOW, None)}])
def test_what_would_permit_nothing_is_refused_when_written(more: dict[str, Any]) -> None:
    (found,) = check(consent(warm(**more)))
    assert (found.code, found.refusal) == (IssueCode.REQUIRED, None)


def test_another_recorder_is_not_claimed() -> None:
    (found,) = check(consent(warm(), by=SUPPORT))
    assert found.expression == "Consent.organization"


def test_a_consent_that_permits_nothing_by_design_needs_no_permit() -> None:
    assert check(consent(policy_rule="OPTOUT")) == []
    assert check(consent(status="inactive")) == []
    (found,) = check(consent())
    assert found.expression == "Consent.provision"


def test_no_finding_repeats_the_input() -> None:
    canary = "zz-canary"
    resource = consent(warm(scope=canary, classes=(canary,), to=f"Organization/{canary}"), warm(purposes=(canary,)), status=canary)
    resource["extension"] = [{"url": EXT_EVIDENCE, "extension": [{"url": "mode", "valueCode": canary}]}]
    for change in ({}, {"status": "active"}):
        assert canary not in repr(check(resource | change))
    assert HOUR
