"""Canaries: marks planted in everything that is sent, and looked for in everything that leaves.

Each mark is unique and stands in six spellings. What may show it to whom is computed from the configuration's own text (the allow-list of
ingest, the selectors of the data classes), not from the code that is tested. Whoever adds a party or a region runs this over its own
configuration: `elements` names where marks go, `Field` remembers them, `Field.search` names each leak by its element, never by a value.
"""

from __future__ import annotations

import base64
import copy
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from gateway.fhir.model import load

__all__ = ["Allowances", "Element", "Field", "Leak", "Planted", "Spelling", "elements", "found_in", "marker", "planted_in", "spelled"]

Json = dict[str, Any]

_STEM: Final = "zqkvxj"
_WHOLE: Final = re.compile(rf"{_STEM}(\d{{5}})".encode())
_RUN: Final = re.compile(rb"[A-Za-z0-9+/_-]{10,}")
_ESCAPED: Final = re.compile(rb"\\u([0-9a-fA-F]{4})")
_TEXT: Final = frozenset({"string", "markdown", "xhtml"})
_PLAIN: Final = frozenset({"code", "id", "uri", "url", "canonical", "base64Binary"})
_MOST: Final = 99_999


class Spelling(StrEnum):
    """How a value may come out changed on its way."""

    PLAIN = "plain"
    CASE = "case"
    BASE64 = "base64"
    PERCENT = "percent"
    UNICODE = "unicode"
    REVERSED = "reversed"


def marker(number: int) -> str:
    """The mark of one place."""
    if not 0 <= number <= _MOST:
        raise ValueError("no more marks")
    return f"{_STEM}{number:05}"


def spelled(mark: str, spelling: Spelling) -> str:
    """A mark in one spelling; each is ASCII, so that it fits wherever text does, but the wide letters of UNICODE."""
    match spelling:
        case Spelling.PLAIN:
            return mark
        case Spelling.CASE:
            return mark.upper()
        case Spelling.BASE64:
            return base64.b64encode(mark.encode()).decode()
        case Spelling.PERCENT:
            return "".join(f"%{byte:02X}" for byte in mark.encode())
        case Spelling.UNICODE:
            return "".join(chr(ord(letter) + 0xFEE0) for letter in mark)  # full-width forms: NFKD makes plain letters of them
        case Spelling.REVERSED:
            return mark[::-1]


def every_spelling(mark: str) -> str:
    """One text that holds all six."""
    return " ".join(spelled(mark, spelling) for spelling in Spelling)


def found_in(data: bytes | str) -> frozenset[int]:
    """The numbers of the marks in some output, however they are spelled there: any of the six, or JSON's escapes."""
    raw = data.encode() if isinstance(data, str) else data
    found: set[int] = set()
    for view in _readings(raw):
        found.update(int(number) for number in _WHOLE.findall(view.lower()))
        found.update(int(number) for number in _WHOLE.findall(view[::-1].lower()))
    return frozenset(found)


def _readings(raw: bytes) -> Iterator[bytes]:
    unescaped = _ESCAPED.sub(lambda found: chr(int(found[1], 16)).encode("utf-8", "replace"), raw) if b"\\u" in raw else raw
    yield unescaped
    if not unescaped.isascii():
        yield unicodedata.normalize("NFKD", unescaped.decode("utf-8", "replace")).encode("ascii", "ignore")
    if b"%" in unescaped:
        yield unquote_to_bytes(unescaped)
    for run in _RUN.findall(unescaped):
        if any(inner in run for inner in _BASE64_STEMS):
            for start in range(4):
                part = run[start:].translate(_URL_SAFE)
                yield base64.b64decode(part + b"=" * (-len(part) % 4)) if len(part) % 4 != 1 else base64.b64decode(part[:-1])


