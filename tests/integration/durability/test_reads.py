"""Reading a shelf on PostgreSQL: many reads in one round trip, each behind the wall of its own shelf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from gateway.clock import millis
from gateway.storage.connections import Connections
from gateway.storage.reads import COPY_COLUMNS, READ, ROUTINES, on_shelf
from gateway.storage.statements import Query
from gateway.storage.writer import StorageError
from gateway.testing.postgres import PostgresServer
from tests.integration.conftest import postgres_settings
from tests.integration.world import NIGHT, World, night_offer, open_world, settings_for


@pytest.fixture
def urls(postgres_server: PostgresServer, migrated: tuple[str, str]) -> dict[str, str]:
    """The addresses of an empty database."""
    return postgres_settings(postgres_server, migrated)


@pytest.fixture
async def hub(tmp_path: Path, urls: dict[str, str]) -> AsyncIterator[World]:
    """A hub on PostgreSQL that has one transfer."""
    async with open_world(settings_for(tmp_path, **urls)) as world:
        answer = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))
        assert answer.status_code == 200
        yield world


async def test_reads_of_two_shelves_at_once_give_each_its_own(hub: World) -> None:
    [sent], [received] = await hub.tasks("police"), await hub.tasks("counsellor")
    asked = [("police", sent["id"]), ("counsellor", received["id"]), ("police", received["id"]), ("counsellor", sent["id"])] * 8
    answers = await asyncio.gather(*(hub.call(who, "GET", f"/fhir/Task/{id_}") for who, id_ in asked))
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404] * 8
    for (who, id_), answer in zip(asked, answers, strict=True):
        assert answer.status_code == 404 or answer.json() == (sent if who == "police" else received), id_


async def test_a_routine_stays_behind_the_policy_and_leaves_no_shelf_set(hub: World, urls: dict[str, str]) -> None:
    [received] = await hub.tasks("counsellor")
    reader = await asyncpg.connect(urls["database_reader_url"])
    try:
        asked = [{"shelf": shelf, "now": 0, "type": "Task", "id": received["id"]} for shelf in ("drps/htu", "vsdr", "nobody")]
        text, values = READ.call(asked)
        rows = await reader.fetch(text, *values)
        assert [(row[0], row[1]) for row in rows] == [(2, "vsdr")]
        assert not await reader.fetchval("SELECT current_setting('app.shelf', true)")
        assert await reader.fetchval("SELECT count(*) FROM copies") == 0
    finally:
        await reader.close()


async def test_only_the_reading_role_may_call_the_routines(urls: dict[str, str]) -> None:
    writer = await asyncpg.connect(urls["database_url"])
    try:
        for routine in ROUTINES:
            text, values = routine.call([])
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await writer.fetch(text, *[[] for _ in values])
    finally:
        await writer.close()


async def test_connections_survive_errors_and_make_callers_wait_their_turn(urls: dict[str, str]) -> None:
    connections = await Connections.open(urls["database_reader_url"], 2)
    try:
        slow = [asyncio.create_task(connections.fetch("SELECT pg_sleep(0.05), $1::int", (number,))) for number in range(6)]
        await asyncio.sleep(0)
        slow[4].cancel()
        results = await asyncio.gather(*slow, return_exceptions=True)
        assert [row[0][1] for row in results if isinstance(row, list)] == [0, 1, 2, 3, 5]
        for _ in range(3):
            with pytest.raises(StorageError):
                await connections.fetch("SELECT 1 / $1::int", (0,))
            with pytest.raises(StorageError):
                async with connections.transaction() as db:
                    await db.execute("SELECT nothing_of_that_name")
        [doomed] = await connections.fetch("SELECT pg_backend_pid()", ())
        with pytest.raises(StorageError):
            await connections.fetch("SELECT pg_terminate_backend($1)", (doomed[0],))
        assert await connections.fetch("SELECT $1::text", ("still here",)) == [("still here",)]
    finally:
        await connections.close()


async def test_a_shelf_that_is_not_a_plain_name_never_reaches_the_text_of_a_statement(hub: World) -> None:
    everything = Query(on_shelf(*COPY_COLUMNS))
    assert len(await hub.hub.parts.database.shelf_rows("vsdr", everything, {"now": 0})) == 5
    with pytest.raises(StorageError):
        await hub.hub.parts.database.shelf_rows("vsdr'; --", everything, {"now": 0})
