"""What was once open: text in a code, a grant for every repeat of a name, one slow partner before all others, a transfer held by nobody or
waiting unseen, a request slower than its sender asked, and one party's consent that touched another's transfer."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway import vocabulary as v
from gateway.storage import tables
from gateway.storage.statements import Query
from tests.integration.checks import assert_outcome, assert_views
from tests.integration.night import HOUR, NOW, accepted, business, fast_track, made, offer, offered, only_task, resource, with_consent
from tests.integration.test_timers import at, minutes, reviews, timers
from tests.integration.world import World, coded, patient

Json = dict[str, Any]
_r, _g, _t = tables.transfers.c, tables.grants.c, tables.timers.c
_TRANSFERS = Query(select(_r.sender_shelf, _r.version, _r.priority).order_by(_r.opened, _r.sender_shelf))
_GRANTS = Query(select(func.count(_g.id)))
_ARMED = Query(select(_t.clock, _t.due).where(_t.state == "armed"))
CANARY = "zzcanary7f3a"


@pytest.mark.parametrize("code", [f"en {CANARY}", CANARY, f"en-{CANARY}", f"x-{CANARY}", "Speaks French; lives at 12 Elm", "EN"])
async def test_no_text_travels_as_a_language(world: World, code: str) -> None:
    person = {**patient(), "communication": [{"language": coded(v.BCP_47, code)}]}
    answer = await world.call("police", "POST", "/fhir", offer(who=person))
    told = "Bundle.entry[0].resource.communication[0].language"
    body = assert_outcome(answer, 422, refusal="unknown-code", canaries=[CANARY, "Elm"])
    assert told in str(body)
    assert await world.tasks("counsellor") == []


async def test_a_receiver_named_again_and_again_is_one_receiver(world: World) -> None:
    """The register once took a grant for each repeat, and each later decision looked at all of them."""
    consent = with_consent()
    [permit] = consent["provision"]["provision"]
    permit["actor"] = permit["actor"] * 3_000
    answer = await world.call("police", "POST", "/fhir", offer(consents=[consent]))
    assert answer.status_code == 200, answer.text
    assert await world.hub.parts.database.facts(_GRANTS, {}) == [(1,)]


async def test_a_consent_with_more_permits_than_a_conversation_has_gives_no_grant(world: World) -> None:
    consent = with_consent()
    consent["provision"]["provision"] *= 21
    began = time.perf_counter()
    assert_outcome(await world.call("police", "POST", "/fhir", offer(consents=[consent])), 403)
    assert time.perf_counter() - began < 5
    assert await world.hub.parts.database.facts(_GRANTS, {}) == [(0,)]


@pytest.mark.parametrize("held", ["paused-by-survivor", "unreachable", "unsafe-to-contact"])
async def test_nobody_holds_what_nobody_accepted(checked: World, held: str) -> None:
    """A held transfer is its receiver's; one that nobody has accepted stays its sender's, and its clocks run on."""
    _, received = await offered(checked)
    for before in ("offered", "acknowledged"):
        if before == "acknowledged":
            assert (await checked.move("counsellor", received["id"], before)).status_code == 200
        running = await timers(checked)
        assert_outcome(await checked.move("counsellor", received["id"], held), 409, refusal="illegal-move")
        assert business(await only_task(checked, "counsellor")) == before
        assert await timers(checked) == running
    assert (await checked.move("counsellor", received["id"], "accepted", worker="Sam")).status_code == 200
    moved = await checked.move("counsellor", received["id"], held)
    assert moved.status_code == 200, moved.text


@pytest.mark.parametrize("status", ["declined-no-capacity", "declined-not-eligible", "declined-out-of-area", "redirect-suggested"])
async def test_a_decline_starts_its_senders_own_clock(world: World, status: str) -> None:
    _, received = await offered(world)
    reason = coded(v.DECLINE_REASON, "no-capacity")
    declined = await world.move("counsellor", received["id"], status, statusReason=reason)
    assert declined.status_code == 200, declined.text
    assert [row for row in await timers(world) if row[1] == "armed"] == [(f"{status}-stat", "armed")]
    await at(world, minutes(11))
    assert await reviews(world) == [("drps", "clock-escalate", f"{status}-stat")]
    await assert_views(world)


@pytest.mark.parametrize(("held", "days"), [("paused-by-survivor", 7), ("unreachable", 1), ("unsafe-to-contact", 1)])
async def test_what_is_on_hold_is_not_forgotten(world: World, held: str, days: int) -> None:
    _, received = await accepted(world)
    assert (await world.move("counsellor", received["id"], held)).status_code == 200
    assert await world.hub.parts.database.facts(_ARMED, {}) == [(f"{held}-follow-up", NOW + days * 24 * HOUR)]
    await at(world, minutes(days * 24 * 60 + 1))
    assert await reviews(world) == [("vsdr", "clock-remind", f"{held}-follow-up")]


@pytest.mark.parametrize(("asked", "tasked"), [("routine", "stat"), ("stat", "routine"), (None, "stat"), ("urgent", "asap")])
async def test_the_more_urgent_of_request_and_task_counts_and_goes_on_counting(checked: World, asked: str | None, tasked: str) -> None:
    bundle = offer(priority=tasked)
    sent = next(entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "ServiceRequest")
    sent.pop("priority")
    if asked is not None:
        sent["priority"] = asked
    ids = made(await checked.call("police", "POST", "/fhir", bundle))
    most = "asap" if tasked == "asap" else "stat"
    assert [row[2] for row in await checked.hub.parts.database.facts(_TRANSFERS, {})] == [most]
    assert (await only_task(checked, "counsellor"))["priority"] == most
    mine = await resource(checked, "police", f"ServiceRequest/{ids['ServiceRequest']}")
    edited = {**mine, "reasonCode": [coded(v.REASON, "exploitation-disclosed")]}
    assert (await checked.call("police", "PUT", f"/fhir/ServiceRequest/{ids['ServiceRequest']}", edited)).status_code == 200
    assert [row[2] for row in await checked.hub.parts.database.facts(_TRANSFERS, {})] == [most]


async def test_what_police_agree_with_her_moves_no_transfer_of_another_party(checked: World) -> None:
    """Police write a further consent, and change one: the transfer onward, which they do not know of, is not even looked at."""
    ids, received = await accepted(checked)
    made(await checked.call("counsellor", "POST", "/fhir", fast_track(received["for"]["reference"].partition("/")[2])))
    before = await checked.hub.parts.database.facts(_TRANSFERS, {})
    assert [row[0] for row in before] == ["drps/htu", "vsdr"]
    shown = await only_task(checked, "nurse")
    who = f"Patient/{ids['Patient']}"
    assert (await checked.call("police", "POST", "/fhir/Consent", with_consent(who=who))).status_code == 201
    changed = await resource(checked, "police", f"Consent/{ids['Consent']}")
    assert (await checked.call("police", "PUT", f"/fhir/Consent/{ids['Consent']}", changed)).status_code == 200
    assert [row for row in await checked.hub.parts.database.facts(_TRANSFERS, {}) if row[0] == "vsdr"] == before[1:]
    assert await only_task(checked, "nurse") == shown
