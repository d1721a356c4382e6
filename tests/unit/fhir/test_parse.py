"""Reading a body: what is refused, what is kept exactly, and that nothing else than a Problem is ever raised."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.fhir.parse import BODY_LIMIT, DEPTH_LIMIT, DIGITS_LIMIT, parse_json
from gateway.problems import IssueCode, Problem, ProblemType


def refused(body: bytes) -> tuple[ProblemType, IssueCode]:
    with pytest.raises(Problem) as caught:
        parse_json(body)
    assert b"zzsecretzz".decode() not in str(caught.value) + repr(caught.value.findings)
    return caught.value.type, caught.value.findings[0].code


def nested(levels: int, innermost: bytes = b"1") -> bytes:
    """`levels` containers, objects and arrays in turn, the first an object."""
    opening = b"".join(b'{"a":' if i % 2 == 0 else b"[" for i in range(levels))
    closing = b"".join(b"}" if i % 2 == 0 else b"]" for i in reversed(range(levels)))
    return opening + innermost + closing


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"zzsecretzz",
        b"{",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":01}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\n"}',
        b'{"a":1} {"b":2}',
        b"[1]",
        b'"zzsecretzz"',
        b"null",
        b"1",
        b"{" * 100_000,
        b'{"a":' * 200_000,
        b'{"a":"\x00"}',
    ],
    ids=range(23),
)
def test_what_is_not_one_json_object_is_refused(body: bytes) -> None:
    assert refused(body) == (ProblemType.MALFORMED, IssueCode.STRUCTURE)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"a":2}}',
        b'{"b":[{"c":[{"a":1,"a":2}]}]}',
        b'{"a":1,"\\u0061":2}',
        b'{ "a" : 1, "a" : 2, "b" : 3}',
        b'{"a":1,"b" :2,"a":3}',
        b'{"a":"x\\":y","a":1}',
        b'{"a":"\\u0022:","b":1,"b":1}',
        b'{"a":{},"a":{}}',
        b'{"":1,"":1}',
    ],
    ids=range(11),
)
def test_a_duplicate_member_is_refused_at_any_depth(body: bytes) -> None:
    assert refused(body) == (ProblemType.MALFORMED, IssueCode.STRUCTURE)


@given(
    st.recursive(
        st.integers() | st.text(max_size=4),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3),
        max_leaves=20,
    ),
    st.text(max_size=4),
    st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
    st.booleans(),
)
@example({}, '":', (",", ":"), False)
@example({"a": '":'}, '"', (",", ":"), True)
def test_a_member_added_a_second_time_is_always_found(value: Any, name: str, separators: tuple[str, str], ascii_only: bool) -> None:
    quoted = json.dumps(name, ensure_ascii=ascii_only)
    inner = json.dumps(value, separators=separators, ensure_ascii=ascii_only)
    once = f'{{"x":{inner}{separators[0]}{quoted}{separators[1]}{inner}}}'
    twice = f'{{{quoted}{separators[1]}1{separators[0]}"xx":{inner}{separators[0]}{quoted}{separators[1]}{inner}}}'
    if name != "x":
        assert orjson.dumps(parse_json(once.encode("utf-8", "surrogatepass"))) is not None
    assert refused(twice.encode("utf-8", "surrogatepass"))[0] is ProblemType.MALFORMED


@pytest.mark.parametrize("space", [b"", b" "])
@pytest.mark.parametrize("innermost", [b"1", b"{}", b"[]", b'{"a":1}'])
def test_depth_is_limited_exactly(space: bytes, innermost: bytes) -> None:
    inner = 0 if innermost == b"1" else 1
    at_limit = nested(DEPTH_LIMIT - inner, innermost)
    assert parse_json(at_limit + space)
    for over in (DEPTH_LIMIT + 1, 254, 255, 500, 1000):  # some of it deeper than what was read can be written again
        assert refused(nested(over - inner, innermost) + space) == (ProblemType.MALFORMED, IssueCode.TOO_COSTLY)


def test_size_is_limited_exactly() -> None:
    body = b'{"a":"' + b"x" * (BODY_LIMIT - 8) + b'"}'
    assert len(body) == BODY_LIMIT
    assert parse_json(body)
    assert refused(body + b" ") == (ProblemType.TOO_LARGE, IssueCode.TOO_LONG)


def test_digits_are_limited_exactly() -> None:
    parse_json(b'{"a":' + b"1" * DIGITS_LIMIT + b"}")
    for number in (b"1" * (DIGITS_LIMIT + 1), b"1." + b"0" * DIGITS_LIMIT, b"-" + b"1" * 5000, b"0." + b"1" * 5000 + b"e5"):
        assert refused(b'{"a":' + number + b"}")[0] is ProblemType.MALFORMED


def test_digits_in_text_are_not_a_number() -> None:
    assert parse_json(b'{"a":"' + b"1" * 500 + b'"}') == {"a": "1" * 500}


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "-1",
        "1.0",
        "1.10",
        "1.50",
        "0.1",
        "1e2",
        "1E+2",
        "-0.0",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        "18446744073709551615",
        "-9223372036854775808",
        "1.7976931348623157e308",
        "100.00",
    ],
)
@pytest.mark.parametrize("body", ['{"a":%s}', '{"a": [%s, 1]}', '{"a" : {"b":%s}, "c":"\\""}'])
def test_a_number_is_written_back_as_it_came(body: str, number: str) -> None:
    written = orjson.dumps(parse_json((body % number).encode()))
    assert number.encode() in written


def test_text_is_kept_exactly() -> None:
    value = {"a": 'é ü \u00a0 \U0001f600 \\ " / \u2028', "b": "\t\n"}
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_only in (True, False):
            assert parse_json(json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
@example(b'{"a":' * 40 + b"1")
def test_any_bytes_give_an_object_or_a_problem(body: bytes) -> None:
    try:
        assert isinstance(parse_json(body), dict)
    except Problem as problem:
        assert problem.findings


_TOKENS = ["{", "}", "[", "]", ":", ",", '"', '"a"', '"b"', "1", "1.10", "1e400", "null", "true", " ", "\\", "NaN", "-", "9" * 60, "\n"]


@given(st.lists(st.sampled_from(_TOKENS), max_size=40))
def test_any_row_of_json_tokens_gives_an_object_or_a_problem(tokens: list[str]) -> None:
    try:
        parsed = parse_json("".join(tokens).encode())
    except Problem:
        return
    assert orjson.dumps(parsed)
