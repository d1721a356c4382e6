"""What is not valid is refused, with its element named: each rule over every element of every type it applies to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from gateway.fhir.model import known_resources
from gateway.fhir.validate import validate
from gateway.problems import Finding, IssueCode
from tests.unit.fhir.samples import MODEL, PRIMITIVES, Place, codes, host, hosted, minimal, places, required, types, value

SECRET = "zzsecretzz"


def found(resource: dict[str, Any], path: str) -> list[IssueCode]:
    """The codes of the findings at exactly this element; also that nothing of the input is repeated."""
    findings = validate(resource)
    assert SECRET not in repr(findings)
    return [finding.code for finding in findings if finding.expression == path]


def every(*kinds: str) -> Iterator[Place]:
    for name in types():
        yield from (place for place in places(name) if not kinds or place.kind in kinds)


def put(place: Place, bad: Any) -> tuple[dict[str, Any], str]:
    return hosted(place, [bad] if place.array else bad)


@pytest.mark.parametrize("name", types())
def test_an_element_fhir_does_not_define_is_refused_at_any_depth(name: str) -> None:
    resource, path = host(name, minimal(name) | {SECRET: SECRET})
    assert IssueCode.STRUCTURE in found(resource, path)


@pytest.mark.parametrize("name", types())
def test_an_empty_array_is_refused(name: str) -> None:
    for place in places(name):
        if place.array:
            resource, path = hosted(place, [])
            assert IssueCode.STRUCTURE in found(resource, path.removesuffix("[0]")), path


@pytest.mark.parametrize("name", types())
def test_an_empty_object_is_refused(name: str) -> None:
    for place in places(name):
        if place.kind not in PRIMITIVES and place.kind != "Resource":
            resource, path = put(place, {})
            assert IssueCode.STRUCTURE in found(resource, path), path


@pytest.mark.parametrize("name", types())
def test_an_id_alone_is_no_content(name: str) -> None:
    """ele-1: an element has a value or children, beside its id."""
    for place in places(name):
        if place.kind in MODEL["types"] and not required(place.kind):
            resource, path = put(place, {"id": "a"})
            assert IssueCode.INVARIANT in found(resource, path), path


@pytest.mark.parametrize("name", types())
def test_empty_text_is_refused(name: str) -> None:
    for place in places(name):
        if isinstance(PRIMITIVES.get(place.kind), str):
            resource, path = put(place, "")
            expected = IssueCode.CODE_INVALID if codes(place) else IssueCode.VALUE
            assert expected in found(resource, path), path


def test_null_is_refused() -> None:
    for place in every():
        resource, path = put(place, None)
        assert IssueCode.STRUCTURE in found(resource, path) or IssueCode.CODE_INVALID in found(resource, path), path


def test_one_value_where_an_array_belongs_and_the_reverse_are_refused() -> None:
    for place in every():
        given = value(place)
        resource, path = hosted(place, given[0] if place.array else [given])
        at = path.removesuffix("[0]")
        assert {IssueCode.STRUCTURE, IssueCode.CODE_INVALID} & set(found(resource, at)), path


def test_a_boolean_given_as_text_is_refused() -> None:
    asked = list(every("boolean"))
    assert len(asked) >= 20
    for place in asked:
        resource, path = put(place, "true")
        assert found(resource, path) == [IssueCode.STRUCTURE], path


@pytest.mark.parametrize("kind", ["integer", "positiveInt", "unsignedInt", "decimal"])
def test_a_number_given_as_text_is_refused(kind: str) -> None:
    for place in every(kind):
        resource, path = put(place, "1")
        assert found(resource, path) == [IssueCode.STRUCTURE], path


@pytest.mark.parametrize(
    ("kind", "bad"), [("integer", 1.0), ("integer", 2**31), ("integer", -(2**31) - 1), ("positiveInt", 0), ("unsignedInt", -1)]
)
def test_a_number_outside_its_type_is_refused(kind: str, bad: float) -> None:
    for place in every(kind):
        resource, path = put(place, bad)
        assert found(resource, path) in ([IssueCode.VALUE], [IssueCode.STRUCTURE]), path


def test_a_code_outside_a_required_binding_is_refused() -> None:
    bound = [place for place in every("code") if codes(place)]
    assert len(bound) > 60
    for place in bound:
        resource, path = put(place, SECRET)
        assert found(resource, path) == [IssueCode.CODE_INVALID], path


@pytest.mark.parametrize(
    "bad", ["2026-02-30", "2026-02-29", "1900-02-29", "2026-04-31", "2026-13-01", "2026-00-01", "2026-1-1", "0000", "26", "2026-01-01Z"]
)
@pytest.mark.parametrize("kind", ["date", "dateTime", "instant"])
def test_an_impossible_date_is_refused(kind: str, bad: str) -> None:
    asked = list(every(kind))
    assert len(asked) >= 5
    for place in asked:
        resource, path = put(place, bad)
        assert IssueCode.VALUE in found(resource, path), path


@pytest.mark.parametrize(
    "bad", ["2026-02-30T10:00:00Z", "2026-02-01T24:00:00Z", "2026-02-01T10:00:00", "2026-02-01T10:00Z", "2026-02-01T10:00:00+15:00"]
)
@pytest.mark.parametrize("kind", ["dateTime", "instant"])
def test_an_impossible_time_is_refused(kind: str, bad: str) -> None:
    for place in every(kind):
        resource, path = put(place, bad)
        assert IssueCode.VALUE in found(resource, path), path


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("id", "a b"),
        ("id", "a" * 65),
        ("uri", "a b"),
        ("code", " a"),
        ("oid", "1.2"),
        ("uuid", "urn:uuid:1"),
        ("time", "25:00:00"),
        ("base64Binary", "?"),
        ("string", "a\u0000b"),
    ],
)
def test_a_value_outside_its_format_is_refused(kind: str, bad: str) -> None:
    for place in every(kind):
        if not codes(place):
            resource, path = put(place, bad)
            assert IssueCode.VALUE in found(resource, path), path


@pytest.mark.parametrize("name", types())
def test_a_missing_required_element_is_refused(name: str) -> None:
    wanted = {place.member: place for place in places(name)}
    for member in required(name):
        element = minimal(name)
        del element[member]
        resource, path = host(name, element or {"extension": [{"url": "https://example.org/e", "valueString": "text"}]})
        assert IssueCode.REQUIRED in found(resource, f"{path}.{wanted[member].name}"), f"{path}.{member}"


@pytest.mark.parametrize("name", types())
def test_two_values_of_one_choice_are_refused(name: str) -> None:
    choices: dict[str, list[Place]] = {}
    for place in places(name):
        if place.choice:
            choices.setdefault(place.choice, []).append(place)
    for choice, members in choices.items():
        for one, other in pairwise(members):
            element = minimal(name) | {one.member: value(one), other.member: value(other)}
            resource, path = host(name, element)
            assert IssueCode.STRUCTURE in found(resource, f"{path}.{choice}"), path


def test_two_values_of_one_choice_are_refused_when_one_is_only_an_extension() -> None:
    extension = {"extension": [{"url": "https://example.org/e", "valueString": "text"}]}
    resource = {"resourceType": "Patient", "deceasedBoolean": True, "_deceasedDateTime": extension}
    assert found(resource, "Patient.deceased") == [IssueCode.STRUCTURE]


def test_a_wrong_reference_target_is_refused_in_each_form() -> None:
    restricted = [place for place in every("Reference") if place.targets]
    assert len(restricted) > 80
    for place in restricted:
        wrong = min(known_resources() - set(place.targets))
        for reference in (f"{wrong}/1", f"https://example.org/fhir/{wrong}/1", f"{wrong}?identifier=a"):
            resource, path = put(place, {"reference": reference})
            assert found(resource, f"{path}.reference") == [IssueCode.VALUE], path
        resource, path = put(place, {"display": "text", "type": wrong})
        assert found(resource, f"{path}.type") == [IssueCode.VALUE], path


def test_a_reference_to_an_entry_or_a_contained_resource_of_the_wrong_type_is_refused() -> None:
    url = "urn:uuid:0b2f8f4e-3f5c-4a51-9d4e-5a3c1f1e2d3c"
    consent = minimal("Consent") | {"patient": {"reference": url}}
    entries = [{"fullUrl": url, "resource": minimal("Organization")}, {"resource": consent}]
    path = "Bundle.entry[1].resource.patient.reference"
    assert found({"resourceType": "Bundle", "type": "collection", "entry": entries}, path) == [IssueCode.VALUE]
    inside = minimal("Consent") | {"contained": [minimal("Organization") | {"id": "a"}], "patient": {"reference": "#a"}}
    assert found(inside, "Consent.patient.reference") == [IssueCode.VALUE]


@pytest.mark.parametrize("bad", ["1", "patient/1", "Person", "Banana/1", "Patient/", "Patient/a b", "Patient/1/x", ":uuid:1"])
def test_a_relative_reference_that_is_not_type_and_id_is_refused(bad: str) -> None:
    assert found(minimal("Consent") | {"patient": {"reference": bad}}, "Consent.patient.reference") == [IssueCode.VALUE]


def test_a_reference_whose_stated_type_is_another_is_refused() -> None:
    request = minimal("ServiceRequest") | {"requester": {"reference": "Organization/1", "type": "Patient"}}
    assert found(request, "ServiceRequest.requester.type") == [IssueCode.VALUE]
    request["requester"]["type"] = "Organization"
    assert validate(request) == []


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-02-02", "2026-02-01"),
        ("2026-03", "2026-02-01"),
        ("2027", "2026-12-31T00:00:00Z"),
        ("2026-01-01T10:00:00-05:00", "2026-01-01T14:59:59Z"),
    ],
)
def test_a_period_that_ends_before_it_starts_is_refused(start: str, end: str) -> None:
    asked = list(every("Period"))
    assert len(asked) > 25
    for place in asked:
        resource, path = put(place, {"start": start, "end": end})
        assert IssueCode.INVARIANT in found(resource, path), path


def test_nulls_without_their_extensions_are_refused() -> None:
    extension = {"extension": [{"url": "https://example.org/e", "valueString": "text"}]}
    for name in ({"given": ["Zz", None]}, {"given": [None], "_given": [None]}, {"given": ["Zz", None], "_given": [extension, None]}):
        assert IssueCode.STRUCTURE in [f.code for f in validate({"resourceType": "Patient", "name": [name]})]
    short = {"given": ["Zz", "Yy"], "_given": [extension]}
    assert found({"resourceType": "Patient", "name": [short]}, "Patient.name[0].given") == [IssueCode.STRUCTURE]


def test_a_sibling_with_only_an_id_is_refused() -> None:
    assert found({"resourceType": "Patient", "_birthDate": {"id": "a"}}, "Patient.birthDate") == [IssueCode.INVARIANT]
    name = {"_given": [{"id": "a"}]}
    assert found({"resourceType": "Patient", "name": [name]}, "Patient.name[0].given[0]") == [IssueCode.INVARIANT]


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({}, Finding(IssueCode.REQUIRED, "Send a resource with its resourceType.")),
        ({"resourceType": 1}, Finding(IssueCode.REQUIRED, "Send a resource with its resourceType.")),
        ({"resourceType": "Medication"}, Finding(IssueCode.NOT_SUPPORTED, "This resource type is not supported here.")),
        ({"resourceType": SECRET}, Finding(IssueCode.NOT_SUPPORTED, "This is not a resource type of FHIR R4.")),
    ],
    ids=["absent", "number", "unsupported", "unknown"],
)
def test_a_resource_type_that_is_not_taken_is_refused(resource: dict[str, Any], expected: Finding) -> None:
    assert validate(resource) == [expected]


def test_each_wrong_entry_of_a_bundle_is_named() -> None:
    entries = [
        {"resource": minimal("Patient")},
        {"resource": {"resourceType": "Medication"}},
        {"resource": minimal("Task") | {"status": SECRET}},
    ]
    resource = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    assert found(resource, "Bundle.entry[1].resource") == [IssueCode.NOT_SUPPORTED]
    assert found(resource, "Bundle.entry[2].resource.status") == [IssueCode.CODE_INVALID]


def test_a_contained_resource_is_validated_as_its_own_type() -> None:
    request = minimal("ServiceRequest") | {
        "contained": [{"resourceType": "Patient", "id": "a", "gender": SECRET}],
        "subject": {"reference": "#a"},
    }
    assert found(request, "ServiceRequest.contained[0].gender") == [IssueCode.CODE_INVALID]


@pytest.mark.parametrize("meta", [{"versionId": 1.5}, {"versionId": ["1"]}, "x", [], 1, {"versionId": {}}])
@pytest.mark.parametrize("kind", ["Patient", "Unheard", "Group"])
def test_rules_that_look_into_other_resources_are_not_put_to_one_that_is_broken(kind: str, meta: Any) -> None:
    inner = {"resourceType": kind, "meta": meta}
    entry = {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001", "resource": inner}
    for outer in (
        {"resourceType": "Bundle", "type": "collection", "entry": [entry, {**entry, "resource": minimal("Patient")}]},
        {"resourceType": "Patient", "contained": [inner]},
    ):
        assert any(".resource" in str(f.expression) or ".contained" in str(f.expression) for f in validate(outer))
