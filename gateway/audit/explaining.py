"""Reading why something was decided: by the audit entry's id, or by the correlation id that a caller was answered with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, func, or_, select

from gateway.audit.entry import is_writer_id
from gateway.audit.explanation import Explanation
from gateway.storage import tables
from gateway.storage.statements import Query
from gateway.storage.writer import Database

__all__ = ["EntryId", "Explained", "entry_id", "find", "of_correlation", "of_party"]

_d, _e = tables.decisions.c, tables.audit_entries.c
_INT: Final = _d.seq.type
_ALL: Final = (_d.writer, _d.seq, _d.number, _d.at, _d.correlation, _d.party, _d.target, _d.denied, _d.text)
_JOINED: Final = select(*_ALL, _e.body).select_from(
    tables.decisions.join(tables.audit_entries, (_d.writer == _e.writer) & (_d.seq == _e.seq))
)
_ORDER: Final = (_d.at, _d.writer, _d.seq, _d.number)
_OF_ENTRY: Final = Query(_JOINED.where(_d.writer == bindparam("writer"), _d.seq == bindparam("seq", type_=_INT)).order_by(_d.number))
_OF_CORRELATION: Final = Query(_JOINED.where(_d.correlation == bindparam("correlation")).order_by(*_ORDER).limit(100))
_THEIRS: Final = or_(_d.party == bindparam("party"), (_d.target == bindparam("party")) & _d.denied & _d.party.is_not(None))
_OF_PARTY: Final = Query(
    _JOINED.where(_THEIRS, _d.at < bindparam("before"))
    .order_by(*(column.desc() for column in _ORDER))
    .limit(bindparam("count", type_=_INT))
)
_NUMBER: Final = Query(select(func.count(_e.seq)).where(_e.writer == bindparam("writer"), _e.seq == bindparam("seq", type_=_INT)))
_ENTRY: Final = re.compile(r"(.{1,64})[/.]([1-9][0-9]{0,15})")
LATEST: Final = "9999"


@dataclass(frozen=True, slots=True)
class EntryId:
    """An audit entry: its writer, and its number there (both stand in each entry of an export)."""

    writer: str
    seq: int


@dataclass(frozen=True, slots=True)
class Explained:
    """One decision as it was kept. `sound`: the audit entry says the digest of exactly this text."""

    entry: EntryId
    number: int
    at: str
    correlation: str | None
    party: str | None
    target: str
    document: Mapping[str, Any]
    audited: Mapping[str, Any]
    sound: bool


def entry_id(text: str) -> EntryId | None:
    """``writer/number``; also ``writer.number``, which is how an id is written in FHIR. None when it is neither."""
    found = _ENTRY.fullmatch(text)
    return EntryId(found[1], int(found[2])) if found is not None and is_writer_id(found[1]) else None


async def find(database: Database, entry: EntryId) -> Sequence[Explained] | None:
    """The decisions behind an entry, none when nothing was decided for it. None when there is no such entry."""
    params = {"writer": entry.writer, "seq": entry.seq}
    [(there,)] = await database.facts(_NUMBER, params)
    return await _read(database, _OF_ENTRY, params) if there else None


async def of_correlation(database: Database, correlation: str) -> Sequence[Explained]:
    """The decisions that one request brought about, oldest first."""
    return await _read(database, _OF_CORRELATION, {"correlation": correlation})


async def of_party(database: Database, party: str, *, before: str = LATEST, count: int = 50) -> Sequence[Explained]:
    """What a party's own requests were answered, and the refused requests of others that named it; newest first."""
    return await _read(database, _OF_PARTY, {"party": party, "before": before, "count": count})


async def _read(database: Database, query: Query, params: Mapping[str, Any]) -> list[Explained]:
    found = []
    for writer, seq, number, at, correlation, party, target, _, text, body in await database.facts(query, params):
        audited = orjson.loads(body)
        sound = audited.get("detail", {}).get(f"decision.{number}") == Explanation.digest_of(text)
        found.append(Explained(EntryId(writer, seq), number, at, correlation, party, target, orjson.loads(text), audited, sound))
    return found
