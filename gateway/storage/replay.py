"""Used assertions, durably: a replay is refused across workers and restarts (RFC 7523 section 3, item 7)."""

from __future__ import annotations

from typing import Final

from gateway.storage import tables
from gateway.storage.statements import insert
from gateway.storage.writer import Writer
from gateway.storage.writeset import Committed, WriteSet

__all__ = ["StoredReplay"]

_INSERT: Final = insert(tables.assertions)


class StoredReplay:
    """`gateway.oauth.replay.ReplayStore` on the group-commit writer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def use(self, issuer: str, jti: str, expires_at: int) -> bool:
        ws = WriteSet(assertion=(issuer, jti))
        ws.add(_INSERT, issuer, jti, expires_at)
        return isinstance(await self._writer.commit(ws), Committed)
