"""What an author wrote, found class by class: each data class says where its values stand (`Selector`). Pure.

A value is rebuilt from its known parts (system and code of a coding, the listed children of an element), so display texts, unknown
extensions, `_` siblings, contained resources and narrative have no way through. `minimize` uses it to copy what a permit allows; the rest
of the hub to know what was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.disclosure.ages import band_on, is_birth_date
from gateway.parties.model import DataClass, Selector, SelectorKind

__all__ = [
    "Plan",
    "Source",
    "age_band_of",
    "by_kind",
    "classes_in",
    "codes_of",
    "compile_plan",
    "copy_age",
    "copy_values",
    "inputs_of",
    "yes_in",
]

Json = dict[str, Any]

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
    questions: Mapping[str, Step]
    """The classes that hold yes or no."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the author wrote, as it lies on the author's shelf."""

    patient: Json
    request: Json
    task: Json


def compile_plan(classes: Mapping[str, DataClass]) -> Plan:
    """The plan for a policy's data classes. Selectors of what only the hub or the receiver writes have no step."""
    steps = {
        name: tuple(
            _compile(selector)
            for selector in data_class.selectors
            if selector.kind in (SelectorKind.ELEMENT, SelectorKind.EXTENSION, SelectorKind.AGE, SelectorKind.INPUT)
            and (selector.kind is SelectorKind.INPUT or selector.resource in ("Patient", "ServiceRequest"))
        )
        for name, data_class in classes.items()
    }
    questions = {name: each[0] for name, each in steps.items() if len(each) == 1 and each[0].selector.value == "valueBoolean"}
    return Plan(classes, steps, questions)


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


def classes_in(source: Source, plan: Plan) -> frozenset[str]:
    """The data classes that the author supplied a value for."""
    present = set()
    given = by_kind(source.task)
    for name, steps in plan.steps.items():
        for step in steps:
            found: dict[str, Any] = {}
            if step.selector.kind is SelectorKind.AGE:
                if is_birth_date(source.patient.get(step.selector.element)):
                    present.add(name)
                continue
            if step.selector.kind is SelectorKind.INPUT:
                if any(True for _ in inputs_of(given, step, None)):
                    present.add(name)
                    break
                continue
            copy_values(source.patient if step.selector.resource == "Patient" else source.request, step, None, found)
            if found:
                present.add(name)
                break
    return frozenset(present)


def codes_of(name: str, plan: Plan, source: Source) -> frozenset[str]:
    """The codes that the author gave for one class, released or not."""
    found: set[str] = set()
    for step in plan.steps.get(name, ()):
        selector = step.selector
        if selector.kind is SelectorKind.AGE:
            continue
        if selector.kind is SelectorKind.INPUT:
            values: list[Any] = [item.get(selector.value) for item in inputs_of(by_kind(source.task), step, None)]
        else:
            into: dict[str, Any] = {}
            copy_values(source.patient if selector.resource == "Patient" else source.request, step, None, into)
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


def age_band_of(source: Source, plan: Plan, at: int) -> str | None:
    """Her age band as the author gives it, or else as her birth date makes it; None when neither tells one.

    A birth date that makes her a minor counts whatever else is said.
    """
    stated: set[str] = set()
    derived: str | None = None
    for step in plan.steps.get("age-band", ()):
        if step.selector.kind is SelectorKind.AGE:
            derived = band_on(source.patient.get(step.selector.element), at, step.selector.ages)
        else:
            into: dict[str, Any] = {}
            copy_values(source.patient, step, None, into)
            stated |= {code for value in into.get("extension", ()) for code in _codes_in(value, step.selector)}
    minors: frozenset[str] = frozenset()
    if "age-band" in plan.classes:
        minors = plan.classes["age-band"].sensitivity_of.get("ADOL", frozenset())
    if derived in minors or not stated:
        return derived
    return stated.pop() if len(stated) == 1 else None


def copy_age(source: Source, step: Step, only: frozenset[str] | None, at: int, into: dict[str, Any]) -> bool:
    """The age band that a birth date makes, where the author did not give one and `at` is known; whether there is one."""
    selector = step.selector
    if not at or any(extension.get("url") == selector.extension for extension in into.get("extension", ())):
        return False
    band = band_on(source.patient.get(selector.element), at, selector.ages)
    if band is not None and (only is None or band in only):
        into.setdefault("extension", []).append({"url": selector.extension, selector.value: band})
        return True
    return False


def yes_in(source: Source, plan: Plan) -> frozenset[str]:
    """The yes-or-no classes to which the author said yes, and never no."""
    given = by_kind(source.task)
    yes = set()
    for name, step in plan.questions.items():
        if step.selector.element in given:
            answers = {item["valueBoolean"] for item in inputs_of(given, step, None)}
            if answers == {True}:
                yes.add(name)
    return frozenset(yes)


_Inputs = Mapping[str, Sequence[tuple[str, Json]]]
"""A Task's inputs by the code of their type, each with the system that the code is of."""


def by_kind(task: Json) -> _Inputs:
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


def inputs_of(given: _Inputs, step: Step, only: frozenset[str] | None) -> Iterator[Json]:
    selector = step.selector
    for system, item in given.get(selector.element, ()):
        value = _value(item.get(selector.value), selector, only)
        if value is not None:
            yield {"type": {"coding": [{"system": system, "code": selector.element}]}, selector.value: value}


def copy_values(resource: Json, step: Step, only: frozenset[str] | None, into: dict[str, Any]) -> bool:
    """Copy one element (or extension) of a resource into the release, as a list where it repeats; whether there was anything."""
    selector = step.selector
    if selector.kind is SelectorKind.EXTENSION:
        any_ = False
        for extension in resource.get("extension") or ():
            if isinstance(extension, dict) and extension.get("url") == selector.element:
                value = _value(extension.get(selector.value), selector, only)
                if value is not None:
                    into.setdefault("extension", []).append({"url": selector.element, selector.value: value})
                    any_ = True
        return any_
    found = resource.get(selector.element)
    if isinstance(found, list):
        fitting = (item for item in found if _matches(item, step) and (only is None or _within(item, selector, only)))
        copied = [kept for kept in (_item(item, step) for item in fitting) if kept is not None]
        if copied:
            into.setdefault(selector.element, []).extend(copied)
            return True
    elif found is not None and _matches(found, step) and (only is None or _within(found, selector, only)):
        kept = _item(found, step)
        if kept is not None:
            into[selector.element] = kept
            return True
    return False


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
