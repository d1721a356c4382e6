"""A copy: one version of one resource on one shelf, sealed under the key of its (thread, shelf)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.clock import instant
from gateway.identity import ShelfId, ThreadId
from gateway.storage import tables
from gateway.storage.sealing import DataKey, Keyring, place
from gateway.storage.statements import update
from gateway.storage.writeset import WriteSet

__all__ = ["KEEP_READABLE", "Copy", "content", "put_copy", "reference_id", "written"]

Json = dict[str, Any]

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
) -> bytes:
    """Add one version of a resource to a write set; version > 1 replaces the one before, which must still be current.

    A write set holds one new version of a copy: a second put of it takes the first one's place.

    Stamps `meta.versionId` and `meta.lastUpdated` into `resource`. Returns the stored bytes.
    """
    type_, id_ = resource["resourceType"], resource["id"]
    resource["meta"] = {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": instant(at)}
    body = orjson.dumps(resource)
    if version > 1:
        ws.heads[shelf, type_, id_] = version - 1
    row = (
        shelf,
        type_,
        id_,
        version,
        True,
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
    ws.copies[shelf, type_, id_] = (row, resource)
    return body


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
