"""HL7's definitions as the walk needs them: for each type, which members to look into and what to check there.

Loaded once from `r4/` (generated). A `Plan` is made for a type when it is first met; `validate.warm` meets the usual ones at start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cache
from importlib import resources
from typing import Any, Final

import orjson

from gateway.fhir.logic import Context
from gateway.fhir.r4.invariants import RULES

__all__ = ["PYTHON_RULES", "Child", "Kind", "Nest", "Plan", "Rule", "human", "known_resources", "load", "nest", "plan", "supported_types"]

Check = Callable[[Any, Context], bool | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """An invariant: broken when `check(element, context)` is False."""

    id: str
    check: Check


class Kind(Enum):
    """How the walk treats a member."""

    COMPLEX = auto()
    REFERENCE = auto()
    PRIMITIVES = auto()  # an array of primitives: nulls are paired with the `_` array
    SIBLING = auto()  # `_name`: id and extensions of a primitive
    SIBLINGS = auto()
    TEXT = auto()  # a primitive with invariants of its own (Narrative.div)


@dataclass(slots=True)
class Child:
    kind: Kind
    name: str  # the element's name in FHIRPath: `value` for valueString
    array: bool
    type: str
    targets: frozenset[str] | None = None
    rules: tuple[Rule, ...] = ()
    below: Plan | None = None  # the plan of `type`, once it was needed

    def plan(self) -> Plan:
        if self.below is None:
            self.below = plan(self.type)
        return self.below


@dataclass(slots=True)
class Plan:
    """What to do with an element of one type."""

    type: str
    rules: tuple[Rule, ...]
    choices: tuple[frozenset[str], ...]
    children: dict[str, Child] = field(default_factory=dict)
    members: frozenset[str] = frozenset()  # the keys of `children`
    bare: bool = False  # neither rules nor choices: nothing to do in an element without one of `members`
    names: dict[str, tuple[str, str]] = field(default_factory=dict)  # member -> (FHIRPath name, type), for messages


Nest = Mapping[str, "Nest | None"]
"""Where resources lie in a type: member -> where in that member; None where the member is a resource."""

PYTHON_RULES: Final[dict[str, Check]] = {}
"""Invariants that are not translated; `gateway.fhir.rules` fills this before any plan is made."""


@cache
def load(name: str) -> dict[str, Any]:
    """One of the generated files. The large ones are not kept twice: callers take what they need from them."""
    loaded: dict[str, Any] = orjson.loads(resources.files("gateway.fhir.r4").joinpath(f"{name}.json").read_bytes())
    return loaded


@cache
def supported_types() -> frozenset[str]:
    return frozenset(load("model")["supported"])


@cache
def known_resources() -> frozenset[str]:
    """All resource types of R4, supported here or not: a reference may point at any of them."""
    return frozenset(load("model")["resources"])


@cache
def human(rule_id: str) -> tuple[str, str]:
    """(key, HL7's sentence) of an invariant."""
    entry = load("invariants")["invariants"][rule_id]
    return entry["key"], entry["human"]


@cache
def plan(type_name: str) -> Plan:
    model = load("model")
    entry = model["types"][type_name]
    primitives = frozenset(model["primitives"])
    choices: dict[str, set[str]] = {}
    made = Plan(type_name, _rules(entry), ())
    for member, element in entry["elements"].items():
        name = element.get("choice", member)
        made.names[member] = (name, element["type"])
        sibling = element.get("sibling", False)
        if "choice" in element:
            choices.setdefault(name, set()).update((member, "_" + member) if sibling else (member,))
        child = _child(element, name, primitives)
        if child is not None:
            made.children[member] = child
        if sibling:
            made.names["_" + member] = (name, "Element")
            kind = Kind.SIBLINGS if element.get("array") else Kind.SIBLING
            made.children["_" + member] = Child(kind, name, kind is Kind.SIBLINGS, "Element")
    made.members = frozenset(made.children)
    made.choices = tuple(frozenset(members) for members in choices.values())
    made.bare = not made.rules and not made.choices
    return made


def _child(element: dict[str, Any], name: str, primitives: frozenset[str]) -> Child | None:
    type_name, array, rules = element["type"], element.get("array", False), _rules(element)
    if type_name == "Resource":
        return None  # a resource of its own: see `nest`
    if type_name in primitives:
        if array:
            return Child(Kind.PRIMITIVES, name, array, type_name)
        return Child(Kind.TEXT, name, array, type_name, rules=rules) if rules else None
    if type_name == "Reference":
        targets = element.get("targets")
        return Child(Kind.REFERENCE, name, array, type_name, frozenset(targets) if targets else None, rules)
    return Child(Kind.COMPLEX, name, array, type_name, rules=rules)


def _rules(entry: dict[str, Any]) -> tuple[Rule, ...]:
    return tuple(Rule(rule_id, RULES.get(rule_id) or PYTHON_RULES[rule_id]) for rule_id in entry.get("rules", ()))


@cache
def nest(type_name: str) -> Nest:
    """Contained resources, the entries of a Bundle, the resources in Parameters: each is validated as its own type."""
    return _nest(type_name, {})


def _nest(type_name: str, seen: dict[str, dict[str, Nest | None]]) -> Nest:
    if type_name in seen:
        return seen[type_name]
    found: dict[str, Nest | None] = {}
    seen[type_name] = found
    for member, element in load("model")["types"][type_name]["elements"].items():
        inner = element["type"]
        if inner == "Resource":
            found[member] = None
        elif inner.startswith(type_name.split(".")[0] + "."):  # only backbone elements hold resources, no data type does
            below = _nest(inner, seen)
            if below or inner == type_name:
                found[member] = below
    return found
