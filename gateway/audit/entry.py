"""One audit entry, its one canonical form, and the chain that a writer hangs it on. Pure.

Each writer (one process, a new id at every start) numbers its entries from 1 without a gap, and each entry carries the
hash of the one before it::

    body(n) = canonical JSON of the entry and {v, writer, seq: n, prev: hex(hash(n - 1))}
    hash(n) = SHA-256(0x00 || body(n))                              the leaf hash of RFC 6962, 2.1
    hash(0) = SHA-256("gateway audit chain v1\\n" || writer)

so the number that links a writer's chain and the number that enters the tree are the same, and can be computed from a
body alone.

An entry holds ids, codes, versions and class names. Every string in it must match one narrow pattern: no space, no
quote, no `@`, no letter outside ASCII. That keeps free text out; it can't tell an id from a one-word name, so the caller
still owes the rule: record an id only when it was found on the caller's own shelf or made by the hub, never as typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from gateway.audit.merkle import leaf_hash

__all__ = [
    "VERSION",
    "AuditAction",
    "AuditEntry",
    "AuditOutcome",
    "Chain",
    "Mark",
    "SealedEntry",
    "canonical",
    "genesis",
    "is_writer_id",
]

VERSION: Final = 1
"""The version of the body, in every body as `v`."""

_CODE_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/|-"
_CODE_LENGTH: Final = 128
_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII).fullmatch
_KEY: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII).fullmatch
_WRITER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII).fullmatch


class AuditAction(StrEnum):
    """What was done, or tried."""

    START = "start"  # a writer began its chain
    CREATE = "create"
    READ = "read"
    SEARCH = "search"
    UPDATE = "update"
    ACT = "act"  # a business act on a transfer
    RELEASE = "release"  # content put on another shelf
    DELIVER = "deliver"  # content handed to a party's endpoint
    WITHDRAW = "withdraw"
    RECALL = "recall"
    REFUSE = "refuse"
    TOKEN = "token"
    TIMER = "timer"
    REVIEW = "review"  # a human decision on something held for review
    ERASE = "erase"
    EXPORT = "export"
    OPERATOR = "operator"


class AuditOutcome(StrEnum):
    """How it ended."""

    PERMIT = "permit"
    DENY = "deny"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One thing that was done or refused, by whom, on what, on what ground.

    `at` is business time in UTC with milliseconds. The `actor_*` fields come from the access token, the `target_*` fields
    name the receiving side of a release or a delivery. `thread` is the opaque id of a person's thread. `detail` holds
    further code-like facts (a scope, a route name, a count); its keys are distinct and spelled in lower case.

    ValueError when any value is not code-like: that is a programming error, and it stops the effect it belongs to. The
    message names the field, never the value.
    """

    at: str
    action: AuditAction
    outcome: AuditOutcome
    actor_party: str | None = None
    actor_shelf: str | None = None
    actor_role: str | None = None
    client_id: str | None = None
    token_jti: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    version: str | None = None
    thread: str | None = None
    transfer: str | None = None
    attempt: str | None = None
    target_party: str | None = None
    target_shelf: str | None = None
    basis: str | None = None
    consents: tuple[str, ...] = ()
    agreement: str | None = None
    policy_version: str | None = None
    classes: tuple[str, ...] = ()
    refusal: str | None = None
    correlation_id: str | None = None
    detail: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if _AT(self.at) is None:
            raise ValueError("audit entry: at is not a UTC time with milliseconds")
        values = [value for value in _scalars(self) if value is not None]
        values += self.consents
        values += self.classes
        if self.detail:
            keys = [key for key, _ in self.detail]
            if not all(map(_KEY, keys)) or len(set(keys)) != len(keys):
                raise ValueError("audit entry: detail keys must be distinct lower-case names")
            values += [value for _, value in self.detail]
        if not _all_codes(values):
            raise ValueError(f"audit entry: {_culprit(self)} is not code-like")


def _all_codes(values: Sequence[str]) -> bool:
    """Whether every value matches ``[A-Za-z0-9._:/|-]{0,128}``. All at once: this is on the path of every request."""
    joined = "\n".join(values)
    # what is left when the allowed characters are taken out must be the separators, each once, and nothing else
    return (
        joined.isascii()
        and joined.encode().translate(None, _CODE_CHARACTERS) == b"\n" * (len(values) - 1)
        and max(map(len, values), default=0) <= _CODE_LENGTH
    )


