"""Consent at the edge: what is refused when it is written, and what an offer without a live one is told."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import vocabulary as v
from tests.integration.checks import assert_outcome, row_counts
from tests.integration.night import HOUR, NOW, accepted, fast_track, income_request, made, offer, offered, with_consent
from tests.integration.world import World, coded, input_

Json = dict[str, Any]


def evidence(given: Json, **parts: str | None) -> Json:
    """The consent with parts of its evidence replaced, or left out (None)."""
    inner = given["extension"][0]["extension"]
    inner[:] = [part for part in inner if part["url"] not in parts]
    inner += [{"url": url, "valueCode": value} for url, value in parts.items() if value is not None]
    return given


UNUSABLE = {
    "none": [],
    "ended": [with_consent(start=NOW - 80 * HOUR, end=NOW - HOUR)],
    "not begun": [with_consent(start=NOW + HOUR, end=NOW + 2 * HOUR)],
    "inactive": [{**with_consent(), "status": "inactive"}],
    "rejected": [{**with_consent(), "status": "rejected"}],
    "another receiver": [with_consent(receiver="Organization/lakeridge")],
    "another scope": [with_consent(scope="housing", purposes=["COC"])],
}


@pytest.mark.parametrize("why", sorted(UNUSABLE))
async def test_police_without_a_live_consent_are_told_no_consent_whatever_is_wrong(checked: World, why: str) -> None:
    before = await row_counts(checked)
    refused = await checked.call("police", "POST", "/fhir", offer(consents=UNUSABLE[why]))
    body = assert_outcome(refused, 403, refusal="no-consent", expression=f"Bundle.entry[{len(UNUSABLE[why]) + 2}].resource.owner")
    [issue, _line] = body["issue"]
    assert issue["diagnostics"] == "There is no consent on which this can be sent. Ask the person, record it, and send again."
    # the entry of the refusal, and beside it why: nothing else
    assert await row_counts(checked) == {**before, "audit_entries": before["audit_entries"] + 1, "decisions": before["decisions"] + 1}


async def test_another_unit_of_the_receiver_is_another_receiver(checked: World) -> None:
    wrong = with_consent(receiver="PractitionerRole/vsdr.svu-cic")
    refused = await checked.call("police", "POST", "/fhir", offer(consents=[wrong]))
    assert_outcome(refused, 403, refusal="no-consent")
    right = with_consent(receiver="PractitionerRole/vsdr.ht-cic")
    made(await checked.call("police", "POST", "/fhir", offer(consents=[right])))


async def test_a_purpose_that_the_token_does_not_have_is_refused(checked: World) -> None:
    other = checked.narrowed("police", "report", purposes=frozenset({"ELIGDTRM"}))
    refused = await checked.call(other, "POST", "/fhir", offer())
    assert_outcome(refused, 403, refusal="purpose-mismatch")
    fewer = checked.narrowed("police", "report", purposes=frozenset({"COC"}))
    refused = await checked.call(fewer, "POST", "/fhir", offer(consents=[with_consent(purposes=["victim-support"])]))
    assert_outcome(refused, 403, refusal="no-consent")


async def test_the_recorder_of_a_consent_learns_that_it_ended(checked: World) -> None:
    _, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    ended = income_request(patient, NOW - 800 * HOUR)
    refused = await checked.call("counsellor", "POST", "/fhir", ended)
    assert_outcome(refused, 403, refusal="consent-expired")


async def test_who_did_not_record_a_consent_does_not_learn_that_it_ended(checked: World) -> None:
    _, received = await accepted(checked)
    checked.clock.set(checked.clock.now().replace(day=checked.clock.now().day + 5))
    refused = await checked.call("counsellor", "POST", "/fhir", fast_track(received["for"]["reference"].partition("/")[2]))
    assert_outcome(refused, 403, refusal="no-consent")


async def test_nothing_that_may_go_is_left_is_a_refusal_of_its_own(checked: World) -> None:
    nothing = offer(
        consents=[with_consent(classes=["meeting-place"])],
        who={"resourceType": "Patient", "active": True},
        inputs=[input_("scene-cleared", valueBoolean=True)],
    )
    refused = await checked.call("police", "POST", "/fhir", nothing)
    assert_outcome(refused, 422, refusal="minimum-exceeded")


WRONG = {
    "no notice": (evidence(with_consent(), notice=None), 422, "notice-missing", "Consent.extension"),
    "a relative gave it": (evidence(with_consent(), giver="guardian"), 403, "giver-not-valid", "Consent.performer"),
    "police for themselves": (
        with_consent(receiver="HealthcareService/drps.htu", scope="police-statement", purposes=["law-enforcement"], classes=["alias"]),
        422,
        None,
        None,
    ),
    "police for their own desk": (
        with_consent(
            receiver="PractitionerRole/drps.htu-supervisor", scope="police-statement", purposes=["law-enforcement"], classes=["alias"]
        ),
        422,
        "self-serving-consent",
        None,
    ),
    "a mixed unit": (with_consent(receiver="Organization/halt"), 422, None, None),
    "an unknown scope": (with_consent(scope="everything"), 422, "unknown-code", None),
    "an unknown class": (with_consent(classes=["everything"]), 422, "unknown-code", None),
    "a purpose that is not the scope's": (with_consent(purposes=["ELIGDTRM"]), 403, "purpose-mismatch", None),
}


@pytest.mark.parametrize("why", sorted(WRONG))
async def test_a_consent_that_may_not_be_recorded_is_refused_when_it_is_written(checked: World, why: str) -> None:
    given, status, refusal, expression = WRONG[why]
    before = await row_counts(checked)
    refused = await checked.call("police", "POST", "/fhir", offer(consents=[given]))
    where = f"Bundle.entry[1].resource.{expression.partition('.')[2]}" if expression else None
    assert_outcome(refused, status, refusal=refusal, expression=where)
    assert await row_counts(checked) == {**before, "audit_entries": before["audit_entries"] + 1}


async def test_everything_wrong_with_a_consent_is_said_at_once(checked: World) -> None:
    given = evidence(with_consent(), notice=None, giver="guardian")
    refused = await checked.call("police", "POST", "/fhir", offer(consents=[given]))
    body = assert_outcome(refused, 422, refusal="notice-missing")
    assert len(body["issue"]) == 3  # the third is the line that always answers


async def test_one_consent_does_not_hang_on_another(checked: World) -> None:
    ids, _ = await offered(checked)
    two = with_consent(who=f"Patient/{ids['Patient']}")
    two["provision"]["provision"].append({**two["provision"]["provision"][0], "code": [coded(v.CONSENT_SCOPE, "housing")]})
    refused = await checked.call("police", "POST", "/fhir/Consent", two)
    assert_outcome(refused, 422, refusal="conditional-support")


async def test_an_exclusion_inside_a_consent_is_honoured(checked: World) -> None:
    """A nested deny narrows its permit: deeper beats shallower."""
    given = with_consent()
    given["provision"]["provision"][0]["provision"] = [{"type": "deny", "class": [{"system": v.DATA_CLASS, "code": "needs"}]}]
    made(await checked.call("police", "POST", "/fhir", offer(consents=[given])))
    [received] = await checked.tasks("counsellor")
    assert "input" not in received


async def test_a_consent_that_excludes_the_receiver_denies(checked: World) -> None:
    given = with_consent()
    deny = {"type": "deny", "actor": [{"role": coded(v.V3_PARTICIPATION_TYPE, "IRCP"), "reference": {"reference": "Organization/vsdr"}}]}
    given["provision"]["provision"][0]["provision"] = [deny]
    refused = await checked.call("police", "POST", "/fhir", offer(consents=[given]))
    assert_outcome(refused, 403, refusal="no-consent")


async def test_income_support_may_record_contact_for_itself_and_police_may_not(checked: World) -> None:
    _, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    made(await checked.call("counsellor", "POST", "/fhir", income_request(patient)))
    [asked] = await checked.tasks("income")
    own = with_consent(
        recorder="ow-durham",
        receiver="Organization/ow-durham",
        scope="contact-follow-up",
        classes=["safe-contact"],
        purposes=["victim-support"],
        who=asked["for"]["reference"],
    )
    kept = await checked.call("income", "POST", "/fhir/Consent", evidence(own, **{"recorder-role": "ow-caseworker"}))
    assert kept.status_code == 201, kept.text
    [mine] = await checked.tasks("police")
    theirs = {**own, "organization": [{"reference": "Organization/drps"}], "patient": mine["for"], "performer": [mine["for"]]}
    theirs["provision"]["provision"][0]["actor"][0]["reference"] = {"reference": "Organization/drps"}
    refused = await checked.call("police", "POST", "/fhir/Consent", evidence(theirs, **{"recorder-role": "police-officer"}))
    assert_outcome(refused, 422, refusal="self-serving-consent")


async def test_a_consent_is_recorded_in_the_recorders_own_name(checked: World) -> None:
    refused = await checked.call("police", "POST", "/fhir", offer(consents=[with_consent(recorder="vsdr")]))
    assert_outcome(refused, 422, expression="Bundle.entry[1].resource.organization")
