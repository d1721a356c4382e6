"""An id of somebody else's and an id of nobody's: the same status, headers and body, for everything that can be done with one."""

from __future__ import annotations

from typing import Any

from gateway import vocabulary as v
from tests.integration.checks import row_counts, without_moment
from tests.integration.night import NOW, accepted, contact, fast_track, income_request, made, resource, with_consent
from tests.integration.world import World, coded, patient, request, task, transaction

Json = dict[str, Any]
NOBODY = "0" * 32
TYPES = ("Patient", "Consent", "ServiceRequest", "Task", "Communication", "Provenance")


async def everything(world: World) -> dict[str, dict[str, list[str]]]:
    """A night with all four parties; then party -> type -> the ids on its shelf."""
    ids, received = await accepted(world)
    who = received["for"]["reference"]
    person = await resource(world, "counsellor", who)
    await world.call("counsellor", "PUT", f"/fhir/{who}", {**person, "telecom": [contact(NOW)]})
    made(await world.call("counsellor", "POST", "/fhir", fast_track(who.partition("/")[2])))
    made(await world.call("counsellor", "POST", "/fhir", income_request(who.partition("/")[2])))
    held: dict[str, dict[str, list[str]]] = {"police": {type_: [ids[type_]] for type_ in ("Patient", "Consent", "ServiceRequest", "Task")}}
    for party in ("counsellor", "nurse", "income"):
        held[party] = {"Patient": sorted({t["for"]["reference"].partition("/")[2] for t in await world.tasks(party)})}
        for type_ in TYPES[1:]:
            found = (await world.call(party, "GET", f"/fhir/{type_}?_count=100")).json()
            held[party][type_] = [entry["resource"]["id"] for entry in found.get("entry", ())]
    assert sum(len(ids_) for shelf in held.values() for ids_ in shelf.values()) > 20
    return held


async def compared(world: World, who: str, held: str, asks: list[tuple[str, str, Any, dict[str, str]]]) -> list[str]:
    """Which of these requests tell an id that is held elsewhere from one that is nobody's. `{}` stands for the id."""
    told = []
    for method, path, body, headers in asks:
        answers = []
        for id_ in (held, NOBODY):
            sent = path.format(id_)
            given = filled(body, id_)
            answers.append(without_moment(await world.call(who, method, sent, given, **headers)))
        masked = [(status, heads, content.replace(held.encode(), NOBODY.encode())) for status, heads, content in answers]
        found = method == "GET" and (answers[0][0] not in (403, 404) if "?" not in path else b'"entry"' in answers[0][2])
        if masked[0] != masked[1] or found:
            told.append(f"{who} {method} {path}: {answers[0][0]} and {answers[1][0]}")
    return told


def filled(body: Any, id_: str) -> Any:
    """The body with the id in its place."""
    if isinstance(body, dict):
        return {name: filled(value, id_) for name, value in body.items()}
    if isinstance(body, list):
        return [filled(value, id_) for value in body]
    return body.replace("{}", id_) if isinstance(body, str) else body


FORM = {"Content_Type": "application/x-www-form-urlencoded"}


