"""The one port for business time. Tokens, TLS and leases use real time and do not come here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

__all__ = ["EPOCH", "Clock", "SystemClock", "instant", "millis", "to_minute", "when"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Clock(Protocol):
    """Business time: what clocks, consents, shifts and `lastUpdated` are measured against."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def millis(at: datetime) -> int:
    """An instant as the integer the database stores: milliseconds since 1970."""
    return (at - EPOCH) // _MILLISECOND


def when(at: int) -> datetime:
    """The inverse of `millis`."""
    return EPOCH + timedelta(milliseconds=at)


@lru_cache(maxsize=1024)  # one request writes the same few times into each of its copies
def instant(at: int) -> str:
    """A stored time as a FHIR `instant` with milliseconds."""
    return when(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_minute(at: int) -> int:
    """Cut to the minute: all that a released view ever says of a time the sender's side produced."""
    return at - at % 60_000
