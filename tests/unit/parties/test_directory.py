"""The directory: valid FHIR, no person, and nothing of a party that no agreement joins with the reader."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import millis
from gateway.fhir.validate import validate
from gateway.identity import PartyId
from gateway.parties.directory import DIRECTORY_TYPES, Directory, directory_for
from gateway.parties.load import load_policy
from gateway.parties.model import Policy
from gateway.parties.search import SEARCH
from gateway.problems import Problem, ProblemType
from tests.unit.parties.conftest import ROOT
from tests.unit.parties.test_registry import GOOD

VSDR, DRPS = PartyId("vsdr"), PartyId("drps")
NOW = millis(datetime(2026, 1, 10, tzinfo=UTC))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    file: Path = tmp_path_factory.mktemp("registry") / "registry.yaml"
    file.write_text(GOOD)
    return load_policy(ROOT, registry=file)


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [str(resource["id"]) for resource in found]


def test_every_entry_is_valid_r4(full: Policy) -> None:
    entries = {**directory_for(full, VSDR, NOW), **directory_for(full, DRPS, NOW)}

    assert {type_ for type_, _ in entries} == set(DIRECTORY_TYPES)
    for (type_, id_), resource in entries.items():
        assert (resource["resourceType"], resource["id"]) == (type_, id_)
        assert validate(resource) == []


def test_no_entry_is_or_names_a_person(full: Policy) -> None:
    for resource in directory_for(full, VSDR, NOW).values():
        assert not {"practitioner", "contact", "note", "comment"} & set(resource)


def test_a_party_reads_those_in_agreement_with_it_and_its_own_endpoint_alone(full: Policy) -> None:
    entries = directory_for(full, VSDR, NOW)

    assert {id_ for type_, id_ in entries if type_ == "Organization"} == {
        *next(each.parties for each in full.agreements if each.id == "durham-coalition"),
        "vs-peel",
        "opp",
    }
    assert {id_ for type_, id_ in entries if type_ == "Endpoint"} == {"vsdr"}


def test_without_an_agreement_in_force_a_party_reads_only_itself(full: Policy) -> None:
    over = replace(full, agreements=tuple(replace(each, ends=NOW) for each in full.agreements))
    directory = Directory.of(over)

    assert {id_ for type_, id_ in directory.entries(VSDR, NOW) if type_ == "Organization"} == {"vsdr"}
    assert directory.read(VSDR, "Organization", "drps", NOW) is None
    assert directory.read(VSDR, "Organization", "drps", NOW - 1) is not None
    assert not directory.knows(VSDR, "HealthcareService", "drps.htu", NOW)


def test_a_stranger_reads_nothing(full: Policy) -> None:
    assert not directory_for(full, PartyId("nobody"), NOW)


@pytest.mark.parametrize(
    ("type_", "params", "expected"),
    [
        ("Organization", [("_id", "vsdr")], ["vsdr"]),
        ("Organization", [("name", "victim")], ["vs-peel", "vsdr", "vwap-durham"]),
        ("Organization", [("name:contains", "HEALTH")], ["lakeridge"]),
        ("Organization", [("name", "health")], []),
        ("Organization", [("identifier", "https://coalition-hub.example/fhir/NamingSystem/party|drps")], ["drps"]),
        ("Organization", [("identifier", "drps,lakeridge")], ["drps", "lakeridge"]),
        ("Organization", [("identifier", "|drps")], []),
        ("Organization", [("active", "true"), ("type", "prov")], ["lakeridge"]),
        ("Organization", [("active", "false")], []),
        ("HealthcareService", [("service-type", "dvsacc-fast-track")], ["lakeridge.dvsacc-on-call"]),
        ("HealthcareService", [("service-category", "income-support")], ["ow-durham.ajax-htrt", "ow-durham.htrt"]),
        ("HealthcareService", [("organization", "Organization/vsdr")], ["vsdr.ht-on-call"]),
        ("HealthcareService", [("organization", "vsdr")], ["vsdr.ht-on-call"]),
        ("PractitionerRole", [("role", "dvsacc-nurse")], ["lakeridge.dvsacc-nurse"]),
        ("PractitionerRole", [("specialty", "dvsacc-fast-track")], ["lakeridge.charge-nurse", "lakeridge.dvsacc-nurse"]),
        ("Endpoint", [("organization", "vsdr")], ["vsdr"]),
    ],
)
def test_search_finds_services(type_: str, params: list[tuple[str, str]], expected: list[str], full: Policy) -> None:
    assert ids(Directory.of(full).search(VSDR, type_, params, NOW)) == expected


@pytest.mark.parametrize(
    "params", [[("address", "x")], [("name:below", "x")], [("active:not", "x")], [("name", "")], [("_lastUpdated", "ge2026")]]
)
def test_a_parameter_that_is_not_listed_is_refused_without_being_repeated(params: list[tuple[str, str]], full: Policy) -> None:
    with pytest.raises(Problem) as caught:
        Directory.of(full).search(VSDR, "Organization", params, NOW)

    assert caught.value.type is ProblemType.BAD_REQUEST
    assert params[0][0] not in caught.value.findings[0].say


def test_every_directory_type_can_be_searched() -> None:
    assert set(SEARCH) == set(DIRECTORY_TYPES)
