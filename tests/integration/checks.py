"""What must hold of any answer and after any step: the one error shape, nothing of the input in it, views equal to the facts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
from sqlalchemy import func, select

from gateway.clock import millis
from gateway.disclosure.release import Changed
from gateway.fhir.outcomes import REFUSAL_SYSTEM
from gateway.fhir.validate import validate
from gateway.storage import tables
from gateway.storage.statements import Query
from gateway.storage.writeset import WriteSet
from gateway.transfers.moving import decide_now
from gateway.transfers.work import Parts
from tests.integration.world import World

__all__ = ["assert_outcome", "assert_views", "assert_views_of", "codes_of", "expressions_of", "refusals_of", "row_counts", "without_moment"]

Json = dict[str, Any]

_BACKGROUND = frozenset({"audit_leaves", "audit_checkpoints", "audit_writers"})
"""Filled by the sequencer whenever it likes; they hold hashes and signatures alone."""

_COUNTS = {
    table.name: Query(select(func.count(next(iter(table.columns)))).select_from(table))
    for table in tables.metadata.sorted_tables
    if table.name not in _BACKGROUND
}
_t, _c = tables.transfers.c, tables.copies.c
_TRANSFERS = Query(select(_t.id).order_by(_t.id))
_HEADS = Query(select(_c.shelf, _c.type, _c.id, func.max(_c.version)).group_by(_c.shelf, _c.type, _c.id))
_FINAL = Query(select(_c.shelf, _c.type, _c.id, _c.version).where(_c.final))
_CURRENT = Query(select(_c.shelf, _c.type, _c.id, _c.version).where(_c.current))
_PATH = re.compile(r"(http\.[a-zA-Z_-]+|[A-Z][A-Za-z]*(\.[A-Za-z]+(\[\d+\])?)*)")


async def row_counts(world: World) -> dict[str, int]:
    """How many rows each of the hub's tables holds."""
    return {name: (await world.hub.parts.database.facts(query, {}))[0][0] for name, query in _COUNTS.items()}


def assert_outcome(
    response: httpx.Response,
    status: int,
    *,
    expression: str | None = None,
    refusal: str | None = None,
    canaries: Iterable[str] = (),
) -> Json:
    """The one shape of every error: a valid OperationOutcome, correlation id in header and body, no store, nothing of the input.

    `expression` and `refusal` must be among the issues'. Returns the outcome.
    """
    told = f"{response.status_code} {response.text[:600]}"
    assert response.status_code == status, told
    assert response.headers["content-type"] == "application/fhir+json", told
    assert response.headers["cache-control"] == "no-store", told
    body: Json = response.json()
    assert body["resourceType"] == "OperationOutcome", told
    assert validate(body) == [], told
    [correlation] = body["extension"]
    assert correlation["valueString"] == response.headers["x-correlation-id"], told
    for issue in body["issue"]:
        assert issue["severity"] == ("information" if issue["code"] == "informational" else "error") and issue["diagnostics"], told
        for path in issue.get("expression", ()):
            assert _PATH.fullmatch(path), told
    if expression is not None:
        assert expression in expressions_of(body), told
    if refusal is not None:
        assert refusal in refusals_of(body), told
    everything = response.text + json.dumps(list(response.headers.items()))
    assert not [canary for canary in canaries if canary.lower() in everything.lower()]
    return body


def expressions_of(outcome: Json) -> list[str]:
    """The elements an OperationOutcome names."""
    return [path for issue in outcome["issue"] for path in issue.get("expression", ())]


def refusals_of(outcome: Json) -> list[str]:
    """The domain refusals in an OperationOutcome."""
    codings = [coding for issue in outcome["issue"] for coding in issue.get("details", {}).get("coding", ())]
    return [coding["code"] for coding in codings if coding["system"] == REFUSAL_SYSTEM]


def codes_of(task: Json, element: str, *path: str) -> list[str]:
    """The codes of the codings in one repeating element of a Task: its own, or those at `path` in each item."""
    found = []
    for item in task.get(element, ()):
        inner: Any = item
        for name in path:
            inner = inner.get(name, {})
        found += [coding["code"] for coding in inner.get("coding", ())]
    return found


def without_moment(response: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """An answer without what differs each time by design: the correlation id."""
    correlation = response.headers.get("x-correlation-id", "")
    headers = {name: value for name, value in response.headers.items() if name not in ("x-correlation-id", "date")}
    return response.status_code, headers, response.content.replace(correlation.encode(), b"-") if correlation else response.content


async def assert_views(world: World) -> None:
    """Every view on a shelf is what rendering the facts gives now, or is final; and nothing final has a newer version."""
    await assert_views_of(world.hub.parts)


async def assert_views_of(parts: Parts) -> None:
    """The same, of any hub."""
    policy, at = parts.policy(), millis(parts.clock.now())
    stale: list[Mapping[str, Any]] = []
    for (id_,) in await parts.database.facts(_TRANSFERS, {}):
        transfer = await parts.facts.transfer(id_)
        assert transfer is not None
        grants = await parts.facts.grants(transfer.thread)
        permit = decide_now(policy, transfer, grants, at)
        ws, changed = WriteSet(), Changed()
        await parts.release.render(ws, changed, plan=parts.plan(), transfer=transfer, permit=permit, at=at)
        if changed.shelves or ws.copies:
            stale.append({shelf: [w.type for w in written] for shelf, written in changed.shelves.items()})
    assert not stale, f"views that differ from the facts: {stale}"
    heads = {(shelf, type_, id_): version for shelf, type_, id_, version in await parts.database.facts(_HEADS, {})}
    current = {(shelf, type_, id_): version for shelf, type_, id_, version in await parts.database.facts(_CURRENT, {})}
    assert current == heads
    for shelf, type_, id_, version in await parts.database.facts(_FINAL, {}):
        assert heads[shelf, type_, id_] == version, "a final view has a newer version"
