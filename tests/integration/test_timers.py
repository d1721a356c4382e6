"""Deadlines: the backup chain moves on by itself, ends at the line, and no step is lost or taken twice, not even while the hub was down."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from gateway import vocabulary as v
from gateway.storage import tables
from gateway.storage.statements import Query
from tests.integration.checks import assert_views, codes_of
from tests.integration.night import accepted, business, fast_track, income_request, made, offered, only_task, resource
from tests.integration.world import NIGHT, World, coded, open_world, output, settings_for
from tests.integration.world import night_offer as first_offer

Json = dict[str, Any]
_t, _r = tables.timers.c, tables.reviews.c
_TIMERS = Query(select(_t.clock, _t.state, _t.due, _t.fired).order_by(_t.due, _t.clock))
_REVIEWS = Query(select(_r.party, _r.kind, _r.reason, _r.state).order_by(_r.made, _r.reason))


async def at(world: World, moment: datetime) -> None:
    """Move business time on, and wait until everything that is due then has happened."""
    world.clock.set(moment)
    now = int(moment.timestamp() * 1000)
    for _ in range(400):
        rows = await world.hub.parts.database.facts(_TIMERS, {})
        if not any(state == "armed" and due <= now for _, state, due, _ in rows):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("a timer that is due does not fire")


async def timers(world: World) -> list[tuple[str, str]]:
    """The clock and state of every timer, by due time."""
    return [(clock, state) for clock, state, _, _ in await world.hub.parts.database.facts(_TIMERS, {})]


async def reviews(world: World) -> list[tuple[str, str, str]]:
    """Who is called, why, by which clock."""
    return [(party, kind, reason) for party, kind, reason, _ in await world.hub.parts.database.facts(_REVIEWS, {})]


async def police_see(world: World) -> tuple[str, list[str]]:
    """The police's whole view: the status, and what comes with it."""
    sent = await only_task(world, "police")
    return business(sent), codes_of(sent, "output", "type")


def minutes(n: float) -> datetime:
    return NIGHT + timedelta(minutes=n)


async def test_nobody_answers_so_the_chain_moves_on_and_ends_at_the_line(world: World) -> None:
    """S5: offered 23:10, backup 23:20, manager 23:30, line 23:40; first in the queue at 07:00, accepted at 07:05."""
    _, received = await offered(world)
    line = codes_of(received, "output", "type")
    owners, seen = [received["owner"]["reference"]], [await police_see(world)]
    for minute in (10, 20, 30):
        await at(world, minutes(minute))
        await assert_views(world)
        task = await only_task(world, "counsellor")
        owners.append(task["owner"]["reference"])
        seen.append(await police_see(world))
    assert line == []
    assert owners == [f"PractitionerRole/vsdr.{role}" for role in ("ht-cic", "cic-on-call", "program-manager", "program-manager")]
    assert [status for status, _ in seen] == ["offered", "offered", "offered", "not-taken"]
    assert all(outputs == ["last-resort-line"] for _, outputs in seen)
    assert business(await only_task(world, "counsellor")) == "line-given"
    assert await reviews(world) == [("drps", "clock-backup", "crisis-acknowledge-backup")]
    await at(world, minutes(475))
    assert ("drps", "clock-escalate", "line-given-follow-up") in await reviews(world)
    taken = await world.move("counsellor", received["id"], "accepted", worker="Sam")
    assert taken.status_code == 200, taken.text
    assert await police_see(world) == ("taken-over", ["last-resort-line", "contact-card"])
    version = (await only_task(world, "police"))["meta"]["versionId"]
    await world.move("counsellor", received["id"], "paused-by-survivor")
    await at(world, minutes(60 * 24 * 9))
    again = await world.move("counsellor", received["id"], "accepted", worker="Sam")
    assert again.status_code == 200, again.text
    assert (await only_task(world, "police"))["meta"]["versionId"] == version
    await assert_views(world)


async def test_each_backup_step_is_hidden_from_a_minimal_view(world: World) -> None:
    """No version, no time, no notice: the police copy is the same resource until the line is given."""
    await offered(world)
    before = await only_task(world, "police")
    for minute in (10, 20):
        await at(world, minutes(minute))
        assert await only_task(world, "police") == before


