"""PostgreSQL: two roles that own nothing. The reading role sees one shelf's rows; the writing role reads no body.

Reads of a shelf set `app.shelf` for their own transaction only; the row-level policy on `copies` compares it. The reads that every
request makes are functions in the database (`storage.reads`), which do both in one round trip. Data keys live in another database, so
that a backup of this one holds no key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Self

from gateway.audit.entry import Chain
from gateway.identity import ShelfId, ThreadId
from gateway.storage import tables
from gateway.storage.connections import LOST, Connection, Connections, connect
from gateway.storage.gathering import Gathering
from gateway.storage.sealing import NewKey
from gateway.storage.statements import Query, Row, insert
from gateway.storage.writer import StorageError, accepted, merge
from gateway.storage.writeset import Snapshot, Stale, WriteSet

__all__ = ["PostgresDatabase", "PostgresKeys"]

_INSERT_KEY: Final = insert(tables.keys, unless_there=True).postgres
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

    async def put(self, new: Sequence[NewKey]) -> None:
        """Make keys durable before what they seal is committed."""
        await self._connections.fetch(_INSERT_KEY, ([k.thread for k in new], [k.shelf for k in new], [k.wrapped for k in new]))

    async def destroy(self, gone: Sequence[tuple[str, str]]) -> None:
        """Destroy keys, leaving tombstones that a restore replays."""
        at = time.time_ns() // 1_000_000
        async with self._connections.transaction() as db:
            await db.executemany("DELETE FROM keys WHERE thread = $1 AND shelf = $2", gone)
            await db.executemany("INSERT INTO tombstones VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [(t, s, at) for t, s in gone])

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
        try:
            db = await self._writing()
            async with db.transaction():
                judged, holding = accepted(members, await self._look(db, members))
                for op, rows in merge(holding, chain):
                    await db.execute(op.postgres, *op.columnar(rows))
                new_keys = [key for ws in holding for key in ws.keys]
                if new_keys:
                    await self._keys.put(new_keys)
            gone = [key for ws in holding for key in ws.destroys]
            if gone:
                await self._keys.destroy(gone)
            return judged
        except LOST as error:
            raise StorageError(type(error).__name__) from None

    async def _writing(self) -> Connection:
        if self._session is None or self._session.is_closed():
            self._session = await connect(self._url, "gateway-writer")
        return self._session

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
        if any(ws.policy is not None for ws in members):
            seen.policy = await db.fetchval("SELECT value FROM epochs WHERE name = 'policy'")
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
