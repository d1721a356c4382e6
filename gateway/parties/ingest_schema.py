"""The ingest allow-list as a JSON Schema, for the usual case: it accepts only what the gate would admit without a word.

What it does not accept may still be admissible (a display text that is dropped, a second coding): the gate then looks itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jsonschema_rs import Draft202012Validator

from gateway.parties.model import ElementRule, Treatment

__all__ = ["compile_schema"]

Schema = dict[str, Any]
_PRIMITIVE: Final = ["string", "number", "boolean"]


def compile_schema(types: Mapping[str, Mapping[str, ElementRule]]) -> Mapping[str, Draft202012Validator]:
    """Resource type -> a validator of resources that can be admitted as they are."""
    result = {}
    for name, members in types.items():
        compiler = _Compiler()
        root = compiler.members(members)
        root["properties"]["resourceType"] = {"const": name}
        result[name] = Draft202012Validator({**root, "required": ["resourceType"], "$defs": compiler.definitions})
    return result


class _Compiler:
    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._names: dict[int, str] = {}

    def members(self, members: Mapping[str, ElementRule]) -> Schema:
        """An object with the members that are kept, and with nothing else."""
        kept = {name: self.rule(rule) for name, rule in members.items() if rule.treatment is Treatment.KEEP}
        return {"type": "object", "properties": kept, "additionalProperties": False, "minProperties": 1}

    def rule(self, rule: ElementRule) -> Schema:
        """An element, single or repeated. A rule is compiled once and referred to, since a type may hold itself."""
        name = self._names.get(id(rule))
        if name is None:
            name = self._names[id(rule)] = f"r{len(self._names)}"
            self.definitions[name] = {}
            self.definitions[name].update(self._element(rule, {"$ref": f"#/$defs/{name}"}))
        return {"$ref": f"#/$defs/{name}"}

    def _element(self, rule: ElementRule, itself: Schema) -> Schema:
        if rule.by:
            return {
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [self._slice(rule.by, key, item) for key, item in rule.items.items()]},
            }
        if rule.children:
            # Keywords for objects leave arrays alone, and the other way round: one schema serves both.
            schema = {**self.members(rule.children), "type": ["object", "array"], "items": itself, "minItems": 1}
            if rule.systems:
                schema["anyOf"] = [{"type": "array"}, *(_coding(system, codes) for system, codes in rule.systems.items())]
            return schema
        if rule.codes is not None:
            return {"enum": sorted(rule.codes)}
        if rule.max_length:
            text = {"type": "string", "maxLength": rule.max_length}
            return {**text, "type": ["string", "array"], "items": text, "minItems": 1}
        return {"type": [*_PRIMITIVE, "array"], "items": {"type": _PRIMITIVE}, "minItems": 1}

    def _slice(self, by: str, key: str, rule: ElementRule) -> Schema:
        """One form of the items of a list: told by its key, which stands in a member or in every coding of a concept."""
        schema = self.members(rule.children)
        first, *rest = by.split(".")
        told: Schema = {"const": key}
        for name in reversed(rest):
            told = {"properties": {name: told}, "required": [name]}
            if name == "coding":
                told["properties"]["coding"] = {"minItems": 1, "items": told["properties"]["coding"]}
        return {**schema, "required": [first], "allOf": [{"properties": {first: told}}]}


def _coding(system: str, codes: frozenset[str]) -> Schema:
    return {"properties": {"system": {"const": system}, "code": {"enum": sorted(codes)}}, "required": ["system", "code"], "type": "object"}
