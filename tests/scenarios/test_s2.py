"""S2: a young person of seventeen who does not want child protection; she is fifteen; a society's worker in a mixed unit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gateway import vocabulary as v
from gateway.testing.scenario_facts import Written
from tests.integration.checks import assert_outcome
from tests.integration.night import HOUR, NOW, P, business, made, offer, resource, taken, with_consent
from tests.integration.reporting import decide, not_now, of_kind, phoned, report
from tests.integration.world import NIGHT, World, coded, consent, input_, output, patient, request, task, transaction
from tests.scenarios.shelves import assert_table

Json = dict[str, Any]
PARTIES = {"drps": ("police", "drps/htu"), "vsdr": ("counsellor", "vsdr"), "dcas": ("society", "dcas")}
WHERE = "Motel by the lake"
SERVICES = {"T1": "crisis-counselling", "C1": "crisis-counselling", "R1": "child-protection-report", "R2": "child-protection-report"}


async def found(world: World, written: Written, age_band: str = "16-17", *flags: str) -> tuple[dict[str, str], Json]:
    """Step 1: police offer her to a counsellor, who accepts and meets her."""
    inputs = [
        input_("need", valueCodeableConcept=coded(v.NEED, "safe-bed-tonight")),
        input_("meeting-place", valueString=WHERE),
        *(input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, flag)) for flag in flags),
    ]
    sent = offer(who=patient("Zz-Sky", age_band), inputs=inputs)
    ids = made(await world.call("police", "POST", "/fhir", sent))
    written.add("T1", "drps", [entry["resource"] for entry in sent["entry"]])
    [received] = of_kind(await world.tasks("counsellor"), "transfer")
    assert {"system": v.V3_ACT_CODE, "code": "ADOL"} in (await resource(world, "counsellor", received["for"]["reference"]))["meta"][
        "security"
    ]
    await taken(world, "counsellor", received["id"])
    moved = await world.move("counsellor", received["id"], "introduced")
    assert moved.status_code == 200
    written.add("C1", "vsdr", [{**moved.json(), "input": [], "output": []}])
    return ids, await resource(world, "counsellor", f"Task/{received['id']}")


async def reported(world: World, written: Written, who: str, party: str, patient_id: str, name: str, facts: str) -> str:
    """A party reports; the id of its Task."""
    sent = report(sender=party, who=patient_id, whereabouts=WHERE, name={"drps": "Dana", "vsdr": "Sam"}[party], facts=facts)
    ids = made(await world.call(who, "POST", "/fhir", sent))
    mine = await resource(world, who, f"Task/{ids['Task']}")
    written.add(name, party, [{**mine, "output": [], "businessStatus": {}}])
    return ids["Task"]


async def test_each_decides_for_itself_and_the_society_learns_what_was_reported(world: World) -> None:
    written = Written()
    ids, received = await found(world, written)
    # 2: two decisions, one each, and nothing at the society
    [officers] = of_kind(await world.tasks("police"), "report-decision")
    [hers] = of_kind(await world.tasks("counsellor"), "report-decision")
    assert await world.tasks("society") == []
    # 3: she decides "not now"; he reports
    path = f"/fhir/Task/{hers['id']}"
    answer = await world.call("counsellor", "PATCH", path, decide(hers, "Sam", not_now(), reason="youth-safe-with-plan"))
    assert answer.status_code == 200
    written.add(
        "D1", "vsdr", [{**answer.json(), "output": [o for o in answer.json()["output"] if o.get("valueCodeableConcept")], "extension": []}]
    )
    mine = await reported(world, written, "police", "drps", ids["Patient"], "R1", "Found at a motel with an older man.")
    assert (await resource(world, "police", f"Task/{officers['id']}"))["status"] == "completed"
    # 4: a mixed unit is no address; the members are named, the chosen one first
    mixed = report(who=ids["Patient"], owner="Organization/care")
    mixed["entry"][-1]["resource"]["input"].append(input_("cultural", valueCodeableConcept=coded(v.CULTURAL, "indigenous-led")))
    refused = await world.call("police", "POST", "/fhir", mixed)
    assert_outcome(refused, 422, refusal="mixed-unit-address")
    hints = [issue["diagnostics"] for issue in refused.json()["issue"][1:]]
    assert "dbcfs.intake" in hints[0] and "dcas.intake" in hints[1]
    # 5: twelve minutes later the society's number; it asks for the counselling record and finds nothing
    world.clock.set(NIGHT + timedelta(minutes=12))
    [at_society] = await world.tasks("society")
    done = await world.move("society", at_society["id"], "report-acknowledged", output("intake-reference", valueString="CAS-1142"))
    assert done.status_code == 200
    assert business(await resource(world, "police", f"Task/{mine}")) == "report-acknowledged"
    empty = await world.call("society", "GET", f"/fhir/Task?_id={received['id']}")
    assert empty.status_code == 200 and empty.json()["total"] == 0
    assert_outcome(await world.call("society", "GET", f"/fhir/Task/{received['id']}"), 404)
    await assert_table(
        *(world, PARTIES, written, SERVICES),
        {
            "alias, age band": ([("T1", "alias"), ("T1", "age-band")], {"drps": "own", "vsdr": "y", "dcas": "y"}),
            "whereabouts": ([("T1", "meeting-place"), ("R1", "whereabouts")], {"drps": "own", "vsdr": "y", "dcas": "-"}),
            "needs": ([("T1", "needs")], {"drps": "own", "vsdr": "y", "dcas": "-"}),
            "report-ground, basis, reporter": (
                [("R1", "report-ground"), ("R1", "report-basis"), ("R1", "reporter")],
                {"drps": "own", "vsdr": "-", "dcas": "y"},
            ),
            "counselling status": ([("C1", "status")], {"drps": "-", "vsdr": "o", "dcas": "-"}),
            "the other party's report decision": ([("D1", "report-decision")], {"drps": "-", "vsdr": "own", "dcas": "-"}),
        },
    )


async def test_she_is_fifteen_each_must_report_and_no_consent_blocks_it(world: World) -> None:
    """Variant b."""
    written = Written()
    ids, received = await found(world, written, "12-15", "guardian-unsafe")
    due = {}
    for who in ("police", "counsellor"):
        [due[who]] = of_kind(await world.tasks(who), "report-due")
        patch = decide(due[who], "Sam", not_now(), reason="youth-safe-with-plan")
        assert_outcome(await world.call(who, "PATCH", f"/fhir/Task/{due[who]['id']}", patch), 422, refusal="report-mandatory")
    # a guardian's permission is the manager's question, and crisis help went on
    [question] = of_kind(await world.tasks("manager"), "guardian-review")
    assert question["owner"]["reference"] == "PractitionerRole/vsdr.program-manager" and business(received) == "introduced"
    # she takes everything back: what was agreed ends, the duty does not
    taken_back = with_consent(who=f"Patient/{ids['Patient']}", start=NOW - HOUR)
    taken_back |= {"policyRule": coded(v.V3_ACT_CODE, "OPTOUT"), "provision": {"type": "deny"}}
    assert (await world.call("police", "POST", "/fhir/Consent", taken_back)).status_code == 201
    world.clock.set(NIGHT + timedelta(minutes=31))
    await world.hub.runner._timers()
    late = await resource(world, "police", f"Task/{due['police']['id']}")
    assert late["owner"]["reference"] == "PractitionerRole/drps.htu-supervisor"
    by_phone = await world.call("police", "PATCH", f"/fhir/Task/{late['id']}", decide(late, "Dana", phoned(NOW)))
    assert by_phone.status_code == 200 and by_phone.json()["status"] == "completed"
    assert business(await resource(world, "counsellor", f"Task/{due['counsellor']['id']}")) == "report-due", "his call discharges him alone"
    hers = received["for"]["reference"].partition("/")[2]
    await reported(world, written, "counsellor", "vsdr", hers, "R2", "She is fifteen and was held at a motel.")
    assert (await resource(world, "counsellor", f"Task/{due['counsellor']['id']}"))["status"] == "completed"
    await assert_table(
        *(world, PARTIES, written, SERVICES),
        {
            "alias, age band": ([("T1", "alias"), ("T1", "age-band")], {"drps": "own", "vsdr": "y", "dcas": "y"}),
            "whereabouts": ([("T1", "meeting-place")], {"drps": "own", "vsdr": "y", "dcas": "y"}),
            "needs": ([("T1", "needs")], {"drps": "own", "vsdr": "y", "dcas": "-"}),
            "report-ground, basis, reporter": (
                [("R2", "report-ground"), ("R2", "report-basis"), ("R2", "reporter")],
                {"drps": "-", "vsdr": "own", "dcas": "y"},
            ),
            "counselling status": ([("C1", "status")], {"drps": "-", "vsdr": "o", "dcas": "-"}),
        },
    )


async def test_a_societys_worker_in_a_mixed_unit_sees_what_police_would(world: World) -> None:
    """Variant c."""
    owner, sr, t = (
        "PractitionerRole/vsdr.ht-cic",
        "urn:uuid:00000000-0000-4000-8000-000000000004",
        "urn:uuid:00000000-0000-4000-8000-000000000005",
    )
    classes = ["alias", "age-band", "language", "needs", "safety-flag", "meeting-place", "safe-contact"]
    agreed = consent(P, "dcas", "Organization/vsdr", "child-welfare-support", classes, ["victim-support"], NOW - HOUR, NOW + 72 * HOUR)
    agreed["extension"][0]["extension"][1]["valueCode"] = "community-worker"
    inputs = [input_("need", valueCodeableConcept=coded(v.NEED, "safety-plan"))]
    sent = transaction(
        (P, patient("Zz-Sky", "16-17")),
        ("urn:uuid:00000000-0000-4000-8000-000000000002", agreed),
        (sr, request(P, "dcas", "crisis-counselling", owner)),
        (t, task(P, sr, "dcas", owner, inputs)),
    )
    ids = made(await world.call("society-joint", "POST", "/fhir", sent))
    [received] = of_kind(await world.tasks("counsellor"), "transfer")
    seen = []
    for state, worker in (("acknowledged", None), ("accepted", "Sam"), ("introduced", None), ("handed-over", None)):
        assert (await world.move("counsellor", received["id"], state, worker=worker)).status_code == 200
        mine = await resource(world, "society-joint", f"Task/{ids['Task']}")
        seen.append((business(mine), mine["meta"]["versionId"]))
    assert [status for status, _ in seen] == ["acknowledged", "taken-over", "taken-over", "taken-over"]
    assert len({version for _, version in seen[1:]}) == 1, "and no more"
    for who in ("police", "society"):
        for id_ in (ids["Task"], received["id"]):
            assert_outcome(await world.call(who, "GET", f"/fhir/Task/{id_}"), 404)
