"""Withdrawal and stop: what is left on each shelf, what each party sees, what is told to nobody. Views are compared after every step."""

from __future__ import annotations

from datetime import timedelta
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import select

from gateway import vocabulary as v
from gateway.clock import instant, millis
from gateway.fhir.validate import validate
from gateway.identity import ShelfId, ThreadId
from gateway.storage import tables
from gateway.storage.sealing import KeyDestroyed
from gateway.storage.statements import Query
from tests.integration.checks import assert_outcome, assert_views, codes_of, without_moment
from tests.integration.night import HOUR, NOW, accepted, business, fast_track, income_request, made, offered, only_task, resource, taken
from tests.integration.night import with_consent as consent_for
from tests.integration.world import NIGHT, Json, World, coded, input_, night_offer, output, request, transaction
from tests.integration.world import task as task_for

_KEYS_GONE = Query(select(tables.data_keys.c.slot).where(tables.data_keys.c.doomed.is_not(None)))
_CHECKS = Query(select(tables.checks.c.state, tables.checks.c.address))
_REVIEWS = Query(select(tables.reviews.c.party, tables.reviews.c.kind))


def withdrawal(
    who: str,
    party: str,
    *,
    scopes: list[str] | None = None,
    classes: list[str] | None = None,
    receiver: str | None = None,
    giver: str = "survivor",
) -> Json:
    """The record of a withdrawal as a party takes it; without terms, of everything."""
    evidence = {"mode": "verbal", "recorder-role": "ht-cic", "giver": giver}
    record: Json = {
        "resourceType": "Consent",
        "extension": [{"url": v.EXT_EVIDENCE, "extension": [{"url": name, "valueCode": code} for name, code in evidence.items()]}],
        "status": "active",
        "scope": coded(v.CONSENT_SCOPE_STD, "patient-privacy"),
        "category": [coded(v.V3_ACT_CODE, "IDSCL")],
        "patient": {"reference": who},
        "dateTime": instant(NOW),
        "performer": [{"reference": who}],
        "organization": [{"reference": f"Organization/{party}"}],
        "policyRule": coded(v.V3_ACT_CODE, "OPTOUT"),
    }
    term: Json = {"type": "deny"}
    if scopes:
        term["code"] = [coded(v.CONSENT_SCOPE, scope) for scope in scopes]
    if classes:
        term["class"] = [{"system": v.DATA_CLASS, "code": name} for name in classes]
    if receiver:
        term["actor"] = [{"role": coded(v.V3_PARTICIPATION_TYPE, "IRCP"), "reference": {"reference": receiver}}]
    if len(term) > 1:
        record["provision"] = {"provision": [term]}
    return record


async def withdraw(world: World, who: str, person: str, party: str, **terms: Any) -> Json:
    """One party records a withdrawal on its own Patient."""
    answer = await world.call(who, "POST", "/fhir/Consent", withdrawal(person, party, **terms))
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def _night(world: World) -> tuple[dict[str, str], Json, dict[str, str], Json]:
    """Accepted by the counsellor, who has asked the hospital: what police wrote, her Task, what she wrote, the nurse's Task."""
    ids, received = await accepted(world)
    sent = made(await world.call("counsellor", "POST", "/fhir", fast_track(received["for"]["reference"].partition("/")[2])))
    return ids, received, sent, await only_task(world, "nurse")


def _is_shell(found: Json) -> bool:
    return v.CLOSED in found["meta"].get("tag", ())


