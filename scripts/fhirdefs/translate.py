"""Turn an invariant's FHIRPath into a Python expression over the parsed JSON.

The types are known here (which element is an array, a primitive or a choice), so the result is plain dictionary access; only what
FHIRPath's three-valued logic and its comparisons need calls a function of `gateway.fhir.logic`. In the result `n` is the element,
`c` the context (`c.resource` is %resource, `c.root` is %rootResource).

Two simplifications, both checked by types: `exists()` of a primitive counts its `_` sibling, as FHIRPath does; `hasValue()` does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from .fhirpath import Binary, Call, Literal, Node, NotTranslated, Step, Variable, parse
from .types import Type

__all__ = ["FUNCTIONS", "Choices", "Translator"]

_UCUM: Final = "http://unitsofmeasure.org"

FUNCTIONS: Final = frozenset(
    "all_false and_ contains eq first ge ge_time gt has implies intersect is_distinct is_in is_type le_quantity le_time ne not_ one or_"
    " starts_with substring to_string".split()
)
"""What `gateway.fhir.logic` offers; an expression that needs more is not translated."""

_PYTHON: Final = frozenset(("any", "all", "int", "len", "in", "and", "or", "not", "is"))


@dataclass(frozen=True, slots=True)
class _Hop:
    keys: tuple[str, ...]
    siblings: tuple[str, ...]
    array: bool
    type: str
    path: str


@dataclass(frozen=True, slots=True)
class _Path:
    """Elements reached from one dictionary; `base` is an expression that is always a dictionary."""

    base: str
    type: str
    hops: tuple[_Hop, ...] = ()


@dataclass(frozen=True, slots=True)
class _Code:
    """A Python expression. kind: bool (total), maybe (bool or None), value (scalar or None), list, number."""

    kind: str
    text: str
    type: str = ""


_Value = _Path | _Code


@dataclass(frozen=True, slots=True)
class Choices:
    """Named sets of JSON properties, one per choice element, for the generated module."""

    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def name(self, element: str, keys: tuple[str, ...]) -> str:
        name = re.sub(r"\W", "_", element).upper()
        self.names[name] = keys
        return name


class Translator:
    """`resource` is the type that %resource has where the invariant applies."""

    def __init__(self, types: dict[str, Type], resource: str, choices: Choices) -> None:
        self._types = types
        self._resource = resource
        self._choices = choices
        self._names = 0

    def translate(self, expression: str, context: str) -> str:
        """A Python expression that is False exactly when the invariant is broken."""
        text = self._logic(self._eval(parse(expression), _Path("n", context))).text
        used = set(re.findall(r"(?<![.\w'])([a-z_]+)\(", text)) - _PYTHON
        if used - FUNCTIONS:
            raise NotTranslated(f"needs {', '.join(sorted(used - FUNCTIONS))}")
        return text

    # -- evaluation of the tree

    def _eval(self, node: Node, this: _Value) -> _Value:
        match node:
            case Literal(value):
                return _Code("value" if isinstance(value, str) else "number", repr(value))
            case Variable("%resource"):
                return _Path("c.resource", self._resource)
            case Variable("%rootResource"):
                return _Path("c.root", "DomainResource")
            case Variable("%ucum"):
                return _Code("value", repr(_UCUM))
            case Variable("$this"):
                return this
            case Step(source, name):
                return self._step(self._eval(source, this) if source else this, name)
            case Call(source, name, args):
                return self._call(self._eval(source, this) if source else this, name, args, this)
            case Binary(op, left, right):
                return self._binary(op, left, right, this)
        raise NotTranslated(f"no rule for {node}")

    def _step(self, source: _Value, name: str) -> _Path:
        if not isinstance(source, _Path):
            raise NotTranslated(f"a step .{name} from a computed value")
        at = source.hops[-1].type if source.hops else source.type
        read = self._types.get("DomainResource" if at == "Resource" else at)
        element = read.elements.get(name) if read else None
        if element is None:
            raise NotTranslated(f"{at} has no element {name}")
        pairs = list(element.keys())
        siblings = tuple(f"_{key}" for key, kind in pairs if not element.attribute and kind in self._types and self._types[kind].extensible)
        hop = _Hop(tuple(key for key, _ in pairs), siblings, element.is_array, pairs[0][1], element.path)
        return replace(source, hops=(*source.hops, hop))

    def _call(self, source: _Value, name: str, args: tuple[Node, ...], this: _Value) -> _Value:
        match name:
            case "trace":
                return source
            case "exists" | "empty":
                found = self._exists(source)
                return found if name == "exists" else _negate(found)
            case "not":
                inner = self._logic(source)
                return _negate(inner) if inner.kind == "bool" else _Code("maybe", f"not_({inner.text})")
            case "hasValue":
                return _Code("bool", f"({self._scalar(source)} is not None)")
            case "count":
                return self._count(source)
            case "startsWith" | "contains" | "substring":
                kind = "value" if name == "substring" else "maybe"
                argument = self._scalar(self._eval(args[0], this))
                return _Code(kind, f"{_snake(name)}({self._scalar(source)}, {argument})")
            case "toString":
                return _Code("value", f"to_string({self._scalar(source)})")
            case "first":
                return self._first(source)
            case "is":
                return self._is(source, args)
            case "where" | "all" | "select":
                return self._iterate(source, name, args[0])
            case "isDistinct":
                return _Code("bool", f"is_distinct({self._list(source)})")
            case "allFalse":
                return _Code("bool", f"all_false({self._list(source)})")
            case "intersect":
                return _Code("list", f"intersect({self._list(source)}, {_keys_at(self._eval(args[0], this))})")
        raise NotTranslated(f"the function {name}() is not translated")

    def _binary(self, op: str, left_node: Node, right_node: Node, this: _Value) -> _Value:
        left, right = self._eval(left_node, this), self._eval(right_node, this)
        match op:
            case "and" | "or" | "implies" | "xor":
                return _connect(op, self._logic(left), self._logic(right))
            case "=" | "!=":
                return self._equal(op, left, right)
            case "<=" | ">=" | "<" | ">":
                kind = self._kind(left)
                name = {"<=": "le", ">=": "ge", "<": "lt", ">": "gt"}[op]
                suffix = {"dateTime": "_time", "Quantity": "_quantity"}.get(kind, "")
                return _Code("maybe", f"{name}{suffix}({self._scalar(left)}, {self._scalar(right)})")
            case "in":
                return _Code("maybe", f"is_in({self._scalar(left)}, {self._list(right)})")
            case "|":
                return _Code("list", f"{self._members(left)[:-1]}, {self._members(right)[1:]}")
            case "&":
                return _Code("value", f"({self._scalar(left)} or '') + ({self._scalar(right)} or '')")
            case "+":
                return _Code("number", f"{self._scalar(left)} + {self._scalar(right)}")
        raise NotTranslated(f"the operator {op} is not translated")

    def _equal(self, op: str, left: _Value, right: _Value) -> _Code:
        kinds = {v.kind for v in (left, right) if isinstance(v, _Code)}
        if kinds == {"bool"} and isinstance(left, _Code) and isinstance(right, _Code):
            return _Code("bool", f"({left.text} is {'' if op == '=' else 'not '}{right.text})")
        name = "eq" if op == "=" else "ne"
        return _Code("maybe", f"{name}({self._scalar(left)}, {self._scalar(right)})")

    # -- forms

    def _logic(self, value: _Value) -> _Code:
        if isinstance(value, _Code) and value.kind in ("bool", "maybe"):
            return value
        raise NotTranslated("a value where FHIRPath would convert it to a truth value")

    def _exists(self, value: _Value) -> _Code:
        if isinstance(value, _Code):
            if value.kind != "list":
                raise NotTranslated("exists() of a computed value")
            return _Code("bool", f"(len({value.text}) > 0)")
        if not value.hops:
            return _Code("bool", "True")
        *before, last = value.hops
        clauses, name = self._clauses(replace(value, hops=tuple(before)))
        keys = last.keys + last.siblings
        if len(keys) == 1:
            test = f"({keys[0]!r} in {name})"
        elif len(last.keys) == 1:
            test = f"has({name}, {keys[0]!r}, {keys[1]!r})"
        else:
            choice = self._choices.name(last.path.removesuffix("[x]"), keys)
            test = f"(not {choice}.isdisjoint({name}))"
        return _Code("bool", f"any({test}{clauses})" if clauses else test)

    def _count(self, value: _Value) -> _Code:
        if not isinstance(value, _Path) or len(value.hops) != 1:
            raise NotTranslated("count() of something else than an element")
        hop = value.hops[0]
        if hop.array and not hop.siblings:
            return _Code("number", f"len({value.base}.get({hop.keys[0]!r}, ()))")
        if hop.array:
            raise NotTranslated("count() of an array of primitives")
        text = self._exists(value).text
        return _Code("number", f"int{text}" if text.startswith("(") else f"int({text})")

    def _first(self, value: _Value) -> _Path:
        if not isinstance(value, _Path):
            raise NotTranslated("first() of a computed value")
        at = value.hops[-1].type
        return _Path(f"first({self._list(value)})", at)

    def _is(self, value: _Value, args: tuple[Node, ...]) -> _Code:
        if not isinstance(value, _Path) or not isinstance(args[0], Step) or args[0].source is not None:
            raise NotTranslated("is() of something else than an element")
        return _Code("maybe", f"is_type({self._scalar(value)}, {args[0].name!r})")

    def _iterate(self, source: _Value, name: str, arg: Node) -> _Code:
        if isinstance(source, _Code):
            if source.kind != "list" or not source.type:
                raise NotTranslated(f"{name}() of a computed value")
            clauses, variable = self._fresh_over(source.text)
            source = _Path(variable, source.type)
        else:
            clauses, variable = self._clauses(source, fresh=True)
        last = source.hops[-1] if source.hops else None
        at = last.type if last else source.type
        primitive = bool(last and last.siblings)
        item: _Value = _Code("value", variable, at) if primitive else _Path(variable, at)
        inner = self._eval(arg, item)
        if name == "select":
            return self._select(inner, clauses)
        condition = self._logic(inner)
        test = condition.text if condition.kind == "bool" else f"{condition.text} is True"
        if name == "all":
            return _Code("bool", f"all({test}{clauses})")
        return _Code("list", f"[{variable}{clauses} if {test}]", at)

    def _select(self, inner: _Value, clauses: str) -> _Code:
        if isinstance(inner, _Path) and inner.hops[-1].array:
            raise NotTranslated("select() of an array")
        text = inner.text if isinstance(inner, _Code) else self._scalar(inner)
        return _Code("list", f"[{text}{clauses}]")

    def _kind(self, value: _Value) -> str:
        if isinstance(value, _Path) and value.hops:
            return value.hops[-1].type
        return "number"

    def _scalar(self, value: _Value) -> str:
        """One value or None."""
        if isinstance(value, _Code):
            if value.kind == "list":
                raise NotTranslated("one value of a list")
            return value.text
        if not value.hops:
            return value.base
        if any(h.array or len(h.keys) > 1 for h in value.hops):
            raise NotTranslated("one value of a path through an array or a choice")
        text = value.base
        for hop in value.hops[:-1]:
            text = f"{text}.get({hop.keys[0]!r}, NONE)"
        return f"{text}.get({value.hops[-1].keys[0]!r})"

    def _list(self, value: _Value) -> str:
        if isinstance(value, _Code):
            return value.text if value.kind == "list" else f"({value.text},)"
        if value.base == "c.root" and [h.keys for h in value.hops] == [("contained",), ("id",)]:
            return "c.contained_ids"
        if len(value.hops) == 1 and value.hops[0].array and len(value.hops[0].keys) == 1:
            return f"{value.base}.get({value.hops[0].keys[0]!r}, ())"
        clauses, name = self._clauses(value)
        return f"[{name}{clauses}]" if clauses else f"[{name}]"

    def _members(self, value: _Value) -> str:
        """A tuple; FHIRPath's `|` would drop repeats, which makes no difference to `in`."""
        return value.text if isinstance(value, _Code) and value.kind == "list" else f"({self._scalar(value)})"

    def _clauses(self, path: _Path, *, fresh: bool = False) -> tuple[str, str]:
        """` for a in ... for b in ...` over the elements of a path, and the name of the last."""
        text, name = "", path.base
        if fresh and not path.hops:
            return self._fresh_over(f"({name},)")
        for hop in path.hops:
            if len(hop.keys) > 1:
                raise NotTranslated("the values of a choice")
            over = f"{name}.get({hop.keys[0]!r}, ())" if hop.array else f"one({name}.get({hop.keys[0]!r}))"
            clause, name = self._fresh_over(over)
            text += clause
        return text, name

    def _fresh_over(self, over: str) -> tuple[str, str]:
        self._names += 1
        name = f"x{self._names}"
        return f" for {name} in {over}", name


