"""Read a request body as one JSON object, strictly.

Most bodies take the fast way: orjson reads them, and what orjson writes again is byte for byte what came, so nothing was lost: no
duplicate member, no digit of a number. orjson itself refuses bad UTF-8, a byte order mark, NaN, Infinity, control characters and lone
surrogates. Bodies with white space take a second way, one pass over the containers that counts members (the proof is at
`_no_duplicates`). Whatever that can't tell is read again by the standard library's parser, which shows each member.

Numbers. FHIR decimals keep their precision: `1.10` is not `1.1` (R4 datatypes, decimal). A number that Python's float writes back
exactly as it came is a float; any other is an `orjson.Fragment`, which orjson writes back as it came. Nothing in the hub computes with
such a number.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any, Final, NoReturn

import orjson

from gateway.problems import Finding, IssueCode, Problem, ProblemType

__all__ = ["BODY_LIMIT", "DEPTH_LIMIT", "DIGITS_LIMIT", "parse_json"]

BODY_LIMIT: Final = 1024 * 1024
DEPTH_LIMIT: Final = 32
DIGITS_LIMIT: Final = 100

_NUMBER_CHARACTERS: Final = bytes(ord("0") if chr(i) in "0123456789+-.eE" else ord(" ") for i in range(256))
_LONG_NUMBER: Final = b"0" * (DIGITS_LIMIT + 1)
_FULL_DEPTH: Final = b"\n" + b"  " * DEPTH_LIMIT  # indented: the beginning of a member at the last level; a string holds no line end
_TOO_DEEP: Final = f"The body is nested more than {DEPTH_LIMIT} levels deep."
_SPACE_BEFORE_COLON: Final = (b" :", b"\t:", b"\n:", b"\r:")
_INTEGER_64: Final = range(-(2**63), 2**64)


def parse_json(body: bytes) -> dict[str, Any]:
    """The object in `body`.

    Raises Problem (TOO_LARGE over 1 MiB, else MALFORMED): not JSON, not UTF-8, a byte order mark, NaN or Infinity, a duplicate member at
    any depth, more than 32 levels, a number of more than 100 characters, or something else than an object. Raises nothing else.
    """
    if len(body) > BODY_LIMIT:
        raise Problem(ProblemType.TOO_LARGE, Finding(IssueCode.TOO_LONG, "Send at most 1 MiB."))
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        _refuse(IssueCode.STRUCTURE, "The body is not JSON in UTF-8 without a byte order mark (RFC 8259).")
    if type(parsed) is not dict:
        _refuse(IssueCode.STRUCTURE, "The body must be one JSON object.")
    try:
        if orjson.dumps(parsed) == body and _FULL_DEPTH not in orjson.dumps(parsed, option=orjson.OPT_INDENT_2):
            return parsed
    except orjson.JSONEncodeError:  # it reads deeper than it writes
        _refuse(IssueCode.TOO_COSTLY, _TOO_DEEP)
    members, plain = _survey(parsed)
    long_number = _LONG_NUMBER in body.translate(_NUMBER_CHARACTERS)
    if plain and not long_number and _no_duplicates(body, members):
        return parsed
    return _read_again(body)


def _survey(parsed: dict[str, Any]) -> tuple[int, bool]:
    """How many members there are, and whether no number is a float; level by level, so that depth costs no stack."""
    members = 0
    kinds: set[type] = set()
    level: list[Any] = [parsed]
    for _ in range(DEPTH_LIMIT):
        objects = [c for c in level if type(c) is dict]
        members += sum(map(len, objects))
        values = list(chain.from_iterable(chain((o.values() for o in objects), (c for c in level if type(c) is list))))
        kinds.update(map(type, values))
        level = [v for v in values if type(v) is dict or type(v) is list]
        if not level:
            return members, float not in kinds
    _refuse(IssueCode.TOO_COSTLY, _TOO_DEEP)


def _no_duplicates(body: bytes, members: int) -> bool:
    """Exact when it says True.

    Without white space before any colon, each member of the text ends its name with `":`. In a string those two characters can only be
    the end of an escaped quote, which makes the count larger. So count = distinct members + duplicates + something, and
    equality leaves no room for a duplicate.
    """
    return body.count(b'":') == members and not any(space in body for space in _SPACE_BEFORE_COLON)


def _read_again(body: bytes) -> dict[str, Any]:
    """The exact way. The body is known to be JSON of bounded depth by now."""
    try:
        parsed: dict[str, Any] = json.loads(
            body, object_pairs_hook=_members_once, parse_float=_number, parse_int=_number, parse_constant=_constant
        )
    except (ValueError, RecursionError):
        _refuse(IssueCode.STRUCTURE, "The body is not JSON in UTF-8 without a byte order mark (RFC 8259).")
    return parsed


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse(IssueCode.STRUCTURE, "A JSON object has the same member twice; send each once.")
    return found


def _number(text: str) -> int | float | orjson.Fragment:
    if len(text) > DIGITS_LIMIT:
        _refuse(IssueCode.VALUE, "Send numbers of at most 100 characters.")
    if text.lstrip("-").isdigit():
        number = int(text)
        return number if number in _INTEGER_64 else orjson.Fragment(text)
    decimal = float(text)
    return decimal if repr(decimal) == text else orjson.Fragment(text)


def _constant(_: str) -> NoReturn:
    _refuse(IssueCode.STRUCTURE, "NaN and Infinity are not JSON.")


def _refuse(code: IssueCode, say: str) -> NoReturn:
    raise Problem(ProblemType.MALFORMED, Finding(code, say))
