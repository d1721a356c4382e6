"""Rows of the matrix over the wire: conditions that a request itself decides, and copies that hold no more than their row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import vocabulary as v
from tests.integration import world as worlds
from tests.integration.checks import assert_outcome
from tests.integration.night import NOW, business, made, offer, only_task, resource, with_consent
from tests.integration.world import World, coded, input_, open_world, patient, settings_for

Json = dict[str, Any]
PROVIDER = ["transfer.accept", "transfer.read"]
SENDER = [*PROVIDER, "transfer.offer", "consent.record-outward"]


def client(party: str, role: str, kind: str, purposes: list[str], scopes: list[str], unit: str | None = None) -> Json:
    own = {"party": party, "role": role, "device-owner": kind, "purposes": purposes, **({"unit": unit} if unit else {})}
    return {**own, "scopes": [*_fhir(), *scopes]}


def _fhir() -> list[str]:
    return [scope for scope in worlds.CLIENTS["police"]["scopes"] if scope.startswith("system/")]


MORE = {
    "police": {**worlds.CLIENTS["police"], "purposes": ["COC", "victim-support", "ELIGDTRM"]},
    "outreach": client("hr-compass", "community-worker", "community", ["COC", "victim-support"], PROVIDER),
    "interpreter": client("interp-bridge", "intake-worker", "community", ["COC"], PROVIDER),
    "court": client("vwap-durham", "vwap-worker", "justice", ["HLEGAL"], ["transfer.accept"]),
    "advocate": client("vsdr", "ht-cic", "victim-services", ["COC", "HLEGAL"], [*PROVIDER, "transfer.offer", "consent.record"]),
    "peel": client("vs-peel", "cic", "victim-services", ["COC"], [*PROVIDER, "transfer.offer", "consent.record"]),
    "province": client(
        "opp", "police-officer", "police", ["COC"], ["transfer.offer", "transfer.read-own", "consent.record-outward"], unit="central"
    ),
    "province-east": client(
        "opp", "police-officer", "police", ["COC"], ["transfer.offer", "transfer.read-own", "consent.record-outward"], unit="east"
    ),
}


@pytest.fixture
async def wide(tmp_path: Path, database: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A hub with clients of parties that the first night does not need."""
    monkeypatch.setattr(worlds, "CLIENTS", {**worlds.CLIENTS, **MORE})
    async with open_world(settings_for(tmp_path, **database)) as opened:
        yield opened


def needs(*codes: str) -> list[Json]:
    return [input_("need", valueCodeableConcept=coded(v.NEED, code)) for code in codes]


def noticed(consent: Json, *notices: str) -> Json:
    consent["extension"][0]["extension"] += [{"url": "notice", "valueCode": notice} for notice in notices]
    return consent


def labels(found: Json) -> set[str]:
    return {label["code"] for label in found["meta"]["security"]}


def by_choice(age_band: str) -> Json:
    classes = ["alias", "age-band", "language", "access", "needs", "reason", "source"]
    given = with_consent(receiver="Organization/hr-compass", scope="community-service", classes=classes, purposes=["victim-support"])
    owner = "PractitionerRole/hr-compass.worker"
    inputs = [*needs("harm-reduction", "income"), input_("source", valueCodeableConcept=coded(v.SOURCE, "patrol"))]
    return offer(owner=owner, service="harm-reduction", consents=[given], inputs=inputs, who=patient(age_band=age_band), priority="routine")


async def test_an_adult_in_sex_work_by_choice_is_referred_with_no_word_of_why(wide: World) -> None:
    made(await wide.call("police", "POST", "/fhir", by_choice("25plus")))

    received = await only_task(wide, "outreach")
    person = await resource(wide, "outreach", received["for"]["reference"])

    assert [item["valueCodeableConcept"]["coding"][0]["code"] for item in received["input"]] == ["harm-reduction"]
    assert not {"SDV", "VIO"} & (labels(received) | labels(person)) and "extension" not in person


@pytest.mark.parametrize("band", ["16-17", "unknown-maybe-minor"])
async def test_never_a_minor_by_that_way(band: str, wide: World) -> None:
    answer = await wide.call("police", "POST", "/fhir", by_choice(band))

    assert_outcome(answer, 403, refusal="outside-agreement")
    assert await wide.tasks("outreach") == []


