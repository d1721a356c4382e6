"""Reports to a children's aid society, and the duty of each party that knows of a minor (R16)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway import vocabulary as v
from tests.integration.checks import assert_outcome
from tests.integration.night import HOUR, NOW, business, made, offer, resource, taken, with_consent
from tests.integration.reporting import decide, not_now, of_kind, phoned, report
from tests.integration.world import NIGHT, World, coded, input_, output, patient

Json = dict[str, Any]


def outputs(task: Json, kind: str) -> list[Json]:
    return [o for o in task.get("output", []) if o["type"]["coding"][0]["code"] == kind]


def inputs(task: Json) -> set[str]:
    return {i["type"]["coding"][0]["code"] for i in task.get("input", [])}


async def tick(world: World, minutes: float) -> None:
    world.clock.set(NIGHT + timedelta(minutes=minutes))
    await world.hub.runner._timers()


async def test_a_report_goes_without_any_consent_and_is_acknowledged_by_the_societys_number(world: World) -> None:
    response = await world.call("police", "POST", "/fhir", report(age_band="12-15"))
    ids = made(response)
    [shown] = [e["resource"] for e in response.json()["entry"] if e.get("resource", {}).get("resourceType") == "Task"]
    assert business(shown) == "report-sent" and shown["status"] == "in-progress"
    assert outputs(shown, "last-resort-line")[0]["valueContactPoint"]["value"] == "+1-905-555-0140"
    [received] = await world.tasks("society")
    assert received["code"]["coding"][0]["code"] == "report" and business(received) == "report-sent"
    assert inputs(received) == {"report-ground", "report-basis", "whereabouts", "reporter"}
    [reporter] = [i["valueString"] for i in received["input"] if i["type"]["coding"][0]["code"] == "reporter"]
    assert reporter == "Dana, Police officer, +1-905-555-0110"
    assert {"system": v.V3_ACT_CODE, "code": "ADOL"} in received["meta"]["security"]
    person = await resource(world, "society", received["for"]["reference"])
    assert person["name"] == [{"use": "nickname", "given": ["Zz-Sky"]}]
    bad = await world.move("society", received["id"], "report-acknowledged")
    assert_outcome(bad, 422)
    done = await world.move("society", received["id"], "report-acknowledged", output("intake-reference", valueString="CAS-2026/1142"))
    assert done.status_code == 200, done.text
    mine = await resource(world, "police", f"Task/{ids['Task']}")
    assert business(mine) == "report-acknowledged" and mine["status"] == "completed"
    assert outputs(mine, "intake-reference")[0]["valueString"] == "CAS-2026/1142"
    again = await world.move("police", ids["Task"], "stopped-by-survivor")
    assert_outcome(again, 409, refusal="illegal-move")


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"name": None}, 422), ({"name": "Dana Last"}, 422), ({"facts": "x" * 501}, 422), ({"basis": "police-cspa-s80"}, 403)],
)
async def test_a_report_that_is_not_one_is_refused(world: World, changes: Json, status: int) -> None:
    response = await world.call("police", "POST", "/fhir", report(**changes))
    assert response.status_code == status, response.text
    assert await world.tasks("society") == []


async def test_reporting_has_a_scope_of_its_own_and_its_text_stands_nowhere_else(world: World) -> None:
    caller = world.narrowed("police", "report.send")
    assert_outcome(await world.call(caller, "POST", "/fhir", report()), 403, refusal="scope-missing")
    only = world.narrowed("police", "transfer.offer", "consent.record-outward", purposes=frozenset({"HCOMPL"}))
    assert (await world.call(only, "POST", "/fhir", report())).status_code == 200
    told = offer(inputs=[input_("report-basis", valueString="what happened to her")])
    assert_outcome(await world.call("police", "POST", "/fhir", told), 422, refusal="narrative-not-allowed")


async def test_whereabouts_of_a_youth_of_16_go_by_her_consent_or_not_at_all(world: World) -> None:
    assert (await world.call("police", "POST", "/fhir", report(age_band="16-17"))).status_code == 200
    [received] = await world.tasks("society")
    assert inputs(received) == {"report-ground", "report-basis", "reporter"}
    assert "lake" not in (await world.call("society", "GET", "/fhir/Task")).text


async def test_where_her_age_is_not_known_a_named_human_states_the_law(world: World) -> None:
    assert_outcome(await world.call("police", "POST", "/fhir", report(age_band="unknown-maybe-minor")), 422)
    sent = await world.call("police", "POST", "/fhir", report(age_band="unknown-maybe-minor", basis="duty-report-u16"))
    assert sent.status_code == 200, sent.text
    [received] = await world.tasks("society")
    assert "whereabouts" in inputs(received)


async def test_who_reported_is_told_to_phone_until_a_call_or_a_number_is_entered(world: World) -> None:
    ids = made(await world.call("police", "POST", "/fhir", report()))
    mine: Json = {}
    told = set()
    for minutes in (15.1, 30.2, 45.3):
        await tick(world, minutes)
        mine = await resource(world, "police", f"Task/{ids['Task']}")
        [call] = outputs(mine, "phone-the-society-now")
        assert call["valueContactPoint"]["value"] == "+1-905-555-0140"
        told.add(call["valueContactPoint"]["period"]["start"])
    assert len(told) == 3, "told anew each time"
    versions = int(mine["meta"]["versionId"])
    patch = [{"op": "add", "path": "/output/-", "value": phoned(NOW + 45 * 60_000)}]
    entered = await world.call("police", "PATCH", f"/fhir/Task/{ids['Task']}", patch)
    assert entered.status_code == 200, entered.text
    await tick(world, 70)
    after = await resource(world, "police", f"Task/{ids['Task']}")
    assert int(after["meta"]["versionId"]) == versions + 1, "the clock stopped with the call"
    assert business(after) == "report-sent", "and the society has yet to answer"


async def test_each_party_that_knows_of_a_youth_decides_for_itself(world: World) -> None:
    ids = made(await world.call("police", "POST", "/fhir", offer(who=patient("Zz-Sky", "16-17"))))
    [officers] = of_kind(await world.tasks("police"), "report-decision")
    assert of_kind(await world.tasks("counsellor"), "report-decision") == []
    [received] = of_kind(await world.tasks("counsellor"), "transfer")
    await taken(world, "counsellor", received["id"])
    [hers] = of_kind(await world.tasks("counsellor"), "report-decision")
    lines = [o["valueReference"]["reference"] for o in outputs(hers, "society")]
    assert lines == ["HealthcareService/dbcfs.intake", "HealthcareService/dcas.intake"]
    path = f"/fhir/Task/{hers['id']}"
    nameless = await world.call("counsellor", "PATCH", path, decide(hers, None, not_now(), reason="youth-safe-with-plan"))
    assert_outcome(nameless, 422)
    before = await world.call("police", "GET", "/fhir/Task")
    answer = await world.call("counsellor", "PATCH", path, decide(hers, "Sam", not_now(), reason="youth-safe-with-plan"))
    assert answer.status_code == 200 and answer.json()["status"] == "completed", answer.text
    assert (await world.call("police", "GET", "/fhir/Task")).json()["entry"] == before.json()["entry"]
    sent = made(await world.call("police", "POST", "/fhir", report(who=ids["Patient"])))
    closed = await resource(world, "police", f"Task/{officers['id']}")
    assert closed["status"] == "completed"
    [at_society] = await world.tasks("society")
    assert at_society["requester"]["reference"] == "Organization/drps" and sent["Task"]
    assert await world.tasks("society-joint") == []


async def test_under_the_age_line_nobody_decides_and_a_known_age_reopens_what_was_decided(world: World) -> None:
    made(await world.call("police", "POST", "/fhir", offer(who=patient("Zz-Sky", "16-17"))))
    [received] = await world.tasks("counsellor")
    await taken(world, "counsellor", received["id"])
    [hers] = of_kind(await world.tasks("counsellor"), "report-decision")
    path = f"/fhir/Task/{hers['id']}"
    assert (await world.call("counsellor", "PATCH", path, decide(hers, "Sam", not_now(), reason="youth-safe-with-plan"))).status_code == 200
    person = await resource(world, "counsellor", received["for"]["reference"])
    person["extension"] = [{"url": v.EXT_AGE_BAND, "valueCode": "12-15"}]
    person.pop("meta")
    person.pop("identifier")
    changed = await world.call("counsellor", "PUT", f"/fhir/{received['for']['reference']}", person)
    assert changed.status_code == 200, changed.text
    [due] = of_kind(await world.tasks("counsellor"), "report-due")
    late = await world.call("counsellor", "PATCH", f"/fhir/Task/{due['id']}", decide(due, "Sam", not_now(), reason="youth-safe-with-plan"))
    assert_outcome(late, 422, refusal="report-mandatory")
    assert of_kind(await world.tasks("police"), "report-due") == [], "what one party found out is not another's to know"
    patient_id = received["for"]["reference"].partition("/")[2]
    assert (await world.call("counsellor", "POST", "/fhir", report(sender="vsdr", who=patient_id))).status_code == 200
    assert (await resource(world, "counsellor", f"Task/{due['id']}"))["status"] == "completed"
    [at_society] = await world.tasks("society")
    assert "whereabouts" in inputs(at_society)


async def test_an_age_that_is_not_known_is_found_out_within_the_hour(world: World) -> None:
    made(await world.call("police", "POST", "/fhir", offer(who=patient("Zz-Sky", "unknown-maybe-minor"))))
    mine = await world.tasks("police")
    [check], [decision] = of_kind(mine, "age-check"), of_kind(mine, "report-decision")
    assert check["owner"]["reference"] == "HealthcareService/drps.htu"
    await tick(world, 61)
    late = await resource(world, "police", f"Task/{check['id']}")
    assert late["owner"]["reference"] == "PractitionerRole/drps.htu-supervisor" and outputs(late, "reminder")
    found = output("age-band", valueCodeableConcept=coded(v.AGE_BAND, "12-15"))
    answer = await world.call("police", "PATCH", f"/fhir/Task/{check['id']}", decide(late, "Dana", found))
    assert answer.status_code == 200, answer.text
    now = await resource(world, "police", f"Task/{decision['id']}")
    assert now["code"]["coding"][0]["code"] == "report-due" and business(now) == "report-due"
    by_phone = await world.call("police", "PATCH", f"/fhir/Task/{decision['id']}", decide(now, "Dana", phoned(NOW)))
    assert by_phone.status_code == 200 and by_phone.json()["status"] == "completed"


async def test_a_report_stays_the_record_of_what_was_said(world: World) -> None:
    ids = made(await world.call("police", "POST", "/fhir", report(age_band="12-15")))
    [before] = await world.tasks("society")
    person = await resource(world, "society", before["for"]["reference"])
    edited = {**patient("Zz-Other", "25plus"), "id": ids["Patient"]}
    assert (await world.call("police", "PUT", f"/fhir/Patient/{ids['Patient']}", edited)).status_code == 200
    assert await world.tasks("society") == [before]
    assert await resource(world, "society", before["for"]["reference"]) == person


async def test_who_thought_her_an_adult_has_the_duty_once_her_age_is_known(world: World) -> None:
    ids = made(await world.call("police", "POST", "/fhir", offer(who=patient("Zz-Sky", "18-24"))))
    [received] = await world.tasks("counsellor")
    assert len(await world.tasks("police")) == 1
    known = {**patient("Zz-Sky", "12-15"), "id": ids["Patient"]}
    assert (await world.call("police", "PUT", f"/fhir/Patient/{ids['Patient']}", known)).status_code == 200
    assert len(of_kind(await world.tasks("police"), "report-due")) == 1
    assert of_kind(await world.tasks("counsellor"), "report-due") == [], "nobody there has taken it over"
    await taken(world, "counsellor", received["id"])
    assert len(of_kind(await world.tasks("counsellor"), "report-due")) == 1


async def test_a_withdrawal_leaves_a_report_as_it_is(world: World) -> None:
    ids = made(await world.call("police", "POST", "/fhir", offer(who=patient("Zz-Sky", "12-15"))))
    made(await world.call("police", "POST", "/fhir", report(who=ids["Patient"])))
    [before] = await world.tasks("society")
    taken_back = with_consent(who=f"Patient/{ids['Patient']}", start=NOW - HOUR)
    taken_back["policyRule"] = coded(v.V3_ACT_CODE, "OPTOUT")
    taken_back["provision"] = {"type": "deny"}
    response = await world.call("police", "POST", "/fhir/Consent", taken_back)
    assert response.status_code in (201, 202), response.text
    assert await world.tasks("society") == [before]


async def test_a_report_to_a_mixed_unit_names_its_members_and_first_the_one_that_was_chosen(world: World) -> None:
    sent = report(owner="Organization/care")
    response = await world.call("police", "POST", "/fhir", sent)
    assert_outcome(response, 422, refusal="mixed-unit-address")
    said = [issue["diagnostics"] for issue in response.json()["issue"][1:]]
    assert ["dbcfs.intake" in s or "dcas.intake" in s for s in said] == [True, True]
    sent["entry"][-1]["resource"]["input"].append(input_("cultural", valueCodeableConcept=coded(v.CULTURAL, "indigenous-led")))
    response = await world.call("police", "POST", "/fhir", sent)
    assert "dbcfs.intake" in response.json()["issue"][1]["diagnostics"]
