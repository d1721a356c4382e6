"""The only maker of a Release: copies what a permit allows of what the sender wrote. Pure.

It copies allowed elements; it never deletes forbidden ones. Each data class says where its values stand (`Selector`); a value
is rebuilt from its known parts (system and code of a coding, the listed children of an element), so display texts, unknown
extensions, `_` siblings, contained resources and narrative have no way through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.adapter_api import Operation
from gateway.decision.decide import Permit
from gateway.identity import ShelfId, ThreadId
from gateway.parties.model import DataClass, Selector, SelectorKind
from gateway.vocabulary import EXT_AGE_BAND

__all__ = [
    "OBLIGATIONS",
    "Part",
    "Plan",
    "Release",
    "Source",
    "age_band_of",
    "classes_in",
    "codes_of",
    "compile_plan",
    "forward",
    "labels_of",
    "minimize",
    "yes_in",
]

Json = dict[str, Any]

_CONFIDENTIALITY: Final = ("N", "R", "V")  # v3-Confidentiality, low to high
OBLIGATIONS: Final = ("MINEC", "CPLYCD", "NORDSCLCDS", "NOREUSE", "NORELINK")
"""What every receiver takes on with a copy (v3-ActCode): encrypt, comply, do not pass on, reuse or relink."""

_PRIMITIVES: Final = (str, bool, int, float)


Tree = Mapping[str, Any]
"""Which members of a structure are copied, each with its own tree; an empty tree is a primitive."""


@dataclass(frozen=True, slots=True)
class Step:
    """One selector, compiled."""

    selector: Selector
    where: tuple[tuple[tuple[str, ...], frozenset[str]], ...]
    tree: Tree
    extensions: Mapping[str, Mapping[str, Tree]]


@dataclass(frozen=True, slots=True)
class Plan:
    """All data classes, compiled once for a policy."""

    classes: Mapping[str, DataClass]
    steps: Mapping[str, tuple[Step, ...]]


@dataclass(frozen=True, slots=True)
class Source:
    """What the author wrote, as it lies on the author's shelf."""

    patient: Json
    request: Json
    task: Json


@dataclass(frozen=True, slots=True)
class Part:
    """One copy going out as it lies on the receiver's shelf (for an adapter)."""

    type: str
    id: str
    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Release:
    """What one receiver may learn, and why. Built only in this module; everything after it only arranges what is here."""

    thread: ThreadId
    shelf: ShelfId
    row: str
    basis: str
    grants: tuple[str, ...]
    classes: tuple[str, ...]
    confidentiality: str
    sensitivity: tuple[str, ...]
    patient: Mapping[str, Any]
    request: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...]
    parts: tuple[Part, ...] = ()
    operation: Operation = Operation.PUT
    version: int = 0
    idempotency_key: str = ""
    correlation_id: str = ""
    obligations: tuple[str, ...] = OBLIGATIONS


def compile_plan(classes: Mapping[str, DataClass]) -> Plan:
    """The plan for a policy's data classes. Selectors of what only the hub or the receiver writes have no step."""
    steps = {
        name: tuple(
            _compile(selector)
            for selector in data_class.selectors
            if selector.kind in (SelectorKind.ELEMENT, SelectorKind.EXTENSION, SelectorKind.INPUT)
            and (selector.kind is SelectorKind.INPUT or selector.resource in ("Patient", "ServiceRequest"))
        )
        for name, data_class in classes.items()
    }
    return Plan(classes, steps)


def _compile(selector: Selector) -> Step:
    return Step(
        selector,
        tuple((tuple(path.split(".")), allowed) for path, allowed in selector.where.items()),
        _tree(selector.keep),
        {url: {part: _tree(paths) for part, paths in parts.items()} for url, parts in selector.extensions.items()},
    )


def _tree(paths: Sequence[str]) -> Tree:
    root: dict[str, Any] = {}
    for path in paths:
        at = root
        for name in path.split("."):
            at = at.setdefault(name, {})
    return root


