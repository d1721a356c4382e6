"""`mappings/data-classes.yaml`: where each class stands, its labels, and what is refused whatever anyone agreed to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gateway.parties.codes import CodeBook
from gateway.parties.errors import Mistakes
from gateway.parties.ingest_rules import compile_ingest
from gateway.parties.model import DataClass, ElementRule, Selector, SelectorKind
from gateway.parties.yaml_lines import Document, Place
from gateway.vocabulary import CODE_SYSTEM, EXTENSION

__all__ = ["ClassBook", "compile_classes"]


@dataclass(frozen=True, slots=True)
class ClassBook:
    """The data classes and the ingest rules."""

    classes: Mapping[str, DataClass]
    groups: Mapping[str, frozenset[str]]
    always: frozenset[str]
    forbidden: Mapping[str, str]
    forbidden_elements: Mapping[str, str]
    narrative: frozenset[str]
    ingest: Mapping[str, Mapping[str, ElementRule]]


def compile_classes(document: Document, book: CodeBook, mistakes: Mistakes) -> ClassBook:
    """Compile the data classes; the shape has been checked, the codes they name are checked here."""
    data = document.data
    classes = {
        name: DataClass(
            id=name,
            selectors=tuple(
                _selector(part, document, ("classes", name, "at", index), book, mistakes) for index, part in enumerate(entry["at"])
            ),
            confidentiality=entry["confidentiality"],
            sensitivity=tuple(entry.get("sensitivity", ())),
            live=entry["live"],
            sensitivity_of=_named(entry.get("sensitivity-of-codes", {})),
            unlabelled_with=_named(entry.get("unlabelled-with", {})),
        )
        for name, entry in data["classes"].items()
    }
    _conditions(document, classes, mistakes)
    for key in ("always", *data["groups"]):
        listed, place = (data["always"], ("always",)) if key == "always" else (data["groups"][key], ("groups", key))
        for index, name in enumerate(listed):
            if name not in classes:
                mistakes.add(document.file, document.line((*place, index)), f"{name!r} is not a data class")
    for name in data["groups"]:
        if name in classes:
            mistakes.add(document.file, document.key_line(("groups", name)), f"{name!r} is the name of a data class too")
    forbidden, elements = _forbidden(document, book, classes, mistakes)
    return ClassBook(
        classes=MappingProxyType(classes),
        groups=MappingProxyType({name: frozenset(listed) for name, listed in data["groups"].items()}),
        always=frozenset(data["always"]),
        forbidden=MappingProxyType(forbidden),
        forbidden_elements=MappingProxyType(elements),
        narrative=frozenset(data["narrative"]),
        ingest=compile_ingest(document, book, mistakes),
    )


def _named(lists: dict[str, list[str]]) -> Mapping[str, frozenset[str]]:
    return MappingProxyType({name: frozenset(codes) for name, codes in lists.items()})


def _conditions(document: Document, classes: Mapping[str, DataClass], mistakes: Mistakes) -> None:
    """Labels that depend on a value name values that the class can have."""
    for name, entry in document.data["classes"].items():
        for member, other in (
            *((("sensitivity-of-codes", label), name) for label in entry.get("sensitivity-of-codes", ())),
            *((("unlabelled-with", other), other) for other in entry.get("unlabelled-with", ())),
        ):
            place: Place = ("classes", name, *member)
            if other not in classes:
                mistakes.add(document.file, document.key_line(place), f"{other!r} is not a data class")
                continue
            possible = frozenset(code for selector in classes[other].selectors for code in selector.codes or ())
            for index, code in enumerate(entry[member[0]][member[1]]):
                if code not in possible:
                    mistakes.add(document.file, document.line((*place, index)), f"{code!r} is not a code that the class {other!r} can hold")


def _forbidden(
    document: Document, book: CodeBook, classes: Mapping[str, DataClass], mistakes: Mistakes
) -> tuple[dict[str, str], dict[str, str]]:
    codes: dict[str, str] = {}
    elements: dict[str, str] = {}
    for name, entry in document.data["forbidden"].items():
        if name in classes:
            mistakes.add(document.file, document.key_line(("forbidden", name)), f"{name!r} is a data class, so it cannot be forbidden too")
        for part, into in (("inputs", codes), ("identifiers", codes), ("elements", elements)):
            for index, code in enumerate(entry.get(part, ())):
                place = ("forbidden", name, part, index)
                if into.setdefault(code, name) != name:
                    mistakes.add(document.file, document.line(place), f"{code!r} is forbidden as {into[code]!r} already")
                if part == "inputs" and book.known("task-input", code):
                    mistakes.add(document.file, document.line(place), f"{code!r} is a task-input that may be sent")
    return codes, elements


def _selector(part: dict[str, Any], document: Document, place: Place, book: CodeBook, mistakes: Mistakes) -> Selector:
    def codes_of(name: str | None) -> tuple[str, frozenset[str] | None]:
        if name is None:
            return "", None
        if name not in book.codes:
            mistakes.add(document.file, document.line((*place, "codes")), f"{name!r} is not a code system")
        return book.urls.get(name, ""), book.codes.get(name, frozenset())

    system, codes = codes_of(part.get("codes"))
    common = {"value": part.get("value", ""), "system": system, "codes": codes, "max_length": part.get("max-length", 0)}
    if "hub" in part:
        return Selector(SelectorKind.HUB, resource="", element=part["hub"])
    if "extension" in part:
        return Selector(SelectorKind.EXTENSION, resource=part["extension"], element=EXTENSION + part["url"], **common)
    for key, kind in (("input", SelectorKind.INPUT), ("output", SelectorKind.OUTPUT)):
        if key in part:
            book.expect(f"task-{key}", part[key], document, (*place, key), mistakes)
            return Selector(kind, resource="Task", element=part[key], **common)
    if "age-of" in part:
        resource, _, element = part["age-of"].partition(".")
        for band in part["begins"]:
            book.expect(part["codes"], band, document, (*place, "begins", band), mistakes)
        ages = MappingProxyType(dict(part["begins"]))
        return Selector(SelectorKind.AGE, resource, element, extension=EXTENSION + part["url"], ages=ages, **common)
    resource, _, element = part["element"].partition(".")
    return Selector(
        SelectorKind.ELEMENT,
        resource=resource,
        element=element,
        where=MappingProxyType({path: frozenset(_expand(path, v) for v in values) for path, values in part.get("where", {}).items()}),
        keep=tuple(part.get("keep", ())),
        extensions=MappingProxyType(
            {
                EXTENSION + url: MappingProxyType({piece: tuple(paths) for piece, paths in pieces.items()})
                for url, pieces in part.get("extensions", {}).items()
            }
        ),
        codes=codes,
        codes_at=tuple(part["codes-at"].split(".")) if "codes-at" in part else (),
        max_length=part.get("max-length", 0),
    )


def _expand(path: str, value: str) -> str:
    """Local names stand for their urls where a url is compared."""
    if ":" in value:
        return value
    last = path.rpartition(".")[2]
    return {"url": EXTENSION, "system": CODE_SYSTEM}.get(last, "") + value