async def test_all_is_withdrawn_through_any_party_and_whoever_has_not_met_her_is_left_with_shells(checked: World) -> None:
    ids, received, sent, asked = await _night(checked)
    await withdraw(checked, "nurse", asked["for"]["reference"], "lakeridge")
    for who, task in (("counsellor", received), ("nurse", asked)):
        for reference in (f"Task/{task['id']}", task["focus"]["reference"], task["for"]["reference"]):
            if who == "counsellor" and reference.startswith("Patient/"):
                continue
            shell = await resource(checked, who, reference)
            assert _is_shell(shell) and validate(shell) == [], reference
            first = await resource(checked, who, f"{reference}/_history/1")
            assert first == shell, "older versions answer as the shell"
            assert "Zz-" not in str(shell) and "input" not in shell and "owner" not in shell
    assert business(await resource(checked, "nurse", f"Task/{asked['id']}")) == "consent-withdrawn"
    mine = await resource(checked, "counsellor", f"Task/{sent['Task']}")
    assert (business(mine), mine["status"]) == ("closed", "cancelled")
    assert codes_of(mine, "output", "type") == ["last-resort-line"]
    gone = {slot for (slot,) in await checked.hub.parts.database.facts(_KEYS_GONE, {})}
    assert len(gone) >= 2
    for slot in gone:
        shelf, _, name = slot.partition("|")
        with pytest.raises(KeyDestroyed):
            await checked.hub.parts.keyring.get(await _thread(checked, ids["Task"]), ShelfId(shelf), name)


async def _thread(world: World, task: str) -> ThreadId:
    transfer = await world.hub.parts.facts.sent(ShelfId("drps/htu"), task)
    assert transfer is not None
    return transfer.thread


async def test_one_that_has_met_her_keeps_what_it_acts_on_and_nothing_more_flows(checked: World) -> None:
    ids, received = await accepted(checked)
    await checked.move("counsellor", received["id"], "introduced")
    before = await resource(checked, "counsellor", f"Task/{received['id']}")
    await withdraw(checked, "police", f"Patient/{ids['Patient']}", "drps")
    after = await resource(checked, "counsellor", f"Task/{received['id']}")
    assert (after["input"], after["for"]) == (before["input"], before["for"])
    assert {"url": v.EXT_SHARING_ENDED, "valueBoolean": True} in after["extension"]
    assert business(after) == "consent-withdrawn"
    person = await resource(checked, "counsellor", received["for"]["reference"])
    assert person["name"][0]["given"] == ["Zz-Robin"]
    mine = await resource(checked, "police", f"Patient/{ids['Patient']}")
    mine["name"] = [{"use": "nickname", "given": ["Zz-Late"]}]
    assert (await checked.call("police", "PUT", f"/fhir/Patient/{ids['Patient']}", mine)).status_code == 200
    assert (await resource(checked, "counsellor", received["for"]["reference"]))["name"] == person["name"]
    assert_outcome(await checked.move("counsellor", received["id"], "handed-over"), 409, refusal="illegal-move")


async def test_a_withdrawal_by_scope_leaves_the_other_scopes_alone(checked: World) -> None:
    _, received, _, asked = await _night(checked)
    await withdraw(checked, "counsellor", received["for"]["reference"], "vsdr", scopes=["hospital-fast-track"])
    assert _is_shell(await resource(checked, "nurse", f"Task/{asked['id']}"))
    kept = await resource(checked, "counsellor", f"Task/{received['id']}")
    assert business(kept) == "accepted" and kept["input"] == received["input"]
    copy = await checked.call("counsellor", "GET", "/fhir/Consent?status=active")
    [given] = [e["resource"] for e in copy.json()["entry"] if e["resource"]["meta"].get("tag")]
    assert [codes_of(p, "code")[0] for p in given["provision"]["provision"]] == ["warm-transfer"]


async def test_a_withdrawal_by_receiver_closes_that_receiver_alone(checked: World) -> None:
    _, received, _, asked = await _night(checked)
    made(await checked.call("counsellor", "POST", "/fhir", income_request(received["for"]["reference"].partition("/")[2])))
    income = await only_task(checked, "income")
    await withdraw(checked, "nurse", asked["for"]["reference"], "lakeridge", receiver="Organization/ow-durham")
    assert _is_shell(await resource(checked, "income", f"Task/{income['id']}"))
    assert not _is_shell(await resource(checked, "nurse", f"Task/{asked['id']}"))


