"""A shelf as a request handler holds it: read and search the copies of one unit, and nothing else.

`Shelves.of` is what a handler uses, with the shelf its token names. `Shelves.reading_shelf` names any shelf and belongs to the
release step alone (a test walks the syntax trees).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, bindparam, func, or_, select

from gateway.clock import Clock, millis
from gateway.identity import Caller, ShelfId, ThreadId
from gateway.shelves.copies import Copy
from gateway.storage import tables
from gateway.storage.sealing import KeyDestroyed, Keyring, place
from gateway.storage.statements import Query, Row
from gateway.storage.writer import Database

__all__ = ["Criteria", "Page", "Shelf", "Shelves"]

_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")  # R4 datatypes, id: whatever else is asked for names nothing
_VERSIONS: Final = range(1, 2**31)
_c = tables.copies.c
_COLUMNS: Final = (_c.type, _c.id, _c.version, _c.thread, _c.updated, _c.final, _c.readable_until, _c.sealed)
_READABLE: Final = or_(_c.readable_until.is_(None), _c.readable_until > bindparam("now", type_=_c.updated.type))


def _on_shelf(*columns: Any) -> Select[Any]:
    return select(*columns).where(_c.shelf == bindparam("shelf"), _READABLE)


_READ: Final = Query(_on_shelf(*_COLUMNS).where(_c.type == bindparam("type"), _c.id == bindparam("id"), _c.current))
_VREAD: Final = Query(
    _on_shelf(*_COLUMNS).where(
        _c.type == bindparam("type"), _c.id == bindparam("id"), _c.version == bindparam("version", type_=_c.version.type)
    )
)
_IN_THREAD: Final = Query(_on_shelf(*_COLUMNS).where(_c.thread == bindparam("thread"), _c.type == bindparam("type"), _c.current))


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
        rows = await self._database.shelf_rows(self.id, _READ if version is None else _VREAD, params)
        copies = await self._open(rows)
        return copies[0] if copies else None

    async def in_thread(self, thread: ThreadId, type_: str) -> list[Copy]:
        """The current copies of one type that belong to one person's thread."""
        return await self._open(await self._database.shelf_rows(self.id, _IN_THREAD, {"thread": thread, "type": type_, "now": self._now}))

    async def search(self, type_: str, criteria: Criteria, *, count: int, offset: int) -> Page:
        """A page of current copies, ordered by time and id, and how many there are in all."""
        found, total, params = self._search(type_, criteria)
        params = {"type": type_, "now": self._now, **params}
        [(number,)] = await self._database.shelf_rows(self.id, Query(total), params)
        page = found.limit(bindparam("count", type_=_c.version.type)).offset(bindparam("offset", type_=_c.version.type))
        rows = await self._database.shelf_rows(self.id, Query(page), {**params, "count": count, "offset": offset})
        return Page(tuple(await self._open(rows)), number)

    def _search(self, type_: str, criteria: Criteria) -> tuple[Select[Any], Select[Any], dict[str, Any]]:
        params: dict[str, Any] = {}
        conditions: list[Any] = [_c.type == bindparam("type"), _c.current]
        for name, column, values in (
            ("id", _c.id, criteria.ids),
            ("status", _c.status, criteria.statuses),
            ("business", _c.business, criteria.businesses),
            ("owner", _c.owner, criteria.owners),
            ("patient", _c.patient, criteria.patients),
            ("target", _c.target, criteria.targets),
        ):
            if values:
                conditions.append(or_(*(column == bindparam(f"{name}{i}") for i in range(len(values)))))
                params.update({f"{name}{i}": value for i, value in enumerate(values)})
        if criteria.identifiers:
            tokens = [self._keyring.token(self.id, system, value) for system, value in criteria.identifiers]
            conditions.append(or_(*(_c.identifiers.like(bindparam(f"token{i}")) for i in range(len(tokens)))))
            params.update({f"token{i}": f"%{token}%" for i, token in enumerate(tokens)})
        for i, (comparison, at) in enumerate(criteria.updated):
            bound = bindparam(f"updated{i}", type_=_c.updated.type)
            conditions.append(
                {"ge": _c.updated >= bound, "gt": _c.updated > bound, "le": _c.updated <= bound, "lt": _c.updated < bound}[comparison]
            )
            params[f"updated{i}"] = at
        order = (_c.updated.desc(), _c.id) if criteria.newest_first else (_c.updated, _c.id)
        found = _on_shelf(*_COLUMNS).where(*conditions).order_by(*order)
        return found, _on_shelf(func.count()).where(*conditions), params

    async def _open(self, rows: Sequence[Row]) -> list[Copy]:
        copies = []
        for type_, id_, version, thread, updated, final, until, sealed in rows:
            try:
                key = await self._keyring.get(ThreadId(thread), self.id)
                body = key.open(sealed, place("copies", self.id, type_, id_, version))
            except KeyDestroyed:
                continue  # a closed copy is not there
            copies.append(Copy(self.id, type_, id_, version, ThreadId(thread), updated, final, until, body))
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

    def reading_shelf(self, shelf: ShelfId) -> Shelf:
        """Any shelf: for the release step only."""
        return Shelf(self._database, self._keyring, shelf, millis(self._clock.now()))