_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_BASE64_STEMS: Final = tuple(
    base64.b64encode(b"\0" * shift + letters.encode())[(8 * shift + 5) // 6 : -2 if (shift + len(letters)) % 3 else None][:6]
    for letters in (_STEM, _STEM.upper())
    for shift in range(3)
)
"""The stem as base64 at each of the three places that it may have in a triple."""


@dataclass(frozen=True, slots=True)
class Element:
    """A place in a resource type: member names from the top, whether each repeats, and what stands there."""

    type: str
    path: tuple[str, ...]
    arrays: tuple[bool, ...]
    kind: str

    @property
    def name(self) -> str:
        return ".".join((self.type, *self.path))

    def values(self, mark: str) -> tuple[Any, ...]:
        """What to plant: all spellings at once, and where only a bare word is well-formed, that too."""
        if self.kind == "sibling":
            return ({"extension": [{"url": f"http://example.org/{mark}", "valueString": every_spelling(mark)}]},)
        if self.kind == "extension":
            return ({"url": f"http://example.org/{mark}", "valueString": every_spelling(mark)},)
        if self.kind == "resource":
            return ({"resourceType": "Patient", "id": "x", "name": [{"text": every_spelling(mark)}]},)
        if self.kind == "xhtml":
            return (f'<div xmlns="http://www.w3.org/1999/xhtml">{every_spelling(mark)}</div>',)
        return (every_spelling(mark), mark) if self.kind in _PLAIN else (every_spelling(mark),)


def elements(type_: str, depth: int = 2) -> Iterator[Element]:
    """Every element of a type that R4 defines, down to `depth`, with `_` siblings, unknown extensions, contained and narrative."""
    model = load("model")
    primitives = frozenset(model["primitives"])

    def walk(at: str, path: tuple[str, ...], arrays: tuple[bool, ...]) -> Iterator[Element]:
        for name, definition in model["types"][at]["elements"].items():
            kind, array = definition["type"], bool(definition.get("array"))
            where, repeats = (*path, name), (*arrays, array)
            if kind in primitives or kind == "xhtml":
                yield Element(type_, where, repeats, kind)
                if definition.get("sibling"):
                    yield Element(type_, (*path, "_" + name), repeats, "sibling")
            elif kind in ("Extension", "Resource"):
                yield Element(type_, where, repeats, kind.lower())
            elif len(where) < depth:
                yield from walk(kind, where, repeats)

    return walk(type_, (), ())


def planted_in(resource: Mapping[str, Any], element: Element, value: Any) -> Json:
    """A copy of the resource with the value at the element; what stands around it stays, a first item is made where there is none."""
    made: Json = copy.deepcopy(dict(resource))
    holder: Json = made
    *around, last = zip(element.path, element.arrays, strict=True)
    for name, array in around:
        inner = holder.setdefault(name, [{}] if array else {})
        first = inner[0] if isinstance(inner, list) and inner else inner
        if not isinstance(first, dict):
            first = holder[name] = {}
        holder = first
    name, array = last
    if name == "div":
        holder.setdefault("status", "generated")  # without it a narrative is no narrative
    if array and name in ("extension", "contained") and isinstance(holder.get(name), list):
        holder[name] = [*holder[name], value]
    else:
        holder[name] = [value] if array else value
    return made


@dataclass(frozen=True, slots=True)
class Planted:
    """One mark: where it went in, by which channel, and who may ever see it."""

    number: int
    where: str
    channel: str
    allowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Leak:
    """A mark where it may not be. Names elements, viewers and channels alone."""

    where: str
    channel: str
    egress: str
    viewer: str


@dataclass
class Field:
    """All marks of one run, and what came out."""

    planted: list[Planted] = field(default_factory=list)
    leaks: set[Leak] = field(default_factory=set)
    searched: dict[str, int] = field(default_factory=dict)
    seen: dict[str, set[int]] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)

    def plant(self, where: str, channel: str, allowed: Collection[str] = ()) -> str:
        """A new mark for a place; the viewers in `allowed` may see it."""
        self.planted.append(Planted(len(self.planted), where, channel, frozenset(allowed)))
        return marker(len(self.planted) - 1)

    def allow(self, viewers: Collection[str]) -> None:
        """Who may see the newest mark."""
        self.planted[-1] = replace(self.planted[-1], allowed=frozenset(viewers))

    def search(self, egress: str, viewer: str, *outputs: bytes | str) -> None:
        """Look through what left by one way, for one viewer ("" is nobody: a log, a file, an error)."""
        self.searched[egress] = self.searched.get(egress, 0) + len(outputs)
        for output in outputs:
            for number in found_in(output):
                self.seen.setdefault(viewer, set()).add(number)
                if number >= len(self.planted) or viewer not in self.planted[number].allowed:
                    where = self.planted[number] if number < len(self.planted) else Planted(number, "unknown", "unknown", frozenset())
                    self.leaks.add(Leak(where.where, where.channel, egress, viewer))

    def note_ids(self, viewer: str, ids: Collection[str]) -> None:
        """Ids are marks too: one that the hub drew for one shelf may stand on no other."""
        for other, theirs in self.ids.items():
            if other != viewer and theirs & set(ids):
                self.leaks.add(Leak("id", "drawn by the hub", f"shared with {other}", viewer))
        self.ids.setdefault(viewer, set()).update(ids)


