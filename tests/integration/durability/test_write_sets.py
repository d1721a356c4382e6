"""The guards of write sets on both databases, one by one: whoever relied on what is no longer so is taken out, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, select

from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome, Chain
from gateway.clock import instant, millis
from gateway.delivery.ledger import INSERT_DELIVERY
from gateway.problems import Problem, ProblemType
from gateway.storage import tables
from gateway.storage.postgres import PostgresDatabase, PostgresKeys
from gateway.storage.statements import Query, insert, update
from gateway.storage.writer import Writer
from gateway.storage.writeset import Committed, Stale, WriteSet
from gateway.testing.postgres import PostgresServer
from gateway.transfers.facts import INSERT_THREAD
from tests.integration.conftest import postgres_settings
from tests.integration.world import NIGHT, World, night_offer, open_world, settings_for

_THREADS = Query(select(tables.threads.c.id))
MOVE = update(tables.transfers, where=("id",), set=("version",))
INSERT_REQUEST = insert(tables.requests)
t, c = tables.transfers.c, tables.copies.c


def entry(transfer: str = "t") -> AuditEntry:
    return AuditEntry(at=instant(millis(NIGHT)), action=AuditAction.ACT, outcome=AuditOutcome.PERMIT, transfer=transfer)


async def rows(world: World, query: Select[Any]) -> list[tuple[Any, ...]]:
    return await world.hub.parts.database.facts(Query(query), {})


@dataclass
class Guarded:
    """A row and two ways to rely on a version of it."""

    version: int
    first: Callable[[int], WriteSet]
    second: Callable[[int], WriteSet]


async def guarded(world: World, kind: str) -> Guarded:
    """Something to rely on, of one kind, as a hub with one transfer holds it."""
    answer = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))
    assert answer.status_code == 200, answer.text
    [(transfer, version, thread)] = await rows(world, select(t.id, t.version, t.thread))
    if kind == "thread":
        [(epoch,)] = await rows(world, select(tables.threads.c.epoch))
        return Guarded(epoch, lambda n: WriteSet(owns={thread: n}), lambda n: WriteSet(shares={thread: n}))
    if kind == "transfer":
        return _alike(version, lambda n: WriteSet(transfers={transfer: n}))
    if kind == "copy":
        [(shelf, type_, id_, held)] = await rows(world, select(c.shelf, c.type, c.id, c.version).where(c.type == "ServiceRequest").limit(1))
        return _alike(held, lambda n: WriteSet(heads={(shelf, type_, id_): n}))
    ledger = WriteSet()
    head = ("d", "shelf", "endpoint", "lane", 1, "copies", thread, transfer, "[]", "stat")
    ledger.add(INSERT_DELIVERY, *head, "dead", 0, 0, 7, None, None, 0, None)
    assert isinstance(await world.hub.parts.writer.commit(ledger), Committed)
    return _alike(7, lambda n: WriteSet(fences={"d": n}))


def _alike(version: int, make: Callable[[int], WriteSet]) -> Guarded:
    return Guarded(version, make, make)


@pytest.mark.parametrize("kind", ["thread", "transfer", "copy", "fence"])
async def test_a_write_set_that_relied_on_another_version_is_stale(world: World, kind: str) -> None:
    row, writer = await guarded(world, kind), world.hub.parts.writer
    for version in (row.version - 1, row.version + 1):
        assert await writer.commit(row.second(version)) == Stale(kind)
    assert await writer.commit(row.second(row.version)) == Committed()


@pytest.mark.parametrize("kind", ["thread", "transfer", "copy", "fence"])
async def test_of_two_in_one_batch_that_move_the_same_the_second_is_stale(world: World, kind: str) -> None:
    row, writer = await guarded(world, kind), world.hub.parts.writer
    results = await asyncio.gather(*(writer.commit(make(row.version)) for make in (row.first, row.second)))
    assert results == [Committed(), Stale(kind)]


async def test_many_may_rely_on_a_thread_that_nobody_moves(world: World) -> None:
    row, writer = await guarded(world, "thread"), world.hub.parts.writer
    assert set(await asyncio.gather(*(writer.commit(row.second(row.version)) for _ in range(9)))) == {Committed()}


async def test_a_write_set_that_the_database_refuses_harms_no_other_in_its_batch(world: World) -> None:
    writer, database = world.hub.parts.writer, world.hub.parts.database
    sets = []
    for number in range(8):
        ws = WriteSet(audit=[entry(f"batch-{number}")])
        # the fourth names a thread twice; the sixth holds a number that no database takes
        ws.add(INSERT_THREAD, f"thread-{number}", 2**70 if number == 5 else 0, 1)
        if number == 3:
            ws.add(INSERT_THREAD, "thread-3", 0, 1)
        sets.append(ws)

    async with asyncio.timeout(20):  # none of them may be left waiting
        results = await asyncio.gather(*(writer.commit(ws) for ws in sets), return_exceptions=True)

    refused = [number for number, result in enumerate(results) if not isinstance(result, Committed)]
    assert refused == [3, 5]
    for number in refused:
        problem = results[number]
        assert isinstance(problem, Problem) and problem.type is ProblemType.UNAVAILABLE
    threads = {row[0] for row in await database.facts(_THREADS, {})}
    assert threads == {f"thread-{number}" for number in range(8)} - {"thread-3", "thread-5"}
    assert isinstance(await writer.commit(WriteSet(audit=[entry()])), Committed)


async def test_a_write_set_overtaken_in_its_own_batch_is_taken_out_alone(world: World) -> None:
    writer = world.hub.parts.writer
    first = WriteSet(request=("shelf", "same"))
    second = WriteSet(request=("shelf", "same"), audit=[entry("never")])
    third = WriteSet(request=("shelf", "other"), audit=[entry("kept")])
    entries = select(tables.audit_entries.c.seq)
    before = len(await rows(world, entries))

    results = await asyncio.gather(*(writer.commit(ws) for ws in (first, second, third)))

    assert results == [Committed(), Stale("request"), Committed()]
    assert len(await rows(world, entries)) == before + 1


@pytest.fixture
async def shared(tmp_path: Path, postgres_server: PostgresServer, migrated: tuple[str, str]) -> AsyncIterator[tuple[World, Writer]]:
    """A hub on PostgreSQL, and the writer of a second process on the same database. (SQLite has one process.)"""
    urls = await asyncio.to_thread(postgres_settings, postgres_server, migrated)
    async with open_world(settings_for(tmp_path, **urls)) as world:
        keys = await PostgresKeys.open(urls["keys_url"])
        database = await PostgresDatabase.open(urls["database_url"], urls["database_reader_url"], keys)
        other = Writer(database, lambda: Chain("w-other"))
        await other.start()
        yield world, other
        await other.stop()
        await database.close()


async def test_two_processes_never_both_win(shared: tuple[World, Writer]) -> None:
    """What one process does in a batch, the locks do between processes: each round, two writers move one transfer on."""
    world, other = shared
    row = await guarded(world, "transfer")
    [(transfer,)] = await rows(world, select(t.id))

    for version in range(row.version, row.version + 25):
        sets = []
        for _ in range(2):
            ws = WriteSet(transfers={transfer: version}, audit=[entry(transfer)])
            ws.add(MOVE, version + 1, transfer)
            sets.append(ws)
        results = await asyncio.gather(world.hub.parts.writer.commit(sets[0]), other.commit(sets[1]))
        assert sorted(map(str, results)) == ["Committed()", "Stale(guard='transfer')"]

    async def ask(writer: Writer, number: int) -> str:
        ws = WriteSet(request=("shelf", f"r-{number}"))
        ws.add(INSERT_REQUEST, "shelf", f"r-{number}", b"", "[]", 0)
        try:
            return type(await writer.commit(ws)).__name__
        except Problem as problem:
            return problem.type.value

    for number in range(25):
        asked = await asyncio.gather(ask(world.hub.parts.writer, number), ask(other, number))
        assert asked.count("Committed") == 1  # the other asks again and finds the answer
