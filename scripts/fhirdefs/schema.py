"""Enrich HL7's R4 JSON Schema with what its definitions say and the schema leaves out.

Starting from HL7's `definitions`, each property is compared with the StructureDefinition (the few differences are recorded; the
definitions win) and then gets: the codes of a required binding, at least one item in an array, real dates, required primitives (a value
or its `_` sibling), the range of integers, no empty object. What a schema can't say cheaply (one value of a choice, reference
targets, FHIRPath invariants) goes to the model and the rules.

The schema is JSON Schema draft 4, where `1.0` is not an integer, as FHIR wants it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .sources import Sources
from .types import Element, Type
from .valuesets import Unexpandable, expand

__all__ = ["build_schema"]

Json = dict[str, Any]

_REGEX_URL: Final = "http://hl7.org/fhir/StructureDefinition/regex"

# R4 datatypes page, string: "SHALL NOT contain Unicode character points below 32, except for u0009, u000D and u000A". HL7's regex
# `[ \r\n\t\S]+` reads `\S` as ASCII does, so that a no-break space (as French writes it) is text.
_TEXT: Final = "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f]+$"
_SPACES: Final = " \\t\\n\\r\\f\\u000b"

# "Dates SHALL be valid dates" (R4, date and dateTime): days per month, and 29 February in leap years only.
_LEAP: Final = "(?:[0-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAY: Final = (
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    f"|{_LEAP}-02-29)"
)
_REAL_DATE: Final = f"^(?:[0-9]{{4}}(?:-[0-9]{{2}})?$|{_DAY}(?:T|$))"

_OPAQUE: Final[Json] = {"type": "object", "required": ["resourceType"], "properties": {"resourceType": {"type": "string"}}}


def build_schema(sources: Sources, types: dict[str, Type], supported: tuple[str, ...]) -> tuple[Json, Json]:
    """The schema, and notes: value sets whose codes are not in it, with the reason; how HL7's schema differs."""
    builder = _Builder(sources, types)
    for name in types:
        builder.define(name)
    root = {"type": "object", "properties": {n: {"type": "array", "items": _ref(n)} for n in supported}, "additionalProperties": False}
    return {"$schema": "http://json-schema.org/draft-04/schema#", **root, "definitions": builder.definitions}, {
        "valueSetsNotExpanded": builder.unexpanded,
        "differencesFromSchema": builder.differences,
    }