def minimize(
    source: Source, permit: Permit, plan: Plan, *, thread: ThreadId, shelf: ShelfId, needs: frozenset[str] | None = None
) -> Release:
    """The allowed values of `source` for the receiver of `permit`.

    `needs` narrows coded needs to those of the service asked for. Never raises: a value of an unexpected shape is not copied.
    """
    patient: dict[str, Any] = {}
    request: dict[str, Any] = {}
    inputs: list[Mapping[str, Any]] = []
    went: list[str] = []
    given = _by_kind(source.task)
    row = permit.row
    fits = row.age_bands is None or age_band_of(source) in row.age_bands  # whatever has become of her age since it was offered
    for name, rule in permit.classes.items() if fits else ():
        only = rule.only
        if name == "needs" and needs is not None:
            only = needs if only is None else only & needs
        before = len(inputs) + len(patient) + len(request)
        for step in plan.steps.get(name, ()):
            if step.selector.kind is SelectorKind.INPUT:
                inputs.extend(_inputs(given, step, only))
            elif step.selector.resource == "Patient":
                _values(source.patient, step, only, patient)
            else:
                _values(source.request, step, only, request)
        if len(inputs) + len(patient) + len(request) > before:
            went.append(name)
    confidentiality, sensitivity = labels_of(went, plan.classes)
    sensitivity = _of_values(sensitivity, went, plan, source, permit)
    return Release(
        thread=thread,
        shelf=shelf,
        row=permit.row.id,
        basis=permit.basis.id,
        grants=permit.grants,
        classes=tuple(went),
        confidentiality=confidentiality,
        sensitivity=sensitivity,
        patient=patient,
        request=request,
        inputs=tuple(inputs),
        obligations=(*OBLIGATIONS, *row.obligations),
    )


def _of_values(usual: tuple[str, ...], went: Sequence[str], plan: Plan, source: Source, permit: Permit) -> tuple[str, ...]:
    """The sensitivity codes of what went, with those that its values bring and without those that they take away."""
    labels: dict[str, None] = {}
    brought: dict[str, None] = {}
    for name in went:
        data_class = plan.classes[name]
        if not any(_only_these(other, values, plan, source) for other, values in data_class.unlabelled_with.items()):
            labels.update(dict.fromkeys(data_class.sensitivity))
        for label, values in data_class.sensitivity_of.items():
            if values & codes_of(name, plan, source):
                brought[label] = None
    kept = [label for label in usual if label in labels] + [label for label in brought if label not in labels]
    return tuple(label for label in kept if label not in permit.row.without_labels)


def _only_these(name: str, values: frozenset[str], plan: Plan, source: Source) -> bool:
    found = codes_of(name, plan, source)
    return bool(found) and found <= values


def codes_of(name: str, plan: Plan, source: Source) -> frozenset[str]:
    """The codes that the author gave for one class, released or not."""
    given = _by_kind(source.task)
    found: set[str] = set()
    for step in plan.steps.get(name, ()):
        selector = step.selector
        if selector.kind is SelectorKind.INPUT:
            values: list[Any] = [item.get(selector.value) for item in _inputs(given, step, None)]
        else:
            into: dict[str, Any] = {}
            _values(source.patient if selector.resource == "Patient" else source.request, step, None, into)
            values = [item for kept in into.values() for item in (kept if isinstance(kept, list) else [kept])]
        for value in values:
            found |= _codes_in(value, selector)
    return frozenset(found)


def _codes_in(value: Any, selector: Selector) -> frozenset[str]:
    """The codes of a value as it was rebuilt: of a concept, of an extension, or where the selector says they stand."""
    if isinstance(value, dict) and selector.kind is SelectorKind.EXTENSION:
        value = value.get(selector.value)
    if isinstance(value, str):
        return frozenset((value,)) if selector.codes is not None and value in selector.codes else frozenset()
    path = selector.codes_at or ("coding", "code")
    return frozenset(code for code in _at(value, path) if isinstance(code, str) and (selector.codes is None or code in selector.codes))


