"""An offer is decided again when it is sent and when it is read: one whose consent has ended goes nowhere and can't be read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select

from gateway import vocabulary as v
from gateway.clock import millis
from gateway.storage import tables
from gateway.storage.statements import Query
from tests.integration.world import (
    BASE_CLASSES,
    NIGHT,
    World,
    coded,
    consent,
    input_,
    open_world,
    patient,
    request,
    settings_for,
    task,
    transaction,
)

_DELIVERIES = Query(select(tables.deliveries.c.state, tables.deliveries.c.reason))
MINUTE = 60_000


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def _partner(port: int, bodies: list[bytes]) -> AsyncIterator[None]:
    """A partner's server that takes everything and keeps what it was sent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        yield


async def _offer(world: World, ends: int) -> None:
    p, c, sr, t = (f"urn:uuid:00000000-0000-4000-8000-00000000000{i}" for i in range(1, 5))
    now, owner = millis(NIGHT), "PractitionerRole/vsdr.ht-cic"
    agreed = consent(p, "drps", "Organization/vsdr", "warm-transfer", [*BASE_CLASSES, "needs"], ["COC"], now - MINUTE, ends)
    needs = [input_("need", valueCodeableConcept=coded(v.NEED, "food"))]
    bundle = transaction(
        (p, patient()), (c, agreed), (sr, request(p, "drps", "crisis-counselling", owner)), (t, task(p, sr, "drps", owner, needs))
    )
    answer = await world.call("police", "POST", "/fhir", bundle)
    assert answer.status_code == 200, answer.text


async def _settled(world: World) -> list[tuple[str, str | None]]:
    for _ in range(100):
        rows = [(row[0], row[1]) for row in await world.hub.parts.database.facts(_DELIVERIES, {})]
        if all(state not in ("queued", "sending") for state, _ in rows):
            return rows
        await asyncio.sleep(0.05)
    raise AssertionError("the delivery is still waiting")


async def test_what_waits_for_a_dark_partner_is_not_sent_once_its_consent_has_ended(tmp_path: Path, database: Mapping[str, str]) -> None:
    port, bodies = _free_port(), list[bytes]()
    endpoint = {"shelf": "vsdr", "transport": "fhir-push", "address": f"http://127.0.0.1:{port}/fhir"}
    settings = settings_for(tmp_path, endpoints=[endpoint], sweep_seconds=0.02, **database)
    async with open_world(settings) as world:
        await _offer(world, millis(NIGHT) + 5 * MINUTE)
        await asyncio.sleep(0.2)  # tried, and nobody answered
        async with _partner(port, bodies):
            world.clock.set(NIGHT + timedelta(minutes=6))
            assert await _settled(world) == [("cancelled", "no-consent")]
        assert bodies == []


async def test_what_waits_for_a_dark_partner_is_sent_while_its_consent_lasts(tmp_path: Path, database: Mapping[str, str]) -> None:
    port, bodies = _free_port(), list[bytes]()
    endpoint = {"shelf": "vsdr", "transport": "fhir-push", "address": f"http://127.0.0.1:{port}/fhir"}
    settings = settings_for(tmp_path, endpoints=[endpoint], sweep_seconds=0.02, **database)
    async with open_world(settings) as world:
        await _offer(world, millis(NIGHT) + 60 * MINUTE)
        await asyncio.sleep(0.2)
        async with _partner(port, bodies):
            world.clock.set(NIGHT + timedelta(minutes=6))
            assert await _settled(world) == [("delivered", None)]
        assert len(bodies) == 1


async def test_an_offer_nobody_took_can_be_read_no_longer_than_its_consent(world: World) -> None:
    await _offer(world, millis(NIGHT) + 5 * MINUTE)
    [received] = await world.tasks("counsellor")
    world.clock.set(NIGHT + timedelta(minutes=6))
    assert await world.tasks("counsellor") == []
    for reference in (f"Task/{received['id']}", received["for"]["reference"], received["focus"]["reference"]):
        assert (await world.call("counsellor", "GET", f"/fhir/{reference}")).status_code == 404


async def test_an_offer_accepted_in_time_stays_readable(world: World) -> None:
    await _offer(world, millis(NIGHT) + 5 * MINUTE)
    [received] = await world.tasks("counsellor")
    for state, worker in (("acknowledged", None), ("accepted", "Sam")):
        assert (await world.move("counsellor", received["id"], state, worker=worker)).status_code == 200
    world.clock.set(NIGHT + timedelta(minutes=6))
    for reference in (f"Task/{received['id']}", received["for"]["reference"], received["focus"]["reference"]):
        assert (await world.call("counsellor", "GET", f"/fhir/{reference}")).status_code == 200
    assert (await world.move("counsellor", received["id"], "introduced")).status_code == 200
