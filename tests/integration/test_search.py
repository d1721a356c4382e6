"""Search on one's own shelf: every parameter that is documented, paging, order, and who may search for what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from gateway.api.searching import SEARCHABLE
from tests.integration.checks import assert_outcome
from tests.integration.night import NOW, accepted, fast_track, income_request, made, offered, resource
from tests.integration.world import NIGHT, World, night_offer

Json = dict[str, Any]
FORM = "application/x-www-form-urlencoded"


async def found(world: World, who: str, type_: str, **params: str) -> list[str]:
    """The ids a search finds, by GET."""
    response = await world.call(who, "GET", f"/fhir/{type_}?{urlencode(params)}")
    assert response.status_code == 200, response.text
    body = response.json()
    ids = [entry["resource"]["id"] for entry in body.get("entry", ())]
    assert all(entry["search"] == {"mode": "match"} for entry in body.get("entry", ()))
    assert body["type"] == "searchset" and body["total"] >= len(ids)
    return ids


async def posted(world: World, who: str, type_: str, **params: str) -> httpx.Response:
    """A search by POST `_search`."""
    return await world.call(who, "POST", f"/fhir/{type_}/_search", urlencode(params).encode(), Content_Type=FORM)


async def test_every_documented_parameter_finds_what_it_names_and_nothing_else(world: World) -> None:
    """Each is tried with a value of something that is there, and with one that is not."""
    _, received = await accepted(world)
    patient = received["for"]["reference"].partition("/")[2]
    sent = made(await world.call("counsellor", "POST", "/fhir", fast_track(patient)))
    await offered(world, "Zz-Other")
    mine = await resource(world, "counsellor", f"Task/{sent['Task']}")
    person = await resource(world, "counsellor", f"Patient/{patient}")
    number = mine["identifier"][0]
    tried = set()
    values: dict[tuple[str, str], tuple[str, str, set[str]]] = {
        ("Patient", "_id"): (patient, "nobody", {patient}),
        ("Patient", "identifier"): (f"{person['identifier'][0]['system']}|{person['identifier'][0]['value']}", "x|y", {patient}),
        ("Task", "_id"): (sent["Task"], "nothing", {sent["Task"]}),
        ("Task", "identifier"): (f"{number['system']}|{number['value']}", f"{number['system']}|NOTHING", {sent["Task"]}),
        ("Task", "status"): ("accepted", "failed", {received["id"]}),
        ("Task", "business-status"): ("accepted", "expired", {received["id"]}),
        ("Task", "owner"): ("PractitionerRole/lakeridge.dvsacc-nurse", "PractitionerRole/nobody", {sent["Task"]}),
        ("Task", "patient"): (f"Patient/{patient}", "Patient/nobody", {received["id"], sent["Task"]}),
        ("Task", "focus"): (mine["focus"]["reference"], "ServiceRequest/nothing", {sent["Task"]}),
        ("ServiceRequest", "_id"): (sent["ServiceRequest"], "nothing", {sent["ServiceRequest"]}),
        ("ServiceRequest", "patient"): (patient, "nobody", {sent["ServiceRequest"], received["focus"]["reference"].partition("/")[2]}),
        ("ServiceRequest", "subject"): (
            f"Patient/{patient}",
            "nobody",
            {sent["ServiceRequest"], received["focus"]["reference"].partition("/")[2]},
        ),
    }
    for (type_, name), (there, not_there, expected) in values.items():
        by = posted if type_ == "Patient" else None
        if by is not None:
            answers = [
                {e["resource"]["id"] for e in (await by(world, "counsellor", type_, **{name: v})).json().get("entry", ())}
                for v in (there, not_there)
            ]
        else:
            answers = [set(await found(world, "counsellor", type_, **{name: v})) for v in (there, not_there)]
        assert answers == [expected, set()], (type_, name)
        tried.add((type_, name))
    for type_ in SEARCHABLE:
        for name in (p.name for p in SEARCHABLE[type_]):
            if (type_, name) in tried or (type_, name) == ("Patient", "_lastUpdated"):
                continue
            value = {"_lastUpdated": "ge2020-01-01", "patient": patient, "subject": patient}.get(name, "completed")
            assert isinstance(await found(world, "counsellor", type_, **{name: value}), list)


async def test_an_identifier_without_a_system_is_found_too(world: World) -> None:
    ids, _ = await offered(world)
    mine = await resource(world, "police", f"Task/{ids['Task']}")
    assert await found(world, "police", "Task", identifier=mine["identifier"][0]["value"]) == [ids["Task"]]


async def test_values_are_alternatives_and_parameters_are_conditions(world: World) -> None:
    ids, received = await offered(world)
    assert await found(world, "counsellor", "Task", status="requested,received") == [received["id"]]
    assert await found(world, "counsellor", "Task", status="requested", **{"business-status": "accepted"}) == []
    assert await found(world, "police", "Task", _id=f"{ids['Task']},nothing") == [ids["Task"]]


async def test_times_compare_with_each_prefix(world: World) -> None:
    await offered(world)
    world.clock.set(NIGHT + timedelta(minutes=1))
    await offered(world, "Zz-Later")
    middle = (NIGHT + timedelta(seconds=30)).isoformat().replace("+00:00", "Z")
    first = NIGHT.isoformat().replace("+00:00", "Z")
    counts = {prefix: len(await found(world, "counsellor", "Task", _lastUpdated=prefix + middle)) for prefix in ("ge", "gt", "le", "lt")}
    assert counts == {"ge": 1, "gt": 1, "le": 1, "lt": 1}
    counts = {prefix: len(await found(world, "counsellor", "Task", _lastUpdated=prefix + first)) for prefix in ("ge", "gt", "le", "lt")}
    assert counts == {"ge": 2, "gt": 1, "le": 1, "lt": 0}
    between = await world.call("counsellor", "GET", f"/fhir/Task?_lastUpdated=ge{first}&_lastUpdated=lt{middle}")
    assert between.json()["total"] == 1


async def test_order_is_by_time_both_ways(world: World) -> None:
    order = []
    for minute in range(3):
        world.clock.set(NIGHT + timedelta(minutes=minute))
        _, received = await offered(world, f"Zz-{minute}")
        order.append(received["id"])
    assert await found(world, "counsellor", "Task", _sort="_lastUpdated") == order
    assert await found(world, "counsellor", "Task", _sort="-_lastUpdated") == order[::-1]


async def test_pages_are_one_search_cut_in_pieces(world: World) -> None:
    """Following `next` gives each match once, in order, under the same conditions, and ends."""
    for minute in range(7):  # before any deadline, so that nothing moves while it is looked at
        world.clock.set(NIGHT + timedelta(minutes=minute))
        _, received = await offered(world, f"Zz-{minute}")
        if minute % 3 == 0:
            await world.move("counsellor", received["id"], "acknowledged")
    for query in ("status=requested&_sort=-_lastUpdated", "_sort=_lastUpdated", "business-status=offered,acknowledged"):
        whole = await world.call("counsellor", "GET", f"/fhir/Task?{query}&_count=100")
        expected = [entry["resource"]["id"] for entry in whole.json()["entry"]]
        for size in (1, 2, 3, 100):
            seen: list[str] = []
            path: str | None = f"/fhir/Task?{query}&_count={size}"
            while path is not None:
                page = (await world.call("counsellor", "GET", path)).json()
                assert page["total"] == len(expected)
                assert len(page["entry"]) <= size
                seen += [entry["resource"]["id"] for entry in page["entry"]]
                following = [link["url"] for link in page.get("link", ()) if link["relation"] == "next"]
                path = urlsplit(following[0])._replace(scheme="", netloc="").geturl() if following else None
            assert seen == expected, (query, size)


async def test_a_count_of_nothing_counts(world: World) -> None:
    await offered(world)
    response = await world.call("counsellor", "GET", "/fhir/Task?_count=0")
    assert response.json()["total"] == 1
    assert "entry" not in response.json() and "link" not in response.json()


async def test_a_search_in_the_body_finds_what_one_in_the_address_does(world: World) -> None:
    _, received = await offered(world)
    response = await posted(world, "counsellor", "Task", patient=received["for"]["reference"], status="requested")
    assert [entry["resource"]["id"] for entry in response.json()["entry"]] == [received["id"]]
    mixed = await world.call("counsellor", "POST", "/fhir/Task/_search?status=requested", b"_count=1", Content_Type=FORM)
    assert mixed.json()["total"] == 1


async def test_what_is_found_is_what_is_read(world: World) -> None:
    _, received = await offered(world)
    searched = await world.call("counsellor", "GET", f"/fhir/Task?_id={received['id']}")
    [entry] = searched.json()["entry"]
    assert entry["resource"] == received
    assert entry["fullUrl"] == f"http://127.0.0.1:9/fhir/Task/{received['id']}"


async def test_an_older_version_is_read_and_never_found(world: World) -> None:
    _, received = await offered(world)
    await world.move("counsellor", received["id"], "acknowledged")
    assert await found(world, "counsellor", "Task", **{"business-status": "offered"}) == []
    old = await world.call("counsellor", "GET", f"/fhir/Task/{received['id']}/_history/1")
    assert old.json() == received
    assert old.headers["etag"] == 'W/"1"'
    assert_outcome(await world.call("counsellor", "GET", f"/fhir/Task/{received['id']}/_history/3"), 404)


# -- police: what a minimal view may search (the last paragraph of the refusals) ---------------------------------------------------


async def test_police_search_their_own_tasks_and_requests_by_five_things(world: World) -> None:
    ids, _ = await offered(world)
    for type_ in ("Task", "ServiceRequest"):
        mine = await resource(world, "police", f"{type_}/{ids[type_]}")
        values = {"_id": ids[type_], "status": mine["status"], "_lastUpdated": "ge2020-01-01", "_count": "5", "_sort": "-_lastUpdated"}
        for name, value in values.items():
            assert await found(world, "police", type_, **{name: value}) == [ids[type_]], (type_, name)
    assert await found(world, "police-svu", "Task") == []


async def test_everything_else_that_police_search_is_refused_alike(world: World) -> None:
    """The same for every name, real or made up: an answer that depends on nothing but the question's form."""
    _, received = await offered(world)
    theirs = received["for"]["reference"]
    for path in (
        "/fhir/Task?patient={}",
        "/fhir/Task?owner={}",
        "/fhir/Task?business-status={}",
        "/fhir/Task?focus={}",
        "/fhir/ServiceRequest?subject={}",
        "/fhir/ServiceRequest?performer={}",
        "/fhir/Patient?name={}",
        "/fhir/Patient?identifier={}",
        "/fhir/Patient?_id={}",
        "/fhir/Consent?patient={}",
        "/fhir/Communication?subject={}",
        "/fhir/Provenance?_id={}",
    ):
        answers = []
        for value in ("Robin", theirs, "Nobody-At-All"):
            response = await world.call("police", "GET", path.format(value))
            answers.append(assert_outcome(response, 403, refusal="scope-missing", canaries=[value])["issue"])
        assert answers[0] == answers[1] == answers[2]


