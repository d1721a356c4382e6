"""S3: police ask about somebody who agreed to nothing with them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import select

from gateway import vocabulary as v
from gateway.storage import tables
from gateway.storage.statements import Query
from gateway.testing.scenario_facts import Written
from tests.integration.checks import assert_outcome
from tests.integration.night import HOUR, NOW, made, resource
from tests.integration.reporting import decide, demand, emergency, of_kind, outcome
from tests.integration.world import NIGHT, World, coded, consent, input_, patient, request, task, transaction
from tests.scenarios.shelves import assert_table, everything

Json = dict[str, Any]
SR, T, C = (f"urn:uuid:00000000-0000-4000-8000-00000000000{i}" for i in (4, 5, 2))
PARTIES = {"drps": ("police", "drps/htu"), "vsdr": ("counsellor", "vsdr")}


async def client(world: World) -> str:
    """Zz-Ash, 24, a client of victim services alone."""
    response = await world.call("counsellor", "POST", "/fhir/Patient", patient("Zz-Ash", "18-24"))
    assert response.status_code == 201
    return str(response.json()["id"])


def same(one: Any, other: Any) -> bool:
    """Whether two answers are the same but for what is made anew for each."""
    drop = ("x-correlation-id", "content-length")
    heads = [{k: x for k, x in each.headers.items() if k not in drop} for each in (one, other)]
    ids = [each.json().get("extension", [{}])[0].get("valueString", "-") for each in (one, other)]
    return one.status_code == other.status_code and heads[0] == heads[1] and one.text.replace(ids[0], "") == other.text.replace(ids[1], "")


async def test_a_query_is_refused_the_same_for_every_name(world: World) -> None:
    """Steps 1 and 2."""
    hers = await client(world)
    for path in (
        "/fhir/Patient?name={}",
        "/fhir/Task?patient={}",
        "/fhir/ServiceRequest?performer={}",
    ):
        real, made_up = [await world.call("police", "GET", path.format(name)) for name in ("Zz-Ash", "Zz-Nobody")]
        assert_outcome(real, 403, refusal="scope-missing")
        assert same(real, made_up), path
    guess, unknown = [await world.call("police", "GET", f"/fhir/Patient/{id_}") for id_ in (hers, "f" * 32)]
    assert_outcome(guess, 404)
    assert same(guess, unknown)
    assert_outcome(await world.call("police", "GET", "/fhir/Patient?_count=500"), 403, refusal="bulk-query-refused")


async def test_police_record_no_consent_for_themselves(world: World) -> None:
    """Step 3."""
    mine = (await world.call("police", "POST", "/fhir/Patient", patient("Zz-Ash"))).json()["id"]
    for receiver in ("Organization/drps", "PractitionerRole/drps.htu-supervisor"):
        given = consent(f"Patient/{mine}", "drps", receiver, "police-statement", ["alias"], ["law-enforcement"], NOW - HOUR, NOW + HOUR)
        given["extension"][0]["extension"].append({"url": "notice", "valueCode": "court-evidence"})
        assert_outcome(await world.call("police", "POST", "/fhir/Consent", given), 422, refusal="self-serving-consent")


async def test_a_demand_waits_for_the_manager_and_tells_nothing(world: World) -> None:
    """Step 4."""
    await client(world)
    real, made_up = [await world.call("police", "POST", "/fhir", demand(name)) for name in ("Zz-Ash", "Zz-Nobody")]
    told = [
        {k: x for k, x in each.json()["entry"][-1]["resource"].items() if k in ("status", "businessStatus", "statusReason", "output")}
        for each in (real, made_up)
    ]
    assert told[0] == told[1] and told[0]["status"] == "on-hold"
    [asked, _] = of_kind(await world.tasks("manager"), "demand-review")
    answer = await world.call("manager", "PATCH", f"/fhir/Task/{asked['id']}", decide(asked, "Ines", outcome("answered-outside")))
    assert answer.status_code == 200
    entries = await log_of(world)
    held = [entry for entry in entries if entry.get("basis") == "missing-persons-demand"]
    assert len(held) == 2 and all(entry["actor_party"] == "drps" for entry in held)
    assert "Testperson" not in str(entries) and "Zz-Ash" not in str(entries)


async def test_an_imminent_danger_is_told_by_the_manager_and_only_by_her(world: World) -> None:
    """Step 5."""
    hers = await client(world)
    assert_outcome(await world.call("police", "POST", "/fhir", emergency()), 403, refusal="scope-missing")
    written = Written()
    sent = emergency(hers)
    made(await world.call("manager", "POST", "/fhir", sent))
    person = await resource(world, "counsellor", f"Patient/{hers}")
    written.add("E1", "vsdr", [person, *(entry["resource"] for entry in sent["entry"])])
    await assert_table(
        *(world, PARTIES, written, {"E1": "imminent-risk"}),
        {
            "alias, age band": ([("E1", "alias"), ("E1", "age-band")], {"drps": "y", "vsdr": "own"}),
            "meeting place, safety flag": ([("E1", "meeting-place"), ("E1", "safety-flag")], {"drps": "y", "vsdr": "own"}),
            "needs, language": ([("E1", "needs"), ("E1", "language")], {"drps": "-", "vsdr": "own"}),
        },
    )
    assert await everything(world, "police-svu", "drps/svu") == []
    [review] = await world.tasks("privacy")
    [tell] = of_kind(await world.tasks("counsellor"), "tell-her")
    assert review["code"]["coding"][0]["code"] == "emergency-review"
    reviewed = await world.call("privacy", "PATCH", f"/fhir/Task/{review['id']}", decide(review, "Odette", outcome("upheld")))
    assert reviewed.status_code == 200
    assert (await world.call("counsellor", "PATCH", f"/fhir/Task/{tell['id']}", decide(tell, "Sam", close=True))).status_code == 200
    world.clock.set(NIGHT + timedelta(hours=2, minutes=1))
    assert await everything(world, "police", "drps/htu") == [], "two hours, and nothing of it is left to read"
    audited = [entry for entry in await log_of(world) if entry.get("basis") == "serious-harm"]
    assert {entry["actor_role"] for entry in audited} == {"program-manager"} and {entry["target_party"] for entry in audited} == {"drps"}


async def test_she_agrees_to_one_unit_and_no_other_sees_it(world: World) -> None:
    """Step 6."""
    hers = f"Patient/{await client(world)}"
    owner = "HealthcareService/drps.htu"
    unit = "PractitionerRole/drps.htu-supervisor"  # stands for its unit
    given = consent(hers, "vsdr", unit, "police-statement", ["alias"], ["law-enforcement"], NOW - HOUR, NOW + 720 * HOUR)
    given["extension"][0]["extension"].append({"url": "notice", "valueCode": "court-evidence"})
    inputs = [input_("need", valueCodeableConcept=coded(v.NEED, "income"))]
    sent = transaction((C, given), (SR, request(hers, "vsdr", "police-statement", owner)), (T, task(hers, SR, "vsdr", owner, inputs)))
    made(await world.call("counsellor", "POST", "/fhir", sent))
    [told] = await world.tasks("police")
    assert "input" not in told
    person = await resource(world, "police", told["for"]["reference"])
    assert person["name"] == [{"use": "nickname", "given": ["Zz-Ash"]}] and "extension" not in person and "communication" not in person
    assert_outcome(await world.call("police-svu", "GET", f"/fhir/Task/{told['id']}"), 404)
    assert await world.tasks("police-svu") == []


async def log_of(world: World) -> list[Json]:
    """Every entry of the audit log, as it is written."""
    query = Query(select(tables.audit_entries.c.body))
    return [orjson.loads(row[0]) for row in await world.hub.parts.database.facts(query, {})]
