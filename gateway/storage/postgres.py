"""PostgreSQL: two roles that own nothing. The reading role sees one shelf's rows; the writing role reads no body.

Reads of a shelf set `app.shelf` for their own transaction only; the row-level policy on `copies` compares it. The reads that every
request makes are functions in the database (`storage.reads`), which do both in one round trip. Data keys live in another database, so
that a backup of this one holds no key.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Self

import asyncpg
import structlog

from gateway.audit.entry import Chain
from gateway.identity import ShelfId, ThreadId
from gateway.storage.connections import LOST, Connection, Connections, connect
from gateway.storage.gathering import Gathering
from gateway.storage.sealing import NewKey, Slot
from gateway.storage.statements import Query, Row
from gateway.storage.writer import CommitUnknown, StorageError, accepted, merge
from gateway.storage.writeset import Snapshot, Stale, WriteSet

__all__ = ["PostgresDatabase", "PostgresKeys"]

log = structlog.get_logger("gateway.storage")

TRIES: Final = 3
LOOK_AGAIN_SECONDS: Final = 10.0
OVERTAKEN: Final = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_PUT: Final = (
    "INSERT INTO keys (thread, shelf, wrapped, made)"
    " SELECT g.* FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[]) g(t, s, w, m)"
    " WHERE NOT EXISTS (SELECT 1 FROM tombstones d WHERE d.thread = g.t AND d.shelf = g.s) ON CONFLICT DO NOTHING RETURNING 1"
)
_KEYS: Final = (
    "SELECT k.thread, k.shelf, k.wrapped FROM keys k JOIN unnest($1::text[], $2::text[]) w(t, s) ON k.thread = w.t AND k.shelf = w.s"
)
_SHELF: Final = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?")


class PostgresKeys:
    """The key store, in its own database."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._wanted = Gathering(self._fetch)

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect."""
        return cls(await Connections.open(url, 4))

    async def get(self, thread: ThreadId, shelf: ShelfId) -> bytes | None:
        return await self._wanted.ask((thread, shelf))

    async def _fetch(self, wanted: Sequence[tuple[ThreadId, ShelfId]]) -> Sequence[bytes | None]:
        found = await self._connections.fetch(_KEYS, ([t for t, _ in wanted], [s for _, s in wanted]))
        wrapped = {(row[0], row[1]): row[2] for row in found}
        return [wrapped.get(key) for key in wanted]

    async def put(self, new: Sequence[NewKey], at: int) -> None:
        """Make keys durable before what they seal is committed. Raises StorageError when the store has another in a key's place, or had."""
        given = ([k.thread for k in new], [k.shelf for k in new], [k.wrapped for k in new], [at] * len(new))
        put = await self._connections.fetch(_PUT, given)
        if len(put) == len(new):
            return
        found = await self._fetch([(k.thread, k.shelf) for k in new])
        if any(there != k.wrapped for there, k in zip(found, new, strict=True)):
            raise StorageError("key")

    async def destroy(self, gone: Sequence[Slot]) -> None:
        """Destroy keys, leaving tombstones that a restore replays."""
        at = time.time_ns() // 1_000_000
        async with self._connections.transaction() as db:
            await db.executemany("INSERT INTO tombstones VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [(t, s, at) for t, s in sorted(gone)])
            await db.executemany("DELETE FROM keys WHERE thread = $1 AND shelf = $2", sorted(gone))

    async def bury(self) -> int:
        """Destroy what has a tombstone and came back by a restore. Returns how many did."""
        buried = "DELETE FROM keys k USING tombstones t WHERE k.thread = t.thread AND k.shelf = t.shelf RETURNING 1"
        return len(await self._connections.fetch(buried, ()))

    async def held(self, after: Slot, limit: int) -> list[tuple[str, str, int]]:
        """Keys in the order of their places, after one of them: thread, slot, when made."""
        query = "SELECT thread, shelf, made FROM keys WHERE (thread, shelf) > ($1, $2) ORDER BY thread, shelf LIMIT $3"
        return [(row[0], row[1], row[2]) for row in await self._connections.fetch(query, (*after, limit))]

    async def tombstones(self, after: Slot, limit: int) -> list[Slot]:
        """The places of destroyed keys, in order, after one of them."""
        query = "SELECT thread, shelf FROM tombstones WHERE (thread, shelf) > ($1, $2) ORDER BY thread, shelf LIMIT $3"
        return [(row[0], row[1]) for row in await self._connections.fetch(query, (*after, limit))]

    async def drop(self, slot: Slot) -> None:
        """Forget a key that seals nothing."""
        await self._connections.fetch("DELETE FROM keys WHERE thread = $1 AND shelf = $2", slot)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()


class PostgresDatabase:
    """The `Database` port on PostgreSQL."""

    def __init__(self, url: str, writer: Connections, reader: Connections, keys: PostgresKeys) -> None:
        self._url = url
        self._facts = writer
        self._reader = reader
        self._keys = keys
        self._session: Connection | None = None
        self._mine = secrets.randbits(62)
        self._gathered: dict[Query, Gathering[Mapping[str, Any], list[Row]]] = {}

    @classmethod
    async def open(cls, writer_url: str, reader_url: str, keys: PostgresKeys) -> Self:
        """Connect both roles."""
        return cls(writer_url, await Connections.open(writer_url, 6), await Connections.open(reader_url, 10), keys)

    async def facts(self, query: Query, params: Mapping[str, Any]) -> list[Row]:
        return [tuple(row) for row in await self._facts.fetch(*query.postgres(params))]

    async def shelf_rows(self, shelf: str, query: Query, params: Mapping[str, Any]) -> list[Row]:
        given = {"shelf": shelf, **params}
        if query.routine is not None:
            if query not in self._gathered:
                self._gathered[query] = Gathering(partial(self._call, query))
            return await self._gathered[query].ask(given)
        if _SHELF.fullmatch(shelf) is None:  # it stands in the text below
            raise StorageError("shelf")
        async with self._reader.transaction(f"BEGIN; SELECT set_config('app.shelf', '{shelf}', true)") as db:
            text, values = query.postgres(given)
            return [tuple(row) for row in await db.fetch(text, *values)]

    async def _call(self, query: Query, asked: Sequence[Mapping[str, Any]]) -> list[list[Row]]:
        """Many reads of one kind, each narrowed to its own shelf; in the order asked."""
        answers: list[list[Row]] = [[] for _ in asked]
        for number, shelf, *row in await self._reader.fetch(*query.call(asked)):
            if shelf != asked[number - 1]["shelf"]:  # it can't be; if it is, nobody gets anything
                raise StorageError("shelf")
            answers[number - 1].append(tuple(row))
        return answers

    async def transact(self, members: Sequence[WriteSet], chain: Chain) -> list[Stale | None]:
        before, overtaken = chain.mark(), ""
        for _ in range(TRIES):
            try:
                return await self._attempt(members, chain)
            except OVERTAKEN as error:  # by another process, between the look and the write: the next look sees what it did
                chain.rewind(before)
                overtaken = type(error).__name__
            except LOST as error:
                raise StorageError(type(error).__name__) from None
        raise StorageError(overtaken)

    async def _attempt(self, members: Sequence[WriteSet], chain: Chain) -> list[Stale | None]:
        db, first = await self._begin(), chain.seq + 1
        try:
            now = time.time_ns() // 1_000_000
            judged, holding = accepted(members, await self._look(db, members))
            for op, rows in merge(holding, chain, now):
                await db.execute(op.postgres, *op.columnar(rows))
            new_keys = [key for ws in holding for key in ws.keys]
            if new_keys:
                await self._keys.put(new_keys, now)
        except BaseException as error:
            await self._give_up(db, error)
            raise
        try:
            await db.execute("COMMIT")
        except LOST as error:
            db.terminate()
            if not await self._was_committed(_proof(holding, chain.writer, first if chain.seq >= first else None)):
                raise StorageError(type(error).__name__) from None
        gone = [key for ws in holding for key in ws.destroys]
        if gone:
            try:
                await self._keys.destroy(gone)
            except StorageError as error:  # it is committed that they go: the sweep destroys them
                log.warning("keys-left", kind=type(error).__name__, reason=str(error), count=len(gone))
        return judged

    async def _begin(self) -> Connection:
        """A transaction of this process, which has one at a time: one that was cut off ends before the next begins."""
        if self._session is None or self._session.is_closed():
            self._session = await connect(self._url, "gateway-writer")
        await self._session.execute(f"BEGIN; SELECT pg_advisory_xact_lock({self._mine})")
        return self._session

    async def _give_up(self, db: Connection, error: BaseException) -> None:
        """Roll back. Without a COMMIT sent, the server does so by itself when the connection ends."""
        if isinstance(error, asyncpg.PostgresError | StorageError) and not db.is_closed():
            with contextlib.suppress(*LOST):
                await db.execute("ROLLBACK")
                return
        db.terminate()

    async def _was_committed(self, proof: tuple[str, tuple[Any, ...]] | None) -> bool:
        """What became of a COMMIT whose answer was lost, once its transaction has ended. Raises CommitUnknown."""
        if proof is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                    while True:
                        with contextlib.suppress(*LOST):
                            db = await self._begin()  # waits for that transaction's lock
                            found = await db.fetchval(proof[0], *proof[1]) is not None
                            await db.execute("ROLLBACK")
                            log.warning("commit-looked-up", reason="committed" if found else "not-committed")
                            return found
                        await asyncio.sleep(0.2)
        raise CommitUnknown("commit")

    async def _look(self, db: Connection, members: Sequence[WriteSet]) -> Snapshot:
        """Lock in one order everywhere: threads, transfers, copies, deliveries; each by id."""
        seen = Snapshot()
        owned = sorted({t for ws in members for t in ws.owns})
        threads = sorted({t for ws in members for t in (*ws.shares, *ws.owns)})
        if threads:
            lock = "UPDATE" if owned else "SHARE"
            found = await db.fetch(f"SELECT id, epoch FROM threads WHERE id = ANY($1) ORDER BY id FOR {lock}", threads)
            seen.threads.update((row[0], row[1]) for row in found)
        transfers = sorted({t for ws in members for t in ws.transfers})
        if transfers:
            found = await db.fetch("SELECT id, version FROM transfers WHERE id = ANY($1) ORDER BY id FOR UPDATE", transfers)
            seen.transfers.update((row[0], row[1]) for row in found)
        heads = sorted({h for ws in members for h in ws.heads})
        if heads:
            found = await db.fetch(
                "SELECT c.shelf, c.type, c.id, c.version FROM copies c JOIN unnest($1::text[], $2::text[], $3::text[]) h(shelf, type, id)"
                " ON c.shelf = h.shelf AND c.type = h.type AND c.id = h.id WHERE c.current ORDER BY 1, 2, 3 FOR UPDATE OF c",
                *([list(column) for column in zip(*heads, strict=True)]),
            )
            seen.heads.update(((row[0], row[1], row[2]), row[3]) for row in found)
        deliveries = sorted({d for ws in members for d in ws.fences})
        if deliveries:
            found = await db.fetch("SELECT id, fence FROM deliveries WHERE id = ANY($1) ORDER BY id FOR UPDATE", deliveries)
            seen.fences.update((row[0], row[1]) for row in found)
        seen.requests = await _there(db, "requests", "shelf", "request", [ws.request for ws in members if ws.request])
        seen.assertions = await _there(db, "assertions", "issuer", "jti", [ws.assertion for ws in members if ws.assertion])
        puts = any(ws.puts_policy for ws in members)
        if puts or any(ws.policy is not None for ws in members):
            # held until the commit: whoever sets another policy waits for what was decided under this one, and waits here, with the
            # stronger lock, so that two who do so can't hold each other up
            seen.policy = await db.fetchval(f"SELECT value FROM epochs WHERE name = 'policy' FOR {'UPDATE' if puts else 'SHARE'}")
        return seen

    async def set_epoch(self, name: str, value: int) -> None:
        """Note an epoch: what was decided under another is decided again."""
        await self._facts.fetch("INSERT INTO epochs VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._facts.close()
        await self._reader.close()
        await self._keys.close()


def _proof(holding: Sequence[WriteSet], writer: str, seq: int | None) -> tuple[str, tuple[Any, ...]] | None:
    """A query that finds a row if, and only if, this batch was committed: all of its members were, or none."""
    if seq is not None:
        return "SELECT 1 FROM audit_entries WHERE writer = $1 AND seq = $2", (writer, seq)
    for ws in holding:
        if ws.request is not None:
            return "SELECT 1 FROM requests WHERE shelf = $1 AND request = $2", ws.request
        if ws.assertion is not None:
            return "SELECT 1 FROM assertions WHERE issuer = $1 AND jti = $2", ws.assertion
    return None


async def _there(db: Connection, table: str, first: str, second: str, wanted: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these two-part keys exist already. The names come from this module only."""
    if not wanted:
        return set()
    found = await db.fetch(
        f"SELECT t.{first}, t.{second} FROM {table} t JOIN unnest($1::text[], $2::text[]) k(a, b) ON t.{first} = k.a AND t.{second} = k.b",
        [a for a, _ in wanted],
        [b for _, b in wanted],
    )
    return {(row[0], row[1]) for row in found}
