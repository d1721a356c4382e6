"""Business time that a scenario sets: one number in a small file, mapped into every process that takes part.

The hub and the simulated partners run in processes of their own, so a clock that a test moves can't be a variable. It is eight bytes:
milliseconds since 1970, in the machine's byte order. Only the one who plays the scenario writes them; a reader sees the old or the new
time, never half of each, because an aligned word is stored at once. Tokens, leases and TLS do not use it.
"""

from __future__ import annotations

import mmap
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from gateway.clock import millis, when

__all__ = ["ClockFile", "RunnerClock"]

SIZE: Final = 8


class RunnerClock:
    """A `Clock` that reads what the scenario's `ClockFile` says. For sandbox settings only."""

    def __init__(self, path: Path) -> None:
        """`path` is a file that a `ClockFile` made. Raises OSError or ValueError when it is not there or is no clock."""
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ)
        self._words = memoryview(self._map).cast("q")

    def now(self) -> datetime:
        """The instant that was set last."""
        return when(self._words[0])


class ClockFile:
    """The hand that moves the clock. Time never goes back: deadlines that have passed would not come again."""

    def __init__(self, path: Path, start: datetime) -> None:
        """Make (or take over) the file and set it to `start`."""
        path.write_bytes(bytes(SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_WRITE)
        self._words = memoryview(self._map).cast("q")
        self._words[0] = millis(start)
        self.path = path

    def now(self) -> datetime:
        """The instant that was set last."""
        return when(self._words[0])

    def set(self, at: datetime) -> None:
        """Move on to `at`. Raises ValueError if that lies before the present time."""
        if at < self.now():
            raise ValueError("business time does not go back")
        self._words[0] = millis(at)

    def close(self) -> None:
        """Let go of the file; it stays readable by those who have it mapped."""
        self._words.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
