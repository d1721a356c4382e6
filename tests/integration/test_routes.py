"""Over every route: the one error shape, the scopes that let a caller through, and the capability statement that says what there is."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from gateway import vocabulary as v
from gateway.api.edge import WRITES
from gateway.api.fhir import DIRECTORY, SHELF, TABLE
from gateway.app import create_app
from gateway.fhir.capability import Interaction
from gateway.fhir.validate import validate
from gateway.identity import ClientId
from tests.integration.checks import assert_outcome
from tests.integration.night import NOW, accepted, contact, offered, resource, with_consent
from tests.integration.world import World, coded, night_offer, patient

Json = dict[str, Any]

NO_TOKEN = {"/health/live", "/health/ready", "/fhir/metadata", "/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/jwks"}
"""Routes that anybody may call; and the discovery documents."""

ROUTES = {
    ("/health/live", "GET"),
    ("/health/ready", "GET"),
    ("/oauth/token", "*"),
    ("/oauth/introspect", "*"),
    ("/oauth/revoke", "*"),
    ("/oauth/jwks", "*"),
    ("/.well-known/oauth-authorization-server", "*"),
    ("/.well-known/smart-configuration", "*"),
    ("/fhir/.well-known/smart-configuration", "*"),
    ("/fhir/metadata", "GET"),
    ("/fhir", "POST"),
    ("/fhir/", "POST"),
    ("/fhir/{type:str}/_search", "POST"),
    ("/fhir/{type:str}", "GET"),
    ("/fhir/{type:str}", "POST"),
    ("/fhir/{type:str}/{id:str}", "GET"),
    ("/fhir/{type:str}/{id:str}", "PUT"),
    ("/fhir/{type:str}/{id:str}", "PATCH"),
    ("/fhir/{type:str}/{id:str}/_history/{version:str}", "GET"),
    ("/fhir/$decisions", "GET"),
    ("/fhir/Patient/{id:str}/$accounting", "GET"),
    ("/fhir/Patient/{id:str}/$accounting/{entry:str}/$show", "POST"),
    ("/fhir/{rest:path}", "*"),
    ("/fhir", "*"),
    ("/{rest:path}", "*"),
}
"""Every route. A new one fails here until somebody has said, below, who may use it."""


def routes_of(world: World) -> set[tuple[str, str]]:
    found = set()
    for route in world.hub.routes:
        assert isinstance(route, Route)
        methods = (route.methods or {"*"}) - {"HEAD"}
        found |= {(route.path, "*" if len(methods) > 3 else method) for method in methods}
    return found


async def test_no_route_was_added_without_a_row_here(world: World) -> None:
    assert routes_of(world) == ROUTES


READ = "transfer.read"
ACCESS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    # (type, interaction) -> the SMART letter, and the action scopes of which one is needed
    **{
        (type_, does): (letter, (READ, "transfer.read-own"))
        for type_ in SHELF
        for does, letter in (("read", "r"), ("vread", "r"), ("search-type", "s"))
    },
    **{
        ("Task", does): (letter, (READ, "transfer.read-own", "emergency.review"))
        for does, letter in (("read", "r"), ("vread", "r"), ("search-type", "s"))
    },
    **{(type_, does): (letter, ("directory.read",)) for type_ in DIRECTORY for does, letter in (("read", "r"), ("search-type", "s"))},
    ("Patient", "create"): ("c", ("transfer.offer", "consent.record", "consent.record-outward", "report.send")),
    ("Patient", "update"): ("u", ("transfer.offer", "transfer.accept", "consent.record", "consent.record-outward")),
    ("Consent", "create"): ("c", ("consent.record", "consent.record-outward")),
    ("Consent", "update"): ("u", ("consent.record", "consent.record-outward")),
    ("ServiceRequest", "create"): ("c", ("transfer.offer", "report.send")),
    ("ServiceRequest", "update"): ("u", ("transfer.offer",)),
    ("Task", "create"): ("c", ("transfer.offer",)),
    ("Task", "update"): ("u", ("transfer.offer", "transfer.accept", "report.send", "report.acknowledge", "emergency.review")),
    ("Task", "patch"): ("u", ("transfer.offer", "transfer.accept", "report.send", "report.acknowledge", "emergency.review")),
    ("Communication", "create"): ("c", ("message.send",)),
}
"""Who may do what: written down here once more, so that a change of the code's own table is seen."""


