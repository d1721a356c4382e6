"""What holds when requests meet: one winner, one effect for one request id, no effect without its audit entry."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
from sqlalchemy import select

from gateway import vocabulary as v
from gateway.clock import millis
from gateway.identity import Caller
from gateway.parties.model import Policy
from gateway.storage import tables
from gateway.storage.postgres import PostgresDatabase
from gateway.storage.statements import Query
from gateway.storage.writeset import Committed, Stale, WriteSet
from gateway.testing.postgres import PostgresServer
from gateway.transfers.service import Answer, Referrals, RequestKey
from tests.integration.world import NIGHT, World, night_offer

Json = dict[str, Any]
_EFFECTS = ("copies", "threads", "grants", "transfers", "attempts", "timers", "deliveries", "requests")


async def counts(world: World) -> dict[str, int]:
    """The number of rows of every table that an effect is made of, and of the audit log."""
    found = {}
    for name in (*_EFFECTS, "audit_entries"):
        key = next(iter(tables.metadata.tables[name].primary_key.columns))
        found[name] = len(await world.hub.parts.database.facts(Query(select(key)), {}))
    return found


def effects(found: dict[str, int]) -> dict[str, int]:
    return {name: found[name] for name in _EFFECTS}


async def offered(world: World) -> Json:
    """An offer on the counsellor's shelf, as it stands there."""
    answer = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))
    assert answer.status_code == 200, answer.text
    [received] = await world.tasks("counsellor")
    return received


def shown(answer: httpx.Response) -> tuple[int, bytes, str | None, str | None]:
    """What a client can tell one answer from another by."""
    return answer.status_code, answer.content, answer.headers.get("etag"), answer.headers.get("location")


async def test_of_many_updates_of_one_version_exactly_one_wins(world: World) -> None:
    answer = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))
    id_ = answer.json()["entry"][0]["response"]["location"].split("/")[1]
    person = (await world.call("police", "GET", f"/fhir/Patient/{id_}")).json()

    async def update(number: int) -> httpx.Response:
        changed = {**person, "name": [{"use": "nickname", "given": [f"Zz-{number}"]}]}
        return await world.call("police", "PUT", f"/fhir/Patient/{id_}", changed, If_Match='W/"1"')

    answers = await asyncio.gather(*(update(number) for number in range(12)))

    assert sorted(a.status_code for a in answers) == [200] + [412] * 11
    [winner] = [a for a in answers if a.status_code == 200]
    assert winner.json()["meta"]["versionId"] == "2"
    assert (await world.call("police", "GET", f"/fhir/Patient/{id_}")).content == winner.content
    assert (await world.call("police", "GET", f"/fhir/Patient/{id_}/_history/3")).status_code == 404


async def test_of_many_acts_on_one_task_exactly_one_wins(world: World) -> None:
    received = await offered(world)

    async def accept(number: int) -> httpx.Response:
        worker = [{"url": v.EXT_ACTING_WORKER, "valueString": f"Worker {number}"}]
        operations = [
            {"op": "replace", "path": "/businessStatus/coding/0/code", "value": "accepted"},
            {"op": "add", "path": "/extension", "value": worker},
        ]
        match = f'W/"{received["meta"]["versionId"]}"'
        return await world.call("counsellor", "PATCH", f"/fhir/Task/{received['id']}", operations, If_Match=match)

    answers = await asyncio.gather(*(accept(number) for number in range(12)))

    assert sorted(a.status_code for a in answers) == [200] + [412] * 11
    [now] = await world.tasks("counsellor")
    assert now["meta"]["versionId"] == str(int(received["meta"]["versionId"]) + 1)
    [winner] = [a for a in answers if a.status_code == 200]
    assert now == winner.json()


async def test_fifty_repeats_of_one_offer_at_once_have_one_effect_and_equal_answers(world: World) -> None:
    before = await counts(world)
    body = json.dumps(night_offer(millis(NIGHT))).encode()

    answers = await asyncio.gather(*(world.call("police", "POST", "/fhir", body, X_Request_ID="offer-1") for _ in range(50)))

    assert {shown(answer) for answer in answers} == {shown(answers[0])} and answers[0].status_code == 200
    after = await counts(world)
    assert after["transfers"] - before["transfers"] == after["requests"] - before["requests"] == 1
    assert after["audit_entries"] - before["audit_entries"] == 2  # the write and the release
    assert len(await world.tasks("police")) == len(await world.tasks("counsellor")) == 1


async def test_fifty_repeats_of_one_act_at_once_have_one_effect_and_equal_answers(world: World) -> None:
    received = await offered(world)
    patch = [
        {"op": "test", "path": "/businessStatus/coding/0/code", "value": "offered"},
        {"op": "replace", "path": "/businessStatus/coding/0/code", "value": "acknowledged"},
    ]
    before = await counts(world)

    answers = await asyncio.gather(
        *(world.call("counsellor", "PATCH", f"/fhir/Task/{received['id']}", patch, X_Request_ID="act-1") for _ in range(50))
    )

    assert {shown(answer) for answer in answers} == {shown(answers[0])} and answers[0].status_code == 200
    after = await counts(world)
    assert after["audit_entries"] - before["audit_entries"] == 2  # the write and the act: no refusal either
    [now] = await world.tasks("counsellor")
    assert now["meta"]["versionId"] == str(int(received["meta"]["versionId"]) + 1)


class _Overtaken(Referrals):
    """Use cases in which one request, having found at its `at`-th look that it is no repeat, waits while its own repeat goes through."""

    def __init__(self, world: World, at: int) -> None:
        super().__init__(world.hub.parts)
        self.at = at
        self.looks = 0
        self.waiting, self.overtaken = asyncio.Event(), asyncio.Event()

    async def answered(self, caller: Caller, key: RequestKey | None) -> Answer | None:
        found = await super().answered(caller, key)
        self.looks += 1
        if self.looks == self.at:
            self.waiting.set()
            await self.overtaken.wait()
        return found


