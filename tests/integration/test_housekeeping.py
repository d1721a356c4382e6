"""What is swept is what can't matter any more, and nothing else."""

from __future__ import annotations

from sqlalchemy import select

from gateway.clock import millis
from gateway.storage import tables
from gateway.storage.housekeeping import KEEP_ANSWERS_MS, sweep
from gateway.storage.replay import StoredReplay
from gateway.storage.statements import Query
from tests.integration.world import NIGHT, World, night_offer

_JTIS = Query(select(tables.assertions.c.jti))
_REQUESTS = Query(select(tables.requests.c.request))


async def test_used_assertions_go_when_they_have_expired_and_not_before(world: World) -> None:
    parts = world.hub.parts
    replay = StoredReplay(parts.writer)
    assert await replay.use("client", "old", 1_000) and await replay.use("client", "new", 3_000)
    await sweep(parts.writer, real=2_000, business=0)
    assert await parts.database.facts(_JTIS, {}) == [("new",)]
    assert not await replay.use("client", "new", 3_000)


async def test_the_answer_to_a_request_is_kept_for_a_week(world: World) -> None:
    parts, now = world.hub.parts, millis(NIGHT)
    assert (await world.call("police", "POST", "/fhir", night_offer(now), X_Request_ID="r1")).status_code == 200
    await sweep(parts.writer, real=0, business=now + KEEP_ANSWERS_MS)
    assert await parts.database.facts(_REQUESTS, {}) == [("r1",)]
    await sweep(parts.writer, real=0, business=now + KEEP_ANSWERS_MS + 1)
    assert await parts.database.facts(_REQUESTS, {}) == []
