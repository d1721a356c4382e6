"""What need not be kept: marks of assertions that can't be used any more, and answers kept for repeats.

The audit log, the copies and the facts are not touched here; how long those live is the agreements' to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from gateway.problems import Problem
from gateway.storage import tables
from gateway.storage.statements import delete_older
from gateway.storage.writer import Writer
from gateway.storage.writeset import WriteSet

__all__ = ["KEEP_ANSWERS_MS", "sweep", "sweep_often"]

KEEP_ANSWERS_MS: Final = 7 * 24 * 3_600_000
"""A request id is answered like the first time for a week of business time."""

EVERY: Final = 600.0  # seconds
_ASSERTIONS: Final = delete_older(tables.assertions, "expires")
_REQUESTS: Final = delete_older(tables.requests, "made")
_REVOKED: Final = delete_older(tables.revoked_tokens, "expires")


async def sweep(writer: Writer, *, real: int, business: int) -> None:
    """Delete what is past its time at `real` and `business` milliseconds."""
    ws = WriteSet()
    ws.add(_ASSERTIONS, real)
    ws.add(_REVOKED, real)
    ws.add(_REQUESTS, business - KEEP_ANSWERS_MS)
    await writer.commit(ws)


async def sweep_often(writer: Writer, *, real: Callable[[], int], business: Callable[[], int]) -> None:
    """Until cancelled. A database that is away now is swept the next time."""
    while True:
        with contextlib.suppress(Problem):
            await sweep(writer, real=real(), business=business())
        await asyncio.sleep(EVERY)
