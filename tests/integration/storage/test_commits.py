"""PostgreSQL: what becomes of a commit that another process overtakes, or whose answer is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from sqlalchemy import func, select

from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome, Chain
from gateway.clock import instant, millis
from gateway.problems import Problem
from gateway.settings import Settings
from gateway.storage import postgres, tables
from gateway.storage.open import open_database
from gateway.storage.postgres import PostgresDatabase
from gateway.storage.statements import Query, insert
from gateway.storage.writer import Writer
from gateway.storage.writeset import Committed, Stale, WriteSet
from gateway.testing.postgres import PostgresServer
from gateway.transfers.facts import INSERT_THREAD
from tests.integration.conftest import postgres_settings
from tests.integration.world import NIGHT, night_offer, open_world, settings_for

INSERT_REQUEST = insert(tables.requests)
_THREADS = Query(select(tables.threads.c.id).order_by(tables.threads.c.id))
_ENTRIES = Query(select(tables.audit_entries.c.writer, tables.audit_entries.c.seq).order_by(tables.audit_entries.c.seq))
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""The message that ends a transaction (protocol 3, simple query)."""


def entry() -> AuditEntry:
    return AuditEntry(at=instant(millis(NIGHT)), action=AuditAction.ACT, outcome=AuditOutcome.PERMIT)


@dataclass
class Line:
    """A way to the server that is cut at a COMMIT: `before` it arrives, or `after`, before its answer does. Then it works again, or not."""

    host: str
    port: int
    cut: str = ""
    dead: bool = False
    cuts: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cuts and self.dead:
            writer.close()
            return
        there, back = await asyncio.open_connection(self.host, self.port)
        self.open |= {writer, back}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._client(reader, back, writer, there), self._server(there, writer))
        for end in (writer, back):
            end.close()
            self.open.discard(end)

    async def _client(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, writer: asyncio.StreamWriter, there: asyncio.StreamReader
    ) -> None:
        while sent := await reader.read(65_536):
            if sent == COMMIT and self.cut and not self.cuts:
                self.cuts += 1
                writer.transport.abort()
                if self.cut == "after":
                    back.write(sent)
                    await back.drain()
                    await asyncio.sleep(0.3)
                back.transport.abort()
                return
            back.write(sent)
        back.close()

    async def _server(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while told := await there.read(65_536):
            if writer.is_closing():
                return
            writer.write(told)
        writer.close()


@dataclass
class Hub:
    """One process's writer, whose way to the database can be cut."""

    database: PostgresDatabase
    writer: Writer
    line: Line


@pytest.fixture
def settings(tmp_path: Path, postgres_server: PostgresServer, migrated: tuple[str, str]) -> Settings:
    return settings_for(tmp_path, **postgres_settings(postgres_server, migrated))


@pytest.fixture
async def hub(settings: Settings) -> AsyncIterator[Hub]:
    parts = urlsplit(settings.database_url)
    line = Line(parts.hostname or "", parts.port or 0)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    [port] = {socket.getsockname()[1] for socket in server.sockets}
    user = parts.netloc.rpartition("@")[0]
    through = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}"))
    opened = await open_database(settings.model_copy(update={"database_url": through}), bytes(32), 7)
    assert isinstance(opened.database, PostgresDatabase)
    numbers = iter(range(99))
    writer = Writer(opened.database, lambda: Chain(f"w-{next(numbers)}"))
    await writer.start()
    yield Hub(opened.database, writer, line)
    await writer.stop()
    await opened.database.close()
    for end in list(line.open):
        end.close()
    server.close()


def making(thread: str, **guards: object) -> WriteSet:
    """A write set with an audit entry and one row to look for."""
    ws = WriteSet(audit=[entry()], **guards)  # type: ignore[arg-type]  # each test names real fields
    ws.add(INSERT_THREAD, thread, 0, 1)
    return ws


