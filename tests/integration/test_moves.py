"""Acts on a Task: who may ask for which move, what each side then sees, and what is refused. Views are checked after every step."""

from __future__ import annotations

import pytest

from gateway import vocabulary as v
from tests.integration.checks import assert_outcome, codes_of
from tests.integration.night import NOW, accepted, business, fast_track, income_request, made, offered, only_task, resource, taken
from tests.integration.world import Json, World, coded, night_offer, output


async def test_declining_needs_a_coded_reason_and_leaves_the_sender_responsible(checked: World) -> None:
    _, received = await offered(checked)
    bare = await checked.move("counsellor", received["id"], "declined-no-capacity")
    assert_outcome(bare, 422, expression="Task.statusReason")
    reason = coded(v.DECLINE_REASON, "no-capacity")
    declined = await checked.move(
        "counsellor",
        received["id"],
        "declined-no-capacity",
        output("redirect", valueCodeableConcept=coded(v.SERVICE, "victim-fund-assessment")),
        statusReason=reason,
    )
    assert declined.status_code == 200, declined.text
    assert declined.json()["status"] == "rejected"
    transfer = await checked.hub.parts.facts.received(checked.hub.parts.policy().addresses["vsdr.ht-cic"].shelf, received["id"])
    assert transfer is not None and transfer.responsible == "drps"


async def test_a_minimal_view_of_a_decline_has_the_line_and_neither_reason_nor_redirect(checked: World) -> None:
    _, received = await offered(checked)
    given = output("redirect", valueCodeableConcept=coded(v.SERVICE, "victim-fund-assessment"))
    reason = coded(v.DECLINE_REASON, "no-capacity")
    await checked.move("counsellor", received["id"], "declined-no-capacity", given, statusReason=reason)
    sent = await only_task(checked, "police")
    assert (business(sent), sent["status"]) == ("not-taken", "on-hold")
    assert "statusReason" not in sent
    assert codes_of(sent, "output", "type") == ["last-resort-line"]


async def test_a_full_view_of_a_decline_has_reason_and_redirect(checked: World) -> None:
    ids, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    sent = made(await checked.call("counsellor", "POST", "/fhir", income_request(patient)))
    asked = await only_task(checked, "income")
    given = output("redirect", valueCodeableConcept=coded(v.SERVICE, "victim-fund-assessment"))
    reason = coded(v.DECLINE_REASON, "already-on-assistance")
    declined = await checked.move("income", asked["id"], "declined-not-eligible", given, statusReason=reason)
    assert declined.status_code == 200, declined.text
    seen = await resource(checked, "counsellor", f"Task/{sent['Task']}")
    assert business(seen) == "declined-not-eligible"
    assert seen["statusReason"] == reason
    assert codes_of(seen, "output", "type") == ["last-resort-line", "redirect"]
    assert ids["Task"] != sent["Task"]


async def test_a_sender_cancels_while_it_waits_and_the_receiver_sees_it(checked: World) -> None:
    ids, received = await offered(checked)
    cancelled = await checked.move("police", ids["Task"], "stopped-by-survivor")
    assert cancelled.status_code == 200, cancelled.text
    seen = await resource(checked, "counsellor", f"Task/{received['id']}")
    assert (business(seen), seen["status"]) == ("stopped-by-survivor", "cancelled")
    request = await resource(checked, "counsellor", seen["focus"]["reference"])
    assert request["status"] == "revoked"
    again = await checked.move("counsellor", received["id"], "accepted", worker="Sam")
    assert_outcome(again, 409, refusal="illegal-move")


async def test_a_sender_can_stop_a_transfer_that_was_not_taken_whatever_the_reason(checked: World) -> None:
    """`not-taken` is all that a minimal view shows of a decline, so what can be done from it can't depend on more."""
    ids, received = await offered(checked)
    reason = coded(v.DECLINE_REASON, "no-capacity")
    given = output("redirect", valueCodeableConcept=coded(v.SERVICE, "victim-fund-assessment"))
    await checked.move("counsellor", received["id"], "declined-no-capacity", given, statusReason=reason)
    stopped = await checked.move("police", ids["Task"], "stopped-by-survivor")
    assert stopped.status_code == 200, stopped.text