def _connect(op: str, left: _Code, right: _Code) -> _Code:
    if left.kind == right.kind == "bool":
        text = {
            "and": f"({left.text} and {right.text})",
            "or": f"({left.text} or {right.text})",
            "implies": f"({_negate(left).text} or {right.text})",
            "xor": f"({left.text} is not {right.text})",
        }[op]
        return _Code("bool", text)
    if op == "or" and (either := _one_of(left.text, right.text)):
        return _Code("maybe", either)
    if op == "or" and left.kind == "maybe":  # the usual case is settled by the left side alone
        return _Code("maybe", f"((left := {left.text}) or or_(left, {right.text}))")
    name = {"and": "and_", "or": "or_", "implies": "implies", "xor": "xor"}[op]
    return _Code("maybe", f"{name}({left.text}, {right.text})")


_EQUALS: Final = re.compile(r"(?:eq|is_in)\((?P<value>[\w.]+\.get\('\w+'\)), (?P<literals>'[^']*'|\('[^)]*\))\)")


def _one_of(left: str, right: str) -> str | None:
    """`a = 'x' or a = 'y'` is `a in ('x' | 'y')`, also when a is empty."""
    first, second = _EQUALS.fullmatch(left), _EQUALS.fullmatch(right)
    if first is None or second is None or first["value"] != second["value"]:
        return None
    return f"is_in({first['value']}, ({first['literals'].strip('()')}, {second['literals'].strip('()')}))"


def _keys_at(value: _Value) -> str:
    """What a path from %resource reaches, collected once for a resource: to search a list per element would be quadratic."""
    if not isinstance(value, _Path) or value.base != "c.resource" or any(len(h.keys) > 1 for h in value.hops):
        raise NotTranslated("intersect() with something else than a path from %resource")
    return f"c.keys_at({', '.join(repr(h.keys[0]) for h in value.hops)})"


def _negate(value: _Code) -> _Code:
    text = value.text
    if text.startswith("(not ") and _one_group(text):
        return _Code("bool", text[5:-1])
    member = re.fullmatch(r"\(('\w+') in (\w+)\)", text)
    return _Code("bool", f"({member[1]} not in {member[2]})" if member else f"(not {text})")


def _one_group(text: str) -> bool:
    """Whether the first parenthesis closes at the end."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return at == len(text) - 1
    return False


def _snake(name: str) -> str:
    return {"startsWith": "starts_with", "contains": "contains", "substring": "substring"}[name]
