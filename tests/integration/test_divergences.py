"""What docs/DIVERGENCES.md says of the wire is so. Each case is one sentence of it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.clock import millis
from tests.integration.world import NIGHT, World, night_offer, transaction

Json = dict[str, Any]
NOTHING = "/fhir/Task/nothing"
SERVED: list[tuple[str, str, str, dict[str, str], int]] = [
    # (sentence, method, path, headers, status)
    ("no XML out", "GET", "/fhir/Task", {"Accept": "application/fhir+xml"}, 406),
    ("no delete", "DELETE", NOTHING, {}, 404),
    ("no history of an instance", "GET", f"{NOTHING}/_history", {}, 404),
    ("no history of a type", "GET", "/fhir/Task/_history", {}, 404),
    ("no conditional update", "PUT", "/fhir/Patient?identifier=a|b", {}, 404),
    ("no operations", "POST", "/fhir/$process-message", {}, 404),
    ("a type without a scope, served or not", "GET", "/fhir/Observation/nothing", {}, 403),
    ("an unknown parameter is refused", "GET", "/fhir/Task?colour=red", {}, 400),
    ("also under lenient handling", "GET", "/fhir/Task?colour=red", {"Prefer": "handling=lenient"}, 400),
    ("a parameter given twice is refused", "GET", "/fhir/Task?status=accepted&status=requested", {}, 400),
    ("but for _lastUpdated", "GET", "/fhir/Task?_lastUpdated=ge2026-01-01&_lastUpdated=lt2027-01-01", {}, 200),
    ("no modifiers", "GET", "/fhir/Task?status:not=accepted", {}, 400),
    ("no chains", "GET", "/fhir/Task?patient.name=a", {}, 400),
    ("no _include", "GET", "/fhir/Task?_include=Task:focus", {}, 400),
    ("no _summary", "GET", "/fhir/Task?_summary=count", {}, 400),
    ("a date needs a prefix", "GET", "/fhir/Task?_lastUpdated=2026-01-01", {}, 400),
    (":contains in the directory", "GET", "/fhir/Organization?name:contains=a", {}, 200),
    ("what identifies a person is not in an address", "GET", "/fhir/Patient?identifier=a", {}, 400),
    ("people can't be listed", "GET", "/fhir/Patient", {}, 403),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), [case[1:] for case in SERVED], ids=[case[0] for case in SERVED])
async def test_what_is_served_and_what_is_not(method: str, path: str, headers: dict[str, str], status: int, world: World) -> None:
    answer = await world.call("counsellor", method, path, **{name.replace("-", "_"): value for name, value in headers.items()})
    assert answer.status_code == status, answer.text


async def test_what_is_not_served_is_answered_like_what_is_not_there(world: World) -> None:
    bodies = [(await world.call("counsellor", method, path)).json()["issue"] for method, path in (("GET", NOTHING), ("DELETE", NOTHING))]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    ("method", "body", "type_", "status"),
    [
        ("POST", b"<Patient/>", "application/fhir+xml", 415),
        ("POST", b'{"resourceType": "Patient", "resourceType": "Patient"}', "application/fhir+json", 400),
        ("PUT", b'{"resourceType": "Patient", "id": "nothing"}', "application/fhir+json", 404),
    ],
    ids=["no XML in", "no member twice", "an update does not create"],
)
async def test_what_is_sent_of_a_person(method: str, body: bytes, type_: str, status: int, world: World) -> None:
    path = "/fhir/Patient/nothing" if method == "PUT" else "/fhir/Patient"
    answer = await world.call("counsellor", method, path, body, Content_Type=type_)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("way", ["batch", "get entry", "contained", "extension", "narrative", "absolute reference"])
async def test_what_a_bundle_may_not_be(way: str, world: World) -> None:
    bundle = night_offer(millis(NIGHT))
    entries = bundle["entry"]
    patient: Json = entries[0]["resource"]
    if way == "batch":
        bundle["type"] = "batch"
    elif way == "get entry":
        entries.append({"request": {"method": "GET", "url": "Task"}})
    elif way == "contained":
        patient["contained"] = [{"resourceType": "Patient", "id": "p", "link": [{"other": {"reference": "#"}, "type": "seealso"}]}]
    elif way == "extension":
        patient["extension"].append({"url": "http://example.org/other", "valueBoolean": True})
    elif way == "narrative":
        patient["text"] = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}
    else:
        entries[3]["resource"]["requester"] = {"reference": "http://127.0.0.1:9/fhir/Organization/drps"}
    answer = await world.call("police", "POST", "/fhir", bundle)
    assert answer.status_code == 422, answer.text


async def test_an_entrys_own_id_and_meta_are_not_kept_and_only_a_task_comes_back_unasked(world: World) -> None:
    patient = {
        "resourceType": "Patient",
        "id": "mine",
        "meta": {"tag": [{"system": "urn:x", "code": "y"}]},
        "name": [{"use": "nickname", "given": ["Zz"]}],
    }
    answer = await world.call("counsellor", "POST", "/fhir", transaction(("urn:uuid:00000000-0000-4000-8000-000000000009", patient)))
    [entry] = answer.json()["entry"]
    assert "resource" not in entry
    stored = (await world.call("counsellor", "GET", f"/fhir/{entry['response']['location'].partition('/_history')[0]}")).json()
    assert stored["id"] != "mine"
    assert set(stored["meta"]) == {"versionId", "lastUpdated"}
    offered = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))
    assert [entry["resource"]["resourceType"] for entry in offered.json()["entry"] if "resource" in entry] == ["Task"]


async def test_a_conditional_create_names_an_identifier(world: World) -> None:
    body = {"resourceType": "Patient", "name": [{"use": "nickname", "given": ["Zz"]}]}
    answer = await world.call("counsellor", "POST", "/fhir/Patient", body, If_None_Exist="_lastUpdated=ge2026-01-01")
    assert answer.status_code == 400, answer.text


async def test_a_version_has_an_etag_and_no_last_modified_header(world: World) -> None:
    made = await world.call(
        "counsellor", "POST", "/fhir/Patient", {"resourceType": "Patient", "name": [{"use": "nickname", "given": ["Zz"]}]}
    )
    read = await world.call("counsellor", "GET", f"/fhir/Patient/{made.json()['id']}", If_None_Match='W/"1"')
    assert (read.status_code, read.headers["etag"], "last-modified" in read.headers) == (200, 'W/"1"', False)
