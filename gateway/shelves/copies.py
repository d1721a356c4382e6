"""A copy: one version of one resource on one shelf, sealed under the key of its (thread, shelf)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.clock import instant
from gateway.identity import ShelfId, ThreadId
from gateway.storage import tables
from gateway.storage.sealing import DataKey, Keyring, key_name, key_slot, place
from gateway.storage.statements import update
from gateway.storage.writer import INSERT_COPY
from gateway.storage.writeset import WriteSet
from gateway.vocabulary import CLOSED

__all__ = ["KEEP_READABLE", "Copy", "close_older", "content", "put_copy", "reference_id", "written"]

Json = dict[str, Any]

CLOSED_MARK: Final = orjson.dumps(CLOSED)

CLOSE_OLDER: Final = update(tables.copies, where=("shelf", "type", "id"), set=("readable_until",), phase=0)
"""Row: (0, shelf, type, id). No version written so far can be read again; their key's destruction follows the commit."""
KEEP_READABLE: Final = update(tables.copies, where=("shelf", "type", "id", "current"), set=("readable_until",), phase=1)
"""Row: (until or None, shelf, type, id, True)."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A version as read from a shelf. `body` is the final bytes a client is answered with."""

    shelf: ShelfId
    type: str
    id: str
    version: int
    thread: ThreadId
    updated: int
    final: bool
    readable_until: int | None
    body: bytes
    key: str = ""  # the name of the key that seals it; none for what the shelf's own party wrote

    @property
    def closed(self) -> bool:
        """Whether it is a closed shell: what is left on a shelf of a copy that was recalled."""
        return CLOSED_MARK in self.body

    def resource(self) -> Json:
        """The resource as a new dictionary."""
        parsed: Json = orjson.loads(self.body)
        return parsed


def put_copy(
    ws: WriteSet,
    keyring: Keyring,
    key: DataKey,
    resource: Json,
    *,
    shelf: ShelfId,
    thread: ThreadId,
    version: int,
    at: int,
    final: bool = False,
    readable_until: int | None = None,
    replaces: int | None = None,
    passing: bool = False,
) -> bytes:
    """Add one version of a resource to a write set; version > 1 replaces the one before (or `replaces`), which must still be current.

    A write set holds one new version of a copy: a second put of it takes the first one's place. A `passing` version is one that is
    followed by another in the same write set, and is never current.

    Stamps `meta.versionId` and `meta.lastUpdated` into `resource`. Returns the stored bytes.
    """
    type_, id_ = resource["resourceType"], resource["id"]
    resource["meta"] = {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": instant(at)}
    body = orjson.dumps(resource)
    if version > 1:
        ws.heads[shelf, type_, id_] = replaces or version - 1
    row = (
        shelf,
        type_,
        id_,
        version,
        not passing,
        final,
        thread,
        resource.get("status") if isinstance(resource.get("status"), str) else None,
        _code(resource.get("businessStatus")),
        reference_id(resource.get("owner")),
        reference_id(resource.get("subject") or resource.get("for") or resource.get("patient")),
        reference_id(resource.get("focus")),
        " ".join(keyring.token(shelf, of, value) for system, value in _identifiers(resource) for of in {system, ""}) or None,
        at,
        readable_until,
        key.seal(body, place("copies", shelf, type_, id_, version)),
    )
    if passing:
        ws.add(INSERT_COPY, *row)
    else:
        ws.copies[shelf, type_, id_] = (row, resource)
    return body


def close_older(ws: WriteSet, copy: Copy) -> None:
    """No version of this copy so far can be read again, and the key that a release sealed it with is destroyed after the commit."""
    ws.add(CLOSE_OLDER, 0, copy.shelf, copy.type, copy.id)
    gone = (copy.thread, key_slot(copy.shelf, copy.key))
    if copy.key and gone not in ws.destroys:
        ws.destroys.append(gone)


def written(ws: WriteSet, shelf: ShelfId, type_: str, id_: str) -> Copy | None:
    """The version of a copy that a write set adds, as it will be read."""
    pending = ws.copies.get((shelf, type_, id_))
    if pending is None:
        return None
    row, resource = pending
    fields = dict(zip(tables.copies.columns.keys(), row, strict=True))
    return Copy(
        shelf,
        type_,
        id_,
        fields["version"],
        fields["thread"],
        fields["updated"],
        fields["final"],
        fields["readable_until"],
        orjson.dumps(resource),
        key_name(fields["sealed"]),
    )


def content(resource: Json) -> Json:
    """A resource without what differs between versions that say the same: to compare a view with what lies on the shelf."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    return {**{name: value for name, value in resource.items() if name != "meta"}, **({"meta": meta} if meta else {})}


def reference_id(reference: Any) -> str | None:
    """The logical id at the end of a literal reference, or None."""
    if isinstance(reference, dict) and isinstance(reference.get("reference"), str):
        tail: str = reference["reference"].rpartition("/")[2]
        return tail
    return None


def _code(concept: Any) -> str | None:
    if isinstance(concept, dict):
        for coding in concept.get("coding") or ():
            code = coding.get("code")
            if isinstance(code, str):
                return code
    return None


def _identifiers(resource: Json) -> Iterator[tuple[str, str]]:
    found = resource.get("identifier")
    for identifier in found if isinstance(found, list) else [found]:
        if isinstance(identifier, dict) and isinstance(identifier.get("value"), str):
            yield identifier.get("system") or "", identifier["value"]
