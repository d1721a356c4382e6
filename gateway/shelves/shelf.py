"""A shelf as a request handler holds it: read and search the copies of one unit, and nothing else.

`Shelves.of` is what a handler uses, with the shelf its token names. `Shelves.reading_shelf` names any shelf and belongs to the
release step alone (a test walks the syntax trees).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import bindparam, func, or_

from gateway.clock import Clock, millis
from gateway.identity import Caller, ShelfId, ThreadId
from gateway.shelves.copies import Copy
from gateway.storage import tables
from gateway.storage.reads import COPY_COLUMNS, IN_THREAD, READ, VREAD, on_shelf
from gateway.storage.sealing import KeyDestroyed, Keyring, key_name, place
from gateway.storage.statements import Query, Row
from gateway.storage.writer import Database

__all__ = ["Criteria", "Page", "Shelf", "Shelves"]

_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")  # R4 datatypes, id: whatever else is asked for names nothing
_BEFORE_ALL: Final = -1
_VERSIONS: Final = range(1, 2**31)
_COMPARED: Final[Mapping[str, Callable[[Any, Any], Any]]] = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
_c = tables.copies.c


@dataclass(frozen=True, slots=True)
class Criteria:
    """A search on one's own shelf. Values of one name are alternatives; names are combined with AND."""

    ids: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    businesses: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    identifiers: tuple[tuple[str, str], ...] = ()  # (system, value), exact
    updated: tuple[tuple[str, int], ...] = ()  # (ge|gt|le|lt, ms)
    newest_first: bool = False


_Shape = tuple[tuple[str, int], ...]
"""(column, how many alternatives) or (comparison with the time of change, 1), all of which must hold."""


@lru_cache(maxsize=512)
def _search_queries(shape: _Shape, newest_first: bool) -> tuple[Query, Query]:
    """(the page, the total) for every search of this shape: building the text costs more than running it."""
    conditions: list[Any] = [_c.type == bindparam("type"), _c.current]
    for at, (name, number) in enumerate(shape):
        if name in _COMPARED:
            conditions.append(_COMPARED[name](_c.updated, bindparam(f"at{at}", type_=_c.updated.type)))
        elif name == "identifiers":
            conditions.append(or_(*(_c.identifiers.like(bindparam(f"{name}{i}")) for i in range(number))))
        else:
            conditions.append(or_(*(_c[name] == bindparam(f"{name}{i}") for i in range(number))))
    order = (_c.updated.desc(), _c.id) if newest_first else (_c.updated, _c.id)
    whole = _c.version.type
    page = on_shelf(*COPY_COLUMNS).where(*conditions).order_by(*order).limit(bindparam("count", type_=whole))
    return Query(page.offset(bindparam("offset", type_=whole))), Query(on_shelf(func.count()).where(*conditions))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search."""

    copies: tuple[Copy, ...]
    total: int


class Shelf:
    """The copies of one shelf, at one instant of business time."""

    def __init__(self, database: Database, keyring: Keyring, shelf: ShelfId, now: int) -> None:
        self.id = shelf
        self._database = database
        self._keyring = keyring
        self._now = now

    async def read(self, type_: str, id_: str, version: int | None = None) -> Copy | None:
        """The current version, or the one named. None when there is none here, whatever exists elsewhere."""
        if _ID.fullmatch(id_) is None or (version is not None and version not in _VERSIONS):
            return None
        params: dict[str, Any] = {"type": type_, "id": id_, "now": self._now}
        if version is not None:
            params["version"] = version
        rows = await self._database.shelf_rows(self.id, READ if version is None else VREAD, params)
        copies = await self._open(rows)
        if copies or version is None:
            return copies[0] if copies else None
        head = await self.read(type_, id_)
        return head if head is not None and head.closed and version < head.version else None  # older versions answer as the shell

    async def in_thread(self, thread: ThreadId, type_: str) -> list[Copy]:
        """The current copies of one type that belong to one person's thread."""
        return await self._open(await self._database.shelf_rows(self.id, IN_THREAD, {"thread": thread, "type": type_, "now": self._now}))

    async def search(self, type_: str, criteria: Criteria, *, count: int, offset: int) -> Page:
        """A page of current copies, ordered by time and id, and how many there are in all."""
        shape, values = self._asked(criteria)
        page, total = _search_queries(shape, criteria.newest_first)
        params = {"type": type_, "now": self._now, **values}
        rows = await self._database.shelf_rows(self.id, page, {**params, "count": count, "offset": offset})
        if len(rows) < count and (rows or not offset):
            number = offset + len(rows)  # the page is the last one, so the total is known
        else:
            [(number,)] = await self._database.shelf_rows(self.id, total, params)
        return Page(tuple(await self._open(rows)), number)

    def _asked(self, criteria: Criteria) -> tuple[_Shape, dict[str, Any]]:
        """What is compared with what, and the values of each comparison."""
        tokens = tuple(f"%{self._keyring.token(self.id, system, value)}%" for system, value in criteria.identifiers)
        groups: list[tuple[str, tuple[Any, ...]]] = [
            ("id", criteria.ids),
            ("status", criteria.statuses),
            ("business", criteria.businesses),
            ("owner", criteria.owners),
            ("patient", criteria.patients),
            ("target", criteria.targets),
            ("identifiers", tokens),
        ]
        shape = tuple((name, len(values)) for name, values in groups if values) + tuple((how, 1) for how, _ in criteria.updated)
        params = {f"{name}{i}": value for name, values in groups for i, value in enumerate(values)}
        params.update({f"at{len(shape) - len(criteria.updated) + i}": at for i, (_, at) in enumerate(criteria.updated)})
        return shape, params

    async def _open(self, rows: Sequence[Row]) -> list[Copy]:
        copies = []
        for type_, id_, version, thread, updated, final, until, sealed in rows:
            try:
                named = key_name(sealed)
                key = await self._keyring.get(ThreadId(thread), self.id, named)
                body = key.open(sealed, place("copies", self.id, type_, id_, version))
            except KeyDestroyed:
                continue  # a closed copy is not there
            copies.append(Copy(self.id, type_, id_, version, ThreadId(thread), updated, final, until, body, named))
        return copies


class Shelves:
    """Opens shelves."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock

    def of(self, caller: Caller) -> Shelf:
        """The caller's own shelf."""
        return self.reading_shelf(caller.shelf)

    def reading_shelf(self, shelf: ShelfId, *, ever: bool = False) -> Shelf:
        """Any shelf: for the release step only. `ever`: also what can be read no longer, so that it can be closed."""
        return Shelf(self._database, self._keyring, shelf, _BEFORE_ALL if ever else millis(self._clock.now()))
