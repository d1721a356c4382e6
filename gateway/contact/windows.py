"""When and how she may be contacted: the safe-contact values of a Patient, read and judged. Pure.

`unknown` is unsafe, and a verification older than the limit is unknown (R13). Windows are local time and survive the clock change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from typing import Any, Final

from gateway import vocabulary as v

__all__ = ["STALE_AFTER", "SafeContact", "Window", "next_open", "safe_contacts"]

STALE_AFTER: Final = timedelta(days=14)
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HORIZON: Final = 8  # days looked ahead for the next opening


@dataclass(frozen=True, slots=True)
class Window:
    """Hours in which a channel is safe; no days = every day."""

    days: frozenset[str]
    opens: time
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class SafeContact:
    """One channel as she described it."""

    channel: str
    state: str
    qualifiers: frozenset[str]
    windows: tuple[Window, ...]
    verified: datetime | None
    address: str

    def usable(self, now: datetime) -> bool:
        """Safe, verified lately, and on a phone nobody else watches."""
        fresh = self.verified is not None and now - STALE_AFTER <= self.verified <= now
        watched = self.qualifiers & {"device-watched", "device-shared"}
        return fresh and self.state in ("safe", "safe-with-limits") and not watched


def safe_contacts(patient: dict[str, Any]) -> tuple[SafeContact, ...]:
    """The channels a Patient names; one that can't be read is left out (and so is not safe)."""
    found = (_contact(point) for point in patient.get("telecom") or () if isinstance(point, dict))
    return tuple(contact for contact in found if contact is not None)


def next_open(windows: Sequence[Window], now: datetime, zone: tzinfo) -> datetime | None:
    """`now` when a window is open (or none is named), else the next opening, else None."""
    if not windows:
        return now
    local = now.astimezone(zone)
    best: datetime | None = None
    for ahead in range(-1, _HORIZON):
        day = (local + timedelta(days=ahead)).date()
        for window in windows:
            if window.days and _DAYS[day.weekday()] not in window.days:
                continue
            opens = datetime.combine(day, window.opens, zone).astimezone(now.tzinfo)
            if opens <= now < opens + window.lasts:
                return now
            if opens > now and (best is None or opens < best):
                best = opens
    return best


def _contact(point: dict[str, Any]) -> SafeContact | None:
    for extension in point.get("extension") or ():
        if extension.get("url") != v.EXT_SAFE_CONTACT:
            continue
        parts: dict[str, list[Any]] = {}
        for part in extension.get("extension") or ():
            value = next((part[name] for name in part if name.startswith("value")), None)
            parts.setdefault(str(part.get("url")), []).append(value)
        try:
            verified = datetime.fromisoformat(parts["verified-at"][0]) if "verified-at" in parts else None
            return SafeContact(
                channel=str(parts["channel"][0]),
                state=str(parts["state"][0]),
                qualifiers=frozenset(str(q) for q in parts.get("qualifier", ())),
                windows=tuple(_window(timing) for timing in parts.get("window", ())),
                verified=verified if verified is None or verified.tzinfo else None,
                address=str(point.get("value") or ""),
            )
        except (KeyError, IndexError, ValueError, TypeError, OverflowError):
            return None
    return None


_UNITS: Final = {"min": 60, "h": 3600}
_DAY: Final = 86_400.0


def _window(timing: dict[str, Any]) -> Window:
    repeat = timing["repeat"]
    seconds = float(repeat["duration"]) * _UNITS[repeat["durationUnit"]]
    if not 0 < seconds <= _DAY:
        raise ValueError("a window is at most a day")
    return Window(frozenset(repeat.get("dayOfWeek", ())), time.fromisoformat(repeat["timeOfDay"][0]), timedelta(seconds=seconds))
