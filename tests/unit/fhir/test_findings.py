"""Findings: where they start, how many, that they hold nothing of the input, and that nothing is raised for any JSON."""

from __future__ import annotations

import copy
import sys
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.explain import element_path
from gateway.fhir.oracle import parse_r4b
from gateway.fhir.parse import parse_json
from gateway.fhir.validate import validate
from gateway.problems import FINDINGS_LIMIT, IssueCode
from tests.unit.fhir.samples import RESOURCES, minimal

MARK = "zzsecretzz"
_scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.just(MARK) | st.just("")
_json = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    MARK,
                    "resourceType",
                    "id",
                    "extension",
                    "contained",
                    "entry",
                    "resource",
                    "reference",
                    "status",
                    "_status",
                    "period",
                    "name",
                    "parameter",
                    "text",
                    "div",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(st.sampled_from(RESOURCES), st.dictionaries(st.text(max_size=8), _json, max_size=4) | _json.filter(lambda v: isinstance(v, dict)))
def test_any_json_gives_findings_and_never_an_exception(name: str, extra: dict[str, Any]) -> None:
    resource = minimal(name) | extra
    before = copy.deepcopy(resource)
    findings = validate(resource)
    assert len(findings) <= FINDINGS_LIMIT
    assert MARK not in repr(findings)
    assert repr(resource) == repr(before)


@given(st.sampled_from(RESOURCES), _json, st.data())
def test_a_member_replaced_by_any_json_never_raises(name: str, put: Any, data: st.DataObject) -> None:
    resource = minimal(name)
    resource[data.draw(st.sampled_from(sorted(resource)))] = put
    assert MARK not in repr(validate(resource))


@given(st.sampled_from(RESOURCES), st.data())
def test_what_is_accepted_the_oracle_takes_too(name: str, data: st.DataObject) -> None:
    """fhir.resources checks less, so whatever it refuses must have been refused here."""
    resource = minimal(name)
    member = data.draw(st.sampled_from(sorted(resource)))
    if member != "resourceType":
        resource[member] = data.draw(_json)
    if validate(resource) == []:
        assert parse_r4b(resource) == []


def test_base_prefixes_the_path() -> None:
    findings = validate(minimal("Task") | {"status": MARK}, base="Bundle.entry[2].resource")
    assert [(f.code, f.expression) for f in findings] == [(IssueCode.CODE_INVALID, "Bundle.entry[2].resource.status")]


def test_the_deepest_element_is_named() -> None:
    rule = {"type": "permit", "actor": [{"role": {"coding": [{"code": " "}]}, "reference": {"reference": "Group/1"}}]}
    findings = validate(minimal("Consent") | {"provision": {"provision": [rule]}})
    assert [f.expression for f in findings] == ["Consent.provision.provision[0].actor[0].role.coding[0].code"]


def test_a_choice_is_named_without_its_type() -> None:
    resource = {"resourceType": "Patient", "extension": [{"url": "https://example.org/e", "valueCode": " "}]}
    assert [f.expression for f in validate(resource)] == ["Patient.extension[0].value"]


def test_no_more_than_the_limit_are_given() -> None:
    names = [{"use": MARK} for _ in range(3 * FINDINGS_LIMIT)]
    assert len(validate({"resourceType": "Patient", "name": names})) == FINDINGS_LIMIT
    periods = [{"period": {"start": "2026", "end": "2025"}} for _ in range(3 * FINDINGS_LIMIT)]
    assert len(validate({"resourceType": "Patient", "name": periods})) == FINDINGS_LIMIT


def test_what_the_schema_was_not_asked_about_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk takes only what the schema accepted; errors beyond those that were read may lie anywhere."""
    monkeypatch.setattr(sys.modules["gateway.fhir.validate"], "_ERRORS_READ", 1)
    entries = [{"resource": {"resourceType": "Patient", "gender": MARK}}, {"resource": {"resourceType": "Patient", "name": 1}}]
    findings = validate({"resourceType": "Bundle", "type": "collection", "entry": entries})
    assert [f.expression for f in findings] == ["Bundle.entry[0].resource.gender"]


def test_a_name_that_fhir_does_not_define_is_in_no_path() -> None:
    assert element_path("Patient", "Patient", ["name", 0, MARK, "given"]) == ("Patient.name[0]", "HumanName")


def test_a_resource_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {"url": "https://example.org/e", "valueString": "text"}
    for _ in range(5000):
        deep = {"url": "https://example.org/e", "extension": [deep]}
    assert [f.code for f in validate({"resourceType": "Patient", "extension": [deep]})] == [IssueCode.TOO_COSTLY]


def test_a_decimal_kept_as_it_was_written_is_still_checked() -> None:
    body = b'{"resourceType":"Location","position":{"longitude":-78.8600,"latitude":43.90}}'
    assert validate(parse_json(body)) == []
    wrong = parse_json(body.replace(b'"position"', b'"status":"zz","position"'))
    assert [f.expression for f in validate(wrong)] == ["Location.status"]


@pytest.mark.parametrize("shape", ["references", "codings", "names"])
def test_a_large_body_takes_time_in_proportion(shape: str) -> None:
    """No rule looks at a list once per element of another: a body at the size limit stays well under a second."""
    bodies = {
        "references": minimal("ServiceRequest")
        | {"supportingInfo": [{"reference": "#a"}] * 20000, "contained": [{"resourceType": "Patient", "id": "a"}] * 9000},
        "codings": minimal("Observation")
        | {
            "code": {"coding": [{"code": str(i)} for i in range(20000)]},
            "valueInteger": 1,
            "component": [{"code": {"coding": [{"code": "x"}]}}] * 14000,
        },
        "names": {"resourceType": "Patient", "name": [{}] * 340000},
    }
    body = orjson.dumps(bodies[shape])
    assert len(body) < 1024 * 1024
    resource = parse_json(body)
    started = time.process_time()
    validate(resource)
    assert time.process_time() - started < 3
