"""Keys and what they seal are in two stores: whatever dies between them, and whichever is restored, they come to agree."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Select, select

from gateway.audit.entry import Chain
from gateway.clock import millis
from gateway.identity import ShelfId, ThreadId
from gateway.problems import Problem
from gateway.settings import Settings
from gateway.storage import tables
from gateway.storage.keeping import ORPHAN_MS, Keeping
from gateway.storage.open import Opened, open_database
from gateway.storage.sealing import NewKey
from gateway.storage.statements import Query
from gateway.storage.writer import StorageError, Writer
from gateway.storage.writeset import Committed, WriteSet
from gateway.testing.postgres import PostgresServer
from gateway.transfers.facts import INSERT_THREAD
from tests.integration.durability.hub import ROOT, HubFiles
from tests.integration.storage.dying import SHELF, THREAD
from tests.integration.world import NIGHT, World, night_offer

k = tables.data_keys.c
Change = Callable[[str], None]


def now() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Stores:
    """Both stores of a hub that is not running, opened."""

    opened: Opened
    writer: Writer

    def keeping(self, at: int = 0) -> Keeping:
        return Keeping(self.opened.database, self.writer, self.opened.store, lambda: at or now())

    async def key(self) -> bytes | None:
        return await self.opened.store.get(THREAD, SHELF)

    async def rows(self, query: Select[Any]) -> list[tuple[Any, ...]]:
        return await self.opened.database.facts(Query(query), {})

    async def make(self) -> NewKey:
        """A key, and a thread that it was made for."""
        _, key = self.opened.keyring.make(THREAD, SHELF)
        ws = WriteSet(keys=[key])
        ws.add(INSERT_THREAD, THREAD, 0, 1)
        assert await self.writer.commit(ws) == Committed()
        return key


@asynccontextmanager
async def stores(settings: Settings) -> AsyncIterator[Stores]:
    opened = await open_database(settings, bytes(range(32)), 1)
    writer = Writer(opened.database, lambda: Chain("w-test"))
    await writer.start()
    yield Stores(opened, writer)
    await writer.stop()
    await opened.database.close()


@pytest.fixture
def files(tmp_path: Path, database: dict[str, str]) -> HubFiles:
    return HubFiles.make(tmp_path / "hub", database)


@pytest.fixture
def keys_sql(files: HubFiles, request: pytest.FixtureRequest) -> Change:
    """Runs a statement on the key store, as one who restores it."""
    return changing(request, files.settings, ".keys.db", "keys_url")


@pytest.fixture
def hub_sql(files: HubFiles, request: pytest.FixtureRequest) -> Change:
    """Runs a statement on the database, as one who restores it."""
    return changing(request, files.settings, ".db", "database_url")


def changing(request: pytest.FixtureRequest, settings: Settings, suffix: str, url: str) -> Change:
    if settings.sqlite_path is None:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name = urlsplit(getattr(settings, url)).path[1:]
        return lambda statement: print(server.execute(statement, name))
    path = settings.sqlite_path.with_suffix(suffix)

    def change(statement: str) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    return change


def die(files: HubFiles, point: str) -> None:
    """Let a process do its work up to a point, and be killed there."""
    command = [sys.executable, "-m", "tests.integration.storage.dying", point]
    done = subprocess.run(command, cwd=ROOT, env=files.environment, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


async def test_a_key_whose_end_was_committed_is_destroyed_at_the_next_start(files: HubFiles) -> None:
    await asyncio.to_thread(die, files, "doomed")
    async with stores(files.settings) as found:
        assert await found.key() is not None
        assert [(row[0] is not None, row[1]) for row in await found.rows(select(k.doomed, k.done))] == [(True, None)]

        await found.keeping().at_start()

        assert await found.key() is None
        assert await found.opened.store.tombstones(("", ""), 9) == [(THREAD, SHELF)]
        [(done,)] = await found.rows(select(k.done))
        assert done is not None
        assert await found.keeping().finish() == 0


async def test_a_key_that_nothing_was_committed_with_is_forgotten_after_an_hour(files: HubFiles) -> None:
    await asyncio.to_thread(die, files, "made")
    async with stores(files.settings) as found:
        assert await found.key() is not None
        assert await found.rows(select(k.thread)) == await found.rows(select(tables.threads.c.id)) == []
        await found.keeping().at_start()

        assert await found.keeping(now() + ORPHAN_MS - 60_000).drop_orphans() == 0
        assert await found.key() is not None
        assert await found.keeping(now() + ORPHAN_MS + 1_000).drop_orphans() == 1
        assert await found.key() is None


async def test_a_key_in_use_is_no_orphan(world: World) -> None:
    parts = world.hub.parts
    assert (await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))).status_code == 200
    store: Any = parts.keyring._store
    held = await store.held(("", ""), 99)
    noted = await parts.database.facts(Query(select(k.thread, k.slot).order_by(k.thread, k.slot)), {})
    assert [slot[:2] for slot in held] == [tuple(row) for row in noted] and len(held) == 3

    assert await Keeping(parts.database, parts.writer, store, lambda: now() + 2 * ORPHAN_MS).drop_orphans() == 0

    assert (await world.tasks("counsellor"))[0]["status"] == "requested"


async def test_a_key_of_a_known_thread_that_was_found_and_used_is_noted_and_kept(world: World, request: pytest.FixtureRequest) -> None:
    """A plan that finds the key of one that failed seals with it, and has no new key to note."""
    parts = world.hub.parts
    assert (await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))).status_code == 200
    changing(request, world.settings, ".db", "database_url")("DELETE FROM data_keys")
    store: Any = parts.keyring._store

    assert await Keeping(parts.database, parts.writer, store, lambda: now() + 2 * ORPHAN_MS).drop_orphans() == 0

    assert len(await parts.database.facts(Query(select(k.slot)), {})) == 3
    assert len(await world.tasks("counsellor")) == 1


async def test_a_key_store_away_after_the_commit_is_caught_up_with(files: HubFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stores(files.settings) as found:
        await found.make()
        store: Any = found.opened.store
        with monkeypatch.context() as away:

            def fail(_: object) -> None:
                raise StorageError("away")

            for name in ("destroy", "destroy_now"):
                away.setattr(store, name, fail, raising=False)
            assert await found.writer.commit(WriteSet(destroys=[(THREAD, SHELF)])) == Committed()
            assert await found.key() is not None
            with pytest.raises((StorageError, TypeError)):
                await found.keeping().finish()
        assert await found.keeping().finish() == 1
        assert await found.key() is None


async def test_a_destroyed_key_that_came_back_by_a_restore_is_destroyed_before_it_is_used(files: HubFiles, keys_sql: Change) -> None:
    async with stores(files.settings) as found:
        key = await found.make()
        await found.writer.commit(WriteSet(destroys=[(THREAD, SHELF)]))
        await found.keeping().finish()
    literal = f"X'{key.wrapped.hex()}'" if files.settings.sqlite_path else f"'\\x{key.wrapped.hex()}'"
    again = f"INSERT INTO keys (thread, shelf, wrapped) VALUES ('{THREAD}', '{SHELF}', {literal})"  # noqa: S608  # psql takes no parameters
    for restored in ("DELETE FROM tombstones", "SELECT 1"):  # with the tombstones as old as the keys, and as new as they were
        keys_sql(restored)
        keys_sql(again)
        async with stores(files.settings) as found:
            assert await found.key() == key.wrapped
            await found.keeping().at_start()
            assert await found.key() is None
            assert await found.opened.store.tombstones(("", ""), 9) == [(THREAD, SHELF)]


async def test_a_place_whose_key_was_destroyed_takes_no_other(files: HubFiles) -> None:
    async with stores(files.settings) as found:
        await found.make()
        await found.writer.commit(WriteSet(destroys=[(THREAD, SHELF)]))
        _, other = found.opened.keyring.make(THREAD, SHELF)
        ws = WriteSet(keys=[other])
        ws.add(INSERT_THREAD, "another", 0, 1)

        with pytest.raises(Problem):
            await found.writer.commit(ws)

        assert await found.key() is None
        assert await found.rows(select(tables.threads.c.id)) == [(THREAD,)]


async def test_nothing_is_committed_that_a_key_which_is_not_kept_would_seal(files: HubFiles) -> None:
    """Two plans made a first key for one place; the store has the other's."""
    async with stores(files.settings) as found:
        first = await found.make()
        ws = WriteSet(keys=[found.opened.keyring.make(THREAD, SHELF)[1]])
        ws.add(INSERT_THREAD, "another", 0, 1)

        with pytest.raises(Problem):
            await found.writer.commit(ws)

        assert await found.key() == first.wrapped
        assert await found.rows(select(tables.threads.c.id)) == [(THREAD,)]