@pytest.mark.parametrize(("laid", "status"), [(True, 200), (False, 422)])
async def test_court_support_begins_once_charges_are_laid(laid: bool, status: int, wide: World) -> None:
    given = with_consent(recorder="vsdr", receiver="Organization/vwap-durham", scope="court-support", purposes=["HLEGAL"])
    given = noticed(given, "not-confidential")
    inputs = [*needs("court-support"), input_("charges-laid", valueBoolean=laid)]
    sent = offer(
        sender="vsdr",
        owner="PractitionerRole/vwap-durham.worker",
        service="court-support",
        consents=[given],
        inputs=inputs,
        priority="routine",
    )

    answer = await wide.call("advocate", "POST", "/fhir", sent)

    if laid:
        made(answer)
    else:
        assert_outcome(answer, 422, refusal="charges-not-laid")
    assert answer.status_code == status


async def test_an_interpreter_learns_a_language_a_time_and_a_place(wide: World) -> None:
    given = with_consent(
        recorder="vsdr",
        receiver="Organization/interp-bridge",
        scope="community-service",
        classes=[*worlds.BASE_CLASSES, "needs", "eta", "meeting-place"],
        purposes=["COC"],
    )
    inputs = [*needs("income"), input_("eta", valueDateTime="2026-01-10T09:00:00-05:00"), input_("meeting-place", valueString="Front desk")]
    sent = offer(sender="vsdr", owner="PractitionerRole/interp-bridge.worker", service="interpreter", consents=[given], inputs=inputs)

    made(await wide.call("advocate", "POST", "/fhir", sent))

    received = await only_task(wide, "interpreter")
    person = await resource(wide, "interpreter", received["for"]["reference"])
    assert {item["type"]["coding"][0]["code"] for item in received["input"]} == {"eta", "meeting-place"}
    assert person.keys() == {"resourceType", "id", "meta", "identifier", "communication"}


async def test_a_birth_date_goes_as_a_band(wide: World) -> None:
    who = patient()
    del who["extension"]
    who["birthDate"] = "2009-03-01"

    made(await wide.call("police", "POST", "/fhir", offer(who=who)))

    received = await only_task(wide, "counsellor")
    person = await resource(wide, "counsellor", received["for"]["reference"])
    assert person["extension"] == [{"url": v.EXT_AGE_BAND, "valueCode": "16-17"}]
    assert "birthDate" not in person and "ADOL" in labels(person) and "ADOL" in labels(received)


async def test_who_runs_the_youth_hub_is_said_before_she_consents(wide: World) -> None:
    def sent(*notices: str) -> Json:
        given = with_consent(recorder="vs-peel", receiver="Organization/ncourage", scope="community-service", purposes=["COC"])
        return offer(
            sender="vs-peel",
            owner="PractitionerRole/ncourage.worker",
            service="youth-hub",
            consents=[noticed(given, *notices)],
            inputs=needs("housing"),
            priority="routine",
        )

    assert_outcome(await wide.call("peel", "POST", "/fhir", sent()), 422, refusal="notice-missing")
    made(await wide.call("peel", "POST", "/fhir", sent("run-by-society")))


async def test_provincial_police_refer_to_a_region_that_agreed_and_no_other_unit_reads_it(wide: World) -> None:
    given = with_consent(recorder="opp", receiver="PractitionerRole/vs-peel.cic", purposes=["COC"])
    sent = offer(sender="opp", owner="PractitionerRole/vs-peel.cic", consents=[given], inputs=needs("income"), priority="asap")

    ids = made(await wide.call("province", "POST", "/fhir", sent))

    assert business(await resource(wide, "province", f"Task/{ids['Task']}")) == "offered"
    assert_outcome(await wide.call("province-east", "GET", f"/fhir/Task/{ids['Task']}"), 404)
    assert len(await wide.tasks("peel")) == 1
    elsewhere = with_consent(
        recorder="opp", receiver="Organization/ow-durham", scope="income-support", purposes=["ELIGDTRM"], start=NOW - 1
    )
    refused = offer(sender="opp", owner="HealthcareService/ow-durham.htrt", service="emergency-income", consents=[elsewhere])
    assert_outcome(await wide.call("province", "POST", "/fhir", refused), 403, refusal="outside-agreement")
