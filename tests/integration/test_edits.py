"""What an author may change after sending, and how it reaches the receiver; views are compared with the facts after each step."""

from __future__ import annotations

from gateway import vocabulary as v
from tests.integration.checks import assert_outcome, codes_of, row_counts
from tests.integration.night import HOUR, NOW, T, accepted, contact, fast_track, income_request, made, offer, offered, only_task, resource
from tests.integration.night import with_consent as consent_for
from tests.integration.world import World, coded, consent, input_, request, task, transaction


def put(resource_: dict[str, object]) -> dict[str, object]:
    """An entry that replaces a resource."""
    return {"resource": resource_, "request": {"method": "PUT", "url": f"{resource_['resourceType']}/{resource_['id']}"}}


def bundle(*entries: dict[str, object]) -> dict[str, object]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


async def test_a_new_alias_reaches_the_receiver_while_the_transfer_is_open(checked: World) -> None:
    ids, received = await offered(checked)
    mine = await resource(checked, "police", f"Patient/{ids['Patient']}")
    mine["name"] = [{"use": "nickname", "given": ["Zz-Renamed"]}]
    edited = await checked.call("police", "PUT", f"/fhir/Patient/{ids['Patient']}", mine)
    assert edited.status_code == 200, edited.text
    theirs = await resource(checked, "counsellor", received["for"]["reference"])
    assert theirs["name"] == [{"use": "nickname", "given": ["Zz-Renamed"]}]
    assert theirs["meta"]["versionId"] == "2"


async def test_an_edit_that_the_receiver_may_not_see_makes_no_version_there(checked: World) -> None:
    ids, received = await offered(checked)
    mine = await resource(checked, "police", f"Patient/{ids['Patient']}")
    mine["birthDate"] = "2003-02-01"
    edited = await checked.call("police", "PUT", f"/fhir/Patient/{ids['Patient']}", mine)
    assert edited.status_code == 200, edited.text
    theirs = await resource(checked, "counsellor", received["for"]["reference"])
    assert theirs["meta"]["versionId"] == "1"
    assert "2003" not in str(theirs)


async def test_an_edit_after_hand_over_stays_on_the_authors_shelf(checked: World) -> None:
    ids, received = await accepted(checked)
    for state in ("introduced", "handed-over"):
        await checked.move("counsellor", received["id"], state)
    mine = await resource(checked, "police", f"Patient/{ids['Patient']}")
    mine["name"] = [{"use": "nickname", "given": ["Zz-Late"]}]
    edited = await checked.call("police", "PUT", f"/fhir/Patient/{ids['Patient']}", mine)
    assert edited.status_code == 200, edited.text
    theirs = await resource(checked, "counsellor", received["for"]["reference"])
    assert theirs["name"][0]["given"] == ["Zz-Robin"]


async def test_an_edit_after_the_consent_ended_stays_on_the_authors_shelf(checked: World) -> None:
    ids, received = await accepted(checked)
    checked.clock.set(checked.clock.now().fromtimestamp((NOW + 80 * HOUR) / 1000, checked.clock.now().tzinfo))
    checked.tokens.clear()
    mine = await resource(checked, "police", f"Patient/{ids['Patient']}")
    mine["name"] = [{"use": "nickname", "given": ["Zz-Late"]}]
    edited = await checked.call("police", "PUT", f"/fhir/Patient/{ids['Patient']}", mine)
    assert edited.status_code == 200, edited.text
    theirs = await resource(checked, "counsellor", received["for"]["reference"])
    assert theirs["name"][0]["given"] == ["Zz-Robin"]


async def test_a_reason_changed_by_its_author_is_released_anew(checked: World) -> None:
    ids, received = await offered(checked)
    mine = await resource(checked, "police", f"ServiceRequest/{ids['ServiceRequest']}")
    mine["reasonCode"] = [coded(v.REASON, "partner-violence")]
    edited = await checked.call("police", "PUT", f"/fhir/ServiceRequest/{ids['ServiceRequest']}", mine)
    assert edited.status_code == 200, edited.text
    theirs = await resource(checked, "counsellor", received["focus"]["reference"])
    assert codes_of(theirs, "reasonCode") == ["partner-violence"]


