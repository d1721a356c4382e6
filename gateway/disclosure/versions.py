"""New versions on a shelf: made, stamped and noted, so that each shelf's system can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.clock import to_minute
from gateway.identity import ShelfId, ThreadId
from gateway.shelves.copies import Copy, put_copy
from gateway.storage.sealing import DataKey, Keyring
from gateway.storage.writeset import WriteSet

__all__ = ["Changed", "Written", "is_hub_made", "put_version"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A version put on a shelf."""

    type: str
    id: str
    version: int


@dataclass(slots=True)
class Changed:
    """What one use case wrote where: what there is to tell each shelf's system."""

    shelves: dict[ShelfId, list[Written]] = field(default_factory=dict)

    def note(self, shelf: ShelfId, type_: str, id_: str, version: int) -> None:
        """Remember one new version."""
        self.shelves.setdefault(shelf, []).append(Written(type_, id_, version))


def put_version(
    ws: WriteSet,
    changed: Changed,
    keyring: Keyring,
    key: DataKey,
    resource: Json,
    shelf: ShelfId,
    thread: ThreadId,
    version: int,
    at: int,
    *,
    final: bool = False,
    until: int | None = None,
    replaces: int | None = None,
) -> None:
    """Add a version, with its time cut to the minute, and note it."""
    put_copy(
        *(ws, keyring, key, resource),
        shelf=shelf,
        thread=thread,
        version=version,
        at=to_minute(at),
        final=final,
        readable_until=until,
        replaces=replaces,
    )
    changed.note(shelf, resource["resourceType"], resource["id"], version)


def is_hub_made(copy: Copy) -> bool:
    """Whether the version on the shelf is still one that a release put there."""
    return bool(copy.resource().get("meta", {}).get("tag"))