def asks_about(type_: str, sender: str) -> list[tuple[str, str, Any, dict[str, str]]]:
    """Everything a party can try with an id of a type."""
    whole: Json = {"Patient": {**patient(), "id": "{}"}}.get(type_, {"resourceType": type_, "id": "{}"})
    asks: list[tuple[str, str, Any, dict[str, str]]] = [
        ("GET", f"/fhir/{type_}/{{}}", None, {}),
        ("HEAD", f"/fhir/{type_}/{{}}", None, {}),
        ("GET", f"/fhir/{type_}/{{}}/_history/1", None, {}),
        ("GET", f"/fhir/{type_}/{{}}/_history/99", None, {}),
        ("GET", f"/fhir/{type_}/{{}}/_history", None, {}),
        ("DELETE", f"/fhir/{type_}/{{}}", None, {}),
        ("PUT", f"/fhir/{type_}/{{}}", whole, {}),
        ("PUT", f"/fhir/{type_}/{{}}", whole, {"If_Match": 'W/"1"'}),
        ("PUT", f"/fhir/{type_}/{{}}", whole, {"If_Match": 'W/"7"'}),
        ("PATCH", f"/fhir/{type_}/{{}}", [{"op": "add", "path": "/status", "value": "accepted"}], {}),
        ("PATCH", f"/fhir/{type_}/{{}}", [], {"If_Match": 'W/"1"'}),
        ("GET", f"/fhir/{type_}?_id={{}}", None, {}),
        ("POST", f"/fhir/{type_}/_search", b"_id=x", FORM),
        (
            "POST",
            "/fhir",
            {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [{"resource": whole, "request": {"method": "PUT", "url": f"{type_}/{{}}"}}],
            },
            {},
        ),
    ]
    if type_ == "Patient":
        for name in ("patient",):
            asks += [("GET", f"/fhir/Task?{name}=Patient/{{}}", None, {}), ("GET", f"/fhir/Consent?{name}={{}}", None, {})]
        about = request("Patient/{}", sender, "crisis-counselling", "PractitionerRole/vsdr.ht-cic")
        asks += [
            ("POST", "/fhir/ServiceRequest", about, {}),
            ("POST", "/fhir/Consent", with_consent(recorder=sender, receiver="Organization/vsdr", who="Patient/{}"), {}),
            (
                "POST",
                "/fhir/Communication",
                {
                    "resourceType": "Communication",
                    "status": "preparation",
                    "subject": {"reference": "Patient/{}"},
                    "payload": [{"contentString": "call me"}],
                },
                {},
            ),
        ]
    if type_ == "ServiceRequest":
        inside = transaction(
            ("urn:uuid:00000000-0000-4000-8000-000000000001", patient()),
            (
                "urn:uuid:00000000-0000-4000-8000-000000000002",
                task("urn:uuid:00000000-0000-4000-8000-000000000001", "ServiceRequest/{}", sender, "PractitionerRole/vsdr.ht-cic", []),
            ),
        )
        inside["entry"][1]["resource"].pop("input")
        asks += [("GET", "/fhir/Task?focus=ServiceRequest/{}", None, {}), ("POST", "/fhir", inside, {})]
    return asks


PARTY = {"police": "drps", "counsellor": "vsdr", "nurse": "lakeridge", "income": "ow-durham", "police-svu": "drps"}


async def test_no_answer_tells_an_id_held_elsewhere_from_one_that_is_nobodys(world: World) -> None:
    held = await everything(world)
    before = await row_counts(world)
    told: list[str] = []
    for who in ("police", "police-svu", "nurse", "income", "counsellor"):
        for owner, shelf in held.items():
            if owner == who:
                continue
            for type_, ids in shelf.items():
                for id_ in ids[:1]:
                    told += await compared(world, who, id_, asks_about(type_, PARTY[who]))
    assert not told, "\n".join(told)
    after = await row_counts(world)
    assert {name: rows for name, rows in after.items() if name != "audit_entries"} == {
        name: rows for name, rows in before.items() if name != "audit_entries"
    }


async def test_a_unit_of_the_same_party_is_somebody_else(world: World) -> None:
    held = await everything(world)
    for type_, ids in held["police"].items():
        response = await world.call("police-svu", "GET", f"/fhir/{type_}/{ids[0]}")
        assert response.status_code == 404


async def test_a_refused_request_is_logged_without_an_id_of_somebody_elses(world: World) -> None:
    """R4: what was asked for and is not there is not written down as a thing that exists."""
    held = await everything(world)
    await world.call("police", "GET", f"/fhir/Task/{held['nurse']['Task'][0]}")
    entries = [entry async for entry in world.hub.audit.entries()]
    refusals = [entry.body for entry in entries if b'"refuse"' in entry.body]
    assert not [body for body in refusals if held["nurse"]["Task"][0].encode() in body]


async def test_the_same_words_for_a_request_with_no_scope_whatever_is_named(world: World) -> None:
    held = await everything(world)
    narrow = world.narrowed("police", "system/")
    for type_ in TYPES:
        owner = "counsellor" if held["counsellor"].get(type_) else "police"
        answers = {
            without_moment(await world.call(narrow, "GET", f"/fhir/{type_}/{id_}"))[2]
            for id_ in (*held[owner].get(type_, ())[:1], NOBODY, *held["police"].get(type_, ())[:1])
        }
        assert len(answers) == 1, type_


async def test_business_words_do_not_help_to_guess_either(world: World) -> None:
    held = await everything(world)
    patch = [{"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, "stopped-by-survivor")}]
    answers = [
        without_moment(await world.call("nurse", "PATCH", f"/fhir/Task/{id_}", patch))
        for id_ in (held["police"]["Task"][0], held["income"]["Task"][0], NOBODY)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 404