async def test_a_request_that_is_out_keeps_its_person_service_and_performer(checked: World) -> None:
    """A new performer, service or subject means: cancel, and send anew."""
    ids, _ = await offered(checked)
    path = f"ServiceRequest/{ids['ServiceRequest']}"
    mine = await resource(checked, "police", path)
    for element, value in (
        ("performer", [{"reference": "PractitionerRole/vsdr.svu-cic"}]),
        ("code", coded(v.SERVICE, "victim-fund-assessment")),
    ):
        refused = await checked.call("police", "PUT", f"/fhir/{path}", {**mine, element: value})
        assert_outcome(refused, 422, expression=f"ServiceRequest.{element}")
    other, _ = await offered(checked, "Zz-Other")
    refused = await checked.call("police", "PUT", f"/fhir/{path}", {**mine, "subject": {"reference": f"Patient/{other['Patient']}"}})
    assert_outcome(refused, 422, expression="ServiceRequest.subject")


async def test_a_new_priority_reaches_the_receiver(checked: World) -> None:
    ids, received = await offered(checked)
    path = f"ServiceRequest/{ids['ServiceRequest']}"
    mine = await resource(checked, "police", path)
    edited = await checked.call("police", "PUT", f"/fhir/{path}", {**mine, "priority": "urgent"})
    assert edited.status_code == 200, edited.text
    assert (await resource(checked, "counsellor", received["focus"]["reference"]))["priority"] == "urgent"
    assert (await resource(checked, "counsellor", f"Task/{received['id']}"))["priority"] == "urgent"


async def test_a_receiver_cannot_edit_what_the_hub_made(checked: World) -> None:
    _, received = await offered(checked)
    request_ = await resource(checked, "counsellor", received["focus"]["reference"])
    refused = await checked.call("counsellor", "PUT", f"/fhir/{received['focus']['reference']}", request_)
    assert_outcome(refused, 403, expression="ServiceRequest")
    searched = await checked.call("counsellor", "GET", "/fhir/Consent")
    [copy] = [entry["resource"] for entry in searched.json()["entry"]]
    refused = await checked.call("counsellor", "PUT", f"/fhir/Consent/{copy['id']}", {**copy, "status": "inactive"})
    assert refused.status_code in (403, 422), refused.text
    again = await resource(checked, "counsellor", f"Consent/{copy['id']}")
    assert again == copy


async def test_a_patient_that_the_receiver_changed_is_its_own(checked: World) -> None:
    ids, received = await offered(checked)
    theirs = await resource(checked, "counsellor", received["for"]["reference"])
    theirs["telecom"] = [contact(NOW)]
    theirs["name"] = [{"use": "nickname", "given": ["Zz-Ours"]}]
    kept = await checked.call("counsellor", "PUT", f"/fhir/{received['for']['reference']}", theirs)
    assert kept.status_code == 200, kept.text
    mine = await resource(checked, "police", f"Patient/{ids['Patient']}")
    mine["name"] = [{"use": "nickname", "given": ["Zz-Renamed"]}]
    await checked.call("police", "PUT", f"/fhir/Patient/{ids['Patient']}", mine)
    await checked.move("counsellor", received["id"], "acknowledged")
    after = await resource(checked, "counsellor", received["for"]["reference"])
    assert after["name"] == [{"use": "nickname", "given": ["Zz-Ours"]}]
    sent = await resource(checked, "police", f"Patient/{ids['Patient']}")
    assert "telecom" not in sent