async def test_a_class_taken_back_goes_from_what_was_sent_and_from_the_versions_before(checked: World) -> None:
    ids, received = await offered(checked)
    await withdraw(checked, "counsellor", received["for"]["reference"], "vsdr", classes=["needs", "age-band"])
    after = await resource(checked, "counsellor", f"Task/{received['id']}")
    assert "need" not in codes_of(after, "input", "type") and "safety-flag" in codes_of(after, "input", "type")
    person = await resource(checked, "counsellor", received["for"]["reference"])
    assert "extension" not in person and person["name"][0]["given"] == ["Zz-Robin"]
    for reference in (f"Task/{received['id']}", received["for"]["reference"]):
        assert_outcome(await checked.call("counsellor", "GET", f"/fhir/{reference}/_history/1"), 404)
    assert business(after) == "offered"
    assert business(await resource(checked, "police", f"Task/{ids['Task']}")) == "offered"
    mine = await resource(checked, "police", f"Consent/{ids['Consent']}")
    assert mine["meta"]["versionId"] == "1"  # a minimal view learns nothing


async def test_whoever_takes_it_is_told_the_same_whatever_exists(checked: World) -> None:
    _, _, _, asked = await _night(checked)
    alone = made(await checked.call("nurse", "POST", "/fhir", {**_only_patient(), "type": "transaction"}))
    answers = []
    for person in (asked["for"]["reference"], f"Patient/{alone['Patient']}"):
        answer = await checked.call("nurse", "POST", "/fhir/Consent", withdrawal(person, "lakeridge"))
        status, headers, body = without_moment(answer)
        told = answer.json()
        for value in (told["id"], person):
            body = body.replace(value.encode(), b"-")
        headers = {name: value for name, value in headers.items() if name not in ("location", "content-length")}
        answers.append((status, headers, body))
    assert answers[0] == answers[1]
    assert answers[0][0] == 201


def _only_patient() -> Json:
    offer = night_offer(NOW, "Zz-Alone")
    return {**offer, "entry": offer["entry"][:1]}


async def test_a_withdrawal_is_answered_no_sooner_than_any_other(checked: World) -> None:
    _, _, _, asked = await _night(checked)
    checked.after = None
    began = perf_counter()
    await withdraw(checked, "nurse", asked["for"]["reference"], "lakeridge")
    assert 0.25 <= perf_counter() - began < 1.0


async def test_a_later_consent_starts_new_tasks_and_revives_none(checked: World) -> None:
    ids, received, _, asked = await _night(checked)
    patient = received["for"]["reference"]
    await withdraw(checked, "nurse", asked["for"]["reference"], "lakeridge", scopes=["hospital-fast-track"])
    again = fast_track(patient.partition("/")[2])
    assert_outcome(await checked.call("counsellor", "POST", "/fhir", again), 403, refusal="no-consent")
    classes = ["alias", "age-band", "language", "safety-flag", "support-person"]

    def given(at: int) -> Json:
        return consent_for(
            recorder="vsdr", receiver="Organization/lakeridge", scope="hospital-fast-track", classes=classes, purposes=["ERTREAT"],
            start=at, end=NOW + 48 * HOUR, who=patient,
        )  # fmt: skip

    assert (await checked.call("counsellor", "POST", "/fhir/Consent", given(NOW - HOUR))).status_code == 201
    assert_outcome(await checked.call("counsellor", "POST", "/fhir", again), 403, refusal="no-consent")  # given before she took it back
    checked.clock.set(NIGHT + timedelta(minutes=3))
    assert (await checked.call("counsellor", "POST", "/fhir/Consent", given(NOW + 120_000))).status_code == 201
    made(await checked.call("counsellor", "POST", "/fhir", again))
    assert _is_shell(await resource(checked, "nurse", f"Task/{asked['id']}"))
    [fresh] = [task for task in await checked.tasks("nurse") if not _is_shell(task)]
    assert fresh["for"] != asked["for"]
    assert (await resource(checked, "nurse", fresh["for"]["reference"]))["name"][0]["given"] == ["Zz-Robin"]
    assert ids


