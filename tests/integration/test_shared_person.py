"""One person's thread, two transfers to one receiver: they share a Patient there, and neither takes from it what the other brought."""

from __future__ import annotations

from typing import Any

from gateway import vocabulary as v
from gateway.clock import millis
from tests.integration.world import BASE_CLASSES, NIGHT, World, coded, consent, input_, night_offer, request, task, transaction

Json = dict[str, Any]
HOUR = 3_600_000


async def _patients(world: World, who: str) -> list[Json]:
    ids = {t["for"]["reference"] for t in await world.tasks(who)}
    return [(await world.call(who, "GET", f"/fhir/{reference}")).json() for reference in sorted(ids)]


async def _two_income_requests(world: World) -> Json:
    """The counsellor sends two income requests for the same person; returns her own Patient."""
    now = millis(NIGHT)
    await world.call("police", "POST", "/fhir", night_offer(now))
    [received] = await world.tasks("counsellor")
    who = received["for"]["reference"]
    classes = [*BASE_CLASSES, "needs", "paperwork-waived"]
    agreed = consent(who, "vsdr", "Organization/ow-durham", "income-support", classes, ["ELIGDTRM"], now - 1000, now + HOUR)
    owner = "HealthcareService/ow-durham.htrt"
    for i, service in enumerate(("emergency-income", "safe-phone")):
        sr, t, c = (f"urn:uuid:00000000-0000-4000-8000-0000000001{i}{n}" for n in "123")
        parts = [
            (sr, request(who, "vsdr", service, owner)),
            (t, task(who, sr, "vsdr", owner, [input_("need", valueCodeableConcept=coded(v.NEED, "safe-phone"))])),
        ]
        answer = await world.call("counsellor", "POST", "/fhir", transaction(*([(c, agreed)] if i == 0 else []), *parts))
        assert answer.status_code == 200, answer.text
    patient: Json = (await world.call("counsellor", "GET", f"/fhir/{who}")).json()
    return patient


async def test_two_transfers_of_one_thread_share_one_patient_on_the_receivers_shelf(world: World) -> None:
    await _two_income_requests(world)
    assert len(await world.tasks("income")) == 2
    assert len(await _patients(world, "income")) == 1


async def test_an_edit_of_the_person_reaches_a_receiver_of_two_transfers_once(world: World) -> None:
    patient = await _two_income_requests(world)
    patient["name"] = [{"use": "nickname", "given": ["Zz-Wren"]}]
    edited = await world.call("counsellor", "PUT", f"/fhir/Patient/{patient['id']}", patient)
    assert edited.status_code == 200, edited.text
    [copy] = await _patients(world, "income")
    assert copy["name"] == [{"use": "nickname", "given": ["Zz-Wren"]}]
    assert copy["meta"]["versionId"] == "2"
