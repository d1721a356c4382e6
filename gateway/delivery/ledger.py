"""The ledger of deliveries: rows written with the effect they announce, in its transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from gateway.disclosure.release import Changed
from gateway.identity import ShelfId
from gateway.parties.model import Policy, Transport
from gateway.storage import tables
from gateway.storage.statements import insert, update
from gateway.storage.writeset import WriteSet
from gateway.transfers.model import Transfer

__all__ = ["INSERT_DELIVERY", "INSERT_SEND", "MOVE_DELIVERY", "announce"]

INSERT_DELIVERY: Final = insert(tables.deliveries)
MOVE_DELIVERY: Final = update(tables.deliveries, where=("id",), set=("state", "due", "tries", "fence", "lease", "reason", "ended"))
INSERT_SEND: Final = insert(tables.sends)


def announce(
    ws: WriteSet, policy: Policy, transfer: Transfer, changed: Changed, *, actor: ShelfId | None, at: int, new_id: Callable[[], str]
) -> list[str]:
    """One delivery for each shelf that got something new, but the actor's own: it knows. Returns the ids.

    The lane is endpoint and transfer; the place in it is the transfer's version, which only ever grows under its lock.
    """
    made = []
    for shelf, written in changed.shelves.items():
        endpoint = policy.endpoints.get(shelf)
        if shelf == actor or endpoint is None or endpoint.transport is Transport.NONE:
            continue
        id_ = new_id()
        made.append(id_)
        parts = orjson.dumps([[w.type, w.id, w.version] for w in written]).decode()
        ws.add(
            INSERT_DELIVERY,
            *(id_, shelf, endpoint.id, f"{endpoint.id}|{transfer.id}", transfer.version, "copies", transfer.thread, transfer.id, parts),
            *(transfer.priority, "queued", at, 0, 0, None, None, at, None),
        )
    return made