class _Builder:
    def __init__(self, sources: Sources, types: dict[str, Type]) -> None:
        self.sources = sources
        self.types = types
        self.definitions: Json = {}
        self.unexpanded: Json = {}
        self.differences: Json = {}

    def define(self, name: str) -> None:
        read = self.types[name]
        if name in ("Resource", "DomainResource"):
            return
        if read.kind == "primitive-type":
            self.definitions[name] = self._primitive(read)
            return
        hl7 = self._hl7(name)
        properties: Json = {}
        required: list[str] = []
        either: list[Json] = []
        if read.kind == "resource":
            properties["resourceType"] = {"enum": [name]}
            required.append("resourceType")
        for element in self._known(read, hl7):
            keys = [key for key, _ in element.keys()]
            for key, type_name in element.keys():
                properties[key] = self._property(element, type_name)
                if self._has_sibling(element, type_name):
                    properties["_" + key] = self._sibling(element)
            if element.min:
                either_or = self._required(element, keys)
                if isinstance(either_or, str):
                    required.append(either_or)
                else:
                    either.append(either_or)
        self._compare(name, set(properties), set(hl7["properties"]))
        schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            schema["required"] = sorted(required)
        if read.kind != "resource":  # ele-1: a value or children beside the id
            schema["minProperties"] = 1
            either.append({"anyOf": [{"minProperties": 2}, {"not": {"required": ["id"]}}], "x-rule": "ele-1"})
        if either:
            schema["allOf"] = either
        self.definitions[name] = schema
        if name == "Element":  # beside its value, a primitive may have only an id; without one, the walk applies ele-1
            sibling = {key: value for key, value in schema.items() if key != "allOf"}
            self.definitions["Sibling"] = sibling
            self.definitions["Sibling-or-null"] = {**sibling, "type": ["object", "null"]}

    def _hl7(self, name: str) -> Json:
        """HL7's definition of a type; a backbone element (Consent.provision.actor) is what its parent's property refers to."""
        definitions: Json = self.sources.schema["definitions"]
        parent, _, leaf = name.rpartition(".")
        if not parent:
            found: Json = definitions[name]
            return found
        prop = self._hl7(parent)["properties"][leaf]
        target: Json = definitions[prop.get("items", prop)["$ref"].rpartition("/")[2]]
        return target

    def _known(self, read: Type, hl7: Json) -> list[Element]:
        """The elements that HL7's schema knows too: the package that carries the definitions has added some of its own to Meta."""
        own = [e.name for e in read.elements.values() if not any(key in hl7["properties"] for key, _ in e.keys())]
        if own:
            self.differences.setdefault("not HL7's", {})[read.name] = own
        for name in own:
            del read.elements[name]
        return list(read.elements.values())

    def _required(self, element: Element, keys: list[str]) -> str | Json:
        """A property name, or for a primitive or a choice the ways in which it may be there (R4 json.html, primitives)."""
        names = list(keys)
        for key, type_name in element.keys():
            if self._has_sibling(element, type_name):
                names.append("_" + key)
        if len(names) == 1:
            return names[0]
        return {"anyOf": [{"required": [n]} for n in names], "x-required": element.name}

    def _property(self, element: Element, type_name: str) -> Json:
        primitive = self.types[type_name].kind == "primitive-type" if type_name in self.types else False
        if type_name in ("Resource", "DomainResource"):
            item: Json = dict(_OPAQUE)
        elif primitive and element.value_set:
            item = self._enum(element)
        else:
            item = _ref(self._attribute_type(element, type_name))
        if not element.is_array:
            return item
        if primitive:
            item = self._nullable(type_name, item, element)
        array: Json = {"type": "array", "minItems": 1, "items": item}
        if element.max != "*":
            array["maxItems"] = int(element.max)
        return array

    def _attribute_type(self, element: Element, type_name: str) -> str:
        """The definitions give Resource.id as a string; HL7's schema as what the datatypes page says, an id."""
        if not element.attribute:
            return type_name
        listed = self._hl7(element.path.rpartition(".")[0])["properties"].get(element.name, {}).get("$ref", "").rpartition("/")[2]
        if listed and listed != type_name:
            self.differences.setdefault("type", {})[element.path] = [listed]
        return listed or type_name

    def _enum(self, element: Element) -> Json:
        url = str(element.value_set).split("|")[0]
        name = "codes-" + url.rpartition("/")[2]
        if url not in self.unexpanded and name not in self.definitions:
            try:
                self.definitions[name] = {"enum": sorted(expand(self.sources, url)), "x-valueSet": url}
                self._same_codes(element, set(self.definitions[name]["enum"]))
            except Unexpandable as why:
                self.unexpanded[url] = str(why)
        return _ref("code" if url in self.unexpanded else name)

    def _same_codes(self, element: Element, codes: set[str]) -> None:
        """Where HL7's schema lists codes, they must be those of the value set."""
        prop = self._hl7(element.path.rpartition(".")[0])["properties"][element.name]
        listed = set(prop.get("items", prop).get("enum", codes))
        if listed != codes:
            self.differences.setdefault("codes", {})[element.path] = sorted(listed ^ codes)

    def _nullable(self, type_name: str, item: Json, element: Element) -> Json:
        """In an array of primitives a null marks an item that only has extensions (R4 json.html)."""
        name = item["$ref"].removeprefix("#/definitions/")
        if name not in self.definitions:
            self.define(name)
        base = self.definitions[name]
        if "enum" in base:
            nullable = {**base, "enum": [*base["enum"], None]}
        else:
            nullable = {**base, "type": [base["type"], "null"]}
        self.definitions[f"{name}-or-null"] = nullable
        return _ref(f"{name}-or-null")

    def _has_sibling(self, element: Element, type_name: str) -> bool:
        return not element.attribute and type_name in self.types and self.types[type_name].extensible

    def _sibling(self, element: Element) -> Json:
        if not element.is_array:
            return _ref("Sibling")
        return {"type": "array", "minItems": 1, "items": _ref("Sibling-or-null")}

    def _primitive(self, read: Type) -> Json:
        """From the regex, range and length that the primitive's own StructureDefinition gives."""
        hl7 = self.sources.schema["definitions"][read.name]
        regex = next((x["valueString"] for x in read.primitive["type"][0]["extension"] if x["url"] == _REGEX_URL), None)
        kind = hl7.get("type", "string")
        if kind == "boolean":
            return {"type": "boolean"}
        if kind == "number" and read.name != "decimal":
            return {"type": "integer", **self._range(read, str(regex))}
        if kind == "number":
            return {"type": "number"}
        schema: Json = {"type": "string", "minLength": 1}
        if "maxLength" in read.primitive:
            schema["maxLength"] = read.primitive["maxLength"]
        if regex:
            schema["pattern"] = _pattern(regex)
        if read.name in ("date", "dateTime", "instant"):
            schema["allOf"] = [{"pattern": _REAL_DATE}]
        return schema

    def _range(self, read: Type, regex: str) -> Json:
        integer = self.types["integer"].primitive if "integer" in self.types else self.sources.structures["integer"]
        low, high = integer["minValueInteger"], integer["maxValueInteger"]
        while low < 1 and not re.fullmatch(regex, str(low)):
            low = -1 if low < -1 else low + 1
        return {"minimum": low, "maximum": high}

    def _compare(self, name: str, ours: set[str], hl7: set[str]) -> None:
        """Both sources describe the same properties; where they don't, the definitions are right, and the difference is recorded.

        HL7's schema also lists `_` siblings of XML attributes (Extension.url), which JSON can't have.
        """
        extra = {p for p in hl7 - ours if not (p.startswith("_") and p[1:] in ours)}
        for differs, where in ((ours - hl7, "added"), (extra, "left out")):
            if differs:
                self.differences.setdefault(where, {})[name] = sorted(differs)


def _ref(name: str) -> Json:
    return {"$ref": f"#/definitions/{name}"}


def _pattern(regex: str) -> str:
    """Anchored, with ASCII white space (the schema engine would read `\\s` as all of Unicode's)."""
    if regex == "[ \\r\\n\\t\\S]+":
        return _TEXT
    inside = regex.replace("[^\\s]", f"[^{_SPACES}]").replace("\\S", f"[^{_SPACES}]").replace("\\s", f"[{_SPACES}]")
    return f"^(?:{inside})$"
