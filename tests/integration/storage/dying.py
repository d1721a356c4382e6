"""A process that dies by kill -9 between what it does in the database and what it does in the key store. Run by test_keys.

`dying.py POINT SECRET` under GATEWAY_ENV_FILE: `made` dies when a new key is durable and what it seals is not committed;
`doomed` when the end of a key is committed and the key is still there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome, Chain
from gateway.identity import ShelfId, ThreadId
from gateway.settings import load_settings
from gateway.storage.open import open_database
from gateway.storage.writer import Writer
from gateway.storage.writeset import WriteSet
from gateway.transfers.facts import INSERT_THREAD

THREAD, SHELF = ThreadId("t" * 32), ShelfId("a/b")


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(point: str) -> None:
    opened = await open_database(load_settings(), bytes(range(32)), 1)
    store: Any = opened.store
    writer = Writer(opened.database, lambda: Chain("w-dying"))
    await writer.start()
    if point == "made":
        put = store.put
        if asyncio.iscoroutinefunction(put):

            async def put_and_die(*given: Any) -> None:
                await put(*given)
                die()

            store.put = put_and_die
        else:

            def put_then_die(*given: Any) -> None:
                put(*given)
                die()

            store.put = put_then_die
    _, key = opened.keyring.make(THREAD, SHELF)
    ws = WriteSet(audit=[AuditEntry(at="2026-01-01T00:00:00.000Z", action=AuditAction.CREATE, outcome=AuditOutcome.PERMIT)], keys=[key])
    ws.add(INSERT_THREAD, THREAD, 0, 1)
    await writer.commit(ws)
    for name in ("destroy", "destroy_now"):
        setattr(store, name, die)
    await writer.commit(WriteSet(destroys=[(THREAD, SHELF)]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