def request_of(type_: str, does: str) -> tuple[str, str, Any]:
    """A request for an interaction: method, path and a body that need not be right, since scopes are looked at first."""
    path = f"/fhir/{type_}"
    return {
        "create": ("POST", path, {"resourceType": type_}),
        "read": ("GET", f"{path}/nobody", None),
        "vread": ("GET", f"{path}/nobody/_history/1", None),
        "update": ("PUT", f"{path}/nobody", {"resourceType": type_, "id": "nobody"}),
        "patch": ("PATCH", f"{path}/nobody", []),
        "search-type": ("GET", f"{path}?_id=nobody", None),
    }[does]


def test_every_interaction_that_is_served_has_its_scopes_written_down() -> None:
    served = {(type_, does.value) for type_, capability in TABLE.items() for does in capability.interactions}
    assert served == set(ACCESS)
    wanted = {"POST": "create", "PUT": "update", "PATCH": "patch"}
    written = {(type_, wanted[method]): tuple(action.value for action in actions) for (method, type_), actions in WRITES.items()}
    assert written == {key: actions for key, (_, actions) in ACCESS.items() if key[1] in wanted.values()}


async def test_each_interaction_needs_its_smart_scope_and_one_of_its_action_scopes(world: World) -> None:
    """For every interaction: refused without either half, let through with the two alone (whatever it is answered then)."""
    client = world.hub.parts.policy().clients[ClientId("counsellor")]
    wrong = []
    for (type_, does), (letter, actions) in sorted(ACCESS.items()):
        smart = f"system/{type_}.{letter}"
        mine = [action for action in actions if action in client.scopes]
        assert mine, "the counsellor must be able to try each"
        method, path, body = request_of(type_, does)
        tries = [
            (frozenset(), False),
            (frozenset({smart}), False),
            (frozenset(mine), False),
            (frozenset(client.scopes) - {s for s in client.scopes if s.startswith(f"system/{type_}.")}, False),
            (frozenset(client.scopes) - set(actions), False),
            *((frozenset({smart, action}), True) for action in mine),
        ]
        for scopes, through in tries:
            world.tokens["try"] = world.hub.tokens.issue(client, scopes).token
            response = await world.call("try", method, path, body)
            if (response.status_code == 403) is through:
                wrong.append(f"{type_} {does} with {sorted(scopes)[:3]}: {response.status_code}")
            if not through:
                assert_outcome(response, 403, refusal="scope-missing")
    assert not wrong, "\n".join(wrong)


async def test_a_transaction_needs_the_scopes_of_each_of_its_entries(world: World) -> None:
    for without in ("system/Patient", "system/Consent", "system/ServiceRequest", "system/Task", "transfer.offer", "consent.record-outward"):
        caller = world.narrowed("police", without)
        assert_outcome(await world.call(caller, "POST", "/fhir", night_offer(NOW)), 403, refusal="scope-missing")
    assert await world.tasks("counsellor") == []


# -- the one shape ---------------------------------------------------------------------------------------------------------------

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FROBNICATE")


async def test_every_error_on_every_route_has_the_one_shape(world: World) -> None:
    """FHIR and everything else: an OperationOutcome. The token endpoint and its documents: the JSON of RFC 6749."""
    seen = set()
    for path, _ in sorted(ROUTES):
        real = (
            path.replace("{type:str}", "Nothing")
            .replace("{id:str}", "x")
            .replace("{version:str}", "y")
            .replace("{rest:path}", "no/where/at/all")
        )
        for method in METHODS:
            for token in (None, world.token("counsellor")):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                response = await world.http.request(method, real, headers=headers)
                if response.status_code < 400:
                    continue
                seen.add(response.status_code)
                assert response.status_code < 500, (method, real)
                if real.startswith("/oauth") or ".well-known" in real:
                    body = response.json()
                    assert set(body) <= {"error", "error_description"} and "error" in body
                else:
                    assert_outcome(response, response.status_code)
    assert seen >= {401, 403, 404, 405, 415}


