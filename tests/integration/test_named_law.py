"""A danger told at once by a named human, and demands that a named human answers by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway import vocabulary as v
from gateway.identity import ClientId
from tests.integration.checks import assert_outcome
from tests.integration.night import business, made, offer, resource, taken
from tests.integration.reporting import decide, demand, emergency, of_kind, outcome
from tests.integration.test_reports import Json, inputs
from tests.integration.world import NIGHT, World, coded, input_, patient


async def client_of_hers(world: World) -> str:
    """The counsellor's own Patient: somebody whom police have never met."""
    response = await world.call("counsellor", "POST", "/fhir/Patient", patient("Zz-Ash", "18-24"))
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def test_a_named_human_tells_one_unit_the_least_for_two_hours(world: World) -> None:
    hers = await client_of_hers(world)
    ids = made(await world.call("manager", "POST", "/fhir", emergency(hers)))
    [told] = await world.tasks("police")
    assert inputs(told) == {"meeting-place", "safety-flag"} and await world.tasks("police-svu") == []
    assert {"system": v.V3_ACT_CODE, "code": "HUAPRV"} in told["meta"]["security"]
    person = await resource(world, "police", told["for"]["reference"])
    assert person["name"][0]["given"] == ["Zz-Ash"] and "communication" not in person
    mine = await world.tasks("manager")
    [review], [tell] = of_kind(mine, "emergency-review"), of_kind(mine, "tell-her")
    assert review["owner"]["reference"] == "PractitionerRole/vsdr.privacy-officer"
    assert review["statusReason"]["coding"][0]["code"] == "imminent-harm"
    world.clock.set(NIGHT + timedelta(minutes=119))
    assert (await world.call("police", "GET", f"/fhir/Task/{told['id']}")).status_code == 200
    world.clock.set(NIGHT + timedelta(minutes=121))
    await world.hub.runner._timers()
    for reference in (f"Task/{told['id']}", told["for"]["reference"], told["focus"]["reference"]):
        assert (await world.call("police", "GET", f"/fhir/{reference}")).status_code == 404, reference
    closed = await world.call("manager", "PATCH", f"/fhir/Task/{tell['id']}", decide(tell, "Ines", close=True))
    assert closed.status_code == 200, closed.text
    assert (await resource(world, "manager", f"Task/{ids['Task']}"))["status"] == "requested"


async def test_the_privacy_officer_reads_and_answers_the_review_and_nothing_else_of_the_shelf(world: World) -> None:
    hers = await client_of_hers(world)
    ids = made(await world.call("manager", "POST", "/fhir", emergency(hers)))
    [review] = await world.tasks("privacy")
    assert review["code"]["coding"][0]["code"] == "emergency-review"
    for asked in (f"Task/{ids['Task']}", f"Task/{'f' * 32}"):
        assert_outcome(await world.call("privacy", "GET", f"/fhir/{asked}"), 404)
        assert_outcome(await world.call("privacy", "PATCH", f"/fhir/{asked}", decide(review, "Odette")), 404)
    assert (await world.call("privacy", "GET", f"/fhir/Patient/{hers}")).status_code == 403
    path = f"/fhir/Task/{review['id']}"
    assert_outcome(await world.call("manager", "PATCH", path, decide(review, "Ines", outcome("upheld"))), 403, refusal="scope-missing")
    assert_outcome(await world.call("privacy", "PATCH", path, decide(review, "Odette")), 422)
    answer = await world.call("privacy", "PATCH", path, decide(review, "Odette", outcome("upheld")))
    assert answer.status_code == 200 and answer.json()["status"] == "completed", answer.text


async def test_a_review_that_nobody_answers_within_a_day_is_called_for_again(world: World) -> None:
    await world.call("manager", "POST", "/fhir", emergency())
    world.clock.set(NIGHT + timedelta(hours=24, minutes=1))
    await world.hub.runner._timers()
    [review] = await world.tasks("privacy")
    assert [o["type"]["coding"][0]["code"] for o in review["output"]] == ["reminder"]


async def test_an_emergency_lasts_no_longer_for_having_been_accepted(world: World) -> None:
    policy = world.hub.parts.policy()
    police = policy.clients[ClientId("police")]
    accepting = replace(police, id=ClientId("accepting"), scopes=police.scopes | {"transfer.accept"})
    known = replace(policy, clients={**policy.clients, accepting.id: accepting})
    world.hub.tokens._policy = lambda: known  # no registration of this kind could hold it
    world.tokens["accepting"] = world.hub.tokens.issue(accepting, accepting.scopes).token
    await world.call("manager", "POST", "/fhir", emergency())
    [told] = await world.tasks("accepting")
    await taken(world, "accepting", told["id"])
    assert (await world.call("accepting", "GET", f"/fhir/Task/{told['id']}")).status_code == 200
    world.clock.set(NIGHT + timedelta(minutes=121))
    for reference in (f"Task/{told['id']}", told["for"]["reference"], told["focus"]["reference"]):
        assert (await world.call("accepting", "GET", f"/fhir/{reference}")).status_code == 404, reference


