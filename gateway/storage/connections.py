"""A few PostgreSQL connections, used in turn. Errors of the driver become `StorageError`, whose text holds no value.

asyncpg's own pool sends a reset to the server whenever a connection comes back, a round trip after every read. Nothing here outlives
its transaction (`SET LOCAL` only, no session locks, no LISTEN), so there is nothing to reset; a connection on which anything but a
plain SQL error happened is thrown away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypeAlias

import asyncpg

from gateway.storage.writer import StorageError

__all__ = ["LOST", "Connection", "Connections", "connect"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
LOST: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_COMMAND_SECONDS: Final = 30


async def connect(url: str, name: str) -> Connection:
    """One connection. Raises LOST."""
    opened: Connection = await asyncpg.connect(url, command_timeout=_COMMAND_SECONDS, server_settings={"application_name": name})
    return opened


class Connections:
    """At most `size` connections to one database as one role; the one used last is used next."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._room = size
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()

    @classmethod
    async def open(cls, url: str, size: int) -> Self:
        """Connect once now, so that a wrong address stops the start. Raises LOST."""
        made = cls(url, size)
        made._room -= 1
        made._free.append(await connect(url, "gateway"))
        return made

    async def fetch(self, text: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        """The rows of one statement, in a transaction of its own. Raises StorageError."""
        connection = await self._take()
        try:
            rows: list[asyncpg.Record] = await connection.fetch(text, *values)
        except asyncpg.PostgresError as error:
            self._give(connection)
            raise StorageError(type(error).__name__) from None
        except LOST as error:
            self._drop(connection)
            raise StorageError(type(error).__name__) from None
        except BaseException:
            self._drop(connection)
            raise
        self._give(connection)
        return rows

    @asynccontextmanager
    async def transaction(self, begin: str = "BEGIN") -> AsyncIterator[Connection]:
        """A connection inside a transaction that `begin` starts, and may also set. Raises StorageError."""
        connection = await self._take()
        try:
            await connection.execute(begin)
            yield connection
            await connection.execute("COMMIT")
        except LOST as error:
            self._drop(connection)
            raise StorageError(type(error).__name__) from None
        except BaseException:
            self._drop(connection)
            raise
        self._give(connection)

    async def _take(self) -> Connection:
        while True:
            while self._free:
                connection = self._free.pop()
                if not connection.is_closed():
                    return connection
                self._room += 1
            if self._room:
                self._room -= 1
                try:
                    return await connect(self._url, "gateway")
                except BaseException as error:
                    self._room += 1
                    self._call()
                    if isinstance(error, LOST):
                        raise StorageError(type(error).__name__) from None
                    raise
            turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                given = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # handed over while being cancelled: pass it on
                    passed = turn.result()
                    self._give(passed) if passed is not None else self._call()
                raise
            if given is not None and not given.is_closed():
                return given
            self._room += given is not None

    def _give(self, connection: Connection) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self._free.append(connection)

    def _drop(self, connection: Connection) -> None:
        connection.terminate()
        self._room += 1
        self._call()

    def _call(self) -> None:
        """There is room: let the first who waits open a connection."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def close(self) -> None:
        """Close what is not in use."""
        while self._free:
            await self._free.pop().close()