async def test_a_commit_whose_answer_was_lost_is_answered_with_what_became_of_it(hub: Hub) -> None:
    hub.line.cut = "after"
    async with asyncio.timeout(20):
        first = await asyncio.gather(*(hub.writer.commit(making(f"t{number}")) for number in range(3)))
        assert first == [Committed()] * 3 and hub.line.cuts == 1
        assert await hub.writer.commit(making("t3")) == Committed()
    assert await hub.database.facts(_THREADS, {}) == [(f"t{number}",) for number in range(4)]
    assert await hub.database.facts(_ENTRIES, {}) == [("w-0", number) for number in range(1, 5)]


async def test_a_commit_that_never_arrived_did_nothing_and_says_so(hub: Hub) -> None:
    hub.line.cut = "before"
    async with asyncio.timeout(20):
        with pytest.raises(Problem) as refused:
            await hub.writer.commit(making("t0"))
        assert "nothing was done" in refused.value.findings[0].say and hub.line.cuts == 1
        assert await hub.database.facts(_THREADS, {}) == []
        assert await hub.writer.commit(making("t0")) == Committed()
    assert len(await hub.database.facts(_ENTRIES, {})) == 1


async def test_a_commit_of_which_nothing_can_be_known_says_that(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOOK_AGAIN_SECONDS", 1.0)
    hub.line.cut, hub.line.dead = "after", True
    async with asyncio.timeout(20):
        results = await asyncio.gather(*(hub.writer.commit(making(f"t{n}")) for n in range(2)), return_exceptions=True)
        for result in results:
            assert isinstance(result, Problem)
            told = result.findings[0].say
            assert "does not know whether it was recorded" in told and "nothing was done" not in told
        hub.line.dead = False
        assert await hub.database.facts(_THREADS, {}) == [("t0",), ("t1",)]  # it was, and was not tried again
        assert len(await hub.database.facts(_ENTRIES, {})) == 2


async def waiting(db: asyncpg.Connection) -> None:
    """Return once somebody waits for a lock."""
    for _ in range(500):
        if await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nobody waits")


async def test_a_policy_is_not_replaced_while_what_was_decided_under_it_commits(hub: Hub, settings: Settings) -> None:
    """The commit is held up by a row that somebody else is about to insert; the new policy has to wait for it."""
    database, writer = hub.database, hub.writer
    beside = await asyncpg.connect(settings.database_url)
    holding = beside.transaction()
    await holding.start()
    await beside.execute("INSERT INTO threads VALUES ('t0', 0, 1)")
    committing = asyncio.create_task(writer.commit(making("t0", policy=7)))
    await waiting(beside)
    replacing = asyncio.create_task(database.set_epoch("policy", 8))
    await asyncio.sleep(0.3)
    assert not replacing.done()  # otherwise this would be released under a policy that is no longer in force
    await holding.rollback()

    assert await committing == Committed()
    await replacing
    assert await writer.commit(making("t1", policy=7)) == Stale("policy")
    assert await writer.commit(making("t1", policy=8)) == Committed()
    await beside.close()


async def test_two_processes_asked_the_same_thing_at_once_do_it_once_and_answer_alike(settings: Settings, tmp_path: Path) -> None:
    rounds, beside = 20, settings.model_copy(update={"sandbox_clock": tmp_path / "another"})
    async with open_world(settings) as one, open_world(beside) as other:
        for number in range(rounds):
            offer = night_offer(millis(NIGHT))
            answers = await asyncio.gather(
                *(hub.call("police", "POST", "/fhir", offer, X_Request_ID=f"r-{number}") for hub in (one, other, one, other))
            )
            assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
            assert len({str([e["response"]["location"] for e in answer.json()["entry"]]) for answer in answers}) == 1
        assert len(await one.tasks("counsellor")) == rounds
        [(transfers,)] = await one.hub.parts.database.facts(Query(select(func.count()).select_from(tables.transfers)), {})
        assert transfers == rounds
