"""To whom a person's data went: told from the ledger of releases, never from shelves; rendered when asked, stored nowhere (R13, R26).

A withdrawal changes nothing here: what was disclosed before it was disclosed. What is told names parties, classes and codes; no worker,
no content, and no id that another party could recognise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, select

from gateway import vocabulary as v
from gateway.clock import instant, to_minute
from gateway.identity import PartyId, ShelfId, StatusView, ThreadId, shelf_party
from gateway.parties.model import Party
from gateway.storage import tables
from gateway.storage.statements import Query, insert
from gateway.storage.writer import Database

__all__ = ["SHOW", "Asker", "Released", "Viewer", "entry_of", "releases_of", "rendered", "show_row", "told_to"]

Json = dict[str, Any]
_r, _w = tables.releases.c, tables.reviews.c
_SHOWN: Final = "disclosure-shown"
_COLUMNS: Final = tuple(tables.releases.columns.keys())
_OF_THREAD: Final = Query(select(*tables.releases.columns).where(_r.thread == bindparam("thread")).order_by(_r.at, _r.id))
_CLEARED: Final = Query(
    select(_w.subject)
    .select_from(tables.reviews.join(tables.releases, _w.subject == _r.id))
    .where(_w.kind == _SHOWN, _r.thread == bindparam("thread"))
)
SHOW: Final = insert(tables.reviews)
_LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"


class Asker(Enum):
    """Who asks for an accounting."""

    SURVIVOR = auto()  # herself: everything that may be shown to her
    WORKER = auto()  # of one shelf: what went from it or came to it
    OFFICER = auto()  # of a party: what went from it or came to it


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks, and from where."""

    asker: Asker
    party: Party
    shelf: ShelfId


@dataclass(frozen=True, slots=True)
class Released:
    """A row of the ledger. `cleared`: a named human has said that she may be shown it."""

    id: str
    thread: ThreadId
    transfer: str
    attempt: int
    at: int
    party: PartyId | None
    source: ShelfId
    target: ShelfId
    service: str
    row: str
    basis: str
    agreement: str
    purpose: str
    consents: str
    classes: str
    policy: str
    waits: bool
    cleared: bool


async def releases_of(database: Database, threads: Sequence[ThreadId]) -> list[Released]:
    """Everything that was released of these threads, oldest first."""
    found = []
    for thread in threads:
        cleared = {row[0] for row in await database.facts(_CLEARED, {"thread": thread})}
        for row in await database.facts(_OF_THREAD, {"thread": thread}):
            fields = dict(zip(_COLUMNS, row, strict=True))
            found.append(Released(**{**fields, "waits": bool(fields["waits"])}, cleared=fields["id"] in cleared))
    return sorted(found, key=lambda each: (each.at, each.id))


def told_to(viewer: Viewer, releases: Sequence[Released]) -> list[Released]:
    """What this viewer may be told of them.

    She is told everything but a report or an emergency that still waits for a named human. A party is told what went from it or came to
    it, and where it has the minimal view only what its own act sent: what another's act let flow would tell it that something was done.
    """
    if viewer.asker is Asker.SURVIVOR:
        return [each for each in releases if each.cleared or not each.waits]
    return [each for each in releases if _mine(viewer, each.target) or (_mine(viewer, each.source) and _may_know(viewer, each))]


def _mine(viewer: Viewer, shelf: ShelfId) -> bool:
    return shelf == viewer.shelf if viewer.asker is Asker.WORKER else shelf_party(shelf) == viewer.party.id


def _may_know(viewer: Viewer, each: Released) -> bool:
    return each.party == viewer.party.id or viewer.party.view_of(each.source) is StatusView.FULL


def entry_of(viewer: Viewer, each: Released) -> str:
    """The id of a release as one viewer sees it: another one for each, so that nobody can compare."""
    whose = "" if viewer.asker is Asker.SURVIVOR else viewer.party.id
    return hashlib.sha256(f"accounting|{each.id}|{whose}".encode()).hexdigest()[:32]


def show_row(id_: str, viewer: Viewer, each: Released, role: str, at: int) -> tuple[Any, ...]:
    """The row by which a named human says that she may be shown a release."""
    return (id_, viewer.party.id, _SHOWN, each.id, role, "done", at)


def rendered(viewer: Viewer, patient: str, releases: Sequence[Released], base: str) -> Json:
    """A Bundle of AuditEvents (R4 auditevent.html), one for each release, about the viewer's own Patient."""
    entries = [
        {"fullUrl": f"{base}/AuditEvent/{entry_of(viewer, each)}", "resource": _event(viewer, patient, each)}
        for each in told_to(viewer, releases)
    ]
    return {"resourceType": "Bundle", "type": "collection", **({"entry": entries} if entries else {})}


def _event(viewer: Viewer, patient: str, each: Released) -> Json:
    consents = orjson.loads(each.consents)
    about: list[Json] = [
        {
            "what": {"reference": f"Patient/{patient}"},
            "type": {"system": _ENTITY, "code": "1"},
            "detail": [
                {"type": "service", "valueString": each.service},
                {"type": "basis", "valueString": each.basis},
                *({"type": "consent-scope", "valueString": scope} for _, _, scope in consents),
                *({"type": "class", "valueString": name} for name in each.classes.split()),
                *(
                    [{"type": "waits", "valueString": "a named person has not yet said that she may be shown this"}]
                    if _held(viewer, each)
                    else []
                ),
            ],
        }
    ]
    return {
        "resourceType": "AuditEvent",
        "id": entry_of(viewer, each),
        "type": {"system": _LIFECYCLE, "code": "disclose"},
        "action": "R",
        "recorded": instant(to_minute(each.at)),
        "outcome": "0",
        "purposeOfEvent": [{"coding": [{"system": v.purpose_system(each.purpose), "code": each.purpose}]}],
        "agent": [_agent(each.source, "AUT", requestor=True), _agent(each.target, "IRCP", requestor=False)],
        "source": {"observer": {"identifier": {"system": v.PARTY, "value": "hub"}}},
        "entity": about,
    }


def _held(viewer: Viewer, each: Released) -> bool:
    return viewer.asker is Asker.OFFICER and each.waits and not each.cleared


def _agent(shelf: ShelfId, role: str, *, requestor: bool) -> Json:
    return {
        "type": {"coding": [{"system": v.V3_PARTICIPATION_TYPE, "code": role}]},
        "who": {"reference": f"Organization/{shelf_party(shelf)}"},
        "requestor": requestor,
    }
