"""Everything valid is accepted: each element of each type, partial dates, extensions in place of values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from gateway.fhir.oracle import parse_r4b
from gateway.fhir.validate import SUPPORTED_TYPES, validate
from gateway.problems import IssueCode
from tests.unit.fhir.samples import PRIMITIVES, RESOURCES, Place, codes, host, hosted, minimal, places, types, value

EXTENSION = [{"url": "https://example.org/absent", "valueCode": "unknown"}]


@pytest.mark.parametrize("name", RESOURCES)
def test_the_smallest_resource_of_each_type_is_accepted(name: str) -> None:
    assert validate(minimal(name)) == []
    assert parse_r4b(minimal(name)) == []


@pytest.mark.parametrize("name", types())
def test_each_element_is_accepted_unless_an_invariant_asks_for_more(name: str) -> None:
    for place in places(name):
        resource, path = hosted(place, value(place))
        others = [f for f in validate(resource) if f.code is not IssueCode.INVARIANT]
        assert others == [], path


def test_few_elements_need_company() -> None:
    """The test above leaves out what an invariant refuses; that must stay the exception."""
    alone = Counter(not validate(hosted(place, value(place))[0]) for name in types() for place in places(name))
    assert alone[True] > 1290
    assert alone[False] < 60


@pytest.mark.parametrize("name", types())
def test_the_oracle_accepts_what_is_accepted(name: str) -> None:
    """fhir.resources R4B checks structure and types independently of HL7's definitions as this project reads them."""
    for place in places(name):
        resource, path = hosted(place, value(place))
        if not validate(resource) and (name, place.member) not in KNOWN_TO_DIFFER:
            assert parse_r4b(resource) == [], path


KNOWN_TO_DIFFER: set[tuple[str, str]] = set()


@pytest.mark.parametrize("code_place", [p for n in types() for p in places(n) if codes(p)], ids=lambda p: f"{p.type}.{p.member}")
def test_every_code_of_a_required_binding_is_accepted(code_place: Place) -> None:
    for code in codes(code_place):
        resource, path = hosted(code_place, [code] if code_place.array else code)
        assert [f for f in validate(resource) if f.code is not IssueCode.INVARIANT] == [], path


@pytest.mark.parametrize("date", ["2026", "2026-02", "2026-02-28", "2024-02-29", "2000-02-29", "2026-12-31"])
def test_partial_and_leap_dates_are_accepted(date: str) -> None:
    assert validate({"resourceType": "Patient", "birthDate": date}) == []


@pytest.mark.parametrize(
    "time",
    [
        "2026",
        "2026-02",
        "2026-02-28",
        "2026-02-28T00:00:00Z",
        "2026-02-28T23:59:60Z",
        "2026-02-28T10:00:00.123456789-03:30",
        "2026-06-30T10:00:00+14:00",
    ],
)
def test_partial_and_precise_times_are_accepted(time: str) -> None:
    assert validate({**minimal("Consent"), "dateTime": time}) == []


@pytest.mark.parametrize(("start", "end"), [("2026", "2026-05"), ("2026-05-01", "2026-05-01T10:00:00Z"), ("2026-05-01", "2026-05-01")])
def test_a_period_whose_order_cannot_be_told_is_accepted(start: str, end: str) -> None:
    assert validate(_period({"start": start, "end": end})) == []


def test_a_period_in_two_time_zones_is_compared_as_instants() -> None:
    assert validate(_period({"start": "2026-11-01T01:30:00-04:00", "end": "2026-11-01T01:10:00-05:00"})) == []


@pytest.mark.parametrize("kind", sorted(PRIMITIVES))
def test_an_extension_may_stand_in_the_place_of_a_primitive(kind: str) -> None:
    member = f"value{kind[0].upper()}{kind[1:]}"
    resource = {"resourceType": "Parameters", "parameter": [{"name": "text", f"_{member}": {"extension": EXTENSION}}]}
    if kind == "xhtml":
        return  # no element but Narrative.div has it, and R4 gives it no extensions
    assert validate(resource) == []


def test_an_extension_may_stand_in_the_place_of_a_required_code() -> None:
    consent = minimal("Consent")
    del consent["status"]
    assert validate({**consent, "_status": {"extension": EXTENSION}}) == []


def test_a_primitive_may_have_an_id_beside_its_value() -> None:
    name = {"given": ["Zz", "Yy"], "_given": [{"id": "a"}, None]}
    assert validate({"resourceType": "Patient", "birthDate": "2026", "_birthDate": {"id": "a"}, "name": [name]}) == []


def test_nulls_are_paired_with_their_extensions() -> None:
    name = {"given": ["Zz", None], "_given": [None, {"extension": EXTENSION}]}
    assert validate({"resourceType": "Patient", "name": [name]}) == []


def test_french_text_with_a_no_break_space_is_accepted() -> None:
    assert validate({"resourceType": "Patient", "name": [{"text": "«\u00a0Éloïse\u00a0»"}]}) == []


def test_a_contained_resource_that_is_referred_to_is_accepted() -> None:
    request = minimal("ServiceRequest")
    request |= {"contained": [{"resourceType": "PractitionerRole", "id": "a"}], "requester": {"reference": "#a"}}
    assert validate(request) == []


def test_entries_may_refer_to_each_other_by_full_url() -> None:
    patient = {"fullUrl": "urn:uuid:0b2f8f4e-3f5c-4a51-9d4e-5a3c1f1e2d3c", "resource": {"resourceType": "Patient"}}
    consent = minimal("Consent") | {"patient": {"reference": "urn:uuid:0b2f8f4e-3f5c-4a51-9d4e-5a3c1f1e2d3c"}}
    assert validate({"resourceType": "Bundle", "type": "collection", "entry": [patient, {"resource": consent}]}) == []


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/1",
        "Patient/1/_history/2",
        "https://example.org/fhir/Patient/1",
        "urn:uuid:0b2f8f4e-3f5c-4a51-9d4e-5a3c1f1e2d3c",
        "Patient?identifier=a%7Cb",
    ],
)
def test_each_form_of_reference_is_accepted(reference: str) -> None:
    assert validate({**minimal("Consent"), "patient": {"reference": reference}}) == []


def test_supported_types_are_those_of_the_model() -> None:
    assert frozenset(RESOURCES) == SUPPORTED_TYPES
    assert len(SUPPORTED_TYPES) == 22


def _period(period: dict[str, Any]) -> dict[str, Any]:
    return host("Period", period)[0]