@pytest.mark.parametrize("look", [1, 2])
async def test_a_request_overtaken_by_its_own_repeat_is_answered_like_it(world: World, look: int) -> None:
    """A client whose connection was lost sends again while the hub is still at work on the first: both get the one answer."""
    received = await offered(world)
    world.hub.edge.referrals = slow = _Overtaken(world, look)
    patch = [
        {"op": "test", "path": "/businessStatus/coding/0/code", "value": "offered"},
        {"op": "replace", "path": "/businessStatus/coding/0/code", "value": "acknowledged"},
    ]
    before = await counts(world)
    first = asyncio.create_task(world.call("counsellor", "PATCH", f"/fhir/Task/{received['id']}", patch, X_Request_ID="act-1"))
    async with asyncio.timeout(10):
        await slow.waiting.wait()

    second = await world.call("counsellor", "PATCH", f"/fhir/Task/{received['id']}", patch, X_Request_ID="act-1")
    slow.overtaken.set()

    assert second.status_code == 200
    assert shown(await first) == shown(second)
    assert (await counts(world))["audit_entries"] - before["audit_entries"] == 2


async def test_a_request_id_used_again_for_another_body_is_a_duplicate(world: World) -> None:
    assert (await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)), X_Request_ID="id-1")).status_code == 200
    before = await counts(world)

    answer = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT), "Zz-Other"), X_Request_ID="id-1")

    assert answer.status_code == 409
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "duplicate"
    assert effects(await counts(world)) == effects(before)
    again = await world.call("police-svu", "POST", "/fhir", night_offer(millis(NIGHT), "Zz-Other"), X_Request_ID="id-1")
    assert again.status_code != 409  # an id belongs to the shelf it was used on


async def test_what_was_decided_under_a_policy_no_longer_in_force_is_decided_again(world: World) -> None:
    """The policy changes after the decision and before the commit: the new one has no row for the hospital or victim services."""
    hub = world.hub
    newer: Policy = replace(hub.parts.policy(), rows=(), epoch=hub.parts.policy().epoch + 1)
    policies = [hub.parts.policy()]
    commit = hub.parts.writer.commit
    planned: list[int | None] = []

    async def overtaken(ws: WriteSet) -> Committed | Stale:
        planned.append(ws.policy)
        if len(policies) == 1:
            await set_epoch(world, newer.epoch)
            policies.append(newer)
        return await commit(ws)

    changing = _Committing(overtaken)
    hub.edge.referrals = Referrals(replace(hub.parts, policy=lambda: policies[-1], writer=cast(Any, changing)))
    before = await counts(world)

    answer = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))

    assert planned == [policies[0].epoch]  # the second decision was a refusal: nothing to commit but its audit entry
    assert answer.status_code == 403, answer.text
    assert effects(await counts(world)) == effects(before)


class _Committing:
    """A writer of which a test sees every write set."""

    def __init__(self, commit: Callable[[WriteSet], Any]) -> None:
        self.commit = commit


async def set_epoch(world: World, epoch: int) -> None:
    """What a process does that starts with a new policy."""
    database = world.hub.parts.database
    if isinstance(database, PostgresDatabase):
        await database.set_epoch("policy", epoch)
        return
    path = world.settings.sqlite_path
    assert path is not None
    with sqlite3.connect(path) as db:
        db.execute("UPDATE epochs SET value = ? WHERE name = 'policy'", (epoch,))
    db.close()


@asynccontextmanager
async def audit_refused(world: World, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """The database takes everything but audit entries."""
    path = world.settings.sqlite_path
    if path is not None:
        _sqlite(path, "CREATE TRIGGER no_audit BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'no'); END")
        yield
        _sqlite(path, "DROP TRIGGER no_audit")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = world.settings.database_url.rpartition("/")[2]
    await asyncio.to_thread(server.execute, "REVOKE INSERT ON audit_entries FROM gateway_writer", name)
    yield
    await asyncio.to_thread(server.execute, "GRANT INSERT ON audit_entries TO gateway_writer", name)


def _sqlite(path: Any, statement: str) -> None:
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    db.execute(statement)
    db.close()


async def test_without_its_audit_entry_nothing_happens_and_nothing_is_answered(world: World, request: pytest.FixtureRequest) -> None:
    received = await offered(world)
    before = await counts(world)
    body = night_offer(millis(NIGHT), "Zz-Second")
    calls: Sequence[tuple[str, str, str, Any]] = [
        ("police", "POST", "/fhir", body),
        ("counsellor", "PATCH", f"/fhir/Task/{received['id']}", [{"op": "replace", "path": "/status", "value": "received"}]),
        ("counsellor", "GET", f"/fhir/Task/{received['id']}", None),
        ("counsellor", "GET", "/fhir/Task", None),
        ("police", "POST", "/fhir", {"resourceType": "Bundle", "type": "batch"}),  # a refusal is an effect too
    ]

    async with audit_refused(world, request):
        for who, method, path, content in calls:
            answer = await world.call(who, method, path, content, X_Request_ID=f"{method}-{path[-8:]}".replace("/", "-"))
            assert answer.status_code == 503, (method, path)
            assert answer.headers["retry-after"]
            assert {issue["code"] for issue in answer.json()["issue"]} - {"informational"} == {"transient"}
        assert await counts(world) == before

    answer = await world.call("police", "POST", "/fhir", body, X_Request_ID="POST--fhir")
    assert answer.status_code == 200  # the same request, sent again
    assert (await counts(world))["transfers"] == before["transfers"] + 1
