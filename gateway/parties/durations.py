"""Lengths of time and dates as configuration writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.clock import millis

__all__ = ["day", "duration"]

_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def duration(text: str) -> timedelta:
    """``10m``, ``72h`` or ``30d``."""
    return int(text[:-1]) * _UNITS[text[-1]]


def day(text: str) -> int | None:
    """The start of a calendar day, UTC, in milliseconds; None when there is no such day."""
    try:
        return millis(datetime.fromisoformat(text).replace(tzinfo=UTC))
    except ValueError:
        return None
