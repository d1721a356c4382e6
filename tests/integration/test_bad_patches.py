"""JSON Patches that can't be read, can't be applied, or ask for what a move does not carry."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import vocabulary as v
from tests.integration.bad_cases import CANARY, Case, played, raw
from tests.integration.night import offered
from tests.integration.world import World, coded, output

FHIR = {"Content-Type": "application/fhir+json"}


def patches(task: str) -> list[Case]:
    """Patches that can't be applied, or not to this."""
    doubling = [{"op": "add", "path": "/output", "value": [output("eta", valueDateTime="2026-03-14T02:25:00Z")] * 20}]
    doubling += [{"op": "copy", "from": "/output", "path": "/output/-"} for _ in range(40)]
    deep: Any = CANARY
    for _ in range(60):
        deep = [deep]
    operations: list[tuple[str, int, Any]] = [
        ("not a list", 400, {"op": "add", "path": "/status", "value": CANARY}),
        ("not JSON", 400, raw(f"[{CANARY}")),
        ("two bodies in one", 400, raw(f'[], "{CANARY}": []')),
        ("a member twice", 400, raw(f'[{{"op":"add","path":"/status","value":"{CANARY}","value":"x"}}]')),
        ("too many operations", 400, [{"op": "test", "path": "/status", "value": CANARY}] * 51),
        ("too deep", 400, [{"op": "add", "path": "/status", "value": deep}]),
        ("not operations", 400, [CANARY]),
        ("an unknown operation", 422, [{"op": CANARY, "path": "/status"}]),
        ("an operation that is no text", 422, [{"op": {CANARY: 1}, "path": "/status"}]),
        ("a path that is no text", 422, [{"op": "add", "path": [CANARY], "value": 1}]),
        ("a path that is null", 422, [{"op": "add", "path": None, "value": CANARY}]),
        ("a path that is no pointer", 422, [{"op": "add", "path": CANARY, "value": 1}]),
        ("a path to nothing", 422, [{"op": "replace", "path": f"/{CANARY}/x", "value": 1}]),
        ("a path into a text", 422, [{"op": "add", "path": "/status/0", "value": CANARY}]),
        ("no value", 422, [{"op": "add", "path": f"/{CANARY}"}]),
        ("a test that fails", 422, [{"op": "test", "path": "/status", "value": CANARY}]),
        ("another type", 422, [{"op": "replace", "path": "/resourceType", "value": CANARY}]),
        ("another id", 422, [{"op": "replace", "path": "/id", "value": CANARY}]),
        ("everything replaced", 422, [{"op": "replace", "path": "", "value": [CANARY]}]),
        ("nothing left", 422, [{"op": "remove", "path": ""}, {"op": "test", "path": f"/{CANARY}", "value": 1}]),
        ("copies of copies", 422, [*doubling, {"op": "test", "path": "/status", "value": CANARY}]),
        ("an unknown member", 422, [{"op": "add", "path": f"/{CANARY}", "value": 1}]),
        ("a status that is no code", 422, [{"op": "replace", "path": "/status", "value": CANARY}]),
        ("a business status that is no code", 422, [{"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, CANARY)}]),
        (
            "a business status of another system",
            422,
            [{"op": "add", "path": "/businessStatus", "value": coded(f"http://x/{CANARY}", "accepted")}],
        ),
        ("a note", 422, [{"op": "add", "path": "/note", "value": [{"text": CANARY}]}]),
        (
            "an output that is no code",
            422,
            [{"op": "add", "path": "/output", "value": [{"type": coded(v.TASK_OUTPUT, CANARY), "valueString": CANARY}]}],
        ),
        (
            "a sentence for an arrival time",
            422,
            [{"op": "add", "path": "/output", "value": [{"type": coded(v.TASK_OUTPUT, "eta"), "valueString": CANARY}]}],
        ),
        (
            "a worker's life story",
            422,
            [{"op": "add", "path": "/extension", "value": [{"url": v.EXT_ACTING_WORKER, "valueString": CANARY * 10}]}],
        ),
    ]
    path, headers = f"/fhir/Task/{task}", {"Content-Type": "application/json-patch+json"}
    return [
        *(Case(name, status, body, method="PATCH", path=path, who="counsellor", headers=headers) for name, status, body in operations),
        Case("a patch as FHIR", 415, {CANARY: 1}, method="PATCH", path=path, who="counsellor", headers=FHIR),
        Case(
            "a strong ETag",
            400,
            [],
            "http.if-match",
            method="PATCH",
            path=path,
            who="counsellor",
            headers={**headers, "If-Match": f'"{CANARY}"'},
        ),
        Case(
            "another version",
            412,
            [],
            method="PATCH",
            path=path,
            who="counsellor",
            headers={**headers, "If-Match": 'W/"9"', "X-Correlation-ID": CANARY},
        ),
    ]


async def test_patches_that_cannot_be_applied(world: World, loud: pytest.CaptureFixture[str]) -> None:
    _, received = await offered(world)
    await played(world, patches(received["id"]), loud)