async def test_an_old_consent_sent_again_gives_back_nothing(checked: World) -> None:
    ids, received = await offered(checked)
    mine = await resource(checked, "police", f"Consent/{ids['Consent']}")
    await withdraw(checked, "counsellor", received["for"]["reference"], "vsdr")
    assert (await checked.call("police", "PUT", f"/fhir/Consent/{ids['Consent']}", mine)).status_code == 200
    grants = await checked.hub.parts.facts.grants(await _thread(checked, ids["Task"]))
    assert all(grant.state != "active" for grant in grants)


async def test_only_a_holder_that_was_recalled_is_told_that_consent_was_withdrawn(checked: World) -> None:
    ids, received, _, asked = await _night(checked)
    await withdraw(checked, "nurse", asked["for"]["reference"], "lakeridge")
    again = fast_track(received["for"]["reference"].partition("/")[2])
    assert_outcome(await checked.call("counsellor", "POST", "/fhir", again), 403, refusal="consent-withdrawn")
    who, owner, sr = f"Patient/{ids['Patient']}", "PractitionerRole/vsdr.ht-cic", "urn:uuid:00000000-0000-4000-8000-0000000000a4"
    offer = transaction(
        (sr, request(who, "drps", "crisis-counselling", owner)),
        ("urn:uuid:00000000-0000-4000-8000-0000000000a5", task_for(who, sr, "drps", owner, [input_("scene-cleared", valueBoolean=True)])),
    )
    assert_outcome(await checked.call("police", "POST", "/fhir", offer), 403, refusal="no-consent")


async def test_the_lead_worker_is_asked_to_check_and_a_clock_runs_until_she_answers(checked: World) -> None:
    _, received, _, asked = await _night(checked)
    await withdraw(checked, "nurse", asked["for"]["reference"], "lakeridge")
    [check] = [task for task in await checked.tasks("counsellor") if task.get("code") == coded(v.TASK_CODE, "check-with-her")]
    assert (business(check), check["status"], check["owner"]) == ("consent-withdrawn", "requested", received["owner"])
    assert check["for"] == received["for"] and "requester" not in check and "input" not in check
    checked.clock.set(NIGHT + timedelta(minutes=31))
    checked.tokens.clear()
    await checked.hub.runner._timers()
    late = await resource(checked, "counsellor", f"Task/{check['id']}")
    assert late["owner"] != check["owner"]
    assert ("vsdr", "clock-escalate") in {tuple(row) for row in await checked.hub.parts.database.facts(_REVIEWS, {})}
    assert (await checked.move("counsellor", check["id"], "acknowledged")).json()["status"] == "received"
    assert (await checked.move("counsellor", check["id"], "closed")).json()["status"] == "completed"
    assert_outcome(await checked.move("counsellor", check["id"], "accepted", worker="Sam"), 409)


async def test_a_guardians_withdrawal_waits_for_a_human_and_stops_nothing(checked: World) -> None:
    _, received, _, asked = await _night(checked)
    record = withdrawal(asked["for"]["reference"], "lakeridge", giver="guardian")
    answer = await checked.call("nurse", "POST", "/fhir/Consent", record)
    assert answer.status_code == 202, answer.text
    assert business(await resource(checked, "counsellor", f"Task/{received['id']}")) == "accepted"
    assert not _is_shell(await resource(checked, "nurse", f"Task/{asked['id']}"))
    held = [t for t in await checked.tasks("counsellor") if business(t) == "held-for-review"]
    assert [t["status"] for t in held] == ["on-hold"]
    assert ("lakeridge", "withdrawal-held") in {tuple(row) for row in await checked.hub.parts.database.facts(_REVIEWS, {})}