@pytest.mark.parametrize("who", ["police", "counsellor"])
async def test_without_its_scope_an_emergency_is_no_way_round_consent(world: World, who: str) -> None:
    assert_outcome(await world.call(who, "POST", "/fhir", emergency()), 403, refusal="scope-missing")
    plain = emergency(code=coded(v.TASK_CODE, "transfer"))
    assert (await world.call(who, "POST", "/fhir", plain)).status_code == 403
    assert await world.tasks("police") == []


async def test_an_emergency_names_a_human_and_a_reason(world: World) -> None:
    assert_outcome(await world.call("manager", "POST", "/fhir", emergency(name=None)), 422)
    assert_outcome(await world.call("manager", "POST", "/fhir", emergency(statusReason=coded(v.DECLINE_REASON, "other"))), 422)
    assert await world.tasks("police") == []


@pytest.mark.parametrize(("who", "basis"), [("police", "police-cspa-s80"), ("counsellor", "vsdr-police-duty")])
async def test_a_basis_that_is_switched_off_carries_nothing(world: World, who: str, basis: str) -> None:
    stated = input_("basis", valueCodeableConcept=coded(v.BASIS, basis))
    if who == "police":
        sent = offer(consents=[], inputs=[stated])
    else:
        sent = offer(consents=[], inputs=[stated], sender="vsdr", owner="HealthcareService/drps.htu", service="police-statement")
    assert_outcome(await world.call(who, "POST", "/fhir", sent), 403, refusal="basis-off")


async def test_a_demand_is_answered_by_hand_and_the_same_whoever_there_is(world: World) -> None:
    await client_of_hers(world)
    answers = []
    for name in ("Zz-Ash", "Zz-Nobody"):
        response = await world.call("police", "POST", "/fhir", demand(name))
        entry = response.json()["entry"][-1]
        assert entry["response"]["status"] == "202 Accepted", response.text
        shown: Json = entry["resource"]
        assert shown["status"] == "on-hold" and business(shown) == "held-for-review"
        assert shown["statusReason"]["coding"][0]["code"] == "human-review-required"
        answers.append({name: value for name, value in shown.items() if name in ("status", "businessStatus", "statusReason", "output")})
    assert answers[0] == answers[1]
    waiting = of_kind(await world.tasks("manager"), "demand-review")
    assert len(waiting) == 2
    asked = waiting[0]
    assert asked["status"] == "on-hold" and asked["owner"]["reference"] == "PractitionerRole/vsdr.program-manager"
    assert inputs(asked) == {"basis", "form-number", "call-back-line", "officer-role", "claimed-name", "claimed-birth-date"}
    path = f"/fhir/Task/{asked['id']}"
    refused = await world.call("counsellor", "PATCH", path, decide(asked, "Sam", outcome("answered-outside")))
    assert_outcome(refused, 403, refusal="scope-missing")
    before = await world.call("police", "GET", "/fhir/Task")
    answer = await world.call("manager", "PATCH", path, decide(asked, "Ines", outcome("answered-outside")))
    assert answer.status_code == 200, answer.text
    assert "input" not in answer.json() and answer.json()["status"] == "completed"
    assert (await world.call("police", "GET", "/fhir/Task")).json()["entry"] == before.json()["entry"]
    claimed = await world.call("manager", "GET", f"{path}/_history/1")
    assert claimed.status_code == 404 or "Testperson" not in claimed.text, "what was claimed goes with the answer"


async def test_a_demand_says_its_form_and_asks_by_its_own_law(world: World) -> None:
    short = demand()
    short["entry"][-1]["resource"]["input"].pop(1)
    assert_outcome(await world.call("police", "POST", "/fhir", short), 422)
    attached = demand()
    attached["entry"][-1]["resource"]["input"].append(input_("form-number", valueAttachment={"title": "form"}))
    assert (await world.call("police", "POST", "/fhir", attached)).status_code == 422
    order = await world.call("police", "POST", "/fhir", demand(basis="warrant-or-order"))
    assert order.json()["entry"][-1]["response"]["status"] == "202 Accepted"
    wrong = await world.call("police", "POST", "/fhir", demand(basis="serious-harm"))
    assert_outcome(wrong, 403, refusal="basis-off")


async def test_a_guardian_who_may_be_unsafe_is_the_managers_question_and_crisis_help_goes_on(world: World) -> None:
    flag = input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, "guardian-unsafe"))
    made(await world.call("police", "POST", "/fhir", offer(who=patient("Zz-Sky", "12-15"), inputs=[flag])))
    mine = await world.tasks("manager")
    [question], [received] = of_kind(mine, "guardian-review"), of_kind(mine, "transfer")
    assert question["owner"]["reference"] == "PractitionerRole/vsdr.program-manager"
    await taken(world, "counsellor", received["id"])
    path = f"/fhir/Task/{question['id']}"
    assert_outcome(await world.call("counsellor", "PATCH", path, decide(question, "Sam", outcome("goes-on-without"))), 403)
    answer = await world.call("manager", "PATCH", path, decide(question, "Ines", outcome("goes-on-without")))
    assert answer.status_code == 200, answer.text
    assert of_kind(await world.tasks("police"), "guardian-review") == []