def age_band_of(source: Source) -> str | None:
    """What the author says of her age; None when nothing, or more than one thing."""
    found = {
        extension.get("valueCode")
        for extension in source.patient.get("extension") or ()
        if isinstance(extension, dict) and extension.get("url") == EXT_AGE_BAND
    }
    band = found.pop() if len(found) == 1 else None
    return band if isinstance(band, str) else None


def yes_in(source: Source, plan: Plan) -> frozenset[str]:
    """The yes-or-no classes to which the author said yes, and never no."""
    given = _by_kind(source.task)
    said = {
        name: {item.get("valueBoolean") for step in steps if step.selector.value == "valueBoolean" for item in _inputs(given, step, None)}
        for name, steps in plan.steps.items()
    }
    return frozenset(name for name, answers in said.items() if answers == {True})


def forward(permit: Permit | None, parts: Sequence[Part], *, thread: ThreadId, shelf: ShelfId, version: int, key: str) -> Release:
    """What an adapter is given to send: copies that already lie on the receiver's shelf, after the decision was taken again.

    `key` is the delivery's id: the idempotency key and, being used for this shelf alone, the correlation id.
    """
    return Release(
        thread=thread,
        shelf=shelf,
        row=permit.row.id if permit else "",
        basis=permit.basis.id if permit else "",
        grants=permit.grants if permit else (),
        classes=tuple(permit.classes) if permit else (),
        confidentiality="V",
        sensitivity=(),
        patient={},
        request={},
        inputs=(),
        parts=tuple(parts),
        version=version,
        idempotency_key=key,
        correlation_id=key,
    )


def classes_in(source: Source, plan: Plan) -> frozenset[str]:
    """The data classes that the author supplied a value for."""
    present = set()
    given = _by_kind(source.task)
    for name, steps in plan.steps.items():
        for step in steps:
            found: dict[str, Any] = {}
            if step.selector.kind is SelectorKind.INPUT:
                if any(True for _ in _inputs(given, step, None)):
                    present.add(name)
                    break
                continue
            _values(source.patient if step.selector.resource == "Patient" else source.request, step, None, found)
            if found:
                present.add(name)
                break
    return frozenset(present)


def labels_of(names: Sequence[str], classes: Mapping[str, DataClass]) -> tuple[str, tuple[str, ...]]:
    """The high-water mark of confidentiality and the sensitivity codes of a set of classes."""
    level = 0
    sensitivity: dict[str, None] = {}
    for name in names:
        data_class = classes[name]
        level = max(level, _CONFIDENTIALITY.index(data_class.confidentiality))
        sensitivity.update(dict.fromkeys(data_class.sensitivity))
    return _CONFIDENTIALITY[level], tuple(sensitivity)


_Inputs = Mapping[str, Sequence[tuple[str, Json]]]
"""A Task's inputs by the code of their type, each with the system that the code is of."""


def _by_kind(task: Json) -> _Inputs:
    found: dict[str, list[tuple[str, Json]]] = {}
    for item in task.get("input") or ():
        kinds: dict[str, str] = {}
        concept = item.get("type") if isinstance(item, dict) else None
        for coding in (concept.get("coding") or ()) if isinstance(concept, dict) else ():
            if isinstance(coding, dict) and isinstance(coding.get("code"), str) and isinstance(coding.get("system"), str):
                kinds.setdefault(coding["code"], coding["system"])
        for code, system in kinds.items():
            found.setdefault(code, []).append((system, item))
    return found


def _inputs(given: _Inputs, step: Step, only: frozenset[str] | None) -> Iterator[Json]:
    selector = step.selector
    for system, item in given.get(selector.element, ()):
        value = _value(item.get(selector.value), selector, only)
        if value is not None:
            yield {"type": {"coding": [{"system": system, "code": selector.element}]}, selector.value: value}


