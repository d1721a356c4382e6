"""SQLite: one file, one writer thread, exactly one server process.

Write-ahead log with `synchronous=FULL`: a commit is on disk when it returns. Data keys live in a second file beside the first.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gateway.audit.entry import Chain
from gateway.identity import ShelfId, ThreadId
from gateway.storage import tables
from gateway.storage.sealing import NewKey
from gateway.storage.statements import Query, Row, insert
from gateway.storage.writer import StorageError, accepted, merge
from gateway.storage.writeset import Snapshot, Stale, WriteSet

__all__ = ["AlreadyRunning", "FileLock", "SqliteDatabase", "SqliteKeys", "connect"]

_INSERT_KEY = insert(tables.keys, unless_there=True).sqlite


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

    async def get(self, thread: ThreadId, shelf: ShelfId) -> bytes | None:
        row = self._reads.execute("SELECT wrapped FROM keys WHERE thread = ? AND shelf = ?", (thread, shelf)).fetchone()
        return row[0] if row else None

    def put(self, new: Sequence[NewKey]) -> None:
        """Make keys durable (called by the writer thread before it commits what they seal)."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(_INSERT_KEY, [(k.thread, k.shelf, k.wrapped) for k in new])
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def destroy(self, gone: Sequence[tuple[str, str]]) -> None:
        """Destroy keys, leaving tombstones that a restore replays."""
        at = time.time_ns() // 1_000_000
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("DELETE FROM keys WHERE thread = ? AND shelf = ?", gone)
        self._connection.executemany("INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?)", [(t, s, at) for t, s in gone])
        self._connection.execute("COMMIT")

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
            judged, holding = accepted(members, self._look(members))
            for op, rows in merge(holding, chain):
                db.executemany(op.sqlite, rows)
            new_keys = [key for ws in holding for key in ws.keys]
            if new_keys:
                self._keys.put(new_keys)
            db.execute("COMMIT")
            gone = [key for ws in holding for key in ws.destroys]
            if gone:
                self._keys.destroy(gone)
            return judged
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StorageError(type(error).__name__) from None
            raise

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
