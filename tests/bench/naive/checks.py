"""Checks beside the FHIR models, which accept any string as a code: required bindings, and what a Bundle must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError

from gateway.problems import Finding, IssueCode, Problem, ProblemType

__all__ = ["parse_bundle", "references"]

Json = dict[str, Any]

_PRIORITY: Final = frozenset({"routine", "urgent", "asap", "stat"})
_REQUIRED: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("Bundle", "type"): frozenset({"transaction"}),
    ("Patient", "gender"): frozenset({"male", "female", "other", "unknown"}),
    ("Consent", "status"): frozenset({"draft", "proposed", "active", "rejected", "inactive", "entered-in-error"}),
    ("ServiceRequest", "status"): frozenset({"draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"}),
    ("ServiceRequest", "intent"): frozenset(
        {"proposal", "plan", "directive", "order", "original-order", "reflex-order", "filler-order", "instance-order", "option"}
    ),
    ("ServiceRequest", "priority"): _PRIORITY,
    ("Task", "status"): frozenset(
        {
            *("draft", "requested", "received", "accepted", "rejected", "ready", "cancelled", "in-progress", "on-hold", "failed"),
            *("completed", "entered-in-error"),
        }
    ),
    ("Task", "intent"): frozenset(
        {"unknown", "proposal", "plan", "order", "original-order", "reflex-order", "filler-order", "instance-order", "option"}
    ),
    ("Task", "priority"): _PRIORITY,
}
_NESTED: Final[Mapping[str, frozenset[str]]] = {
    "use": frozenset(
        {"usual", "official", "temp", "nickname", "anonymous", "old", "maiden", "home", "work", "mobile", "secondary", "billing"}
    ),
    "system": frozenset({"phone", "fax", "email", "pager", "url", "sms", "other"}),
}


def parse_bundle(payload: Any) -> Bundle:
    """The Bundle as a model, its codes checked. Raises Problem naming each element."""
    if not isinstance(payload, dict) or payload.get("resourceType") != "Bundle":
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.INVALID, "Send a Bundle here.", "Bundle"))
    try:
        bundle = Bundle.model_validate(payload)
    except ValidationError as refused:
        errors = refused.errors(include_input=False, include_url=False, include_context=False)
        findings = [Finding(IssueCode.STRUCTURE, "This element is not as FHIR R4 says.", _path(error["loc"])) for error in errors]
        raise Problem(ProblemType.UNPROCESSABLE, *findings) from None
    except RecursionError:
        raise Problem(ProblemType.MALFORMED, Finding(IssueCode.TOO_COSTLY, "The body is nested too deeply.")) from None
    wrong = list(_codes(payload, "Bundle"))
    for i, entry in enumerate(payload.get("entry") or ()):
        wrong += _codes(entry.get("resource") or {}, f"Bundle.entry[{i}].resource")
    if wrong:
        raise Problem(ProblemType.UNPROCESSABLE, *wrong)
    return bundle


def _codes(resource: Json, path: str) -> Iterator[Finding]:
    type_ = resource.get("resourceType")
    for name, value in resource.items():
        allowed = _REQUIRED.get((str(type_), name))
        if allowed is not None and value not in allowed:
            yield Finding(IssueCode.CODE_INVALID, "This code is not in the value set that FHIR R4 requires here.", f"{path}.{name}")
        if name in ("name", "telecom", "identifier", "address") and isinstance(value, list):
            yield from _uses(value, f"{path}.{name}", telecom=name == "telecom")


def _uses(items: list[Any], path: str, *, telecom: bool) -> Iterator[Finding]:
    for i, item in enumerate(items):
        for name in ("use", "system") if telecom else ("use",):
            if isinstance(item, dict) and name in item and item[name] not in _NESTED[name]:
                yield Finding(
                    IssueCode.CODE_INVALID, "This code is not in the value set that FHIR R4 requires here.", f"{path}[{i}].{name}"
                )


def _path(steps: tuple[int | str, ...]) -> str:
    path = "Bundle"
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path


def references(value: Any) -> Iterator[Json]:
    """Every object in a resource that holds a literal reference."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
