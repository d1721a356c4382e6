"""PUBLIC. What an adapter is given, what it must do, and how it says that it could not.

An adapter translates a `Release` into what its partner's system understands and sends it. It decides nothing: consent, the classes
that may go, retries, order and the audit entry are the hub's. It sees a read-only `Release`, never a shelf, a store or another party,
and it imports nothing of the hub but this module.

    gateway -> adapter(settings) -> OutboundAdapter
            -> deliver(release, transport) -> Receipt            the partner's system has it
                                           -> raise TryAgain     not now: the hub repeats it with the same key
                                           -> raise NeedsPerson  a human must act first: the lane waits, the route's backup goes on
                                           -> raise Final        it will never be taken: the transfer's backup chain goes on

The exceptions::

    DeliveryFailure
      TryAgain(reason, retry_after)
      NeedsPerson(reason)
      Final(reason)

`reason` is a word of the adapter's own (``[a-z-]{1,40}``), written to the ledger and shown to operators. It never holds anything that came
from a release or from the partner's answer.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

__all__ = [
    "CONTRACT_VERSION",
    "OLDEST_CONTRACT",
    "AdapterFactory",
    "DeliveryFailure",
    "Final",
    "NeedsPerson",
    "Operation",
    "OutboundAdapter",
    "Part",
    "Receipt",
    "Release",
    "Reply",
    "Transport",
    "TryAgain",
]

CONTRACT_VERSION: typing.Final = 1
"""The version that this hub speaks. A manifest says which one its adapter was written for."""

OLDEST_CONTRACT: typing.Final = 1
"""The oldest version that still works. What is newer than a manifest's version is offered only behind a capability."""

_REASON: typing.Final = re.compile(r"[a-z][a-z-]{0,39}")


class Operation(StrEnum):
    """What a release asks of the partner's system."""

    PUT = "put"  # have these resources, in place of any older version of the same ids
    RECALL = "recall"  # replace these by the closed shells given, and forget what they held


class Part(Protocol):
    """One resource as it lies on the shelf: final, never to be changed on the way."""

    @property
    def type(self) -> str:
        """Its FHIR type."""
        ...

    @property
    def id(self) -> str:
        """Its id on this shelf, and so at the partner."""
        ...

    @property
    def version(self) -> int:
        """Its version on this shelf."""
        ...

    @property
    def body(self) -> bytes:
        """FHIR R4 JSON."""
        ...


class Release(Protocol):
    """What one shelf's system is to be given: already decided, already minimised, final bytes.

    Everything is read-only, and stays the same when a delivery is repeated. Nothing in it names another party's ids, and the
    hub makes the correlation id anew for each shelf.
    """

    @property
    def shelf(self) -> str:
        """The shelf whose system this is for: ``party`` or ``party/unit``."""
        ...

    @property
    def operation(self) -> Operation:
        """What is asked. An adapter whose manifest does not declare the capability ``recall`` never gets a RECALL."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """The copies, in an order in which each refers only to earlier ones or to the directory."""
        ...

    @property
    def version(self) -> int:
        """Grows with each release of the same lane. A partner that has a higher one already may ignore this one: say `duplicate`."""
        ...

    @property
    def idempotency_key(self) -> str:
        """The same on every repeat of this release, different for every other. Goes on the wire as far as the protocol allows."""
        ...

    @property
    def correlation_id(self) -> str:
        """For the partner's own logs. Says nothing and is used for this shelf alone."""
        ...

    @property
    def classes(self) -> Collection[str]:
        """The data classes that the resources hold."""
        ...

    @property
    def obligations(self) -> Collection[str]:
        """The obligation and refrain codes that go with it (v3-ActCode), such as ``NORDSCLCDS``."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What the partner's system answered. `headers` have lower-case names. `body` is cut at the hub's limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """The one way out. Bound to the registered address of the release's shelf; an adapter cannot reach any other."""

    async def send(self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request and wait for the answer.

        `path` is relative to the registered address and must not leave it. The hub adds authentication, TLS, time and size
        limits, follows no redirect, and logs method, status and time alone.

        Any answer is returned, whatever its status. No answer raises `TryAgain`; a registered address, certificate or
        credential that does not work raises `NeedsPerson`. Both may be let through.
        """
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """The partner's system has it, durably. Written to the ledger, and what `delivered` rests on.

    `reference` is the partner's own id for it, if that is a technical one (a version id, a message control id, an HTTP location);
    `duplicate` says that the partner already had it.
    """

    reference: str | None = None
    duplicate: bool = False


class DeliveryFailure(Exception):
    """Why a release was not delivered. Raise one of the three kinds, never this."""

    def __init__(self, reason: str) -> None:
        if not _REASON.fullmatch(reason):
            raise ValueError("a reason is a word of the adapter's own: a-z and hyphens, at most 40")
        super().__init__(reason)
        self.reason = reason


class TryAgain(DeliveryFailure):
    """Not now: a timeout, 429, 503, a partner restarting. The hub repeats it with the same key, no sooner than `retry_after`."""

    def __init__(self, reason: str, retry_after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class NeedsPerson(DeliveryFailure):
    """Somebody must act before it can work: a wrong key, an expired certificate, a full queue. The operator is told; the lane waits."""


class Final(DeliveryFailure):
    """This release will never be taken as it is. It is kept as a dead letter, and the transfer goes to the receiver's backup."""


class OutboundAdapter(Protocol):
    """One party's adapter. Made once at start, used from many tasks at once; it keeps no state between calls."""

    async def deliver(self, release: Release, transport: Transport) -> Receipt:
        """Translate and send one release.

        Promises: returns a `Receipt` only when the partner's system has said that it has everything; may be called again for the
        same key after a crash, a lost answer or a `TryAgain`, and then has no second effect at the partner (through the
        key where the protocol has a place for it). Never drops, adds or changes content to suit consent: that is decided already.

        Raises `TryAgain`, `NeedsPerson` or `Final`. Anything else that it raises is taken for `TryAgain` and counted as a fault
        of the adapter. Never logs, stores or prints any part of a release.
        """
        ...


class AdapterFactory(Protocol):
    """What ``adapter.py`` defines under the name ``adapter``."""

    def __call__(self, settings: Mapping[str, str]) -> OutboundAdapter:
        """Make the adapter from the settings that its manifest names. Raises KeyError or ValueError when one is missing or wrong."""
        ...