async def test_a_fired_timer_is_fired_and_one_that_was_answered_is_cancelled(world: World) -> None:
    _, received = await offered(world)
    await at(world, minutes(10))
    await world.move("counsellor", received["id"], "acknowledged")
    assert sorted(await timers(world)) == [
        ("crisis-accept", "armed"),
        ("crisis-acknowledge", "fired"),
        ("crisis-acknowledge-backup", "cancelled"),
    ]


async def test_acknowledging_is_not_accepting(world: World) -> None:
    """The accept clock runs on after an acknowledgement, along the same chain."""
    _, received = await offered(world)
    await world.move("counsellor", received["id"], "acknowledged")
    await at(world, minutes(10))
    task = await only_task(world, "counsellor")
    assert (business(task), task["owner"]["reference"]) == ("backup-offered", "PractitionerRole/vsdr.cic-on-call")
    for minute in (20, 30):
        await at(world, minutes(minute))
    assert business(await only_task(world, "counsellor")) == "line-given"


async def test_contact_that_is_not_confirmed_calls_a_human_and_shows_police_nothing(world: World) -> None:
    _, received = await accepted(world)
    before = await only_task(world, "police")
    await at(world, minutes(46))
    assert await reviews(world) == [("vsdr", "clock-escalate", "contact-confirmed")]
    assert await only_task(world, "police") == before
    assert business(await resource(world, "counsellor", f"Task/{received['id']}")) == "accepted"


async def test_the_contact_clock_follows_the_arrival_time(world: World) -> None:
    _, received = await offered(world)
    arrives = output("eta", valueDateTime=minutes(90).isoformat())
    await world.move("counsellor", received["id"], "acknowledged")
    await world.move("counsellor", received["id"], "accepted", arrives, worker="Sam")
    await at(world, minutes(104))
    assert await reviews(world) == []
    await at(world, minutes(106))
    assert await reviews(world) == [("vsdr", "clock-escalate", "contact-confirmed")]


async def test_the_fast_track_pages_the_charge_nurse_and_then_tells_the_sender_the_line(world: World) -> None:
    _, received = await accepted(world)
    sent = made(await world.call("counsellor", "POST", "/fhir", fast_track(received["for"]["reference"].partition("/")[2])))
    await at(world, minutes(5))
    asked = await only_task(world, "nurse")
    assert (business(asked), asked["owner"]["reference"]) == ("backup-offered", "PractitionerRole/lakeridge.charge-nurse")
    await at(world, minutes(15))
    mine = await resource(world, "counsellor", f"Task/{sent['Task']}")
    assert (business(mine), codes_of(mine, "output", "type")) == ("line-given", ["last-resort-line"])


async def test_two_clocks_run_for_income_support_and_a_decision_stops_both(world: World) -> None:
    _, received = await accepted(world)
    patient = received["for"]["reference"].partition("/")[2]
    made(await world.call("counsellor", "POST", "/fhir", income_request(patient)))
    asked = await only_task(world, "income")
    await at(world, minutes(6 * 60))
    assert ("vsdr", "clock-escalate", "income-first-answer") in await reviews(world)
    assert business(await only_task(world, "income")) == "offered"
    decision = output("decision", valueCodeableConcept=coded(v.DECISION, "approved"))
    moved = await world.move("income", asked["id"], "accepted", decision, worker="Lee")
    assert moved.status_code == 200, moved.text
    await at(world, minutes(49 * 60))
    assert ("income-decision", "cancelled") in await timers(world)
    assert not [row for row in await reviews(world) if row[2] == "income-decision"]
    await assert_views(world)


async def test_timers_due_while_the_hub_was_down_fire_once(tmp_path: Path, database: dict[str, str]) -> None:
    settings = settings_for(tmp_path, **database)
    async with open_world(settings) as world:
        answer = await world.call("police", "POST", "/fhir", first_offer(int(NIGHT.timestamp() * 1000)))
        assert answer.status_code == 200, answer.text
    for moment, expected in ((minutes(60), "backup-offered"), (minutes(61), "backup-offered"), (minutes(75), "backup-offered")):
        async with open_world(settings, moment) as world:
            await at(world, moment)
            assert business(await only_task(world, "counsellor")) == expected
    async with open_world(settings, minutes(85)) as world:
        await at(world, minutes(85))
        assert business(await only_task(world, "counsellor")) == "line-given"
        fired = [clock for clock, state in await timers(world) if state == "fired"]
        assert fired == ["crisis-acknowledge", "crisis-acknowledge-backup", "crisis-acknowledge-backup"]
        assert len(await reviews(world)) == 1
        await assert_views(world)
