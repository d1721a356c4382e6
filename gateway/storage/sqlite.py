"""SQLite: one file, one writer thread, exactly one server process.

Write-ahead log with `synchronous=FULL`: a commit is on disk when it returns. Data keys live in a second file beside the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from gateway.audit.entry import Chain
from gateway.identity import ShelfId, ThreadId
from gateway.storage.sealing import NewKey, Slot
from gateway.storage.statements import Query, Row
from gateway.storage.writer import StorageError, accepted, merge
from gateway.storage.writeset import Snapshot, Stale, WriteSet

__all__ = ["AlreadyRunning", "FileLock", "SqliteDatabase", "SqliteKeys", "connect"]

log = structlog.get_logger("gateway.storage")

_PUT = (
    "INSERT OR IGNORE INTO keys (thread, shelf, wrapped, made) SELECT ?, ?, ?, ?"
    " WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE thread = ? AND shelf = ?)"
)


class AlreadyRunning(Exception):
    """Another server process has this database file."""


class FileLock:
    """One process has the database: the server, or whoever changes its schema. It ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        """Raises AlreadyRunning when another process has it."""
        self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise AlreadyRunning(str(path)) from error

    def release(self) -> None:
        """Let the next one have it."""
        os.close(self._file)


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode with durable settings."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cache_size=-8000")
    return connection


class SqliteKeys:
    """The key store: its own file, so that a backup of the database holds no key."""

    def __init__(self, path: Path) -> None:
        self._reads = connect(path)
        self._connection = connect(path)
        self._turn = threading.Lock()

    async def get(self, thread: ThreadId, shelf: ShelfId) -> bytes | None:
        row = self._reads.execute("SELECT wrapped FROM keys WHERE thread = ? AND shelf = ?", (thread, shelf)).fetchone()
        return row[0] if row else None

    def put(self, new: Sequence[NewKey], at: int) -> None:
        """Make keys durable (called by the writer thread before it commits what they seal).

        Raises StorageError when the store has another in a key's place, or had.
        """
        with self._writing() as db:
            db.executemany(_PUT, [(k.thread, k.shelf, k.wrapped, at, k.thread, k.shelf) for k in new])
            for key in new:
                there = db.execute("SELECT wrapped FROM keys WHERE thread = ? AND shelf = ?", (key.thread, key.shelf)).fetchone()
                if there != (key.wrapped,):
                    raise StorageError("key")

    def destroy_now(self, gone: Sequence[Slot]) -> None:
        """`destroy`, for the writer thread."""
        at = time.time_ns() // 1_000_000
        with self._writing() as db:
            db.executemany("INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?)", [(t, s, at) for t, s in gone])
            db.executemany("DELETE FROM keys WHERE thread = ? AND shelf = ?", gone)

    async def destroy(self, gone: Sequence[Slot]) -> None:
        """Destroy keys, leaving tombstones that a restore replays."""
        await asyncio.to_thread(self.destroy_now, gone)

    async def bury(self) -> int:
        with self._writing() as db:
            return db.execute("DELETE FROM keys WHERE (thread, shelf) IN (SELECT thread, shelf FROM tombstones)").rowcount

    async def held(self, after: Slot, limit: int) -> list[tuple[str, str, int]]:
        query = "SELECT thread, shelf, made FROM keys WHERE (thread, shelf) > (?, ?) ORDER BY thread, shelf LIMIT ?"
        return self._reads.execute(query, (*after, limit)).fetchall()

    async def tombstones(self, after: Slot, limit: int) -> list[Slot]:
        query = "SELECT thread, shelf FROM tombstones WHERE (thread, shelf) > (?, ?) ORDER BY thread, shelf LIMIT ?"
        return self._reads.execute(query, (*after, limit)).fetchall()

    async def drop(self, slot: Slot) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM keys WHERE thread = ? AND shelf = ?", slot)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction at a time, whichever thread asks."""
        with self._turn:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StorageError(type(error).__name__) from None
                raise

    def close(self) -> None:
        """Release the file."""
        self._reads.close()
        self._connection.close()


class SqliteDatabase:
    """The `Database` port on SQLite."""

    def __init__(self, path: Path, keys: SqliteKeys, lock: FileLock | None) -> None:
        """`lock` None: for reading only. It is released with the database."""
        self._lock = lock
        self._keys = keys
        self._reads = connect(path)
        self._writes = connect(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")

    async def facts(self, query: Query, params: Mapping[str, Any]) -> list[Row]:
        return self._read(query, params)

    async def shelf_rows(self, shelf: str, query: Query, params: Mapping[str, Any]) -> list[Row]:
        return self._read(query, {"shelf": shelf, **params})

    def _read(self, query: Query, params: Mapping[str, Any]) -> list[Row]:
        try:
            return self._reads.execute(*query.sqlite(params)).fetchall()
        except sqlite3.Error as error:
            raise StorageError(type(error).__name__) from None

    async def transact(self, members: Sequence[WriteSet], chain: Chain) -> list[Stale | None]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, members, chain)

    def _transact(self, members: Sequence[WriteSet], chain: Chain) -> list[Stale | None]:
        db = self._writes
        try:
            db.execute("BEGIN IMMEDIATE")
            now = time.time_ns() // 1_000_000
            judged, holding = accepted(members, self._look(members))
            for op, rows in merge(holding, chain, now):
                db.executemany(op.sqlite, rows)
            new_keys = [key for ws in holding for key in ws.keys]
            if new_keys:
                self._keys.put(new_keys, now)
            db.execute("COMMIT")
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StorageError(type(error).__name__) from None
            raise
        gone = [key for ws in holding for key in ws.destroys]
        if gone:
            try:
                self._keys.destroy_now(gone)
            except StorageError as error:  # it is committed that they go: the sweep destroys them
                log.warning("keys-left", kind=type(error).__name__, reason=str(error), count=len(gone))
        return judged

    def _look(self, members: Sequence[WriteSet]) -> Snapshot:
        db, seen = self._writes, Snapshot()
        for ws in members:
            for thread in (*ws.shares, *ws.owns):
                for (epoch,) in db.execute("SELECT epoch FROM threads WHERE id = ?", (thread,)):
                    seen.threads[thread] = epoch
            for transfer in ws.transfers:
                for (version,) in db.execute("SELECT version FROM transfers WHERE id = ?", (transfer,)):
                    seen.transfers[transfer] = version
            for head in ws.heads:
                for (version,) in db.execute("SELECT version FROM copies WHERE shelf = ? AND type = ? AND id = ? AND current", head):
                    seen.heads[head] = version
            if ws.request and db.execute("SELECT 1 FROM requests WHERE shelf = ? AND request = ?", ws.request).fetchone():
                seen.requests.add(ws.request)
            if ws.assertion and db.execute("SELECT 1 FROM assertions WHERE issuer = ? AND jti = ?", ws.assertion).fetchone():
                seen.assertions.add(ws.assertion)
            for delivery in ws.fences:
                for (fence,) in db.execute("SELECT fence FROM deliveries WHERE id = ?", (delivery,)):
                    seen.fences[delivery] = fence
        if any(ws.policy is not None for ws in members):
            for (epoch,) in db.execute("SELECT value FROM epochs WHERE name = 'policy'"):
                seen.policy = epoch
        return seen

    async def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._reads.close()
        self._writes.close()
        self._keys.close()
        if self._lock is not None:
            self._lock.release()
