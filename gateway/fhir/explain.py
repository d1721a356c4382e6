"""Turn the schema engine's errors into findings. Their messages hold input values and are never read; only kind and location are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jsonschema_rs

from gateway.fhir.model import human, load, plan
from gateway.problems import Finding, IssueCode

__all__ = ["element_path", "explain"]

_DATES: Final = frozenset(("date", "dateTime", "instant"))
_CODES_SHOWN: Final = 12

_PLAIN: Final[Mapping[str, tuple[IssueCode, str]]] = {
    "minItems": (IssueCode.STRUCTURE, "An empty array is not allowed; leave the element out."),
    "maxItems": (IssueCode.STRUCTURE, "There are more of this element than FHIR allows."),
    "minProperties": (IssueCode.STRUCTURE, "An empty object is not allowed; leave the element out."),
    "minLength": (IssueCode.VALUE, "Empty text is not allowed; leave the element out."),
    "maxLength": (IssueCode.TOO_LONG, "The text is longer than FHIR allows."),
    "minimum": (IssueCode.VALUE, "The number is smaller than FHIR allows here."),
    "maximum": (IssueCode.VALUE, "The number is larger than FHIR allows here."),
}


def explain(error: jsonschema_rs.ValidationError, resource_type: str, base: str, steps: Sequence[str | int]) -> Finding:
    """`steps` is the error's place within the resource at `base`; each step of it that FHIR doesn't define is left out."""
    kind = error.kind.name
    path, at = element_path(resource_type, base, steps)
    holder, definition = _schema_at(error.schema_path)
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=name):
            return Finding(IssueCode.REQUIRED, "This element is required.", f"{path}.{name}")
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties():
            return Finding(IssueCode.STRUCTURE, f"Remove an element that FHIR does not define in {at}.", path)
    if kind == "anyOf" and "x-required" in holder:
        say = "This element is required: send its value or an extension in its place."
        return Finding(IssueCode.REQUIRED, say, f"{path}.{holder['x-required']}")
    if kind == "anyOf":
        key, sentence = human("Element:ele-1")
        return Finding(IssueCode.INVARIANT, f"{key}: {sentence}", path)
    if kind in _PLAIN:
        code, say = _PLAIN[kind]
        return Finding(code, say, path)
    return Finding(*_SAY.get(kind, _unknown)(holder, definition), path)


def _enum(holder: Mapping[str, Any], definition: str) -> tuple[IssueCode, str]:
    codes = [code for code in holder.get("enum", ()) if code is not None]
    listed = f" ({', '.join(codes)})" if len(codes) <= _CODES_SHOWN else ""
    return IssueCode.CODE_INVALID, f"Use a code of the required value set {holder.get('x-valueSet', '')}{listed}."


def _pattern(holder: Mapping[str, Any], definition: str) -> tuple[IssueCode, str]:
    name = definition.removesuffix("-or-null")
    if name in _DATES:
        return IssueCode.VALUE, f"Send a {name} that exists, in FHIR's format."
    return IssueCode.VALUE, f"Send a value in the format of the FHIR type {name}."


def _type(holder: Mapping[str, Any], definition: str) -> tuple[IssueCode, str]:
    wanted = holder.get("type", "")
    names: list[str] = wanted if isinstance(wanted, list) else [wanted]
    shown = " or ".join(_JSON_NAMES.get(name, name) for name in names if name != "null")
    return IssueCode.STRUCTURE, f"Send {shown} here."


def _unknown(holder: Mapping[str, Any], definition: str) -> tuple[IssueCode, str]:
    return IssueCode.INVALID, "This element is not as FHIR defines it."


_JSON_NAMES: Final = {
    "array": "a JSON array",
    "boolean": "a JSON boolean (true or false, not text)",
    "integer": "a whole JSON number",
    "number": "a JSON number",
    "object": "a JSON object",
    "string": "JSON text",
}
_SAY: Final[Mapping[str, Callable[[Mapping[str, Any], str], tuple[IssueCode, str]]]] = {"enum": _enum, "pattern": _pattern, "type": _type}


def _schema_at(path: Sequence[str | int]) -> tuple[Mapping[str, Any], str]:
    """The schema that holds the failing keyword, and the name of the definition it lies in."""
    at: Any = load("schema")
    for step in path[:-1]:
        at = at[step]
    definition = str(path[1]) if len(path) > 1 and path[0] == "definitions" else ""
    return (at if isinstance(at, Mapping) else {}), definition


def element_path(resource_type: str, base: str, steps: Sequence[str | int]) -> tuple[str, str]:
    """(FHIRPath, type of the deepest element named). Names come from the definitions, never from the input."""
    path, type_name = base, resource_type
    types = load("model")["types"]
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
            continue
        known = plan(type_name).names.get(step) if type_name in types else None
        if known is None:
            break
        path += f".{known[0]}"
        type_name = known[1]
    return path, type_name
