"""The few FHIRPath operations that R4's invariants need, for `gateway.fhir.r4.invariants`, which is generated.

FHIRPath is three-valued; here `None` is its empty collection. An invariant is broken when it is False, so one that can't be told (a
Period from `2020` to `2020-05`) is not broken, as R5 says with `lowBoundary()`. http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

__all__ = [
    "NONE",
    "Context",
    "all_false",
    "and_",
    "contains",
    "eq",
    "first",
    "ge",
    "ge_time",
    "gt",
    "has",
    "implies",
    "intersect",
    "is_distinct",
    "is_in",
    "is_type",
    "le_quantity",
    "le_time",
    "ne",
    "not_",
    "one",
    "or_",
    "starts_with",
    "substring",
    "to_string",
]

Node = Mapping[str, Any]
Truth = bool | None

NONE: Final[Node] = {}
"""An element that isn't there, so that a path can go on."""

_DATE: Final = 10  # YYYY-MM-DD
_SECOND: Final = 19  # YYYY-MM-DDThh:mm:ss


class Context:
    """What an invariant may look at beside its element: %resource, %rootResource, and what is collected from them once."""

    __slots__ = ("_keys", "contained", "contained_ids", "resource", "root")

    def __init__(self, resource: Node, root: Node, contained: Mapping[str, str]) -> None:
        self.resource = resource
        self.root = root
        self.contained = contained  # of the root: id -> type
        self.contained_ids = contained.keys()
        self._keys: dict[tuple[str, ...], frozenset[bytes]] = {}

    def keys_at(self, *path: str) -> frozenset[bytes]:
        """Canonical bytes of each element that `path` reaches from %resource."""
        found = self._keys.get(path)
        if found is None:
            nodes: list[Any] = [self.resource]
            for step in path:
                nodes = [x for node in nodes if step in node for x in _each(node[step])]
            found = self._keys[path] = frozenset(map(_key, nodes))
        return found


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else (value,)


def _key(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def has(node: Node, key: str, sibling: str) -> bool:
    """exists() of a primitive: a value, or extensions in its `_` sibling."""
    return key in node or sibling in node


def one(value: Any) -> Sequence[Any]:
    return () if value is None else (value,)


def first(nodes: Sequence[Node]) -> Node:
    return nodes[0] if nodes else NONE


def and_(left: Truth, right: Truth) -> Truth:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def or_(left: Truth, right: Truth) -> Truth:
    if left or right:
        return True
    return None if left is None or right is None else False


def implies(left: Truth, right: Truth) -> Truth:
    return or_(not_(left), right)


def not_(value: Truth) -> Truth:
    return None if value is None else not value


def eq(left: Any, right: Any) -> Truth:
    return None if left is None or right is None else bool(left == right)


def ne(left: Any, right: Any) -> Truth:
    return not_(eq(left, right))


def gt(left: float | None, right: float) -> Truth:
    return None if left is None else left > right


def ge(left: float | None, right: float) -> Truth:
    return None if left is None else left >= right


def starts_with(text: str | None, prefix: str) -> Truth:
    return None if text is None else text.startswith(prefix)


def contains(text: str | None, part: str) -> Truth:
    return None if text is None else part in text


def substring(text: str | None, start: int) -> str | None:
    return None if text is None or start >= len(text) else text[start:]


def to_string(value: Any) -> str | None:
    return None if value is None else str(value)


def is_in(value: Any, values: Iterable[Any]) -> Truth:
    return None if value is None else value in values


def is_type(resource: Node | None, name: str) -> bool:
    """False where there is no resource: a message without entries does break bdl-12 ("must have a MessageHeader")."""
    return resource is not None and resource.get("resourceType") == name


def is_distinct(values: Sequence[Hashable]) -> bool:
    return len(set(values)) == len(values)


def all_false(values: Iterable[Truth]) -> bool:
    return not any(values)


def intersect(nodes: Iterable[Any], keys: frozenset[bytes]) -> list[Any]:
    return [node for node in nodes if _key(node) in keys]


def le_time(left: str | None, right: str | None) -> Truth:
    """`<=` of date, dateTime or instant; None where the shared precision doesn't tell (FHIRPath N1, comparison)."""
    if left is None or right is None:
        return None
    if len(left) == len(right) and left[_SECOND:] == right[_SECOND:]:
        return left <= right
    if len(left) > _DATE and len(right) > _DATE:
        return _instant(left) <= _instant(right)
    shared = min(len(left), len(right), _DATE)
    a, b = left[:shared], right[:shared]
    return None if a == b else a < b


def ge_time(left: str | None, right: str | None) -> Truth:
    return le_time(right, left)


def _instant(text: str) -> datetime:
    """R4's regex allows second 60 (a leap second), which datetime doesn't, and any number of digits after the second.

    Not converted to UTC: in the years 1 and 9999 that overflows, while comparing does not.
    """
    rest = text[_SECOND:]
    zone = "+00:00" if rest.endswith("Z") else rest[-6:]
    fraction = rest[: -1 if rest.endswith("Z") else -6][:7]
    second = "59" if text[17:19] == "60" else text[17:19]
    return datetime.fromisoformat(f"{text[:17]}{second}{fraction.ljust(7, '0') if fraction else ''}{zone}")


def le_quantity(left: Node | None, right: Node | None) -> Truth:
    """Of Quantity elements with the same unit; of others it isn't told (no unit conversion)."""
    if left is None or right is None:
        return None
    a, b = left.get("value"), right.get("value")
    if a is None or b is None or any(left.get(k) != right.get(k) for k in ("system", "code", "unit")):
        return None
    return bool(a <= b)
