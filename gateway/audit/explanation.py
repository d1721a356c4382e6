"""Why one decision came out as it did, as it is kept beside the audit entry of what was decided. Pure.

The audit entry carries the digest of it (`detail`, ``decision``), so that the log's signature covers the explanation too.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Self

import orjson

__all__ = ["Explanation"]

_DIGITS: Final = 32
"""128 bits of SHA-256 in hex: the text is the hub's own, and whoever could change it could not choose it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`text` is JSON: codes, class names and ids, never a value of a person.

    `party` is the party whose own request was decided; None when the hub decided again by itself, or on another party's act: then
    nobody but the hub reads it. `target` is the party it was addressed to.
    """

    party: str | None
    target: str
    denied: bool
    text: str
    digest: str

    @classmethod
    def of(cls, document: dict[str, Any], *, party: str | None, target: str, denied: bool) -> Self:
        """The one text of a document, and its digest."""
        text = orjson.dumps(document)
        return cls(party, target, denied, text.decode(), sha256(text).hexdigest()[:_DIGITS])

    @staticmethod
    def digest_of(text: str) -> str:
        """What the audit entry must say of a text that was not changed."""
        return sha256(text.encode()).hexdigest()[:_DIGITS]