async def test_one_edit_serves_two_open_transfers_to_one_receiver(checked: World) -> None:
    ids, received = await offered(checked)
    who = f"Patient/{ids['Patient']}"
    owner = "PractitionerRole/vsdr.ht-cic"
    second = transaction(
        ("urn:uuid:00000000-0000-4000-8000-000000000004", request(who, "drps", "victim-fund-assessment", owner)),
        (T, task(who, "urn:uuid:00000000-0000-4000-8000-000000000004", "drps", owner, [input_("scene-cleared", valueBoolean=True)])),
    )
    made(await checked.call("police", "POST", "/fhir", second))
    both = await checked.tasks("counsellor")
    assert {each["for"]["reference"] for each in both} == {received["for"]["reference"]}
    mine = await resource(checked, "police", who)
    mine["name"] = [{"use": "nickname", "given": ["Zz-Renamed"]}]
    edited = await checked.call("police", "PUT", f"/fhir/{who}", mine)
    assert edited.status_code == 200, edited.text
    theirs = await resource(checked, "counsellor", received["for"]["reference"])
    assert (theirs["name"][0]["given"], theirs["meta"]["versionId"]) == (["Zz-Renamed"], "2")


async def test_two_tasks_in_one_request_make_one_person_for_the_receiver(checked: World) -> None:
    two = offer()
    owner = "PractitionerRole/vsdr.ht-cic"
    p, sr = two["entry"][0]["fullUrl"], "urn:uuid:00000000-0000-4000-8000-0000000000a4"
    for urn, more in (
        (sr, request(p, "drps", "victim-fund-assessment", owner)),
        ("urn:uuid:00000000-0000-4000-8000-0000000000a5", task(p, sr, "drps", owner, [input_("scene-cleared", valueBoolean=True)])),
    ):
        two["entry"].append({"fullUrl": urn, "resource": more, "request": {"method": "POST", "url": more["resourceType"]}})
    made(await checked.call("police", "POST", "/fhir", two))
    received = await checked.tasks("counsellor")
    assert len(received) == 2
    assert len({each["for"]["reference"] for each in received}) == 1
    consents = await checked.call("counsellor", "GET", "/fhir/Consent")
    assert consents.json()["total"] == 1


async def test_a_resource_can_stand_only_once_in_a_request(checked: World) -> None:
    ids, _ = await offered(checked)
    mine = await resource(checked, "police", f"Task/{ids['Task']}")
    mine["businessStatus"] = coded(v.BUSINESS_STATUS, "stopped-by-survivor")
    before = await row_counts(checked)
    refused = await checked.call("police", "POST", "/fhir", bundle(put(mine), put(mine)))
    assert_outcome(refused, 422, expression="Bundle.entry[1].resource")
    after = await row_counts(checked)
    assert after == {**before, "audit_entries": before["audit_entries"] + 1}


async def test_an_edit_and_an_act_in_one_request_both_count(checked: World) -> None:
    ids, received = await offered(checked)
    mine = await resource(checked, "police", f"Task/{ids['Task']}")
    mine["businessStatus"] = coded(v.BUSINESS_STATUS, "stopped-by-survivor")
    person = await resource(checked, "police", f"Patient/{ids['Patient']}")
    person["name"] = [{"use": "nickname", "given": ["Zz-Renamed"]}]
    done = await checked.call("police", "POST", "/fhir", bundle(put(person), put(mine)))
    assert done.status_code == 200, done.text
    seen = await resource(checked, "counsellor", f"Task/{received['id']}")
    assert seen["status"] == "cancelled"


async def test_a_second_transfer_to_the_same_receiver_reuses_her_patient_there(checked: World) -> None:
    _, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    made(await checked.call("counsellor", "POST", "/fhir", fast_track(patient)))
    first = await only_task(checked, "nurse")
    made(await checked.call("counsellor", "POST", "/fhir", fast_track(patient)))
    both = await checked.tasks("nurse")
    assert {each["for"]["reference"] for each in both} == {first["for"]["reference"]}
    people = {each["identifier"][0]["value"] for each in [await resource(checked, "nurse", first["for"]["reference"])]}
    elsewhere = await resource(checked, "counsellor", received["for"]["reference"])
    assert people.isdisjoint({each["value"] for each in elsewhere["identifier"]})


