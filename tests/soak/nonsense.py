"""What a broken or hostile system may send: real messages with something wrong in them, texts that are no JSON, heads that are no HTTP.

Everything is drawn from one source of chance, so a seed names a whole run.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

from tests.integration.test_mangled import WRONG, ways

__all__ = ["EXAMPLES", "broken_head", "broken_text", "changed_somewhere", "examples"]

Json = dict[str, Any]
EXAMPLES: Final = Path(__file__).resolve().parents[1] / "data" / "examples"
_HEX: Final = "0123456789abcdef"
_NAMES: Final = (
    *("Authorization", "Content-Type", "Content-Length", "Transfer-Encoding", "Accept", "If-Match", "If-None-Exist", "X-Request-ID"),
    *("X-Correlation-ID", "Prefer", "Host", "Connection", "Expect", "Upgrade", "Cookie", "X-HTTP-Method-Override", "Range", "traceparent"),
)
_VALUES: Final = (
    *(b"", b"\x00", b"\xff\xfe", b"a" * 9_000, b"-1", b"0", b"99999999999999999999", b'W/"x"', b'W/"99999999999999999999"', b"*/*;q=zz"),
    *(
        b"application/fhir+json; charset=utf-7",
        b"application/fhir+xml",
        b"multipart/form-data; boundary=",
        b"gzip",
        b"chunked",
        b"100-continue",
    ),
    *(
        b"Bearer ",
        b"Bearer a.b.c",
        b"Basic eDp5",
        b"Bearer " + b"e" * 5_000,
        b"respond-async",
        b"bytes=0-",
        b"h2c",
        b"\xc3\x9c\xc2\xad",
        b"a\tb",
    ),
)
_METHODS: Final = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"BREW", b"G\x00T", b"")
_PATHS: Final = (
    *(b"/fhir", b"/fhir/", b"/fhir/Task", b"/fhir/Task?", b"/fhir/Task?status=%00", b"/fhir/Task?_count=-1", b"/fhir/Task?_count=9e99"),
    *(b"/fhir/Task?_sort=%F0%9F%92%A9", b"/fhir/Patient/%2e%2e%2fConsent", b"/fhir/Patient/..", b"//fhir//Task", b"/fhir/Task/%ff", b"*"),
    *(b"/fhir/Task?" + b"&".join(b"status=x" for _ in range(400)), b"/fhir/" + b"a" * 8_000, b"/fhir/Task/x/_history/0x1", b"/oauth/token"),
    *(
        b"/fhir/Task?_lastUpdated=ge0000-00-00",
        b"/fhir/Task?code=|||&owner=%25",
        b"http://other.example/fhir/Task",
        b"/health/ready\r\nX: y",
    ),
)


@lru_cache(maxsize=1)
def examples() -> tuple[Json, ...]:
    """The public examples that are JSON objects, and each resource inside their Bundles."""
    found: list[Json] = []
    for path in sorted(EXAMPLES.rglob("*.json")):
        try:
            value = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError:
            continue  # one is broken at its source
        if isinstance(value, dict):
            found.append(value)
            found += [inner for entry in value.get("entry", ()) if isinstance(inner := entry.get("resource"), dict)]
    return tuple(found)


def changed_somewhere(chance: random.Random, value: Json, *, times: int | None = None) -> Json:
    """A copy with one to three places replaced, removed, repeated, renamed or filled with another part of a real message."""
    result = copy.deepcopy(value)
    for _ in range(times if times is not None else chance.choice((1, 1, 1, 2, 3))):
        places = list(ways(result))
        if places:
            _change(chance, result, chance.choice(places))
    return result


def _change(chance: random.Random, value: Json, at: Sequence[str | int]) -> None:
    holder: Any = value
    for name in at[:-1]:
        holder = holder[name]
    last = at[-1]
    how = chance.randrange(6)
    if how == 0:
        del holder[last]
    elif how == 1:
        holder[last] = copy.deepcopy(_part_of(chance, chance.choice(examples())))
    elif how == 2 and isinstance(holder, list):
        holder += [copy.deepcopy(holder[int(last)]) for _ in range(chance.choice((1, 3, 60)))]
    elif how == 3 and isinstance(holder, dict):
        holder[chance.choice((f"{last}x", f"_{last}", "id", "extension", "contained", "$ref", "", "\u202e"))] = holder.pop(str(last))
    elif how == 4 and isinstance(holder[last], str):
        holder[last] = _misspelled(chance, holder[last])
    else:
        holder[last] = copy.deepcopy(chance.choice(WRONG))


def _part_of(chance: random.Random, value: Json) -> Any:
    found: Any = value
    for name in chance.choice(list(ways(value))):
        found = found[name]
    return found


def _misspelled(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text) + 1)
    return (
        text[:at]
        + chance.choice(("", " ", "\u0000", "\u200b", "é", "'", "%", "/", "\U0001f4a9", "x" * 3_000))
        + text[at + chance.randrange(2) :]
    )


def broken_text(chance: random.Random, value: Json) -> bytes:
    """The message as bytes that are most likely no JSON any more."""
    text = json.dumps(value, separators=(",", ":")).encode()
    at = chance.randrange(len(text))
    return chance.choice(
        (
            lambda: text[:at],
            lambda: text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :],
            lambda: text[:at] + chance.randbytes(40) + text[at:],
            lambda: text + text,
            lambda: b"[" * chance.choice((10, 40, 100_000)) + text,
            lambda: b'{"a":' * 500 + b"1" + b"}" * 500,
            lambda: text.replace(b'"status":"', b'"status":"x","status":"', 1),
            lambda: text.replace(b":true", b":" + b"9" * 5_000, 1).replace(b'"stat"', b"1e999", 1),
            lambda: text.decode().encode("utf-16"),
            lambda: b"\xef\xbb\xbf" + text,
            lambda: chance.randbytes(chance.randrange(2_000)),
            lambda: b" " * 1_200_000 + text,
            lambda: b'{"resourceType":"\\ud800"}',
        )
    )()


def broken_head(chance: random.Random, authorization: str, host: str) -> bytes:
    """A request's head and body, wrong in one or more ways, with a true token more often than not. Its body can't be accepted."""
    body = b'{"resourceType":"Bundle","zz":1}'
    lines = [b"Host: " + host.encode()]
    if chance.random() < 0.8:
        lines.append(b"Authorization: Bearer " + authorization.encode())
    lines += [b"Content-Type: application/fhir+json", b"Content-Length: %d" % len(body)]
    for _ in range(chance.choice((1, 1, 1, 1, 2, 5, 120))):
        name = (
            chance.choice(_NAMES).encode() if chance.random() < 0.8 else bytes(chance.randrange(256) for _ in range(chance.randrange(30)))
        )
        line = name + chance.choice((*(b": ",) * 12, b":", b" : ", b"", b":\r\n ")) + chance.choice(_VALUES)
        if chance.random() < 0.3:
            lines[chance.randrange(len(lines))] = line
        else:
            lines.insert(chance.randrange(len(lines) + 1), line)
    first = (
        chance.choice(_METHODS)
        + b" "
        + chance.choice(_PATHS)
        + b" "
        + chance.choice((b"HTTP/1.1",) * 8 + (b"HTTP/1.0", b"HTTP/9.9", b"x", b""))
    )
    whole = first + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body
    if chance.random() < 0.05:
        whole = bytes(byte if chance.random() > 0.02 else chance.randrange(256) for byte in whole)
    return whole[: chance.randrange(1, len(whole))] if chance.random() < 0.05 else whole