@dataclass(frozen=True, slots=True)
class Allowances:
    """Who may see what, read from `mappings/data-classes.yaml` as it is written."""

    document: Mapping[str, Any]

    def kept(self, resource: Mapping[str, Any], path: Sequence[str]) -> bool:
        """Whether the author's own shelf may keep what stands at a path of a resource."""
        rule: Any = self.document["ingest"].get(resource.get("resourceType"))
        value: Any = resource
        for name in path:
            rule = self._inside(rule, value)
            if not isinstance(rule, Mapping) or name not in rule:
                return False
            rule = rule[name]
            value = value.get(name) if isinstance(value, Mapping) else None
            value = value[0] if isinstance(value, list) and value else value
        return rule == "keep" or (isinstance(rule, Mapping) and "text" in rule)

    def _inside(self, rule: Any, value: Any) -> Any:
        while (
            isinstance(rule, Mapping)
            and ("use" in rule or "concept" in rule or "coding" in rule)
            and not isinstance(rule.get("use"), Mapping)
        ):
            if "concept" in rule:
                return {"coding": {"coding": rule["concept"]}}
            if "coding" in rule and isinstance(rule["coding"], list):
                return {"system": "keep", "code": "keep"}
            if rule.get("use") not in self.document["types"]:
                break
            rule = self.document["types"][rule["use"]]
        if isinstance(rule, Mapping) and "by" in rule:
            return rule["items"].get(next(iter(_at(value, rule["by"].split("."))), None))
        return rule

    def classes(self, resource: Mapping[str, Any], path: Sequence[str]) -> frozenset[str]:
        """The data classes that hold what stands at a path."""
        return frozenset(
            name for name, entry in self.document["classes"].items() if any(self._selects(s, resource, path) for s in entry["at"])
        )

    def _selects(self, selector: Mapping[str, Any], resource: Mapping[str, Any], path: Sequence[str]) -> bool:
        type_, first = str(resource.get("resourceType")), path[0]
        items = resource.get(first)
        item = items[0] if isinstance(items, list) and items else items
        if "input" in selector:
            fits = type_ == "Task" and first == "input" and selector["input"] in _at(item, ["type", "coding", "code"])
            return fits and len(path) > 1 and path[1] == selector["value"]
        if selector.get("element") != f"{type_}.{first}":
            return False
        where = selector.get("where", {})
        if not all(set(_at(item, at.split("."))) & set(values) for at, values in where.items() if not at.startswith("extension")):
            return False
        return "keep" not in selector or ".".join(path[1:]) in selector["keep"]


def _at(value: Any, path: Sequence[str]) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        if isinstance(value, str):
            yield value
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _at(value[path[0]], path[1:])
