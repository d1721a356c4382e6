"""Stopping the hub ends what it runs, whatever comes in at that very moment."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.delivery.runner import Delivery, EmbeddedRunner, Sender


class _Idle:
    async def due(self, full: object) -> list[Delivery]:
        return []


async def _no_timers() -> None:
    return None


async def test_a_call_that_comes_with_the_stop_does_not_keep_the_runner_alive() -> None:
    idle: Any = _Idle()
    runner = EmbeddedRunner(cast(Sender, idle), _no_timers, sweep=30)
    await runner.start()
    await asyncio.sleep(0.01)  # it waits now
    runner.wake(["due"])
    stopping = asyncio.create_task(runner.stop())
    done, _ = await asyncio.wait([stopping], timeout=3)
    assert done
