"""Taking a signed token apart (RFC 7515 section 3.1), more strictly than the JOSE libraries do.

The libraries accept padding, ignore duplicate members and have no size limit; a security decision may rest on none of these. This
module decides only whether the text *is* one canonical token. Signatures are checked by the caller, with the libraries' primitives.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeGuard

__all__ = ["NAME_LIMIT", "Compact", "MalformedToken", "b64url", "is_name", "is_numeric_date", "parse_compact"]

NAME_LIMIT: Final = 255
"""The longest `jti`, `kid`, `iss` or `sub` accepted."""

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class MalformedToken(ValueError):
    """The text is not a canonical compact JWS over JSON objects. Carries no part of the text."""


@dataclass(frozen=True, slots=True)
class Compact:
    """A token taken apart; nothing in it is verified yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signing_input: bytes
    signature: bytes


def parse_compact(token: str, *, limit: int) -> Compact:
    """Take a compact JWS apart, or raise `MalformedToken`.

    Refused: more than `limit` characters, anything but three base64url segments without padding (RFC 7515 section 2), a segment that is
    not the canonical encoding of its bytes (so that one signature has one spelling), text that is not UTF-8, duplicate members (RFC 7515
    section 4, RFC 7519 section 4), NaN and Infinity, nesting too deep to read, a header or payload that is not an object, and any `crit`
    header, since this hub understands no extension (RFC 7515 section 4.1.11).
    """
    if len(token) > limit:
        raise MalformedToken("too long")
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise MalformedToken("not three base64url segments")
    head, payload, signature = match.groups()
    header = _read_object(_decode(head))
    if "crit" in header:
        raise MalformedToken("an extension that is not understood")
    return Compact(
        header=header,
        claims=_read_object(_decode(payload)),
        signing_input=f"{head}.{payload}".encode("ascii"),
        signature=_decode(signature),
    )


def b64url(raw: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def is_name(value: object) -> TypeGuard[str]:
    """Whether a header or claim value may serve as an identifier: 1 to 255 printable characters.

    Printable leaves out NUL and lone surrogates, which a database or an encoder would choke on later.
    """
    return isinstance(value, str) and 1 <= len(value) <= NAME_LIMIT and value.isprintable()


def is_numeric_date(value: object) -> TypeGuard[int | float]:
    """Whether a claim value is a NumericDate (RFC 7519 section 2): a finite number, not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e12 < value < 1e12


def _decode(segment: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError):
        raise MalformedToken("not base64url") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != segment.encode("ascii"):
        raise MalformedToken("not canonical base64url")
    return raw


def _read_object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedToken("not JSON") from None
    if not isinstance(value, dict):
        raise MalformedToken("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedToken("duplicate members")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise MalformedToken("not a JSON number")
