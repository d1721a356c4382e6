"""The reads of a shelf that every request makes, written once. On PostgreSQL each is a function: one round trip, under the policy."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, bindparam, or_, select

from gateway.storage import tables
from gateway.storage.statements import Query

__all__ = ["COPY_COLUMNS", "IN_THREAD", "READ", "ROUTINES", "VREAD", "on_shelf"]

_c = tables.copies.c
COPY_COLUMNS: Final = (_c.type, _c.id, _c.version, _c.thread, _c.updated, _c.final, _c.readable_until, _c.sealed)
_READABLE: Final = or_(_c.readable_until.is_(None), _c.readable_until > bindparam("now", type_=_c.updated.type))


def on_shelf(*columns: Any) -> Select[Any]:
    """A select of what one shelf may read now."""
    return select(*columns).where(_c.shelf == bindparam("shelf"), _READABLE)


READ: Final = Query(on_shelf(*COPY_COLUMNS).where(_c.type == bindparam("type"), _c.id == bindparam("id"), _c.current), routine="shelf_read")
VREAD: Final = Query(
    on_shelf(*COPY_COLUMNS).where(
        _c.type == bindparam("type"), _c.id == bindparam("id"), _c.version == bindparam("version", type_=_c.version.type)
    ),
    routine="shelf_vread",
)
IN_THREAD: Final = Query(
    on_shelf(*COPY_COLUMNS).where(_c.thread == bindparam("thread"), _c.type == bindparam("type"), _c.current), routine="shelf_in_thread"
)
ROUTINES: Final = (READ, VREAD, IN_THREAD)
"""What `gateway migrate` makes functions of."""
