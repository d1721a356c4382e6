"""The ledger of deliveries: rows written with the effect they announce, in its transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import orjson

from gateway.disclosure.versions import Changed
from gateway.identity import ShelfId, ThreadId
from gateway.parties.model import Policy, Transport
from gateway.storage import tables
from gateway.storage.statements import insert, update
from gateway.storage.writeset import WriteSet

__all__ = ["INSERT_DELIVERY", "INSERT_SEND", "MOVE_DELIVERY", "announce"]

INSERT_DELIVERY: Final = insert(tables.deliveries)
MOVE_DELIVERY: Final = update(tables.deliveries, where=("id",), set=("state", "due", "tries", "fence", "lease", "reason", "ended"))
INSERT_SEND: Final = insert(tables.sends)


class Lane(Protocol):
    """What deliveries are kept in order by."""

    @property
    def id(self) -> str: ...

    @property
    def thread(self) -> ThreadId: ...

    @property
    def version(self) -> int: ...

    @property
    def priority(self) -> str: ...


def announce(
    ws: WriteSet,
    policy: Policy,
    about: Lane,
    changed: Changed,
    *,
    actor: ShelfId | None,
    at: int,
    new_id: Callable[[], str],
    kind: str = "copies",
    recalled: ShelfId | None = None,
) -> list[str]:
    """One delivery for each shelf that got something new, but the actor's own: it knows. Returns the ids.

    The lane is endpoint and what it is about (a transfer, a question); the place in it is that one's version, which only ever grows under
    its lock. What the `recalled` shelf got are closed shells.
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
            *(id_, shelf, endpoint.id, f"{endpoint.id}|{about.id}", about.version, "recall" if shelf == recalled else kind),
            *(about.thread, about.id, parts, about.priority, "queued", at, 0, 0, None, None, at, None),
        )
    return made
