"""Keeping the key store true to the database: there is no transaction over both, so what one committed the other is brought to.

A key is made durable before the commit of what it seals, and destroyed after the commit that says so. Whoever dies between the two
leaves a key too many: one that nothing was sealed with, or one that should be gone. The database says which (`data_keys`), and the
key store is brought to it at each start before anything is served, and while the hub runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy import bindparam, select, tuple_

from gateway.identity import ShelfId, ThreadId
from gateway.problems import Problem
from gateway.storage import tables
from gateway.storage.sealing import KeyStore, Slot, slot_shelf
from gateway.storage.statements import Query, update
from gateway.storage.writer import INSERT_KEY, Database, StorageError, Writer
from gateway.storage.writeset import WriteSet

__all__ = ["ORPHAN_MS", "Keeping"]

log = structlog.get_logger("gateway.storage")

ORPHAN_MS: Final = 3_600_000
"""A key that nobody committed anything with for so long was made for nothing: no write set is under way for a fraction of this."""
AGAIN: Final = 1.0  # seconds
ORPHANS_EVERY: Final = 3_600.0  # seconds
PAGE: Final = 1_000
_FIRST: Final[Slot] = ("", "")

_k = tables.data_keys.c
_INT: Final = _k.made.type
_thread, _slot = bindparam("thread", type_=_k.thread.type), bindparam("slot", type_=_k.slot.type)
_LEFT: Final = Query(select(_k.thread, _k.slot).where(_k.doomed.is_not(None), _k.done.is_(None)).order_by(_k.doomed).limit(PAGE))
_DOOMED: Final = Query(
    select(_k.thread, _k.slot)
    .where(_k.doomed.is_not(None), tuple_(_k.thread, _k.slot) > tuple_(_thread, _slot))
    .order_by(_k.thread, _k.slot)
    .limit(PAGE)
)
_NOTED: Final = Query(select(_k.made).where(_k.thread == _thread, _k.slot == _slot))
_BETWEEN: Final = Query(
    select(_k.thread, _k.slot).where(
        _k.thread >= bindparam("first", type_=_k.thread.type), _k.thread <= bindparam("last", type_=_k.thread.type)
    )
)
_THREAD: Final = Query(select(tables.threads.c.epoch).where(tables.threads.c.id == _thread))
_IN_USE: Final = Query(
    select(tables.copies.c.version)
    .where(tables.copies.c.thread == _thread, tables.copies.c.shelf == _slot, tables.copies.c.current)
    .limit(1)
)
_DONE: Final = update(tables.data_keys, where=("thread", "slot"), set=("done",))


class Keeping:
    """Brings the key store to what the database says. `real` is real time in ms."""

    def __init__(self, database: Database, writer: Writer, store: KeyStore, real: Callable[[], int]) -> None:
        self._database = database
        self._writer = writer
        self._store = store
        self._real = real

    async def at_start(self) -> None:
        """Before anything is served: what was destroyed is gone, whichever of the two was restored. Raises StorageError, Problem."""
        back = await self._store.bury()
        doomed = await self._all_doomed()
        held = await self._held(doomed)
        if held:
            await self._store.destroy(held)
        forgotten = [slot for slot in await self._all_tombstones() if slot not in doomed]
        for start in range(0, len(forgotten), PAGE):  # the database is older than the store: what it says there can't be opened
            await self._writer.commit(WriteSet(destroys=forgotten[start : start + PAGE]))
        if back or held or forgotten:
            log.warning("keys-replayed", count=back + len(held) + len(forgotten))
        await self.finish()

    async def finish(self) -> int:
        """Destroy the keys whose end was committed, until the store has confirmed each. Returns how many. Raises StorageError, Problem."""
        count = 0
        while left := [(row[0], row[1]) for row in await self._database.facts(_LEFT, {})]:
            await self._store.destroy(left)
            ws, now = WriteSet(), self._real()
            for slot in left:
                ws.add(_DONE, now, *slot)
            await self._writer.commit(ws)
            count += len(left)
        return count

    async def drop_orphans(self) -> int:
        """Forget keys of which the database knows nothing after an hour. Returns how many. Raises StorageError, Problem."""
        count, after, before = 0, _FIRST, self._real() - ORPHAN_MS
        while page := await self._store.held(after, PAGE):
            after = page[-1][:2]
            params = {"first": page[0][0], "last": after[0]}
            noted = {(row[0], row[1]) for row in await self._database.facts(_BETWEEN, params)}
            for thread, slot, made in page:
                if made < before and (thread, slot) not in noted:
                    count += await self._drop((thread, slot))
            await asyncio.sleep(0)
        if count:
            log.info("orphan-keys", count=count)
        return count

    async def run(self) -> None:
        """Until cancelled. A database or a store that is away now is looked at again in a second."""
        orphans = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self.finish()
                if loop.time() >= orphans:
                    await self.drop_orphans()
                    orphans = loop.time() + ORPHANS_EVERY
            except (StorageError, Problem) as error:
                log.warning("keys-left", kind=type(error).__name__)
            await asyncio.sleep(AGAIN)

    async def _drop(self, slot: Slot) -> bool:
        named = {"thread": slot[0], "slot": slot[1]}
        if await self._database.facts(_NOTED, named):
            return False
        if await self._database.facts(_THREAD, {"thread": slot[0]}):
            # Somebody may find this key at any moment and seal with it, for it is the place's own. Once that is done, it is noted.
            if await self._database.facts(_IN_USE, {"thread": slot[0], "slot": slot_shelf(slot[1])}):
                ws = WriteSet()
                ws.add(INSERT_KEY, *slot, self._real(), None, None)
                await self._writer.commit(ws)
            return False
        await self._store.drop(slot)
        return True

    async def _all_doomed(self) -> set[Slot]:
        found: set[Slot] = set()
        after = _FIRST
        while page := [(row[0], row[1]) for row in await self._database.facts(_DOOMED, {"thread": after[0], "slot": after[1]})]:
            found.update(page)
            after = page[-1]
        return found

    async def _all_tombstones(self) -> list[Slot]:
        found: list[Slot] = []
        while page := await self._store.tombstones(found[-1] if found else _FIRST, PAGE):
            found += page
        return found

    async def _held(self, doomed: set[Slot]) -> list[Slot]:
        """Those of them that the store has."""
        found, slots = [], sorted(doomed)
        for start in range(0, len(slots), PAGE):
            page = slots[start : start + PAGE]
            keys = await asyncio.gather(*(self._store.get(ThreadId(thread), ShelfId(shelf)) for thread, shelf in page))
            found += [slot for slot, key in zip(page, keys, strict=True) if key is not None]
        return found
