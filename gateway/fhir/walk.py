"""The one walk over a resource whose structure the schema has accepted.

Paths cost nothing while all is well: a fault is returned with the path from where it was found, and each level above puts its own step
in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.fhir.model import Child, Kind, Plan, human, plan
from gateway.fhir.rules import ReferenceContext, check_reference
from gateway.problems import FINDINGS_LIMIT, IssueCode

__all__ = ["Hit", "walk"]

_ELE_1: Final = "Element:ele-1"
_COMPLEX: Final = Kind.COMPLEX
_REFERENCE: Final = Kind.REFERENCE


@dataclass(frozen=True, slots=True)
class Hit:
    path: str  # from the element that the walk started at, such as `.provision.actor[0]`
    code: IssueCode
    say: str


_NOTHING: Final[Sequence[Hit]] = ()


def walk(at: Plan, node: Mapping[str, Any], context: ReferenceContext) -> Sequence[Hit]:
    """What is wrong in `node`, which has the type of `at`; about FINDINGS_LIMIT of one element are kept on the way up."""
    hits: list[Hit] | None = None
    for rule in at.rules:
        if rule.check(node, context) is False:
            hits = [*(hits or ()), _invariant(rule.id)]
    for members in at.choices:
        if len(members & node.keys()) > 1:
            hits = [*(hits or ()), *_choice(at, node, members)]
    if at.members.isdisjoint(node):
        return hits or _NOTHING
    children = at.children
    for member, value in node.items():
        child = children.get(member)
        if child is not None:
            kind = child.kind
            if kind is _COMPLEX or kind is _REFERENCE:
                found = _complex(child, value, context)
                if kind is _REFERENCE and (wrong := _reference(child, value, context)):
                    found = [*found, *wrong]
            else:
                found = _HANDLERS[kind](child, member, value, node, context)
            if found and (hits is None or len(hits) < FINDINGS_LIMIT):
                hits = [*(hits or ()), *found]
    return hits or _NOTHING


def _complex(child: Child, value: Any, context: ReferenceContext) -> Sequence[Hit]:
    below = child.below or child.plan()
    bare = below.bare and not child.rules
    if not child.array:
        if bare and below.members.isdisjoint(value):
            return _NOTHING
        found = walk(below, value, context)
        if child.rules:
            found = [*found, *_own(child, value, context)]
        return _under(f".{child.name}", found) if found else found
    hits: list[Hit] | None = None
    for index, item in enumerate(value):
        if bare and below.members.isdisjoint(item):
            continue
        found = walk(below, item, context)
        if child.rules:
            found = [*found, *_own(child, item, context)]
        if found:
            hits = [*(hits or ()), *_under(f".{child.name}[{index}]", found)]
            if len(hits) >= FINDINGS_LIMIT:
                break
    return hits or _NOTHING


def _reference(child: Child, value: Any, context: ReferenceContext) -> Sequence[Hit]:
    if not child.array:
        faults = check_reference(value, child.targets, context)
        return [Hit(f".{child.name}.{inner}", code, say) for inner, code, say in faults] if faults else _NOTHING
    hits: list[Hit] = []
    for index, item in enumerate(value):
        for inner, code, say in check_reference(item, child.targets, context):
            hits.append(Hit(f".{child.name}[{index}].{inner}", code, say))
        if len(hits) >= FINDINGS_LIMIT:
            break
    return hits


def _primitives(child: Child, member: str, value: Any, node: Mapping[str, Any], _: ReferenceContext) -> list[Hit]:
    """R4 json.html: a null stands only where the `_` array has the item's extensions."""
    if None not in value:
        return []
    siblings = node.get("_" + member, ())
    for index, item in enumerate(value):
        if item is None and (index >= len(siblings) or siblings[index] is None):
            return [Hit(f".{child.name}[{index}]", IssueCode.STRUCTURE, "Send a value, or its extensions in the `_` array; not null.")]
    return []


def _sibling(child: Child, member: str, value: Any, node: Mapping[str, Any], context: ReferenceContext) -> list[Hit]:
    found = [*walk(plan("Element"), value, context)]
    if member[1:] not in node and "extension" not in value:
        found.append(_invariant(_ELE_1))
    return _under(f".{child.name}", found) if found else found


def _siblings(child: Child, member: str, value: Any, node: Mapping[str, Any], context: ReferenceContext) -> list[Hit]:
    values = node.get(member[1:])
    if values is not None and len(values) != len(value):
        return [Hit(f".{child.name}", IssueCode.STRUCTURE, "The array of values and its `_` array must be of the same length.")]
    hits: list[Hit] = []
    at = plan("Element")
    for index, item in enumerate(value):
        if item is None:
            if values is None:
                hits.append(Hit(f".{child.name}[{index}]", IssueCode.STRUCTURE, "Send a value or extensions; not null."))
            continue
        found = [*walk(at, item, context)]
        if (values is None or values[index] is None) and "extension" not in item:
            found.append(_invariant(_ELE_1))
        if found:
            hits += _under(f".{child.name}[{index}]", found)
        if len(hits) >= FINDINGS_LIMIT:
            break
    return hits


def _text(child: Child, _: str, value: Any, node: Mapping[str, Any], context: ReferenceContext) -> list[Hit]:
    return _under(f".{child.name}", _own(child, value, context))


_HANDLERS: Final = {
    Kind.PRIMITIVES: _primitives,
    Kind.SIBLING: _sibling,
    Kind.SIBLINGS: _siblings,
    Kind.TEXT: _text,
}


def _own(child: Child, value: Any, context: ReferenceContext) -> list[Hit]:
    return [_invariant(rule.id) for rule in child.rules if rule.check(value, context) is False]


def _choice(at: Plan, node: Mapping[str, Any], members: frozenset[str]) -> list[Hit]:
    """`valueString` with `_valueString` is one value; with `valueCode` it is two."""
    present = {member.removeprefix("_") for member in node.keys() & members}
    if len(present) < 2:
        return []
    name = at.names[min(present)][0]
    return [Hit(f".{name}", IssueCode.STRUCTURE, f"Send one value: FHIR allows {name}[x] one type at a time.")]


def _invariant(rule_id: str) -> Hit:
    key, sentence = human(rule_id)
    return Hit("", IssueCode.INVARIANT, f"{key}: {sentence}")


def _under(step: str, hits: Sequence[Hit]) -> list[Hit]:
    return [Hit(step + hit.path, hit.code, hit.say) for hit in hits]
