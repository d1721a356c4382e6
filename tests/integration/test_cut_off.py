"""What becomes of the work of a party that is cut off, and of everybody when a server process can't see who is."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from gateway.clock import SystemClock, millis
from gateway.oauth.standing import FRESH_SECONDS
from gateway.parties.registrar import open_registrar
from gateway.storage import tables
from gateway.storage.statements import Query
from gateway.testing.postgres import PostgresServer
from tests.integration.conftest import postgres_settings
from tests.integration.world import NIGHT, World, night_offer, open_world, settings_for

_d = tables.deliveries.c
_DELIVERIES = Query(select(_d.shelf, _d.state, _d.reason, _d.tries))


@pytest.fixture
async def pushed(tmp_path: Path, database: dict[str, str]) -> AsyncIterator[World]:
    """A hub that pushes to one party, at an address where nobody answers."""
    endpoints = [{"shelf": "vsdr", "transport": "fhir-push", "address": "http://127.0.0.1:9/fhir"}]
    async with open_world(settings_for(tmp_path, **database, endpoints=endpoints)) as world:
        yield world


@pytest.fixture
def postgres(postgres_server: PostgresServer, migrated: tuple[str, str]) -> dict[str, str]:
    """An empty database that several processes may use."""
    return postgres_settings(postgres_server, migrated)


async def cut_off(world: World, *, disabled: bool) -> None:
    async with open_registrar(world.settings, "test", SystemClock(), time.time) as registrar:
        effect = await registrar.cut_off("vsdr", None, disabled=disabled)
    assert effect.waiting == ()
    assert effect.seconds < 1


async def delivery(world: World, wanted: Callable[[str | None, int], bool]) -> tuple[str, int]:
    """(state, tries) of the one delivery to the party, once its reason and tries are as wanted. Business time goes on meanwhile."""
    rows: list[tuple[str, str | None, int]] = []
    for _ in range(300):
        found = await world.hub.parts.database.facts(_DELIVERIES, {})
        rows = [(state, reason, tries) for shelf, state, reason, tries in found if shelf == "vsdr"]
        if rows and wanted(rows[0][1], rows[0][2]):
            return rows[0][0], rows[0][2]
        world.clock.set(world.clock.now() + timedelta(milliseconds=100))
        await asyncio.sleep(0.02)
    raise AssertionError(rows)


async def test_what_is_due_to_it_waits_and_new_offers_are_refused_with_the_line(pushed: World) -> None:
    world = pushed
    world.token("counsellor")
    assert (await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))).status_code == 200
    await delivery(world, lambda reason, _: reason == "no-answer")

    await cut_off(world, disabled=True)
    assert (await world.call("counsellor", "GET", "/fhir/Task")).status_code == 401
    refused = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT), "Zz-Ash"))
    assert refused.status_code == 403
    assert "outside-agreement" in refused.text and "Somebody answers now" in refused.text
    held, tries = await delivery(world, lambda reason, _: reason == "party-suspended")
    world.clock.set(world.clock.now() + timedelta(seconds=30))
    await asyncio.sleep(0.6)
    assert await delivery(world, lambda *_: True) == (held, tries) == ("queued", tries), "it was tried, or given up"

    await cut_off(world, disabled=False)
    state, more = await delivery(world, lambda reason, now: reason == "no-answer" and now > tries)
    assert state == "queued" and more > tries


async def test_a_process_that_cannot_see_who_is_cut_off_lets_nobody_in(world: World, request: pytest.FixtureRequest) -> None:
    def owner(statement: str) -> None:
        path = world.settings.sqlite_path
        if path is not None:
            connection = sqlite3.connect(path)
            connection.execute(statement)
            connection.close()
        else:
            request.getfixturevalue("postgres_server").execute(statement, urlsplit(world.settings.database_url).path[1:])

    assert (await world.call("counsellor", "GET", "/fhir/Task")).status_code == 200
    owner("ALTER TABLE epochs RENAME TO out_of_sight")
    try:
        began = time.monotonic()
        answer = await world.call("counsellor", "GET", "/fhir/Task")
        while answer.status_code == 200 and time.monotonic() - began < FRESH_SECONDS + 3:
            await asyncio.sleep(0.1)
            answer = await world.call("counsellor", "GET", "/fhir/Task")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert FRESH_SECONDS - 0.5 < time.monotonic() - began < FRESH_SECONDS + 1.5
    finally:
        owner("ALTER TABLE out_of_sight RENAME TO epochs")
    for _ in range(50):
        await asyncio.sleep(0.1)
        if (await world.call("counsellor", "GET", "/fhir/Task")).status_code == 200:
            return
    raise AssertionError("it did not see again")


async def test_others_work_on_without_a_refusal_while_the_policy_changes(
    tmp_path: Path, postgres: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.following.LOOK_SECONDS", 1.0)  # far apart, so that one process is ahead of the other for long
    settings = settings_for(tmp_path, **postgres)
    async with open_world(settings) as first, open_world(settings) as second:
        statuses: list[int] = []
        done = asyncio.Event()

        async def offer(world: World) -> None:
            number = 0
            while not done.is_set():
                number += 1
                answer = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT), f"Zz-{'abcdefghij'[number % 10]}"))
                statuses.append(answer.status_code)

        working = [asyncio.create_task(offer(world)) for world in (first, second) for _ in range(2)]
        async with open_registrar(settings, "test", SystemClock(), time.time) as registrar:
            for number in range(3):
                effect = await registrar.cut_off("lakeridge", None, disabled=number % 2 == 0)
                assert len(effect.taken_up) == 2 and effect.waiting == ()
        done.set()
        await asyncio.gather(*working)
        assert set(statuses) == {200} and len(statuses) > 20
        assert first.hub.parts.policy().epoch == second.hub.parts.policy().epoch
