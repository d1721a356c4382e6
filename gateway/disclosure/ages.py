"""From a birth date to an age band, for a receiver that may know the band and not the date. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

from gateway.clock import when

__all__ = ["band_on", "is_birth_date"]

_DATE: Final = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?\Z", re.ASCII)
_BEHIND: Final = timedelta(hours=12)
"""No place is further behind UTC: a birthday counts once it has begun everywhere, so that nobody is an adult too early."""


def is_birth_date(value: object) -> bool:
    """Whether a value is a FHIR date of the calendar, whole or partial."""
    return _span(value) is not None


def band_on(birth: object, at: int, bands: Mapping[str, int]) -> str | None:
    """The band of a person born then, at this instant (milliseconds); `bands` maps each to the age it begins with.

    None where the date does not tell one band: it is no date, lies ahead, or is partial and straddles two.
    """
    span = _span(birth)
    if span is None:
        return None
    today = (when(at) - _BEHIND).date()
    first, last = (_years(each, today) for each in span)
    fitting = {_band(years, bands) for years in (first, last)}
    return fitting.pop() if len(fitting) == 1 else None


def _span(birth: object) -> tuple[date, date] | None:
    """The first and the last day that a date may mean."""
    found = _DATE.match(birth) if isinstance(birth, str) else None
    if found is None:
        return None
    year, month, day = (int(part) if part else None for part in found.groups())
    try:
        first = date(year or 0, month or 1, day or 1)
        if day is not None:
            return first, first
        after = date(first.year + 1, 1, 1) if month is None or month == 12 else date(first.year, month + 1, 1)
        return first, after - timedelta(days=1)
    except (ValueError, OverflowError):
        return None


def _years(birth: date, today: date) -> int:
    return today.year - birth.year - ((today.month, today.day) < (birth.month, birth.day))


def _band(years: int, bands: Mapping[str, int]) -> str | None:
    return max((name for name, start in bands.items() if start <= years), key=lambda name: bands[name], default=None)