def _scalars(entry: AuditEntry) -> tuple[str | None, ...]:
    """The optional fields, in the order of `_NAMES`."""
    return (
        entry.actor_party,
        entry.actor_shelf,
        entry.actor_role,
        entry.client_id,
        entry.token_jti,
        entry.resource_type,
        entry.resource_id,
        entry.version,
        entry.thread,
        entry.transfer,
        entry.attempt,
        entry.target_party,
        entry.target_shelf,
        entry.basis,
        entry.agreement,
        entry.policy_version,
        entry.refusal,
        entry.correlation_id,
    )


_NAMES: Final = (
    "actor_party",
    "actor_shelf",
    "actor_role",
    "client_id",
    "token_jti",
    "resource_type",
    "resource_id",
    "version",
    "thread",
    "transfer",
    "attempt",
    "target_party",
    "target_shelf",
    "basis",
    "agreement",
    "policy_version",
    "refusal",
    "correlation_id",
)


def _culprit(entry: AuditEntry) -> str:
    """The first field whose value is not code-like."""
    fields: list[tuple[str, tuple[str, ...]]] = [
        (name, (value,)) for name, value in zip(_NAMES, _scalars(entry), strict=True) if value is not None
    ]
    fields += [("consents", entry.consents), ("classes", entry.classes), ("detail", tuple(v for _, v in entry.detail))]
    return next(name for name, values in fields for value in values if not _all_codes((value,)))


def is_writer_id(text: str) -> bool:
    """Whether a text may name a writer: short, ASCII, safe to print."""
    return _WRITER(text) is not None


def genesis(writer: str) -> bytes:
    """What the first entry of a writer names as its predecessor: bound to the writer, so that chains can't be swapped."""
    return sha256(b"gateway audit chain v1\n" + writer.encode("ascii")).digest()


def canonical(entry: AuditEntry, writer: str, seq: int, prev_hash: bytes) -> bytes:
    """The one byte form of an entry: JSON, keys sorted, no white space, absent fields left out, ASCII only."""
    document: dict[str, Any] = {name: value for name, value in zip(_NAMES, _scalars(entry), strict=True) if value is not None}
    document["action"] = entry.action.value
    document["at"] = entry.at
    document["outcome"] = entry.outcome.value
    document["prev"] = prev_hash.hex()
    document["seq"] = seq
    document["v"] = VERSION
    document["writer"] = writer
    if entry.classes:
        document["classes"] = entry.classes
    if entry.consents:
        document["consents"] = entry.consents
    if entry.detail:
        document["detail"] = dict(entry.detail)
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """An entry with its place in its writer's chain: what is stored. `hash` is also its leaf hash in the tree."""

    writer: str
    seq: int
    prev: bytes
    hash: bytes
    body: bytes


class Mark(NamedTuple):
    """A place in a chain to go back to."""

    seq: int
    hash: bytes


class Chain:
    """A writer's chain, in the memory of the one task or thread that commits for it.

    The committer takes a `mark` before a batch, appends while it builds the batch, and goes back with `rewind` when the
    batch was rolled back, so that a number is used up only by what was committed. When it can't know whether a commit
    took effect, it must not go on with this chain: start another writer id.
    """

    __slots__ = ("_hash", "_seq", "_writer")

    def __init__(self, writer_id: str) -> None:
        if not is_writer_id(writer_id):
            raise ValueError("a writer id is 1 to 64 ASCII letters, digits, dots, colons and dashes")
        self._writer = writer_id
        self._seq = 0
        self._hash = genesis(writer_id)

    @property
    def writer(self) -> str:
        """The id that this chain's entries carry."""
        return self._writer

    @property
    def seq(self) -> int:
        """The number of the newest entry; 0 before the first."""
        return self._seq

    def append(self, entry: AuditEntry) -> SealedEntry:
        """Give the entry the next place."""
        seq = self._seq + 1
        prev = self._hash
        body = canonical(entry, self._writer, seq, prev)
        digest = leaf_hash(body)
        self._seq = seq
        self._hash = digest
        return SealedEntry(self._writer, seq, prev, digest, body)

    def mark(self) -> Mark:
        """The present place."""
        return Mark(self._seq, self._hash)

    def rewind(self, mark: Mark) -> None:
        """Forget every entry after `mark`. ValueError for a mark that lies ahead: going forward would leave a gap."""
        if mark.seq > self._seq:
            raise ValueError("a chain can only be rewound to an earlier place")
        self._seq, self._hash = mark
