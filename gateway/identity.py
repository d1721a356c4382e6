"""The names of things: which ids exist, and who is calling."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

__all__ = ["Caller", "ClientId", "PartyId", "ShelfId", "StatusView", "ThreadId", "TransferId", "shelf_party"]

PartyId = NewType("PartyId", str)
ShelfId = NewType("ShelfId", str)
"""``party`` or ``party/unit``: the unit of what a token may see."""
ClientId = NewType("ClientId", str)
ThreadId = NewType("ThreadId", str)
TransferId = NewType("TransferId", str)


def shelf_party(shelf: ShelfId) -> PartyId:
    """The party a shelf belongs to."""
    return PartyId(shelf.partition("/")[0])


class StatusView(StrEnum):
    """How much of a transfer's course a sender is shown (a manifest value, never a test on the party)."""

    FULL = "full"
    MINIMAL = "minimal"  # offered, acknowledged, taken-over (final) or not-taken; nothing else, ever


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated client: everything a handler may know about who asks. Built only from a verified access token.

    `scopes` holds what was granted: SMART v2 scopes (``system/Task.rs``) and action scopes (``transfer.offer``).
    """

    client_id: ClientId
    party: PartyId
    unit: str | None
    shelf: ShelfId
    region: str
    role: str
    device_owner: str
    purposes: frozenset[str]
    scopes: frozenset[str]
    token_id: str
    status_view: StatusView
    colocated: str | None = None
