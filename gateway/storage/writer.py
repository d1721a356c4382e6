"""The group-commit writer: many write sets, one durable transaction.

Each member is judged under locks on the rows its guards name; one that fails a guard is taken out (its caller decides again),
the rest commit together. A batch that errors is retried one member at a time, so that one bad member harms nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

from gateway.audit.entry import Chain
from gateway.problems import Finding, IssueCode, Problem, ProblemType
from gateway.storage import tables
from gateway.storage.statements import Op, Query, Row, close_shelf, doom, insert, update
from gateway.storage.writeset import Committed, Snapshot, Stale, WriteSet, judge

__all__ = ["Backend", "CommitUnknown", "Database", "StorageError", "Writer", "accepted", "merge", "unavailable", "uncertain"]

log = structlog.get_logger("gateway.storage")

BATCH: Final = 64
INSERT_COPY: Final = insert(tables.copies)
CLOSE_COPY: Final = update(tables.copies, where=("shelf", "type", "id", "version"), set=("current",), phase=0)
MOVE_THREAD: Final = update(tables.threads, where=("id",), set=("epoch",), phase=1)
INSERT_KEY: Final = insert(tables.data_keys, unless_there=True)
DOOM_KEY: Final = doom(tables.data_keys)
CLOSE_SHELF: Final = close_shelf(tables.copies)
INSERT_AUDIT: Final = insert(tables.audit_entries, phase=3)
INSERT_DECISION: Final = insert(tables.decisions, phase=3)
INSERT_WRITER: Final = insert(tables.audit_writers, phase=3)


class StorageError(Exception):
    """The database refused or was lost. The text names the kind of failure, never a value."""


class CommitUnknown(StorageError):
    """The database was lost while it committed, and it could not be found out in time whether it had."""


def uncertain() -> Problem:
    """503: it is not known whether it happened. What carries a request id may be sent again all the same."""
    say = (
        "The hub lost its database while recording this, and does not know whether it was recorded. Send the same request again with"
        " the same X-Request-ID: what was done already is not done twice, and is answered as it would have been. Without one, look first."
    )
    return Problem(ProblemType.UNAVAILABLE, Finding(IssueCode.TRANSIENT, say), retry_after=5)


def unavailable() -> Problem:
    """503: nothing happened; the same request may be sent again."""
    say = "The hub could not record this, so nothing was done. Send the same request again."
    return Problem(ProblemType.UNAVAILABLE, Finding(IssueCode.TRANSIENT, say), retry_after=1)


class Backend(Protocol):
    """One database's way to check guards and apply a batch in one transaction."""

    async def transact(self, members: Sequence[WriteSet], chain: Chain) -> list[Stale | None]:
        """Look at the guards under lock, judge, apply the members that hold, commit. Raises StorageError; then nothing was applied,
        but for CommitUnknown. Either way the chain must not be continued."""
        ...


