"""The generated files: what differs between HL7's two descriptions is exactly this, and the translation refuses what it doesn't know."""

from __future__ import annotations

import pytest

from gateway.fhir.model import load
from gateway.fhir.r4.invariants import RULES
from scripts.fhirdefs.fhirpath import NotTranslated, parse
from scripts.fhirdefs.translate import FUNCTIONS, Choices, Translator
from scripts.fhirdefs.types import Element, Type

RECORD = load("invariants")


def element(name: str, *types: str, array: bool = False) -> Element:
    return Element(name, f"T.{name}", 0, "*" if array else "1", types, len(types) > 1, False, None, None, (), "")


TYPES = {
    "T": Type(
        "T",
        "resource",
        {e.name: e for e in (element("a", "string"), element("b", "B"), element("c", "B", array=True), element("v", "string", "B"))},
    ),
    "B": Type("B", "complex-type", {"d": element("d", "dateTime")}),
    "string": Type("string", "primitive-type", extensible=True),
    "dateTime": Type("dateTime", "primitive-type", extensible=True),
}


def translated(expression: str) -> str:
    return Translator(TYPES, "T", Choices()).translate(expression, "T")


@pytest.mark.parametrize(
    ("expression", "python"),
    [
        ("a.exists()", "has(n, 'a', '_a')"),
        ("b.empty()", "('b' not in n)"),
        ("c.d.exists()", "any(has(x1, 'd', '_d') for x1 in n.get('c', ()))"),
        ("v.exists()", "(not T_V.isdisjoint(n))"),
        ("a = 'x' or a = 'y'", "is_in(n.get('a'), ('x', 'y'))"),
        ("b.d <= b.d", "le_time(n.get('b', NONE).get('d'), n.get('b', NONE).get('d'))"),
        ("a.hasValue() and b.exists()", "((n.get('a') is not None) and ('b' in n))"),
    ],
)
def test_fhirpath_becomes_python(expression: str, python: str) -> None:
    assert translated(expression) == python


@pytest.mark.parametrize(
    "expression",
    [
        "resolve().exists()",
        "a.matches('x')",
        "z.exists()",
        "a",
        "a ~ 'x'",
        "a.exists() )",
        "a.exists(",
        "c.d = 'x'",
        "a < 1",
        "a.exists() xor (a = 'x')",
        "%unknown = a",
        "a.count() > 0 and",
        "$total",
    ],
)
def test_what_is_not_known_is_not_translated(expression: str) -> None:
    with pytest.raises(NotTranslated):
        translated(expression)


def test_operators_bind_as_fhirpath_says() -> None:
    assert parse("a or b and c") == parse("a or (b and c)")
    assert parse("a implies b or c") == parse("a implies (b or c)")
    assert parse("a = b | c") == parse("a = (b | c)")
    assert parse("a and b = c") == parse("a and (b = c)")


def test_rules_use_only_the_functions_that_exist() -> None:
    from gateway.fhir import logic

    assert set(logic.__all__) >= FUNCTIONS
    assert len(RULES) == sum(entry["checked"] == "translated" for entry in RECORD["invariants"].values())


def test_value_sets_that_hl7_does_not_hold_are_named() -> None:
    assert {url.rpartition("/")[2] for url in RECORD["valueSetsNotExpanded"]} == {"mimetypes", "currencies"}


def test_what_the_carrier_of_the_definitions_altered_is_known() -> None:
    assert RECORD["alteredByTheCarrier"] == ["AuditEvent.source.observer", "Bundle.entry.response.outcome"]
    differences = RECORD["differencesFromSchema"]
    assert set(differences["not HL7's"]) == {"Meta"}
    assert differences["codes"] == {"CapabilityStatement.fhirVersion": ["4.0.1"]}
    assert {member for members in differences["left out"].values() for member in members} == {"modifierExtension"}
    added = {member for members in differences["added"].values() for member in members}
    assert all(member.startswith("_") or member == "valueMeta" for member in added)
    assert all(listed == ["id"] for listed in differences["type"].values())


def test_no_definition_of_another_maker_is_left() -> None:
    assert "medplum" not in str(load("model")).lower() + str(load("schema")).lower()
