"""What a withdrawal does to what is queued for a partner's system, and to what that has already."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select

from gateway import vocabulary as v
from gateway.storage import tables
from gateway.storage.statements import Query
from tests.integration.night import made, offer
from tests.integration.test_decided_again import _free_port, _partner
from tests.integration.test_withdrawal import withdraw
from tests.integration.world import World, open_world, settings_for

_LEDGER = Query(select(tables.deliveries.c.kind, tables.deliveries.c.state, tables.deliveries.c.reason).order_by(tables.deliveries.c.place))
_TRIES = Query(select(tables.sends.c.delivery))


async def _settled(world: World, count: int) -> list[tuple[str, str, str | None]]:
    rows: list[tuple[str, str, str | None]] = []
    for _ in range(200):
        rows = [(row[0], row[1], row[2]) for row in await world.hub.parts.database.facts(_LEDGER, {})]
        if len(rows) == count and all(state not in ("queued", "sending") for _, state, _ in rows):
            return rows
        await asyncio.sleep(0.02)
    raise AssertionError(f"still waiting: {rows}")


async def test_what_was_pushed_is_recalled_by_shells_for_the_same_ids(tmp_path: Path, database: Mapping[str, str]) -> None:
    port, bodies = _free_port(), list[bytes]()
    endpoint = {"shelf": "vsdr", "transport": "fhir-push", "address": f"http://127.0.0.1:{port}/fhir"}
    async with _partner(port, bodies), open_world(settings_for(tmp_path, endpoints=[endpoint], sweep_seconds=0.02, **database)) as world:
        ids = made(await world.call("police", "POST", "/fhir", offer()))
        await _settled(world, 1)
        await withdraw(world, "police", f"Patient/{ids['Patient']}", "drps")
        rows = await _settled(world, 3)
    assert [row for row in rows if row[0] == "recall"] == [("recall", "delivered", None)] * 2
    sent = [{(e["resource"]["resourceType"], e["resource"]["id"]): e["resource"] for e in json.loads(body)["entry"]} for body in bodies]
    recalled = {key: found for bundle in sent[1:] for key, found in bundle.items()}
    assert recalled.keys() == sent[0].keys()
    assert all(v.CLOSED in found["meta"]["tag"] for found in recalled.values())


async def test_what_waits_for_a_dark_partner_is_cancelled_and_nothing_is_recalled(tmp_path: Path, database: Mapping[str, str]) -> None:
    port = _free_port()
    endpoint = {"shelf": "vsdr", "transport": "fhir-push", "address": f"http://127.0.0.1:{port}/fhir"}
    # nobody looks at the ledger before the withdrawal is committed
    async with open_world(settings_for(tmp_path, endpoints=[endpoint], sweep_seconds=0.02, **database)) as world:
        await world.hub.runner.stop()
        ids = made(await world.call("police", "POST", "/fhir", offer()))
        await withdraw(world, "police", f"Patient/{ids['Patient']}", "drps")
        rows = [row[:2] for row in await world.hub.parts.database.facts(_LEDGER, {})]
        assert ("copies", "cancelled") in rows
        await world.hub.runner.start()
        done = await _settled(world, 3)
        tries = await world.hub.parts.database.facts(_TRIES, {})
    assert sorted(done) == [("copies", "cancelled", "withdrawn"), *([("recall", "cancelled", "nothing-sent")] * 2)]
    assert tries == []