def _values(resource: Json, step: Step, only: frozenset[str] | None, into: dict[str, Any]) -> None:
    """Copy one element (or extension) of a resource into the release, as a list where it repeats."""
    selector = step.selector
    if selector.kind is SelectorKind.EXTENSION:
        for extension in resource.get("extension") or ():
            if isinstance(extension, dict) and extension.get("url") == selector.element:
                value = _value(extension.get(selector.value), selector, only)
                if value is not None:
                    into.setdefault("extension", []).append({"url": selector.element, selector.value: value})
        return
    found = resource.get(selector.element)
    if isinstance(found, list):
        fitting = (item for item in found if _matches(item, step) and (only is None or _within(item, selector, only)))
        copied = [kept for kept in (_item(item, step) for item in fitting) if kept is not None]
        if copied:
            into.setdefault(selector.element, []).extend(copied)
    elif found is not None and _matches(found, step) and (only is None or _within(found, selector, only)):
        kept = _item(found, step)
        if kept is not None:
            into[selector.element] = kept


def _matches(item: Any, step: Step) -> bool:
    return all(any(value in allowed for value in _at(item, path)) for path, allowed in step.where)


def _within(item: Any, selector: Selector, only: frozenset[str]) -> bool:
    """Whether the codes that an item holds are all among those that may go; one that holds none of them does not go."""
    held = {code for code in _at(item, selector.codes_at) if isinstance(code, str) and code in (selector.codes or ())}
    return bool(selector.codes_at) and bool(held) and held <= only


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def _item(item: Any, step: Step) -> Any:
    kept = _copy(item, step.tree)
    if step.extensions and isinstance(item, dict):
        extensions = [e for e in (_extension(x, step.extensions) for x in item.get("extension") or ()) if e is not None]
        if extensions:
            kept = {**(kept or {}), "extension": extensions}
    return kept


def _copy(value: Any, tree: Tree) -> Any:
    """The members of `value` that `tree` names; None when nothing is left."""
    if isinstance(value, list):
        return [kept for kept in (_copy(item, tree) for item in value) if kept is not None] or None
    if not tree:
        return value if isinstance(value, _PRIMITIVES) else None
    if not isinstance(value, dict):
        return None
    kept = {
        name: inner for name, inner in ((name, _copy(value[name], sub)) for name, sub in tree.items() if name in value) if inner is not None
    }
    return kept or None


def _extension(extension: Any, allowed: Mapping[str, Mapping[str, Tree]]) -> Json | None:
    """One of our own extensions, rebuilt from the parts listed."""
    parts = allowed.get(str(extension.get("url"))) if isinstance(extension, dict) else None
    if parts is None:
        return None
    rebuilt: Json = {"url": extension["url"], **(_copy(extension, parts.get("", {})) or {})} if parts.get("") else {"url": extension["url"]}
    inner = []
    for part in extension.get("extension") or ():
        tree = parts.get(str(part.get("url"))) if isinstance(part, dict) else None
        if tree:
            value = _copy(part, tree)
            if value:
                inner.append({"url": part["url"], **value})
    if inner:
        rebuilt["extension"] = inner
    return rebuilt if len(rebuilt) > 1 else None


def _value(value: Any, selector: Selector, only: frozenset[str] | None) -> Any:
    """A value[x] rebuilt; None when it may not go."""
    if isinstance(value, dict):
        codings = [
            {"system": coding["system"], "code": coding["code"]}
            for coding in value.get("coding") or ()
            if isinstance(coding, dict)
            and isinstance(coding.get("code"), str)
            and isinstance(coding.get("system"), str)
            and (not selector.system or coding["system"] == selector.system)
            and (selector.codes is None or coding["code"] in selector.codes)
            and (only is None or coding["code"] in only)
        ]
        return {"coding": codings} if codings else None
    if isinstance(value, str):
        known = (only is None or value in only) and (selector.codes is None or value in selector.codes)
        return value if known and not (selector.max_length and len(value) > selector.max_length) else None
    return value if isinstance(value, _PRIMITIVES) else None
