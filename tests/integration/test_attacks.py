"""What an attacker tried, kept as tests: nothing of one person reaches another's transfer, and no value a party sends breaks another's."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import vocabulary as v
from gateway.clock import millis
from tests.integration.checks import assert_outcome
from tests.integration.world import (
    BASE_CLASSES,
    NIGHT,
    World,
    coded,
    consent,
    input_,
    night_offer,
    output,
    patient,
    request,
    task,
    transaction,
)

Json = dict[str, Any]
HOUR = 3_600_000
OWNER = "PractitionerRole/vsdr.ht-cic"


async def test_a_task_about_one_person_cannot_ask_by_another_persons_request(world: World) -> None:
    bundle = night_offer(millis(NIGHT))
    b, sr = "urn:uuid:00000000-0000-4000-8000-0000000000b1", "urn:uuid:00000000-0000-4000-8000-0000000000b2"
    about_b = request(b, "drps", "crisis-counselling", OWNER, reasonCode=[coded(v.REASON, "exploitation-disclosed")])
    bundle["entry"] += transaction((b, patient("Zz-Other")), (sr, about_b))["entry"]
    sent = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Task")
    sent["focus"] = {"reference": sr}
    assert_outcome(await world.call("police", "POST", "/fhir", bundle), 422, expression="Bundle.entry[4].resource.focus")
    assert await world.tasks("counsellor") == []


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59.999-14:00", "9999", "0001-01-01T00:00:00+14:00"])
async def test_a_consent_with_a_date_no_calendar_holds_breaks_nobody_elses_transfer(world: World, end: str) -> None:
    now = millis(NIGHT)
    made = await world.call("police", "POST", "/fhir", night_offer(now))
    who = next(e["response"]["location"] for e in made.json()["entry"] if "Patient/" in e["response"]["location"]).split("/_history")[0]
    odd = consent(who, "drps", "Organization/lakeridge", "hospital-fast-track", [*BASE_CLASSES], ["ERTREAT"], now - 1000, now + HOUR)
    odd["provision"]["provision"][0]["period"] = {"end": end}
    assert (await world.call("police", "POST", "/fhir/Consent", odd)).status_code in (201, 422)
    [received] = await world.tasks("counsellor")
    person = received["for"]["reference"]
    sr, t = "urn:uuid:00000000-0000-4000-8000-0000000000c1", "urn:uuid:00000000-0000-4000-8000-0000000000c2"
    nurse = "PractitionerRole/lakeridge.dvsacc-nurse"
    flag = [input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, "companion-not-safe"))]
    asked = transaction(
        (sr, request(person, "vsdr", "dvsacc-fast-track", nurse)),
        (t, task(person, sr, "vsdr", nurse, flag)),
    )
    sent = await world.call("counsellor", "POST", "/fhir", asked)
    assert sent.status_code == 200, sent.text


@pytest.mark.parametrize("eta", ["9999-12-31T23:59:59-14:00", "2026", "0001-01-01T00:00:00Z"])
async def test_an_arrival_time_far_off_moves_no_deadline_and_breaks_nothing(world: World, eta: str) -> None:
    await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))
    [received] = await world.tasks("counsellor")
    await world.move("counsellor", received["id"], "acknowledged")
    accepted = await world.move("counsellor", received["id"], "accepted", output("eta", valueDateTime=eta), worker="Sam")
    assert accepted.status_code == 200, accepted.text


@pytest.mark.parametrize("duration", [1e9, 1e300, 99_999_999])
async def test_a_window_of_any_length_breaks_nothing(world: World, duration: float) -> None:
    now = millis(NIGHT)
    await world.call("police", "POST", "/fhir", night_offer(now))
    [received] = await world.tasks("counsellor")
    person = received["for"]["reference"]
    follow = consent(person, "vsdr", "Organization/vsdr", "contact-follow-up", ["safe-contact"], ["COC"], now - 1000, now + HOUR)
    assert (await world.call("counsellor", "POST", "/fhir/Consent", follow)).status_code == 201
    held = (await world.call("counsellor", "GET", f"/fhir/{person}")).json()
    timing = {"repeat": {"duration": duration, "durationUnit": "h", "timeOfDay": ["12:00:00"]}}
    parts = [
        {"url": "channel", "valueCode": "text"},
        {"url": "state", "valueCode": "safe"},
        {"url": "window", "valueTiming": timing},
        {"url": "verified-at", "valueDateTime": "2026-03-14T01:00:00Z"},
    ]
    held["telecom"] = [{"system": "sms", "value": "+1-905-555-0199", "extension": [{"url": v.EXT_SAFE_CONTACT, "extension": parts}]}]
    put = await world.call("counsellor", "PUT", f"/fhir/{person}", held)
    text = {
        "resourceType": "Communication",
        "status": "preparation",
        "subject": {"reference": person},
        "payload": [{"contentString": "call me"}],
    }
    said = await world.call("counsellor", "POST", "/fhir/Communication", text)
    assert (put.status_code, said.status_code) in {(200, 409), (422, 409)}, (put.text, said.text)
