"""A hub that lives through a whole run of the stateful test, driven from outside its event loop; and how it crashes."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx

from gateway.clock import millis
from gateway.identity import ShelfId
from tests.integration.world import NIGHT, World, open_world, settings_for

__all__ = ["Rig"]

T = TypeVar("T")


class Rig:
    """One hub at a time, on SQLite. A crash leaves its files as they lie; the next hub starts from a copy of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._lives = 0
        self.counts: Counter[str] = Counter()
        self._calls = 0
        self.world = self._do(self._open(folder / "life-0", NIGHT))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def _open(self, folder: Path, at: datetime) -> World:
        return await self._stack.enter_async_context(open_world(settings_for(folder, even_answer_seconds=0), at))

    @property
    def at(self) -> int:
        """Business time."""
        return millis(self.world.clock.now())

    def call(self, who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request."""
        self._calls += 1
        return self._do(self.world.call(who, method, path, body))

    def move(self, who: str, task: str, state: str, **more: Any) -> httpx.Response:
        """One act."""
        return self._do(self.world.move(who, task, state, **more))

    def received(self, shelf: str, task: str) -> tuple[str, str]:
        """The ids of the receiver's Task and Patient for a Task that a sender has written: a shelf of thousands is not searched for it."""
        transfer = self._do(self.world.hub.parts.facts.sent(ShelfId(shelf), task))
        assert transfer is not None
        return transfer.attempt.task, transfer.attempt.patient

    def pass_time(self, minutes: float) -> None:
        """Move business time, and let everything happen that is due."""
        self.world.clock.set(self.world.clock.now() + timedelta(minutes=minutes))
        self._do(self._fire())

    async def _fire(self) -> None:
        await self.world.hub.runner._timers()

    def due_to_crash(self) -> bool:
        """Whether it has run long enough since it started."""
        return self._calls > 3_000

    def crash(self) -> None:
        """What is acknowledged is in the files now; nothing that the hub would do on its way out reaches the next one."""
        self._lives += 1
        self._calls = 0
        before, after = self._folder / f"life-{self._lives - 1}", self._folder / f"life-{self._lives}"
        at = self.world.clock.now()
        shutil.copytree(before, after)
        self._do(self._stack.aclose())
        shutil.rmtree(before)
        self._stack = AsyncExitStack()
        self.world = self._do(self._open(after, at))

    def close(self) -> None:
        """Stop for good."""
        self._do(self._stack.aclose())
        self._runner.close()
