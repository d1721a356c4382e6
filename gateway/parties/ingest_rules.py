"""The ingest allow-list, compiled: every element that an API client may send, by resource type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from gateway.parties.codes import CodeBook
from gateway.parties.errors import Mistakes
from gateway.parties.model import ElementRule, Treatment
from gateway.parties.yaml_lines import Document, Place
from gateway.vocabulary import DATA_CLASS, EXTENSION

__all__ = ["compile_ingest"]

_KEEP: Final = ElementRule()
_DROP: Final = ElementRule(Treatment.DROP)
_NARRATIVE: Final = ElementRule(Treatment.NARRATIVE)
_TREATMENTS: Final = frozenset(treatment.value for treatment in Treatment)


def compile_ingest(document: Document, book: CodeBook, mistakes: Mistakes) -> Mapping[str, Mapping[str, ElementRule]]:
    """Resource type -> member -> rule."""
    compiler = _Compiler(document, book, mistakes, {}, frozenset(document.data["classes"]))
    return MappingProxyType(
        {name: compiler.members(members, ("ingest", name), top=True) for name, members in document.data["ingest"].items()}
    )


@dataclass(frozen=True, slots=True)
class _Compiler:
    document: Document
    book: CodeBook
    mistakes: Mistakes
    types: dict[str, ElementRule]
    classes: frozenset[str]

    def members(self, data: dict[str, Any], place: Place, *, top: bool) -> Mapping[str, ElementRule]:
        return MappingProxyType({name: self.rule(rule, (*place, name), top=top) for name, rule in data.items()})

    def rule(self, data: Any, place: Place, *, top: bool) -> ElementRule:
        """One rule. `top`: urls of extensions here are whole urls; inside a complex extension they are bare names."""
        if isinstance(data, str):
            return ElementRule(Treatment(data))
        if "by" in data and "items" in data:
            whole = data["by"] == "url" and top
            return ElementRule(
                by=data["by"],
                items=MappingProxyType(
                    {
                        (EXTENSION + key if whole else key): ElementRule(
                            children=self.members(members, (*place, "items", key), top=top and data["by"] != "url")
                        )
                        for key, members in data["items"].items()
                    }
                ),
                otherwise=data.get("otherwise", "forbidden-element"),
            )
        if len(data) == 1:
            ((word, value),) = data.items()
            match word:
                case "use" if isinstance(value, str) and value[:1].isupper():
                    return self.type(value, place)
                case "code" if isinstance(value, str) and value not in _TREATMENTS:
                    return ElementRule(codes=self.system(value, (*place, "code"))[1])
                case "text" if isinstance(value, int):
                    return ElementRule(max_length=value)
                case "coding" if isinstance(value, list):
                    return self.coding(value, (*place, "coding"))
                case "concept" if isinstance(value, list):
                    coding = self.coding(value, (*place, "concept"))
                    return ElementRule(children=MappingProxyType({"coding": coding, "text": _NARRATIVE, "id": _DROP}))
        return ElementRule(children=self.members(data, place, top=top))

    def type(self, name: str, place: Place) -> ElementRule:
        """A named type, compiled once. Its members are filled in after it is noted, so that a type may hold itself."""
        if name in self.types:
            return self.types[name]
        data = self.document.data["types"].get(name)
        if data is None:
            self.mistakes.add(self.document.file, self.document.line(place), f"{name!r} is not one of the types")
            return _KEEP
        if "by" in data:
            self.types[name] = self.rule(data, ("types", name), top=True)
            return self.types[name]
        members: dict[str, ElementRule] = {}
        self.types[name] = ElementRule(children=MappingProxyType(members))
        members.update(self.members(data, ("types", name), top=True))
        return self.types[name]

    def coding(self, names: Sequence[str], place: Place) -> ElementRule:
        systems = dict(self.system(name, (*place, index)) for index, name in enumerate(names))
        children = {"system": _KEEP, "code": _KEEP, "display": _DROP, "version": _DROP, "userSelected": _DROP, "id": _DROP}
        return ElementRule(children=MappingProxyType(children), systems=MappingProxyType(systems))

    def system(self, name: str, place: Place) -> tuple[str, frozenset[str]]:
        if name == "data-class":
            return DATA_CLASS, self.classes
        if name not in self.book.codes:
            self.mistakes.add(self.document.file, self.document.line(place), f"{name!r} is not a code system")
        return self.book.urls.get(name, ""), self.book.codes.get(name, frozenset())
