"""Valid samples of every type and element, made from the generated definitions, so that the tables of tests cover all of them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from gateway.fhir.model import load

Json = dict[str, Any]

MODEL: Final[Json] = load("model")
SCHEMA: Final[Json] = load("schema")["definitions"]
RESOURCES: Final[tuple[str, ...]] = tuple(MODEL["supported"])

_EXTENSION: Final[Json] = {"url": "https://example.org/e", "valueString": "text"}
_DIV: Final = '<div xmlns="http://www.w3.org/1999/xhtml">text</div>'

PRIMITIVES: Final[Json] = {
    "base64Binary": "QUJD",
    "boolean": True,
    "canonical": "https://example.org/c",
    "code": "code",
    "date": "2026-01-02",
    "dateTime": "2026-01-02T03:04:05-05:00",
    "decimal": 1.5,
    "id": "id-1",
    "instant": "2026-01-02T03:04:05Z",
    "integer": 1,
    "markdown": "text",
    "oid": "urn:oid:1.2.3",
    "positiveInt": 1,
    "string": "text",
    "time": "03:04:05",
    "unsignedInt": 0,
    "uri": "https://example.org/u",
    "url": "https://example.org/u",
    "uuid": "urn:uuid:0b2f8f4e-3f5c-4a51-9d4e-5a3c1f1e2d3c",
    "xhtml": _DIV,
}

_FOR_INVARIANTS: Final[Json] = {
    "CapabilityStatement": {"implementation": {"description": "text"}, "kind": "instance", "rest": [{"mode": "server"}]},
    "Consent": {"policyRule": {"text": "text"}},
    "Bundle": {"type": "collection"},
    "Bundle.entry": {"fullUrl": "https://example.org/f", "resource": {"resourceType": "Patient"}},
    "DataRequirement.codeFilter": {"path": "text"},
    "DataRequirement.dateFilter": {"path": "text"},
    "Expression": {"expression": "text"},
    "Extension": _EXTENSION,
    "Observation.referenceRange": {"text": "text"},
    "Organization": {"name": "text"},
    "Parameters.parameter": {"name": "text", "valueString": "text"},
    "Patient.contact": {"name": {"text": "text"}},
    "TriggerDefinition": {"type": "data-added", "data": [{"type": "Patient"}]},
}
"""What a type needs beside its required elements for its invariants to hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """One member of one type."""

    type: str
    member: str
    kind: str  # the FHIR type
    array: bool
    choice: str | None
    targets: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.choice or self.member


def types() -> list[str]:
    return [name for name in MODEL["types"] if name not in ("Element", "BackboneElement") and hostable(name)]


def hostable(name: str) -> bool:
    root = name.split(".")[0]
    return root in RESOURCES or f"value{root}" in MODEL["types"]["Parameters.parameter"]["elements"]


def places(name: str) -> Iterator[Place]:
    for member, element in MODEL["types"][name]["elements"].items():
        yield Place(name, member, element["type"], element.get("array", False), element.get("choice"), tuple(element.get("targets", ())))


def codes(place: Place) -> list[str]:
    """The codes of a required binding; empty where there is none."""
    schema = SCHEMA[place.type]["properties"][place.member]
    definition = schema.get("items", schema).get("$ref", "").rpartition("/")[2]
    return [code for code in SCHEMA.get(definition, {}).get("enum", ()) if code is not None]


def required(name: str) -> list[str]:
    """The members (one of a choice) that must be there."""
    found = [member for member in SCHEMA[name].get("required", ()) if member != "resourceType"]
    return found + [rule["anyOf"][0]["required"][0] for rule in SCHEMA[name].get("allOf", ()) if "x-required" in rule]


def value(place: Place) -> Any:
    """One valid value of the member, in an array where it is one."""
    made: Any
    if place.kind == "Resource":
        made = {"resourceType": "Patient"}
    elif place.kind == "Reference":
        made = {"reference": f"{place.targets[0] if place.targets else 'Patient'}/1"}
    elif (place.type, place.member) == ("Reference", "reference"):
        made = "Patient/1"
    elif place.kind in PRIMITIVES:
        made = (codes(place) or [PRIMITIVES[place.kind]])[0]
    else:
        made = minimal(place.kind)
    return [made] if place.array else made


def minimal(name: str) -> Json:
    return deepcopy(_minimal(name))


@cache
def _minimal(name: str) -> Json:
    made: Json = {"resourceType": name} if name in RESOURCES else {}
    wanted = {place.member: place for place in places(name)}
    made |= _FOR_INVARIANTS.get(name, {})
    for member in required(name):
        if member not in made:
            made[member] = value(wanted[member])
    return made or {"extension": [_EXTENSION]}


def with_member(place: Place, given: Any) -> Json:
    """The minimal element with this member; other values of the same choice make room."""
    made = minimal(place.type)
    if place.choice:
        for other in places(place.type):
            if other.choice == place.choice:
                made.pop(other.member, None)
    made[place.member] = given
    return made


def host(name: str, element: Json) -> tuple[Json, str]:
    """A resource with `element`, and the FHIRPath of it there."""
    if name in RESOURCES:
        return element, name
    if "." not in name:
        holder = {"name": "text", f"value{name}": element}
        return {"resourceType": "Parameters", "parameter": [holder]}, "Parameters.parameter[0].value"
    parent, _, leaf = name.rpartition(".")
    array = MODEL["types"][parent]["elements"][leaf].get("array", False)
    above = minimal(parent)
    above[leaf] = [element] if array else element
    resource, path = host(parent, above)
    return resource, f"{path}.{leaf}[0]" if array else f"{path}.{leaf}"


def hosted(place: Place, given: Any) -> tuple[Json, str]:
    """A resource in which the member is `given`, and the FHIRPath of that element (of its first item where it is an array)."""
    resource, path = host(place.type, with_member(place, given))
    return resource, f"{path}.{place.name}" + ("[0]" if place.array else "")
