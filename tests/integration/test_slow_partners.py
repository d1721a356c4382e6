"""A partner that is slow or dark takes its own deliveries' time, and nobody else's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.delivery import runner
from gateway.storage import tables
from gateway.storage.statements import Query
from tests.integration.night import NOW, taken
from tests.integration.partners import ROGUES, Partner, partner, reply
from tests.integration.world import World, night_offer, open_world, settings_for

_d, _s = tables.deliveries.c, tables.sends.c
_DELIVERIES = Query(select(_d.state, _d.reason, _d.tries).where(_d.shelf == "vsdr"))
_OUTCOMES = Query(select(_s.outcome))


def endpoints(slow: Partner, quick: Partner) -> list[dict[str, str]]:
    """Victim services are slow, police are not."""
    return [
        {"shelf": "vsdr", "transport": "fhir-push", "address": slow.origin},
        {"shelf": "drps/htu", "transport": "nudge", "address": quick.origin},
    ]


async def until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for it."""
    give_up = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < give_up, "it never came"
        await asyncio.sleep(0.02)


async def offers(world: World, number: int) -> None:
    """People offered to victim services."""
    for each in range(number):
        answer = await world.call("police", "POST", "/fhir", night_offer(NOW, f"Zz-{each}"))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("waiting", [6, 130], ids=["few", "more-than-one-look-finds"])
async def test_a_dark_partner_has_four_sends_at_a_time_and_delays_nobody(tmp_path: Path, database: dict[str, str], waiting: int) -> None:
    async with partner(ROGUES["hangs"]) as slow, partner(reply(200, {})) as quick:
        async with open_world(settings_for(tmp_path, endpoints=endpoints(slow, quick), **database)) as world:
            await offers(world, waiting)
            await until(lambda: len(slow.heard) >= 4)
            [first, *_] = await world.tasks("counsellor")
            assert len(quick.heard) == 0
            began = time.monotonic()
            await taken(world, "counsellor", first["id"])
            await until(lambda: len(quick.heard) > 0, 8)
            assert time.monotonic() - began < 8
            assert len(slow.heard) == slow.open == 4


async def test_a_send_that_drips_is_ended_and_tried_again(
    tmp_path: Path, database: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte in time, and never an end: the whole send has a limit, well inside the claim's lease."""
    assert runner.SEND_SECONDS * 1000 < runner.LEASE_MS
    monkeypatch.setattr(runner, "SEND_SECONDS", 0.4)
    async with partner(ROGUES["drips"]) as slow, partner(reply(200, {})) as quick:
        async with open_world(settings_for(tmp_path, endpoints=endpoints(slow, quick), **database)) as world:
            await offers(world, 1)
            await until(lambda: len(slow.heard) == 1)
            give_up = time.monotonic() + 10
            rows: Sequence[Sequence[Any]] = []
            while time.monotonic() < give_up and (not rows or rows[0][1] is None):
                await asyncio.sleep(0.05)
                rows = await world.hub.parts.database.facts(_DELIVERIES, {})
            assert rows == [("queued", "too-slow", 1)]
            assert await world.hub.parts.database.facts(_OUTCOMES, {}) == [("too-slow",)]
