"""Questions asked together: those that come while others are on their way go in one round trip when these are back.

The same idea as the group-commit writer, for reads. Under light load each question goes alone and at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from gateway.storage.writer import StorageError

__all__ = ["Gathering"]

MOST: Final = 64
Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Gathering(Generic[Question, Answer]):
    """Asks with `ask`, which answers each question in order or raises StorageError for all of them."""

    def __init__(self, ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]) -> None:
        self._ask = ask
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        """The answer to one question. Raises StorageError."""
        turn: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, turn))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._run())
        return await turn

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            try:
                await self._settle(batch)
            except BaseException:  # this task is being ended: nobody may be left waiting for it
                for _, turn in (*batch, *self._waiting):
                    if not turn.done():
                        turn.set_exception(StorageError("stopped"))
                self._waiting.clear()
                raise

    async def _settle(self, batch: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._ask([question for question, _ in batch])
        except StorageError as error:
            if len(batch) > 1:  # one bad question must not harm the others
                for one in batch:
                    await self._settle([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, turn), answer in zip(batch, answers, strict=True):
            if not turn.done():
                turn.set_result(answer)
