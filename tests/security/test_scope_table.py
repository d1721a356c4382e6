"""Every route against every scope, derived from the routes that the hub really has.

For each thing that a route does, two callers have everything there is but one half of what is needed: every SMART scope of every type
but this one letter, and every action scope but those that open it. Both are refused, so no other scope opens it, alone or with others.
A third caller has nothing but the two halves, and is let through.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from gateway.api.fhir import DIRECTORY, SHELF, TABLE
from gateway.identity import ClientId
from gateway.oauth.scopes import ActionScope
from tests.integration.checks import assert_outcome, row_counts
from tests.integration.night import NOW
from tests.integration.test_routes import ACCESS, NO_TOKEN, request_of, routes_of
from tests.integration.world import World, night_offer, patient, transaction

Json = dict[str, Any]
LETTERS: Final = "cruds"
SMART: Final = frozenset(f"system/{type_}.{letter}" for type_ in TABLE for letter in LETTERS)
ACTIONS: Final = frozenset(action.value for action in ActionScope)
EVERYTHING: Final = SMART | ACTIONS

OPEN: Final = "open"  # anybody: health, discovery, the capability statement
CLIENT: Final = "client"  # a client that authenticates with an assertion, in the same request
ENTRIES: Final = "entries"  # what each entry of the transaction needs
OPERATION: Final = "operation"  # system/AuditEvent.s with an action scope: tests/integration/test_accounting.py
NOWHERE: Final = "nowhere"  # nothing is there, whoever asks

ROWS: Final[dict[tuple[str, str], str | tuple[str, ...]]] = {
    ("/health/live", "GET"): OPEN,
    ("/health/ready", "GET"): OPEN,
    ("/oauth/jwks", "*"): OPEN,
    ("/.well-known/oauth-authorization-server", "*"): OPEN,
    ("/.well-known/smart-configuration", "*"): OPEN,
    ("/fhir/.well-known/smart-configuration", "*"): OPEN,
    ("/fhir/metadata", "GET"): OPEN,
    ("/oauth/token", "*"): CLIENT,
    ("/oauth/introspect", "*"): CLIENT,
    ("/oauth/revoke", "*"): CLIENT,
    ("/fhir", "POST"): ENTRIES,
    ("/fhir/", "POST"): ENTRIES,
    ("/fhir/{type:str}/_search", "POST"): ("search-type",),
    ("/fhir/{type:str}", "GET"): ("search-type",),
    ("/fhir/{type:str}", "POST"): ("create",),
    ("/fhir/{type:str}/{id:str}", "GET"): ("read",),
    ("/fhir/{type:str}/{id:str}", "PUT"): ("update",),
    ("/fhir/{type:str}/{id:str}", "PATCH"): ("patch",),
    ("/fhir/{type:str}/{id:str}/_history/{version:str}", "GET"): ("vread",),
    ("/fhir/$decisions", "GET"): OPERATION,
    ("/fhir/Patient/{id:str}/$accounting", "GET"): OPERATION,
    ("/fhir/Patient/{id:str}/$accounting/{entry:str}/$show", "POST"): OPERATION,
    ("/fhir/{rest:path}", "*"): NOWHERE,
    ("/fhir", "*"): NOWHERE,
    ("/{rest:path}", "*"): NOWHERE,
}
"""What opens each route. A route that is not here, or is here and gone, fails the first test."""


async def test_every_route_that_there_is_has_a_row(world: World) -> None:
    assert routes_of(world) == set(ROWS)
    assert {does for row in ROWS.values() if isinstance(row, tuple) for does in row} == {does for _, does in ACCESS}


def holding(world: World, scopes: frozenset[str], like: str = "counsellor") -> str:
    """The name of a caller who holds exactly these scopes, whatever its role could be registered for."""
    policy = world.hub.parts.policy()
    client = replace(policy.clients[ClientId(like)], id=ClientId("tried"), scopes=EVERYTHING)
    known = replace(policy, clients={client.id: client})
    world.hub.tokens._policy = lambda: known  # what it looks clients up in: no registration could hold all of this
    world.tokens["tried"] = world.hub.tokens.issue(client, scopes).token
    return "tried"


def tries(type_: str, does: str) -> Iterator[tuple[str, frozenset[str], bool]]:
    """(what is tried, the scopes held, let through)."""
    letter, actions = ACCESS[type_, does]
    smart = f"system/{type_}.{letter}"
    yield "nothing", frozenset(), False
    yield f"everything but {smart}", EVERYTHING - {smart}, False
    yield f"everything but {' and '.join(actions)}", EVERYTHING - set(actions), False
    for action in actions:
        yield f"{smart} and {action} alone", frozenset({smart, action}), True


def search_by_post(type_: str) -> tuple[str, str, Any, dict[str, str]]:
    return "POST", f"/fhir/{type_}/_search", b"_id=nobody", {"Content_Type": "application/x-www-form-urlencoded"}


async def test_each_route_is_opened_by_its_scopes_and_by_no_others(world: World) -> None:
    wrong, tried = [], 0
    for (path, method), row in ROWS.items():
        if not isinstance(row, tuple):
            continue
        for type_, does in sorted(pair for pair in ACCESS if pair[1] in row):
            asked: tuple[str, str, Any, dict[str, str]] = (*request_of(type_, does), {})
            if path.endswith("_search"):
                asked = search_by_post(type_)
            assert asked[0] == method
            for what, scopes, through in tries(type_, does):
                caller = holding(world, scopes)
                response = await world.call(caller, asked[0], asked[1], asked[2], **asked[3])
                tried += 1
                if (response.status_code == 403) is through:
                    wrong.append(f"{method} {path}, {type_}, with {what}: {response.status_code}")
                elif not through:
                    assert_outcome(response, 403, refusal="scope-missing")
    assert not wrong, "\n".join(wrong)
    assert tried > 150


async def test_a_type_that_is_not_served_is_opened_by_nothing(world: World) -> None:
    caller = holding(world, EVERYTHING)
    for type_ in ("Observation", "AuditEvent", "Bundle", "task", "Task%00"):
        for does in ("create", "read", "vread", "update", "patch", "search-type"):
            method, path, body = request_of(type_, does)
            assert (await world.call(caller, method, path, body)).status_code in (403, 404), (type_, does)
    assert set(TABLE) == set(SHELF) | set(DIRECTORY)


async def test_nothing_but_the_open_routes_answers_without_a_token(world: World) -> None:
    for (path, method), row in ROWS.items():
        real = path
        for part, value in {"{type:str}": "Task", "{id:str}": "x", "{version:str}": "1", "{rest:path}": "no/where"}.items():
            real = real.replace(part, value)
        response = await world.http.request("GET" if method == "*" else method, real)
        if row == OPEN:
            assert response.status_code == 200, path
        elif row == CLIENT:
            assert response.status_code == 405 and path in NO_TOKEN
        else:
            assert_outcome(response, 401 if real.startswith("/fhir") else 404)


async def test_what_is_nowhere_is_nowhere_for_everybody(world: World) -> None:
    caller = holding(world, EVERYTHING)
    for path in ("/fhir/Task/x/y/z", "/admin", "/fhir/Task/x/$export", "/metrics"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            response = await world.call(caller, method, path, {} if method in ("POST", "PUT") else None)
            assert response.status_code == 404, (method, path)


# -- per entry of a transaction --------------------------------------------------------------------------------------------------


def needed(entry: Json) -> tuple[str, tuple[str, ...]]:
    """The SMART scope and the action scopes of one entry."""
    type_ = entry["resource"]["resourceType"]
    letter, actions = ACCESS[type_, "create" if entry["request"]["method"] == "POST" else "update"]
    return f"system/{type_}.{letter}", actions


async def written(world: World) -> dict[str, int]:
    return {table: rows for table, rows in (await row_counts(world)).items() if not table.startswith("audit")}


async def test_one_forbidden_entry_and_nothing_is_written(world: World) -> None:
    """For each entry of a real offer, in every place of the Bundle: everything is held but one half of what that entry needs."""
    before, tried = await written(world), 0
    offer = night_offer(NOW)
    for index, entry in enumerate(offer["entry"]):
        smart, actions = needed(entry)
        for scopes in (EVERYTHING - {smart}, EVERYTHING - set(actions)):
            for turn in (0, len(offer["entry"]) - 1 - index):
                moved = json.loads(json.dumps(offer))
                moved["entry"] = moved["entry"][turn:] + moved["entry"][:turn]
                caller = holding(world, scopes, like="police")
                assert_outcome(await world.call(caller, "POST", "/fhir", moved), 403, refusal="scope-missing")
                tried += 1
    assert tried == 20
    assert await written(world) == before


async def test_a_forbidden_update_among_good_entries_and_nothing_is_written(world: World) -> None:
    before = await written(world)
    for type_ in ("Patient", "Consent", "ServiceRequest", "Task"):
        bundle = transaction(("urn:uuid:00000000-0000-4000-8000-000000000009", patient("Zz-First")))
        update = {"resource": {"resourceType": type_, "id": "x"}, "request": {"method": "PUT", "url": f"{type_}/x"}}
        bundle["entry"].append(update)
        smart, actions = needed(update)
        for scopes in (EVERYTHING - {smart}, EVERYTHING - set(actions)):
            response = await world.call(holding(world, scopes), "POST", "/fhir", bundle)
            assert_outcome(response, 403, refusal="scope-missing")
    assert await written(world) == before


async def test_the_same_offer_with_all_that_it_needs_goes_through(world: World) -> None:
    """So that the refusals above are about scopes and nothing else."""
    offer = night_offer(NOW)
    scopes = frozenset(scope for entry in offer["entry"] for scope in (needed(entry)[0], *needed(entry)[1]))
    response = await world.call(holding(world, scopes, like="police"), "POST", "/fhir", offer)
    assert response.status_code == 200, response.text