async def test_a_stop_before_acceptance_looks_to_police_like_being_taken_over(checked: World) -> None:
    answers = []
    for ending, worker in (("accepted", "Sam"), ("stopped-by-survivor", None)):
        ids, received = await offered(checked)
        await checked.move("counsellor", received["id"], "acknowledged")
        moved = await checked.move("counsellor", received["id"], ending, worker=worker)
        assert moved.status_code == 200, moved.text
        sent = await resource(checked, "police", f"Task/{ids['Task']}")
        card = await resource(checked, "police", next(o["valueReference"]["reference"] for o in sent["output"] if "valueReference" in o))
        kept = {name: sent[name] for name in ("status", "businessStatus", "code", "priority")}
        answers.append((kept, codes_of(sent, "output", "type"), card["payload"], card["sent"], sent["meta"]["versionId"]))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("state", ["delivered", "declined-no-capacity", "line-given", "accepted", "backup-offered"])
async def test_a_sender_cannot_find_out_the_real_state_by_naming_it(checked: World, state: str) -> None:
    ids, received = await offered(checked)
    guessed = await checked.move("police", ids["Task"], state)
    before = assert_outcome(guessed, 409, refusal="illegal-move")["issue"]
    reason = coded(v.DECLINE_REASON, "no-capacity")
    given = output("redirect", valueCodeableConcept=coded(v.SERVICE, "victim-fund-assessment"))
    declined = await checked.move("counsellor", received["id"], "declined-no-capacity", given, statusReason=reason)
    assert declined.status_code == 200, declined.text
    guessed = await checked.move("police", ids["Task"], state)
    assert assert_outcome(guessed, 409, refusal="illegal-move")["issue"] == before


@pytest.mark.parametrize("ending", ["accepted", "introduced", "handed-over", "paused-by-survivor", "unreachable", "stopped-by-survivor"])
async def test_a_view_that_is_final_answers_every_later_write_alike(checked: World, ending: str) -> None:
    ids, received = await accepted(checked)
    for state in {"handed-over": ("introduced", "handed-over"), "accepted": ()}.get(ending, (ending,)):
        moved = await checked.move("counsellor", received["id"], state)
        assert moved.status_code == 200, moved.text
    said = []
    for state in ("stopped-by-survivor", "accepted", "offered"):
        refused = await checked.move("police", ids["Task"], state, worker="Kim")
        said.append(assert_outcome(refused, 409, refusal="illegal-move")["issue"])
    assert said[0] == said[1] == said[2]
    assert said[0][0]["diagnostics"] == "This Task can no longer be changed."
    sent = await only_task(checked, "police")
    assert sent["meta"]["versionId"] == "3"


async def test_an_illegal_move_lists_those_that_are_legal_in_the_callers_own_view(checked: World) -> None:
    ids, received = await offered(checked)
    refused = await checked.move("counsellor", received["id"], "handed-over")
    [issue] = assert_outcome(refused, 409, refusal="illegal-move", expression="Task.businessStatus")["issue"]
    for state in ("acknowledged", "accepted", "declined-no-capacity", "redirect-suggested", "stopped-by-survivor"):
        assert state in issue["diagnostics"]
    assert "introduced" not in issue["diagnostics"]
    refused = await checked.move("police", ids["Task"], "acknowledged")
    [issue] = assert_outcome(refused, 409, refusal="illegal-move")["issue"]
    assert issue["diagnostics"] == "This move is not possible now. Possible from what you see: stopped-by-survivor."


