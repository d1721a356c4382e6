"""A withdrawal against everything that may be under way at that moment, from two hubs on one PostgreSQL database.

Whatever comes first: afterwards no copy at the receiver holds content, nothing waits to be sent, and no try was begun after the answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import bindparam, select
from starlette.applications import Starlette

from gateway import vocabulary as v
from gateway.app import open_hub
from gateway.identity import ShelfId
from gateway.storage import tables
from gateway.storage.statements import Query
from tests.integration.conftest import postgres_settings
from tests.integration.night import offer
from tests.integration.test_decided_again import _free_port, _partner
from tests.integration.test_withdrawal import withdrawal
from tests.integration.world import BASE, World, input_, open_world, request, settings_for, task, transaction

_d, _s = tables.deliveries.c, tables.sends.c
_TRIES = Query(
    select(_d.kind, _d.state, _s.started).where(
        _d.thread == bindparam("thread"), _d.shelf == "vsdr", _d.kind == "copies", _s.delivery == _d.id
    )
)
_WAITING = Query(select(_d.state).where(_d.thread == bindparam("thread"), _d.shelf == "vsdr", _d.kind == "copies"))
RIVALS = ("release", "accept", "edit", "send")
ABREAST = 6


async def _rival(world: World, kind: str, ids: dict[str, str], received: str) -> str:
    who = f"Patient/{ids['Patient']}"
    if kind == "release":
        owner, sr = "PractitionerRole/vsdr.ht-cic", "urn:uuid:00000000-0000-4000-8000-0000000000a4"
        again = transaction(
            (sr, request(who, "drps", "victim-fund-assessment", owner)),
            ("urn:uuid:00000000-0000-4000-8000-0000000000a5", task(who, sr, "drps", owner, [input_("scene-cleared", valueBoolean=True)])),
        )
        answer = await world.call("police", "POST", "/fhir", again)
    elif kind == "accept":
        answer = await world.move("counsellor", received, "accepted", worker="Sam")
    elif kind == "edit":
        mine = (await world.call("police", "GET", f"/fhir/{who}")).json()
        answer = await world.call("police", "PUT", f"/fhir/{who}", {**mine, "name": [{"use": "nickname", "given": ["Zz-Edited"]}]})
    else:
        return "sent meanwhile"
    assert answer.status_code in (200, 403, 409, 412, 503), answer.text
    return f"{kind} {answer.status_code}"


async def _race(one: World, two: World, dice: random.Random, number: int) -> str:
    kind = RIVALS[number % len(RIVALS)]
    first, other = (one, two) if dice.random() < 0.5 else (two, one)
    ids = {}
    answer = await first.call("police", "POST", "/fhir", offer(who=None))
    for entry in answer.json()["entry"]:
        type_, id_ = entry["response"]["location"].split("/")[:2]
        ids[type_] = id_
    facts = one.hub.parts.facts
    sent = await facts.sent(ShelfId("drps/htu"), ids["Task"])
    assert sent is not None
    ahead = dice.uniform(-0.012, 0.012)

    async def take_back() -> int:
        await asyncio.sleep(max(0.0, ahead))
        record = withdrawal(f"Patient/{ids['Patient']}", "drps")
        taken = await first.call("police", "POST", "/fhir/Consent", record)
        assert taken.status_code == 201, taken.text
        return time.time_ns() // 1_000_000

    async def oppose() -> str:
        await asyncio.sleep(max(0.0, -ahead))
        return await _rival(other, kind, ids, sent.attempt.task)

    done, outcome = await asyncio.gather(take_back(), oppose())
    for transfer in await facts.of_thread(sent.thread):
        attempt = transfer.attempt
        for reference in (f"Task/{attempt.task}", f"ServiceRequest/{attempt.request}", f"Patient/{attempt.patient}"):
            for path in (reference, f"{reference}/_history/1"):
                found = await other.call("counsellor", "GET", f"/fhir/{path}")
                assert found.status_code == 200 and v.CLOSED in found.json()["meta"].get("tag", ()), (outcome, path, found.text)
    for state, *_ in await one.hub.parts.database.facts(_WAITING, {"thread": sent.thread}):
        assert state not in ("queued",), outcome
    tries = await one.hub.parts.database.facts(_TRIES, {"thread": sent.thread})
    assert all(started <= done for _, _, started in tries), (outcome, done, tries)
    return f"{outcome}, {'a try on record' if tries else 'no try'}"


async def _run(folder: Path, server: Any, templates: Any, races: int) -> Counter[str]:
    seed = 20261124
    port, bodies = _free_port(), list[bytes]()
    endpoint = {"shelf": "vsdr", "transport": "fhir-push", "address": f"http://127.0.0.1:{port}/fhir"}
    rates = {"rate_client": 1e6, "rate_source": 1e6, "even_answer_seconds": 0}
    settings = settings_for(folder, endpoints=[endpoint], sweep_seconds=0.02, **rates, **postgres_settings(server, templates))
    found: Counter[str] = Counter()
    async with _partner(port, bodies), open_world(settings) as one, open_hub(settings) as second:
        transport = httpx.ASGITransport(Starlette(routes=second.routes), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
            two = World(second, one.clock, settings, http)
            dice = random.Random(seed)
            for start in range(0, races, ABREAST):
                these = range(start, min(races, start + ABREAST))
                found.update(await asyncio.gather(*(_race(one, two, dice, number) for number in these)))
    print(f"\nseed {seed}, {races} races: " + "; ".join(f"{what}: {count}" for what, count in sorted(found.items())))
    return found


async def test_no_race_leaves_content_behind(tmp_path: Path, postgres_server: Any, migrated: Any) -> None:
    found = await _run(tmp_path, postgres_server, migrated, 24)
    assert sum(found.values()) == 24


@pytest.mark.ci
async def test_no_race_of_a_thousand_leaves_content_behind(tmp_path: Path, postgres_server: Any, migrated: Any) -> None:
    found = await _run(tmp_path, postgres_server, migrated, 1_000)
    for outcome in ("release 200", "release 403", "accept 200", "accept 4"):
        assert any(what.startswith(outcome) for what in found), "each order must have happened"


@pytest.mark.soak
async def test_no_race_of_ten_thousand_leaves_content_behind(tmp_path: Path, postgres_server: Any, migrated: Any) -> None:
    await _run(tmp_path, postgres_server, migrated, 10_000)