async def test_the_served_application_answers_in_the_same_shape(world: World) -> None:
    """Around the routes, too: nothing of the framework's own answers shows."""
    app = create_app(world.settings)
    app.router.routes.extend(world.hub.routes)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9") as http:
        for method, path in (
            ("GET", "/"),
            ("GET", "/docs"),
            ("GET", "/openapi.json"),
            ("POST", "/health/live"),
            ("DELETE", "/fhir/metadata"),
        ):
            response = await http.request(method, path)
            assert_outcome(response, response.status_code)
            assert response.status_code in (401, 404)


async def test_what_goes_wrong_inside_says_nothing_but_its_id(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("zz-secret")

    monkeypatch.setattr(world.hub.edge.referrals, "write", broken)
    response = await world.call("police", "POST", "/fhir", night_offer(NOW))
    body = assert_outcome(response, 500, canaries=["zz-secret"])
    assert body["issue"][0]["code"] == "exception"


# -- the capability statement ----------------------------------------------------------------------------------------------------


async def statement(world: World) -> Json:
    response = await world.http.get("/fhir/metadata")
    assert response.status_code == 200
    found: Json = response.json()
    return found


async def test_the_statement_is_valid_and_lists_what_is_routed(world: World) -> None:
    found = await statement(world)
    assert validate(found) == []
    [rest] = found["rest"]
    assert [each["code"] for each in rest["interaction"]] == ["transaction"]
    assert {r["type"]: {i["code"] for i in r["interaction"]} for r in rest["resource"]} == {
        type_: {does.value for does in capability.interactions} for type_, capability in TABLE.items()
    }


async def test_everything_that_the_statement_lists_works(world: World) -> None:
    """Each interaction of each type is used once and succeeds, by a caller that may."""
    _, received = await accepted(world)
    who, done = received["for"]["reference"], set()
    person = await resource(world, "counsellor", who)
    noted = await world.call("counsellor", "PUT", f"/fhir/{who}", {**person, "telecom": [contact(NOW)]})
    assert noted.status_code == 200, noted.text
    agreed = with_consent(
        recorder="vsdr",
        receiver="Organization/vsdr",
        scope="contact-follow-up",
        classes=["safe-contact"],
        purposes=["victim-support"],
        who=who,
    )
    text = {
        "resourceType": "Communication",
        "status": "preparation",
        "subject": {"reference": who},
        "payload": [{"contentString": "call me"}],
    }
    owner = "PractitionerRole/lakeridge.dvsacc-nurse"
    asked = {
        **(await resource(world, "police", (await world.tasks("police"))[0]["focus"]["reference"])),
        "subject": {"reference": who},
        "requester": {"reference": "Organization/vsdr"},
        "performer": [{"reference": owner}],
        "code": coded(v.SERVICE, "dvsacc-fast-track"),
    }
    del asked["id"], asked["meta"]
    bodies: dict[str, Json] = {"Patient": patient("Zz-New"), "Consent": agreed, "ServiceRequest": asked, "Communication": text}
    made: dict[str, Json] = {}
    for type_ in ("Patient", "Consent", "ServiceRequest", "Task", "Communication"):
        if type_ == "Task":
            focus = f"ServiceRequest/{made['ServiceRequest']['id']}"
            bodies["Task"] = {
                "resourceType": "Task",
                "status": "requested",
                "intent": "order",
                "code": coded(v.TASK_CODE, "transfer"),
                "focus": {"reference": focus},
                "for": {"reference": who},
                "requester": {"reference": "Organization/vsdr"},
                "owner": {"reference": owner},
            }
        created = await world.call("counsellor", "POST", f"/fhir/{type_}", bodies[type_])
        assert created.status_code == 201, created.text
        assert created.headers["location"].endswith(f"/{type_}/{created.json()['id']}/_history/1")
        made[type_] = created.json()
        done.add((type_, "create"))
    for type_ in ("Patient", "Consent", "ServiceRequest", "Task"):
        updated = await world.call("counsellor", "PUT", f"/fhir/{type_}/{made[type_]['id']}", made[type_])
        assert updated.status_code == 200, updated.text
        done.add((type_, "update"))
    patched = await world.move("counsellor", made["Task"]["id"], "stopped-by-survivor")
    assert patched.status_code == 200, patched.text
    done.add(("Task", "patch"))
    found = await world.call("counsellor", "GET", "/fhir/Provenance")
    made["Provenance"] = found.json()["entry"][0]["resource"]
    made["Endpoint"] = {"id": ""}
    for type_, capability in TABLE.items():
        search = await world.call("counsellor", "GET", f"/fhir/{type_}{'?_id=' + made['Patient']['id'] if type_ == 'Patient' else ''}")
        assert search.status_code == 200, search.text
        done.add((type_, "search-type"))
        id_ = made[type_]["id"] if type_ in made else search.json()["entry"][0]["resource"]["id"]
        if type_ == "Endpoint":  # none is registered in this world: what is listed is served, and there is nothing there
            done |= {(type_, "read")}
            continue
        assert (await world.call("counsellor", "GET", f"/fhir/{type_}/{id_}")).status_code == 200
        done.add((type_, "read"))
        if Interaction.VREAD in capability.interactions:
            old = await world.call("counsellor", "GET", f"/fhir/{type_}/{id_}/_history/1")
            assert old.status_code == 200 and old.json()["meta"]["versionId"] == "1"
            done.add((type_, "vread"))
    assert done == {(type_, does.value) for type_, capability in TABLE.items() for does in capability.interactions}


async def test_what_the_statement_does_not_list_is_refused(world: World) -> None:
    for type_ in [*TABLE, "Observation", "Condition", "Person", "AuditEvent", "Bundle", "Binary"]:
        listed = {does.value for does in TABLE[type_].interactions} if type_ in TABLE else set()
        for does in ("create", "read", "vread", "update", "patch", "search-type"):
            if does in listed:
                continue
            method, path, body = request_of(type_, does)
            response = await world.call("counsellor", method, path, body)
            assert response.status_code in (403, 404), (type_, does, response.status_code)
            assert_outcome(response, response.status_code)
        for method, path in (
            ("DELETE", f"/fhir/{type_}/x"),
            ("GET", f"/fhir/{type_}/x/_history"),
            ("GET", f"/fhir/{type_}/_history"),
            ("POST", f"/fhir/{type_}/$op"),
        ):
            response = await world.call("counsellor", method, path, {} if method == "POST" else None)
            assert response.status_code in (403, 404), (method, path, response.status_code)


async def test_conditional_create_works_where_the_statement_says_so(world: World) -> None:
    ids, _ = await offered(world)
    listed = {r["type"]: r["conditionalCreate"] for r in (await statement(world))["rest"][0]["resource"]}
    assert {type_ for type_, said in listed.items() if said} == {"Patient", "ServiceRequest", "Task"}
    number = {"type": coded(v.V2_0203, "PLAC"), "system": "http://police.example/number", "value": "zz-77"}
    asked = await resource(world, "police", f"ServiceRequest/{ids['ServiceRequest']}")
    del asked["id"], asked["meta"]
    asked["identifier"] = [number]
    wanted = {"If_None_Exist": "identifier=http%3A%2F%2Fpolice.example%2Fnumber%7Czz-77"}
    first = await world.call("police", "POST", "/fhir/ServiceRequest", asked, **wanted)
    second = await world.call("police", "POST", "/fhir/ServiceRequest", asked, **wanted)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    elsewhere = await world.call("police-svu", "GET", "/fhir/ServiceRequest?identifier=http://police.example/number|zz-77")
    assert elsewhere.json()["total"] == 0
    [task] = await world.tasks("police")
    again = json.loads(json.dumps(night_offer(NOW)["entry"][-1]["resource"]))
    again |= {"focus": task["focus"], "for": task["for"], "identifier": [{**number, "value": "zz-78"}]}
    named = {"If_None_Exist": "identifier=http://police.example/number|zz-78"}
    first = await world.call("police", "POST", "/fhir/Task", again, **named)
    second = await world.call("police", "POST", "/fhir/Task", again, **named)
    assert (first.status_code, second.status_code) == (201, 200), second.text
    assert first.json()["id"] == second.json()["id"]
