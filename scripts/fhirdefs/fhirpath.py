"""Parse the part of FHIRPath that R4's invariants are written in, to a small syntax tree.

Precedence and forms: http://hl7.org/fhirpath/N1/#precedence. Anything else raises NotTranslated, so an invariant that a later release of
the definitions words differently shows up in the build's record instead of being dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Binary", "Call", "Literal", "Node", "NotTranslated", "Step", "Variable", "parse"]


class NotTranslated(Exception):
    """The message is the reason that goes into the record."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int


@dataclass(frozen=True, slots=True)
class Variable:
    """%resource, %rootResource, %ucum or $this."""

    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """`.name` on `source`, or on the context when `source` is None."""

    source: Node | None
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    source: Node | None
    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    left: Node
    right: Node


Node = Literal | Variable | Step | Call | Binary

_TOKEN: Final = re.compile(r"\s*(?:(?P<text>'[^']*')|(?P<number>\d+)|(?P<name>[%$]?[A-Za-z_]\w*)|(?P<op><=|>=|!=|[()|,.=<>&+]))")

_LEVELS: Final = (("implies",), ("or", "xor"), ("and",), ("in",), ("=", "!="), ("<", ">", "<=", ">="), ("|",), ("+", "&"))


def parse(text: str) -> Node:
    tokens = _Tokens(text)
    node = _binary(tokens, 0)
    if tokens.peek() is not None:
        raise NotTranslated(f"unexpected {tokens.peek()!r}")
    return node


class _Tokens:
    def __init__(self, text: str) -> None:
        self._tokens = list(_scan(text))
        self._at = 0

    def peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if token is None or (expected is not None and token != expected):
            raise NotTranslated(f"expected {expected or 'more'}")
        self._at += 1
        return token


def _scan(text: str) -> Iterator[str]:
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotTranslated(f"cannot read {text[at : at + 8]!r}")
        yield match.group().strip()
        at = match.end()


def _binary(tokens: _Tokens, level: int) -> Node:
    if level == len(_LEVELS):
        return _path(tokens)
    node = _binary(tokens, level + 1)
    while tokens.peek() in _LEVELS[level]:
        op = tokens.take()
        node = Binary(op, node, _binary(tokens, level + 1))
    return node


def _path(tokens: _Tokens) -> Node:
    node = _term(tokens)
    while tokens.peek() == ".":
        tokens.take(".")
        node = _member(tokens, node)
    return node


def _term(tokens: _Tokens) -> Node:
    token = tokens.peek()
    if token is None:
        raise NotTranslated("the expression ends too early")
    if token == "(":
        tokens.take()
        node = _binary(tokens, 0)
        tokens.take(")")
        return node
    if token.startswith("'"):
        return Literal(tokens.take()[1:-1])
    if token.isdigit():
        return Literal(int(tokens.take()))
    if token[0] in "%$":
        return Variable(tokens.take())
    return _member(tokens, None)


def _member(tokens: _Tokens, source: Node | None) -> Node:
    name = tokens.take()
    if not name[0].isalpha():
        raise NotTranslated(f"expected a name, not {name!r}")
    if tokens.peek() != "(":
        return Step(source, name)
    tokens.take("(")
    args: list[Node] = []
    while tokens.peek() != ")":
        args.append(_binary(tokens, 0))
        if tokens.peek() == ",":
            tokens.take()
    tokens.take(")")
    return Call(source, name, tuple(args))