async def test_nobody_lists_people(world: World) -> None:
    await offered(world)
    for who in ("police", "counsellor", "nurse"):
        for query in (
            "",
            "?_count=500",
            "?_lastUpdated=ge2020-01-01",
            "?_id=",
            "?_id=a,b",
            "?identifier=*",
            "?active=true",
            "?name:contains=a",
        ):
            response = await world.call(who, "GET", f"/fhir/Patient{query}")
            assert_outcome(response, 403, refusal="bulk-query-refused")
        response = await posted(world, who, "Patient", _count="500")
        assert_outcome(response, 403, refusal="bulk-query-refused")


async def test_another_partys_things_are_never_found(world: World) -> None:
    ids, received = await offered(world)
    patient = received["for"]["reference"].partition("/")[2]
    made(await world.call("counsellor", "POST", "/fhir", income_request(patient)))
    for who in ("nurse", "income"):
        for type_, id_ in (("Task", received["id"]), ("Task", ids["Task"]), ("ServiceRequest", ids["ServiceRequest"])):
            assert await found(world, who, type_, _id=id_) == []
        assert await found(world, who, "Task", patient=patient) == []
    assert len(await found(world, "income", "Task")) == 1


# -- the directory ---------------------------------------------------------------------------------------------------------------


async def test_the_directory_is_searched_by_what_a_partner_needs(world: World) -> None:
    service = "https://coalition-hub.example/fhir/CodeSystem/service|dvsacc-fast-track"
    assert "lakeridge.dvsacc-nurse" in await found(world, "counsellor", "PractitionerRole", specialty=service)
    assert await found(world, "counsellor", "PractitionerRole", specialty=service, organization="Organization/vsdr") == []
    assert await found(world, "counsellor", "Organization", name="lakeridge") == ["lakeridge"]
    members = set(await found(world, "police", "Organization"))
    assert {"drps", "lakeridge", "ow-durham", "vsdr"} <= members and not {"crown-durham", "vs-peel", "opp"} & members
    assert "ow-durham.htrt" in await found(world, "counsellor", "HealthcareService", organization="ow-durham")
    assert_outcome(await world.call("counsellor", "GET", "/fhir/Organization/nobody"), 404)
    read = await world.call("counsellor", "GET", "/fhir/Organization/lakeridge")
    assert read.status_code == 200


async def test_the_bundle_of_the_night_names_no_person_in_the_directory(world: World) -> None:
    await world.call("police", "POST", "/fhir", night_offer(NOW))
    for type_ in ("Organization", "PractitionerRole", "HealthcareService"):
        response = await world.call("counsellor", "GET", f"/fhir/{type_}")
        assert "Zz-" not in response.text and "Patient" not in response.text
