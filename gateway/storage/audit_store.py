"""The audit log's rows: what the sequencer and the export read, and the leaves and checkpoints it commits."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from sqlalchemy import bindparam, func, select

from gateway.audit.export import ExportEntry
from gateway.audit.sequencer import Head, Leaf, Pending, SequencerConflict, StoredCheckpoint
from gateway.problems import Problem
from gateway.storage import tables
from gateway.storage.statements import Query, insert
from gateway.storage.writer import Database, Writer
from gateway.storage.writeset import WriteSet

__all__ = ["StoredAudit"]

_e, _l, _c = tables.audit_entries.c, tables.audit_leaves.c, tables.audit_checkpoints.c
_INT: Final = _l.position.type
_NEWEST: Final = Query(select(_c.size, _c.note, _c.frontier).order_by(_c.size.desc()).limit(1))
_NOTES: Final = Query(select(_c.note).order_by(_c.size))
_LEAVES: Final = Query(
    select(_l.hash).where(_l.position >= bindparam("start", type_=_INT)).order_by(_l.position).limit(bindparam("limit", type_=_INT))
)
_WRITERS: Final = Query(select(tables.audit_writers.c.writer))
_HEAD: Final = Query(select(_l.seq, _l.hash).where(_l.writer == bindparam("writer")).order_by(_l.seq.desc()).limit(1))
_AFTER: Final = Query(
    select(_e.at, _e.seq, _e.hash, _e.body)
    .where(_e.writer == bindparam("writer"), _e.seq > bindparam("seq", type_=_INT))
    .order_by(_e.seq)
    .limit(bindparam("limit", type_=_INT))
)
_SIZE: Final = Query(select(func.coalesce(func.max(_l.position), -1)))
_IN_ORDER: Final = Query(
    select(_e.hash, _e.body)
    .select_from(tables.audit_leaves.join(tables.audit_entries, (_l.writer == _e.writer) & (_l.seq == _e.seq)))
    .where(_l.position >= bindparam("start", type_=_INT))
    .order_by(_l.position)
    .limit(bindparam("limit", type_=_INT))
)
_INSERT_LEAF: Final = insert(tables.audit_leaves)
_INSERT_CHECKPOINT: Final = insert(tables.audit_checkpoints)
_PAGE: Final = 1000


class StoredAudit:
    """`gateway.audit.sequencer.AuditStore` over the hub's database: one implementation for both."""

    def __init__(self, database: Database, writer: Writer | None) -> None:
        """`writer` None: for reading only."""
        self._database = database
        self._writer = writer

    async def newest_checkpoint(self) -> StoredCheckpoint | None:
        rows = await self._database.facts(_NEWEST, {})
        return StoredCheckpoint(*rows[0]) if rows else None

    async def leaves(self, start: int, limit: int) -> Sequence[bytes]:
        return [row[0] for row in await self._database.facts(_LEAVES, {"start": start, "limit": limit})]

    async def heads(self) -> Mapping[str, Head]:
        heads = {}
        for (writer,) in await self._database.facts(_WRITERS, {}):
            for seq, leaf in await self._database.facts(_HEAD, {"writer": writer}):
                heads[writer] = Head(seq, leaf)
        return heads

    async def unsequenced(self, limit: int) -> Sequence[Pending]:
        runs: list[list[tuple[str, str, int, bytes, bytes]]] = []
        heads = await self.heads()
        for (writer,) in await self._database.facts(_WRITERS, {}):
            after = heads[writer].seq if writer in heads else 0
            rows = await self._database.facts(_AFTER, {"writer": writer, "seq": after, "limit": limit})
            runs.append([(at, writer, seq, leaf, body) for at, seq, leaf, body in rows])
        merged = heapq.merge(*runs, key=lambda row: (row[0], row[1], row[2])) if len(runs) > 1 else iter(runs[0] if runs else [])
        return [Pending(writer, seq, leaf, body) for (_, writer, seq, leaf, body), _ in zip(merged, range(limit), strict=False)]

    async def append_leaves(self, first_index: int, leaves: Sequence[Leaf]) -> None:
        [(last,)] = await self._database.facts(_SIZE, {})
        if last + 1 != first_index:
            raise SequencerConflict
        ws = WriteSet()
        for position, leaf in enumerate(leaves, first_index):
            ws.add(_INSERT_LEAF, position, leaf.writer, leaf.seq, leaf.hash)
        await self._commit(ws)

    async def put_checkpoint(self, stored: StoredCheckpoint) -> None:
        newest = await self.newest_checkpoint()
        if newest is not None and newest.size >= stored.size:
            raise SequencerConflict
        ws = WriteSet()
        ws.add(_INSERT_CHECKPOINT, stored.size, stored.note, stored.frontier)
        await self._commit(ws)

    async def _commit(self, ws: WriteSet) -> None:
        if self._writer is None:
            raise SequencerConflict
        try:
            await self._writer.commit(ws)
        except Problem as problem:
            raise SequencerConflict from problem

    async def notes(self) -> list[str]:
        """Every checkpoint, oldest first."""
        return [row[0] for row in await self._database.facts(_NOTES, {})]

    async def entries(self) -> AsyncIterator[ExportEntry]:
        """Entries in the order of the tree."""
        start = 0
        while rows := await self._database.facts(_IN_ORDER, {"start": start, "limit": _PAGE}):
            for row in rows:
                yield ExportEntry(*row)
            start += len(rows)
