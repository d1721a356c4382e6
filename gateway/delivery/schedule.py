"""When a failed delivery is tried again. Short for crisis transfers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

__all__ = ["retry_after"]

_STEPS: Final[Mapping[str, tuple[int, ...]]] = {
    "stat": (1, 5, 15, 30, 60),
    "asap": (2, 10, 30, 60, 120),
    "urgent": (2, 10, 30, 60, 120),
    "routine": (5, 30, 120, 300, 600),
}
"""Seconds after the first, second ... failure; the last one repeats."""


def retry_after(priority: str, tries: int, asked: timedelta | None) -> int:
    """Milliseconds to wait after try number `tries`, no less than the partner asked for."""
    steps = _STEPS.get(priority, _STEPS["routine"])
    wait = steps[min(max(tries, 1), len(steps)) - 1] * 1000
    return max(wait, asked // timedelta(milliseconds=1) if asked is not None else 0)
