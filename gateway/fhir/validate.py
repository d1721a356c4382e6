"""Is this a valid R4 resource? The ingest validator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import orjson

from gateway.fhir.explain import explain
from gateway.fhir.model import Nest, known_resources, load, nest, plan, supported_types
from gateway.fhir.rules import ReferenceContext
from gateway.fhir.walk import walk
from gateway.problems import FINDINGS_LIMIT, Finding, IssueCode

__all__ = ["SUPPORTED_TYPES", "validate", "warm"]

SUPPORTED_TYPES: Final[frozenset[str]] = supported_types()

_NOTHING: Final[Mapping[str, str]] = {}
_STUB: Final = {"resourceType": "Resource"}
_ERRORS_READ: Final = 200
_DETAIL_LIMIT: Final = 32 * 1024
_WARM: Final = ("Patient", "Consent", "ServiceRequest", "Task", "Communication", "Bundle", "OperationOutcome")


@dataclass(slots=True)
class _Part:
    """One resource to validate as its own type: the one sent, an entry, or a contained one."""

    type: str
    resource: dict[str, Any]  # as sent
    shown: dict[str, Any]  # for the schema: with the resources in it replaced, as they are validated on their own
    path: str
    root: dict[str, Any]
    contained: Mapping[str, str]  # of the root: id -> type
    entries: Mapping[str, str]


def validate(resource: dict[str, Any], *, base: str | None = None) -> list[Finding]:
    """What is wrong with `resource` by FHIR R4 4.0.1; empty when it is valid. At most FINDINGS_LIMIT findings.

    `base` is the FHIRPath of the resource in what was sent (`Bundle.entry[2].resource`), else its type. The resources inside a Bundle, a
    Parameters or `contained` are validated too, each as its own type. Codes are checked for bindings of strength `required`. Profiles, the
    existence of what a reference points at, and the hub's own rules are not this function's business. Never raises for any JSON value,
    never changes its argument, and no finding holds a value or a member name from the input.
    """
    try:
        return _validate(resource, base)
    except RecursionError:
        return [_too_deep(base)]


def warm() -> None:
    """Do at start what the first request would wait for."""
    _schema()
    for name in _WARM:
        _meet(name, set())


def _meet(type_name: str, met: set[str]) -> None:
    if type_name in met:
        return
    met.add(type_name)
    for child in plan(type_name).children.values():
        if child.type in load("model")["types"]:
            _meet(child.type, met)
    if type_name in SUPPORTED_TYPES:
        nest(type_name)


@cache
def _schema() -> jsonschema_rs.Draft4Validator:
    return jsonschema_rs.Draft4Validator(load("schema"))


def _validate(resource: dict[str, Any], base: str | None, *, plain: bool = False) -> list[Finding]:
    parts: list[_Part] = []
    findings: list[Finding] = []
    _take(resource, base, None, _NOTHING, parts, findings)
    instance: dict[str, list[Any]] = {}
    for part in parts:
        instance.setdefault(part.type, []).append(part.shown)
    try:
        wrong = [] if _schema().is_valid(instance) else list(islice(_schema_findings(parts), _ERRORS_READ))
    except (TypeError, ValueError):
        return [_too_deep(base)] if plain else _validate_plain(resource, base)
    unread = [finding.expression for finding in findings]  # of a type that no schema was held to
    findings += dict.fromkeys(finding for _, finding in wrong)
    if len(wrong) == _ERRORS_READ:  # what was not read may be in any part, and the walk takes only what the schema accepted
        return findings[:FINDINGS_LIMIT]
    broken = _around((*(path for path, _ in wrong), *unread))
    for part in parts:
        if part.path not in broken and len(findings) < FINDINGS_LIMIT:
            context = ReferenceContext(part.resource, part.root, part.contained, part.entries)
            findings += [Finding(hit.code, hit.say, part.path + hit.path) for hit in walk(plan(part.type), part.resource, context)]
    return findings[:FINDINGS_LIMIT]


def _around(paths: Iterable[str | None]) -> set[str]:
    """These paths and those around each: some rules of a Bundle, and of a container, look into the resources they hold."""
    found: set[str] = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = path.rpartition(".")[0]
    return found


def _validate_plain(resource: dict[str, Any], base: str | None) -> list[Finding]:
    """The engine takes only plain JSON values, and 255 levels of them; a number that was kept as written (parse.py) is not plain."""
    try:
        plain = orjson.loads(orjson.dumps(resource))
    except (TypeError, ValueError):
        return [_too_deep(base)]
    return _validate(plain, base, plain=True)


def _too_deep(base: str | None) -> Finding:
    return Finding(IssueCode.TOO_COSTLY, "The resource is nested too deeply, or holds something that is not JSON.", base)


def _schema_findings(parts: list[_Part]) -> Iterator[tuple[str, Finding]]:
    """(path of the part, finding) for each error. Of something large, only the first error of each part: the engine makes all it can."""
    schema = _schema()
    size = sum(len(orjson.dumps(part.shown)) for part in parts)
    for part in parts:
        instance = {part.type: [part.shown]}
        for error in schema.iter_errors(instance) if size <= _DETAIL_LIMIT else _first_error(instance):
            yield part.path, explain(error, part.type, part.path, error.instance_path[2:])


def _first_error(instance: dict[str, list[Any]]) -> Iterator[jsonschema_rs.ValidationError]:
    try:
        _schema().validate(instance)
    except jsonschema_rs.ValidationError as error:
        yield error


def _take(
    resource: dict[str, Any],
    base: str | None,
    container: _Part | None,
    entries: Mapping[str, str],
    parts: list[_Part],
    findings: list[Finding],
) -> None:
    """Add `resource` and the resources within it to `parts`, each with the part that its local references are resolved in."""
    type_name = resource.get("resourceType")
    if not isinstance(type_name, str):
        findings.append(Finding(IssueCode.REQUIRED, "Send a resource with its resourceType.", base))
        return
    if type_name not in SUPPORTED_TYPES:
        known = type_name in known_resources()
        say = "This resource type is not supported here." if known else "This is not a resource type of FHIR R4."
        findings.append(Finding(IssueCode.NOT_SUPPORTED, say, base))
        return
    path = base or type_name
    within: list[tuple[str, dict[str, Any]]] = []
    shown = _lift(resource, nest(type_name), path, within)
    if container is None:
        part = _Part(type_name, resource, shown, path, resource, _contained(resource) if within else _NOTHING, entries)
    else:
        part = _Part(type_name, resource, shown, path, container.root, container.contained, entries)
    parts.append(part)
    if within:
        inner = _entries(resource) if type_name == "Bundle" else entries
        for at, item in within:
            contained = at.startswith(f"{path}.contained[")
            _take(item, at, part if contained else None, entries if contained else inner, parts, findings)


def _lift(node: Any, where: Nest, path: str, within: list[tuple[str, dict[str, Any]]]) -> Any:
    """`node` with a stub for each resource in it, and those resources in `within`. What isn't shaped as FHIR says stays for the schema."""
    if isinstance(node, list):
        return [_lift(item, where, f"{path}[{i}]", within) for i, item in enumerate(node)]
    if not isinstance(node, dict) or where.keys().isdisjoint(node):
        return node
    copy = dict(node)
    for member in where.keys() & node.keys():
        inner, value = where[member], node[member]
        at = f"{path}.{member}"
        if inner is not None:
            copy[member] = _lift(value, inner, at, within)
        elif isinstance(value, list):
            copy[member] = [_stub(item, f"{at}[{i}]", within) for i, item in enumerate(value)]
        else:
            copy[member] = _stub(value, at, within)
    return copy


def _stub(value: Any, path: str, within: list[tuple[str, dict[str, Any]]]) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        return value
    within.append((path, value))
    return _STUB


def _contained(resource: dict[str, Any]) -> Mapping[str, str]:
    """id -> resource type."""
    listed = resource.get("contained")
    inner = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    pairs = ((item.get("id"), item.get("resourceType")) for item in inner)
    return {name: kind for name, kind in pairs if isinstance(name, str) and isinstance(kind, str)}


def _entries(bundle: dict[str, Any]) -> Mapping[str, str]:
    """fullUrl -> resource type: what a reference between entries points at (R4 bundle.html, resolving references)."""
    found: dict[str, str] = {}
    listed = bundle.get("entry")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("fullUrl"), str) and isinstance(entry.get("resource"), dict):
            type_name = entry["resource"].get("resourceType")
            if isinstance(type_name, str):
                found[entry["fullUrl"]] = type_name
    return found