async def search(world: World, **params: str) -> tuple[int, list[str]]:
    """What a search of one's own Tasks tells: the total, and the ids on all of its pages."""
    query = "&".join(f"{name}={value}" for name, value in params.items())
    path, ids, totals = f"/fhir/Task?_count=2&{query}", list[str](), set[int]()
    while path:
        answer = (await world.call("counsellor", "GET", path)).json()
        ids += [entry["resource"]["id"] for entry in answer.get("entry", ())]
        totals.add(answer["total"])
        path = next((link["url"] for link in answer.get("link", ()) if link["relation"] == "next"), "")
    [total] = totals
    return total, ids


async def test_a_closed_copy_is_in_no_search_and_in_no_count(world: World, request: pytest.FixtureRequest) -> None:
    """The total of a search is what its pages list, from the commit on, and after a restore of a database from before it."""
    for _ in range(5):
        assert (await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))).status_code == 200
    parts, c = world.hub.parts, tables.copies.c
    mine = await parts.database.facts(Query(select(c.thread, c.shelf, c.id).where(c.type == "Task", c.business == "offered")), {})
    received = {task["id"] for task in await world.tasks("counsellor")}
    gone = [(thread, shelf) for thread, shelf, id_ in mine if id_ in received][:3]
    assert (await search(world))[0] == 5

    assert await parts.writer.commit(WriteSet(destroys=gone)) == Committed()

    total, ids = await search(world)
    assert total == len(ids) == len(set(ids)) == 2
    assert len(await world.tasks("police")) == 5

    change = changing(request, world.settings, ".db", "database_url")
    change("UPDATE copies SET readable_until = NULL")
    change("UPDATE data_keys SET doomed = NULL, done = NULL")
    await Keeping(parts.database, parts.writer, parts.keyring._store, now).at_start()

    total, ids = await search(world)
    assert total == len(ids) == 2
    assert await search(world, status="requested") == (total, ids)
    for thread, shelf in gone:
        assert await parts.keyring._store.get(ThreadId(thread), ShelfId(shelf)) is None