async def test_a_full_view_on_hold_offers_only_her_stop_and_takes_it(checked: World) -> None:
    _, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    sent = made(await checked.call("counsellor", "POST", "/fhir", fast_track(patient)))
    asked = await only_task(checked, "nurse")
    await taken(checked, "nurse", asked["id"])
    for held in ("paused-by-survivor", "unreachable", "unsafe-to-contact"):
        await checked.move("nurse", asked["id"], held)
        seen = await resource(checked, "counsellor", f"Task/{sent['Task']}")
        assert (business(seen), seen["status"]) == ("on-hold", "on-hold")
        refused = await checked.move("counsellor", sent["Task"], "introduced")
        [issue] = assert_outcome(refused, 409, refusal="illegal-move")["issue"]
        assert issue["diagnostics"] == "This move is not possible now. Possible from what you see: stopped-by-survivor."
    stopped = await checked.move("counsellor", sent["Task"], "stopped-by-survivor")
    assert stopped.status_code == 200, stopped.text


async def test_if_match_is_checked_against_the_callers_own_version(checked: World) -> None:
    _, received = await offered(checked)
    patch = [{"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, "acknowledged")}]
    path = f"/fhir/Task/{received['id']}"
    stale = await checked.call("counsellor", "PATCH", path, patch, If_Match='W/"7"')
    assert_outcome(stale, 412)
    fresh = await checked.call("counsellor", "PATCH", path, patch, If_Match='W/"1"')
    assert fresh.status_code == 200, fresh.text
    assert fresh.headers["etag"] == 'W/"2"'
    stale = await checked.call("counsellor", "PUT", path, received, If_Match='W/"1"')
    assert_outcome(stale, 412)


async def test_a_put_of_the_whole_task_is_an_act(checked: World) -> None:
    _, received = await offered(checked)
    changed = {**received, "status": "received", "businessStatus": coded(v.BUSINESS_STATUS, "acknowledged")}
    put = await checked.call("counsellor", "PUT", f"/fhir/Task/{received['id']}", changed)
    assert put.status_code == 200, put.text
    assert business(put.json()) == "acknowledged"
    assert business(await only_task(checked, "police")) == "acknowledged"


async def test_task_status_alone_is_understood_where_it_tells_enough(checked: World) -> None:
    _, received = await offered(checked)
    path = f"/fhir/Task/{received['id']}"
    moved = await checked.call("counsellor", "PATCH", path, [{"op": "replace", "path": "/status", "value": "received"}])
    assert moved.status_code == 200, moved.text
    assert business(moved.json()) == "acknowledged"
    unclear = await checked.call("counsellor", "PATCH", path, [{"op": "replace", "path": "/status", "value": "on-hold"}])
    assert_outcome(unclear, 422, expression="Task.status")


async def test_an_act_that_changes_nothing_writes_nothing(checked: World) -> None:
    _, received = await offered(checked)
    put = await checked.call("counsellor", "PUT", f"/fhir/Task/{received['id']}", received)
    assert put.status_code == 200, put.text
    assert put.headers["etag"] == 'W/"1"'


async def test_an_act_can_change_only_what_a_move_carries(checked: World) -> None:
    _, received = await offered(checked)
    for element, value in (
        ("priority", "routine"),
        ("owner", {"reference": "PractitionerRole/vsdr.cic-on-call"}),
        ("input", []),
        ("for", {"reference": "Patient/x"}),
    ):
        patch: list[Json] = [{"op": "add", "path": f"/{element}", "value": value}]
        refused = await checked.call("counsellor", "PATCH", f"/fhir/Task/{received['id']}", patch)
        assert refused.status_code == 422, (element, refused.text)
        assert_outcome(refused, 422)


async def test_accepting_needs_a_named_human_whose_name_stays_on_the_receivers_shelf(checked: World) -> None:
    _, received = await offered(checked)
    await checked.move("counsellor", received["id"], "acknowledged")
    refused = await checked.move("counsellor", received["id"], "accepted")
    assert_outcome(refused, 422, expression="Task.extension")
    moved = await checked.move("counsellor", received["id"], "accepted", worker="Zz-Worker-Name")
    assert moved.status_code == 200, moved.text
    assert "Zz-Worker-Name" in moved.text
    for path in ("/fhir/Task", "/fhir/ServiceRequest"):
        assert "Zz-Worker-Name" not in (await checked.call("police", "GET", path)).text
    sent = await only_task(checked, "police")
    card = await resource(checked, "police", next(o["valueReference"]["reference"] for o in sent["output"] if "valueReference" in o))
    assert "Zz-Worker-Name" not in str(card)
    assert card["payload"][0]["contentString"].startswith("Human trafficking counsellor")


async def test_what_comes_back_needs_its_scope_and_its_owner(checked: World) -> None:
    _, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    sent = made(await checked.call("counsellor", "POST", "/fhir", income_request(patient)))
    asked = await only_task(checked, "income")
    decision = output("decision", valueCodeableConcept=coded(v.DECISION, "approved"))
    offer = output("offer", valueCodeableConcept=coded(v.OFFER, "emergency-assistance"))
    without = checked.narrowed("income", "decision.write", "offer.write")
    for given in (decision, offer):
        refused = await checked.move(without, asked["id"], "accepted", given, worker="Lee")
        assert_outcome(refused, 403, refusal="scope-missing")
    mine = await resource(checked, "counsellor", f"Task/{sent['Task']}")
    promised = [{"op": "add", "path": "/output/-", "value": offer}]
    refused = await checked.call("counsellor", "PATCH", f"/fhir/Task/{sent['Task']}", promised)
    assert_outcome(refused, 422)
    moved = await checked.move("income", asked["id"], "accepted", decision, offer, worker="Lee")
    assert moved.status_code == 200, moved.text
    seen = await resource(checked, "counsellor", f"Task/{sent['Task']}")
    assert codes_of(seen, "output", "valueCodeableConcept") == ["approved"]
    assert mine["meta"]["versionId"] != seen["meta"]["versionId"]


async def test_only_the_owner_of_a_service_may_offer_it(checked: World) -> None:
    """The hospital owns the fast-track, and even so has no scope for offers."""
    _, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    made(await checked.call("counsellor", "POST", "/fhir", fast_track(patient)))
    asked = await only_task(checked, "nurse")
    offer = output("offer", valueCodeableConcept=coded(v.OFFER, "safe-bed-night"))
    refused = await checked.move("nurse", asked["id"], "accepted", offer, worker="Odile")
    assert_outcome(refused, 403, refusal="scope-missing")


async def test_an_offer_in_a_new_task_is_refused_by_name(checked: World) -> None:
    promised = night_offer(NOW)
    promised["entry"][-1]["resource"]["output"] = [output("offer", valueCodeableConcept=coded(v.OFFER, "hotel-night"))]
    refused = await checked.call("police", "POST", "/fhir", promised)
    assert_outcome(refused, 422, refusal="not-owner-of-offer", expression="Bundle.entry[4].resource.output[0]")


async def test_needs_are_narrowed_to_what_the_service_may_be_told(checked: World) -> None:
    _, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    made(await checked.call("counsellor", "POST", "/fhir", income_request(patient)))
    asked = await only_task(checked, "income")
    assert sorted(codes_of(asked, "input", "valueCodeableConcept")) == ["companion-not-safe", "income"]
    made(await checked.call("counsellor", "POST", "/fhir", fast_track(patient)))
    fast = await only_task(checked, "nurse")
    assert sorted(codes_of(fast, "input", "type")) == ["safety-flag", "support-person"]


async def test_the_same_request_id_gets_the_same_answer_and_another_body_is_refused(checked: World) -> None:
    first = await checked.call("police", "POST", "/fhir", night_offer(NOW), X_Request_ID="again-1")
    second = await checked.call("police", "POST", "/fhir", night_offer(NOW), X_Request_ID="again-1")
    assert first.json() == second.json()
    assert len(await checked.tasks("counsellor")) == 1
    other = await checked.call("police", "POST", "/fhir", night_offer(NOW, "Zz-Other"), X_Request_ID="again-1")
    assert_outcome(other, 409, refusal="duplicate", canaries=["Zz-Other", "again-1"])
    same_id_elsewhere = await checked.call("police-svu", "POST", "/fhir", night_offer(NOW), X_Request_ID="again-1")
    assert same_id_elsewhere.status_code == 200, same_id_elsewhere.text