async def test_another_senders_person_is_another_patient_at_the_receiver(checked: World) -> None:
    _, first = await offered(checked)
    given = offer(
        sender="lakeridge",
        consents=[consent_for(recorder="lakeridge", purposes=["COC"], classes=["alias", "age-band", "language", "safety-flag"])],
        inputs=[
            input_("scene-cleared", valueBoolean=True),
            input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, "device-watched")),
        ],
    )
    made(await checked.call("nurse", "POST", "/fhir", given))
    both = await checked.tasks("counsellor")
    assert len({each["for"]["reference"] for each in both}) == 2
    assert first["for"]["reference"] in {each["for"]["reference"] for each in both}


async def test_a_new_consent_version_supersedes_the_one_before(checked: World) -> None:
    ids, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    sent = made(await checked.call("counsellor", "POST", "/fhir", income_request(patient)))
    consent_ = await resource(checked, "counsellor", f"Consent/{sent['Consent']}")
    kept = await checked.call("counsellor", "PUT", f"/fhir/Consent/{sent['Consent']}", {**consent_, "status": "inactive"})
    assert kept.status_code == 200, kept.text
    again = income_request(patient)
    del again["entry"][0]
    refused = await checked.call("counsellor", "POST", "/fhir", again)
    assert_outcome(refused, 403, refusal="no-consent")
    assert ids["Consent"] != sent["Consent"]


async def test_a_narrower_consent_narrows_an_open_offer(checked: World) -> None:
    given = made(await checked.call("police", "POST", "/fhir", offer()))
    received = await only_task(checked, "counsellor")
    assert codes_of(received, "input", "type") == ["need"]
    narrower = consent_for(classes=["alias"], who=f"Patient/{given['Patient']}")
    changed = await checked.call("police", "PUT", f"/fhir/Consent/{given['Consent']}", {**narrower, "id": given["Consent"]})
    assert changed.status_code == 200, changed.text
    after = await resource(checked, "counsellor", f"Task/{received['id']}")
    assert codes_of(after, "input", "type") == []


async def test_a_receivers_consent_copy_holds_its_own_and_what_its_rows_can_use_onward(checked: World) -> None:
    _, received = await accepted(checked)
    patient = received["for"]["reference"].partition("/")[2]
    search = await checked.call("counsellor", "GET", "/fhir/Consent")
    [copy] = [entry["resource"] for entry in search.json()["entry"]]
    permits = copy["provision"]["provision"]
    named = sorted((p["actor"][0]["reference"]["reference"], codes_of(p, "code")[0]) for p in permits)
    assert named == [("Organization/lakeridge", "hospital-fast-track"), ("Organization/vsdr", "warm-transfer")]
    made(await checked.call("counsellor", "POST", "/fhir", income_request(patient)))
    made(await checked.call("counsellor", "POST", "/fhir", fast_track(patient)))
    for who, scopes in (("nurse", ["hospital-fast-track", "warm-transfer"]), ("income", ["income-support", "warm-transfer"])):
        search = await checked.call(who, "GET", "/fhir/Consent")
        [copy] = [entry["resource"] for entry in search.json()["entry"]]
        assert sorted(codes_of(p, "code")[0] for p in copy["provision"]["provision"]) == scopes
    assert "organization" not in copy and "extension" not in copy


async def test_the_hospital_gets_the_fast_track_on_the_consent_that_police_recorded(checked: World) -> None:
    ids, received = await accepted(checked)
    sent = made(await checked.call("counsellor", "POST", "/fhir", fast_track(received["for"]["reference"].partition("/")[2])))
    assert (await only_task(checked, "nurse"))["requester"] == {"reference": "Organization/vsdr"}
    for other in (sent["Task"], ids["Task"]):
        assert_outcome(await checked.call("nurse", "GET", f"/fhir/Task/{other}"), 404)
    [mine] = await checked.tasks("police")
    assert mine["id"] == ids["Task"]


async def test_a_consent_names_the_person_it_is_about(checked: World) -> None:
    nobody = consent("Patient/none", "drps", "Organization/vsdr", "warm-transfer", ["alias"], ["COC"], NOW, NOW + HOUR)
    refused = await checked.call("police", "POST", "/fhir/Consent", nobody)
    assert_outcome(refused, 422, expression="Consent.patient.reference")