@pytest.mark.parametrize("through", ["police", "counsellor-withdraws"])
async def test_police_see_no_step_that_no_human_took(checked: World, through: str) -> None:
    """She stops before anybody has seen the offer: the police view stands until a human there acts, and moves one step for each act."""
    ids, received = await offered(checked)
    if through == "police":
        stopped = await checked.move("police", ids["Task"], "stopped-by-survivor")
        assert stopped.status_code == 200 and business(stopped.json()) == "offered"
        again = await checked.move("police", ids["Task"], "stopped-by-survivor")
        assert (again.status_code, again.json()) == (200, stopped.json())
    else:
        await withdraw(checked, "counsellor", received["for"]["reference"], "vsdr")
    assert business(await only_task(checked, "police")) == "offered"
    assert _is_shell(await resource(checked, "counsellor", f"Task/{received['id']}"))
    assert_outcome(await checked.move("counsellor", received["id"], "accepted", worker="Sam"), 409, refusal="illegal-move")
    for answer, shown in (("acknowledged", "acknowledged"), ("closed", "taken-over")):
        assert (await checked.move("counsellor", received["id"], answer)).status_code == 200
        assert business(await only_task(checked, "police")) == shown
    seen = await only_task(checked, "police")
    assert seen["meta"]["versionId"] == "3" and "contact-card" in codes_of(seen, "output", "type")


async def test_an_unseen_stop_runs_the_backup_chain_as_any_offer_does(checked: World) -> None:
    ids, received = await offered(checked)
    await checked.move("police", ids["Task"], "stopped-by-survivor")
    for minutes in (11, 22, 33):
        checked.clock.set(NIGHT + timedelta(minutes=minutes))
        checked.tokens.clear()
        await checked.hub.runner._timers()
        await assert_views(checked)
    assert business(await only_task(checked, "police")) == "not-taken"
    assert business(await resource(checked, "counsellor", f"Task/{received['id']}")) == "stopped-by-survivor"
    assert (await checked.move("counsellor", received["id"], "closed")).status_code == 200
    assert business(await only_task(checked, "police")) == "taken-over"


async def test_one_act_that_accepts_at_once_is_two_steps_of_the_police_view(checked: World) -> None:
    ids, received = await offered(checked)
    assert (await checked.move("counsellor", received["id"], "accepted", worker="Sam")).status_code == 200
    now = await only_task(checked, "police")
    assert (business(now), now["meta"]["versionId"]) == ("taken-over", "3")
    step = await resource(checked, "police", f"Task/{ids['Task']}/_history/2")
    assert business(step) == "acknowledged" and codes_of(step, "output", "type") == ["last-resort-line"]


async def test_what_comes_back_while_it_is_held_or_over_makes_no_version_for_a_full_view(checked: World) -> None:
    _, _, sent, asked = await _night(checked)
    await taken(checked, "nurse", asked["id"])
    await checked.move("nurse", asked["id"], "paused-by-survivor")
    held = await resource(checked, "counsellor", f"Task/{sent['Task']}")
    assert codes_of(held, "output", "type") == ["last-resort-line", "contact-card"]
    eta = output("eta", valueDateTime="2026-03-14T02:40:00Z")
    patch: list[Json] = [{"op": "add", "path": "/output", "value": [eta]}]
    assert (await checked.call("nurse", "PATCH", f"/fhir/Task/{asked['id']}", patch)).status_code == 200
    assert await resource(checked, "counsellor", f"Task/{sent['Task']}") == held
    await checked.move("nurse", asked["id"], "stopped-by-survivor")
    over = await resource(checked, "counsellor", f"Task/{sent['Task']}")
    assert business(over) == "closed"
    assert (await checked.move("nurse", asked["id"], "acknowledged")).status_code == 200
    assert await resource(checked, "counsellor", f"Task/{sent['Task']}") == over