class Database(Backend, Protocol):
    """Reads and writes. `facts` never returns a body; `shelf_rows` sees the rows of one shelf only."""

    async def facts(self, query: Query, params: Mapping[str, Any]) -> list[Row]:
        """Rows of the hub's own tables."""
        ...

    async def shelf_rows(self, shelf: str, query: Query, params: Mapping[str, Any]) -> list[Row]:
        """Rows of `copies`, on one shelf, as the reading role."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def merge(members: Sequence[WriteSet], chain: Chain, now: int) -> list[tuple[Op, list[Row]]]:
    """The rows of all members by operation, in phase order, with the closing of replaced copies and the audit entries.

    Which keys were made and which are to be destroyed is recorded with what they seal, at real time `now`: the key store follows.
    """
    merged: dict[Op, list[Row]] = {}
    for ws in members:
        for op, rows in ws.rows.items():
            merged.setdefault(op, []).extend(rows)
        if ws.copies:
            merged.setdefault(INSERT_COPY, []).extend(row for row, _ in ws.copies.values())
        for (shelf, type_, id_), version in ws.heads.items():
            merged.setdefault(CLOSE_COPY, []).append((False, shelf, type_, id_, version))
        for key in ws.keys:
            merged.setdefault(INSERT_KEY, []).append((key.thread, key.shelf, now, None, None))
        for gone in ws.destroys:
            merged.setdefault(CLOSE_SHELF, []).append(gone)
            merged.setdefault(DOOM_KEY, []).append((*gone, now, now))
        for thread, epoch in ws.owns.items():
            merged.setdefault(MOVE_THREAD, []).append((epoch + 1, thread))
        for entry, found in ws.explained():
            sealed = chain.append(entry)
            if sealed.seq == 1:
                merged.setdefault(INSERT_WRITER, []).append((sealed.writer, entry.at))
            merged.setdefault(INSERT_AUDIT, []).append(
                (sealed.writer, sealed.seq, entry.at, entry.actor_party, sealed.prev, sealed.hash, sealed.body)
            )
            for number, why in enumerate(found):
                merged.setdefault(INSERT_DECISION, []).append(
                    (sealed.writer, sealed.seq, number, entry.at, entry.correlation_id, why.party, why.target, why.denied, why.text)
                )
    return sorted(merged.items(), key=lambda item: item[0].phase)


class Writer:
    """Owned by one process; `chain` is its own audit chain, begun anew at each start."""

    def __init__(self, backend: Backend, new_chain: Callable[[], Chain]) -> None:
        self._backend = backend
        self._new_chain = new_chain
        self._chain: Chain = new_chain()
        self._queue: deque[tuple[WriteSet, asyncio.Future[Committed | Stale]]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.overtaken: Callable[[], Awaitable[None]] | None = None
        """Awaited before a write set is told that it was decided under a policy that is not in force any more."""

    async def start(self) -> None:
        """Begin taking write sets."""
        self._task = asyncio.create_task(self._run(), name="writer")

    async def stop(self) -> None:
        """Commit what is queued, then stop."""
        await self._idle.wait()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def commit(self, ws: WriteSet) -> Committed | Stale:
        """Commit one write set with whatever else is waiting. Raises Problem(UNAVAILABLE) when the database is not there; it says
        whether nothing was done, or that this is not known."""
        future: asyncio.Future[Committed | Stale] = asyncio.get_running_loop().create_future()
        self._queue.append((ws, future))
        self._idle.clear()
        self._wake.set()
        result = await future
        if self.overtaken is not None and isinstance(result, Stale) and result.guard == "policy":
            await self.overtaken()
        return result

    async def _run(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            await asyncio.shield(self._settle(batch))

    async def _settle(self, batch: list[tuple[WriteSet, asyncio.Future[Committed | Stale]]]) -> None:
        try:
            results = await self._attempt([ws for ws, _ in batch])
        except CommitUnknown:  # not tried again here: it may have been done
            log.error("commit-unknown", count=len(batch))
            for _, future in batch:
                _answer(future, uncertain())
            return
        except Exception as error:  # whatever it was, the writer goes on: nothing of this batch may be left waiting
            log.error(
                "batch-failed", kind=type(error).__name__, reason=str(error) if isinstance(error, StorageError) else "", count=len(batch)
            )
            if len(batch) > 1:
                for member in batch:
                    await self._settle([member])
                return
            _answer(batch[0][1], unavailable())
            return
        for (_, future), stale in zip(batch, results, strict=True):
            _answer(future, stale or Committed())

    async def _attempt(self, members: list[WriteSet]) -> list[Stale | None]:
        try:
            return await self._backend.transact(members, self._chain)
        except BaseException:
            # what became of the entries is not known: a new chain begins, and the old one ends where the database says
            self._chain = self._new_chain()
            raise


def _answer(future: asyncio.Future[Committed | Stale], result: Committed | Stale | Problem) -> None:
    if future.done():  # the caller went away; the effect stands
        return
    if isinstance(result, Problem):
        future.set_exception(result)
    else:
        future.set_result(result)


def accepted(members: Sequence[WriteSet], seen: Snapshot) -> tuple[list[Stale | None], list[WriteSet]]:
    """The judgement, and the members that may be applied."""
    judged = judge(members, seen)
    return judged, [ws for ws, stale in zip(members, judged, strict=True) if stale is None]
