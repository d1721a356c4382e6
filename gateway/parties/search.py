"""Search of the directory by the parameters a partner needs to find a service (FHIR R4 3.1.1: token, string, reference)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from gateway.problems import Finding, IssueCode, Problem, ProblemType

__all__ = ["SEARCH", "Kind", "Parameter", "Wanted", "matches", "parse"]


class Kind(StrEnum):
    """The type of a search parameter, as a capability statement names it."""

    TOKEN = "token"
    STRING = "string"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter and the element it looks at."""

    name: str
    kind: Kind
    element: str
    target: str = ""


def _table(*parameters: Parameter) -> Mapping[str, Parameter]:
    common = (Parameter("_id", Kind.TOKEN, "id"), Parameter("identifier", Kind.TOKEN, "identifier"))
    return MappingProxyType({p.name: p for p in (*common, *parameters)})


_ACTIVE: Final = Parameter("active", Kind.TOKEN, "active")
_NAME: Final = Parameter("name", Kind.STRING, "name")

SEARCH: Final[Mapping[str, Mapping[str, Parameter]]] = MappingProxyType(
    {
        "Organization": _table(_ACTIVE, _NAME, Parameter("type", Kind.TOKEN, "type")),
        "PractitionerRole": _table(
            _ACTIVE,
            Parameter("organization", Kind.REFERENCE, "organization", "Organization"),
            Parameter("role", Kind.TOKEN, "code"),
            Parameter("specialty", Kind.TOKEN, "specialty"),
        ),
        "HealthcareService": _table(
            _ACTIVE,
            _NAME,
            Parameter("organization", Kind.REFERENCE, "providedBy", "Organization"),
            Parameter("service-category", Kind.TOKEN, "category"),
            Parameter("service-type", Kind.TOKEN, "type"),
        ),
        "Endpoint": _table(
            Parameter("status", Kind.TOKEN, "status"), Parameter("organization", Kind.REFERENCE, "managingOrganization", "Organization")
        ),
    }
)
"""Type -> parameter name -> parameter. The capability statement lists what is in here."""

Wanted = tuple[Callable[[Mapping[str, Any]], bool], ...]
"""Tests that a resource must pass, all of them."""


def parse(type_: str, params: Iterable[tuple[str, str]]) -> Wanted:
    """Compile parameters. Raises Problem (BAD_REQUEST), naming neither the parameter nor its value: both come from the caller."""
    table = SEARCH.get(type_, {})
    tests = []
    for key, value in params:
        name, _, modifier = key.partition(":")
        parameter = table.get(name)
        if parameter is None:
            raise _bad("This type cannot be searched by one of these parameters; the capability statement lists those it has.")
        choices = [choice for choice in _split(value) if choice]
        if not choices:
            raise _bad("A search parameter needs a value.")
        tests.append(_test(parameter, modifier, choices))
    return tuple(tests)


def matches(resource: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a resource passes every test."""
    return all(test(resource) for test in wanted)


def _bad(say: str) -> Problem:
    return Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.NOT_SUPPORTED, say))


def _test(parameter: Parameter, modifier: str, choices: list[str]) -> Callable[[Mapping[str, Any]], bool]:
    match parameter.kind, modifier:
        case Kind.STRING, "" | "contains" | "exact":
            wanted = choices if modifier == "exact" else [_folded(choice) for choice in choices]

            def text(resource: Mapping[str, Any]) -> bool:
                value = str(resource.get(parameter.element, ""))
                if modifier == "exact":
                    return value in wanted
                folded = _folded(value)
                return any(choice in folded if modifier == "contains" else folded.startswith(choice) for choice in wanted)

            return text
        case Kind.REFERENCE, "":
            targets = {choice if "/" in choice else f"{parameter.target}/{choice}" for choice in choices}
            return lambda resource: (resource.get(parameter.element) or {}).get("reference") in targets
        case Kind.TOKEN, "":
            tokens = [_token(choice) for choice in choices]
            return lambda resource: any(
                (system is None or system == has_system) and (not code or code == has_code)
                for has_system, has_code in _tokens(resource.get(parameter.element))
                for system, code in tokens
            )
        case _:
            raise _bad("A modifier of a search parameter is not supported here.")


def _token(choice: str) -> tuple[str | None, str]:
    """``code``, ``system|code``, ``system|`` or ``|code`` (R4 3.1.1.4.10). None = any system."""
    system, bar, code = choice.rpartition("|")
    return (system if bar else None), code


def _tokens(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _tokens(item)
    elif isinstance(value, bool):
        yield "", str(value).lower()
    elif isinstance(value, str):
        yield "", value
    elif isinstance(value, dict):
        if "coding" in value:
            yield from _tokens(value["coding"])
        else:
            yield str(value.get("system", "")), str(value.get("code", value.get("value", "")))


def _split(value: str) -> Iterator[str]:
    """Values joined by commas; a backslash escapes one (R4 3.1.1.4.0.1)."""
    part, escaped = "", False
    for letter in value:
        if escaped or letter not in "\\,":
            part, escaped = part + letter, False
        elif letter == "\\":
            escaped = True
        else:
            yield part
            part = ""
    yield part


def _folded(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