async def test_a_sender_with_the_full_view_records_her_stop_at_any_time(checked: World) -> None:
    _, _, sent, asked = await _night(checked)
    await taken(checked, "nurse", asked["id"])
    assert (await checked.move("counsellor", sent["Task"], "stopped-by-survivor")).status_code == 200
    assert _is_shell(await resource(checked, "nurse", f"Task/{asked['id']}"))
    assert _is_shell(await resource(checked, "nurse", asked["for"]["reference"]))


async def test_not_taken_may_still_become_taken_over(checked: World) -> None:
    _, received = await offered(checked)
    reason = coded(v.DECLINE_REASON, "no-capacity")
    await checked.move("counsellor", received["id"], "declined-no-capacity", statusReason=reason)
    assert business(await only_task(checked, "police")) == "not-taken"
    assert (await checked.move("counsellor", received["id"], "accepted", worker="Sam")).status_code == 200
    assert business(await only_task(checked, "police")) == "taken-over"


async def test_a_consent_made_inactive_closes_what_others_opened_on_it(checked: World) -> None:
    """The recorder's own edit reaches transfers of other senders at once."""
    ids, _, _, asked = await _night(checked)
    found = await checked.call("police", "GET", f"/fhir/Consent/{ids['Consent']}")
    fast = found.json()
    assert codes_of(fast["provision"]["provision"][0], "code") == ["hospital-fast-track"]
    put = await checked.call("police", "PUT", f"/fhir/Consent/{ids['Consent']}", {**fast, "status": "inactive"})
    assert put.status_code == 200, put.text
    assert _is_shell(await resource(checked, "nurse", f"Task/{asked['id']}"))


async def test_a_closed_copy_can_be_neither_written_nor_used(checked: World) -> None:
    _, received = await offered(checked)
    await withdraw(checked, "counsellor", received["for"]["reference"], "vsdr")
    shell = await resource(checked, "counsellor", received["for"]["reference"])
    refused = await checked.call("counsellor", "PUT", f"/fhir/{received['for']['reference']}", {**shell, "active": True})
    assert_outcome(refused, 403)
    offer = fast_track(received["for"]["reference"].partition("/")[2])
    assert_outcome(await checked.call("counsellor", "POST", "/fhir", offer), 403, refusal="consent-withdrawn")
    await withdraw(checked, "counsellor", received["for"]["reference"], "vsdr")  # again, through a shell: recorded


@pytest.mark.parametrize(
    ("broken", "expression"),
    [
        ({"type": "permit"}, "Consent.provision.provision[0]"),
        ({"type": "deny", "purpose": [{"system": v.V3_ACT_REASON, "code": "COC"}]}, "Consent.provision.provision[0]"),
    ],
)
async def test_a_withdrawal_that_is_not_understood_is_refused_whole(checked: World, broken: Json, expression: str) -> None:
    _, received = await offered(checked)
    record = {**withdrawal(received["for"]["reference"], "vsdr"), "provision": {"provision": [broken]}}
    refused = await checked.call("counsellor", "POST", "/fhir/Consent", record)
    assert_outcome(refused, 422, expression=expression)
    assert not _is_shell(await resource(checked, "counsellor", f"Task/{received['id']}"))


async def test_a_withdrawal_needs_its_own_scope_and_no_other(checked: World) -> None:
    _, received = await offered(checked)
    record = withdrawal(received["for"]["reference"], "vsdr")
    without = checked.narrowed("counsellor", "consent.withdraw")
    assert_outcome(await checked.call(without, "POST", "/fhir/Consent", record), 403, refusal="scope-missing")
    only = checked.narrowed("counsellor", "consent.record")
    assert_outcome(
        await checked.call(only, "POST", "/fhir/Consent", consent_for(recorder="vsdr", who=received["for"]["reference"])),
        403,
        refusal="scope-missing",
    )
    taken_ = await checked.call(only, "POST", "/fhir/Consent", record)
    assert taken_.status_code == 201, taken_.text
    assert_outcome(await checked.call("counsellor", "PUT", f"/fhir/Consent/{taken_.json()['id']}", taken_.json()), 422)
    assert millis(NIGHT) == NOW
