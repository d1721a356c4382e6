"""The second opinion: paths only, and no exception for any JSON."""

from __future__ import annotations

from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.model import load
from gateway.fhir.oracle import parse_r4b
from tests.unit.fhir.samples import RESOURCES, minimal

CHANGED_IN_R4B = {("Observation", "subject")}
"""R4B lets an Observation be about more kinds of subject; the hub speaks R4."""


def test_a_refused_element_is_given_as_a_path_without_its_value() -> None:
    assert parse_r4b({"resourceType": "Patient", "active": "zzsecretzz"}) == ["Patient.active"]


@pytest.mark.parametrize("resource", [{}, {"resourceType": 1}, {"resourceType": "zz"}, {"resourceType": "../x"}])
def test_no_type_is_refused_as_a_whole(resource: dict[str, Any]) -> None:
    assert parse_r4b(resource) == ["?"]


def test_deep_nesting_is_refused() -> None:
    deep: dict[str, Any] = {"url": "https://example.org/e", "valueString": "text"}
    for _ in range(3000):
        deep = {"url": "https://example.org/e", "extension": [deep]}
    assert parse_r4b({"resourceType": "Patient", "extension": [deep]})


@given(
    st.sampled_from(RESOURCES),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=2), max_size=3),
)
def test_any_json_gives_paths(name: str, extra: dict[str, Any]) -> None:
    assert isinstance(parse_r4b(minimal(name) | extra), list)


@pytest.mark.parametrize("name", RESOURCES)
def test_reference_targets_are_those_the_oracle_knows(name: str) -> None:
    """An independent reading of HL7's definitions: it would show an altered one."""
    fields = {field.alias or key: field for key, field in get_fhir_model_class(name).model_fields.items()}
    for member, element in load("model")["types"][name]["elements"].items():
        if element["type"] == "Reference" and (name, member) not in CHANGED_IN_R4B:
            extra = fields[member].json_schema_extra
            assert isinstance(extra, dict)
            listed = extra.get("enum_reference_types") or []
            assert isinstance(listed, list)
            theirs = set() if "Resource" in listed else set(map(str, listed))
            assert set(element.get("targets", ())) == theirs, member
