"""Looks at a running hub from outside, about once a second: its memory and open files, what is sealed, what waits to be delivered."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psutil

__all__ = ["Sample", "Watch"]

EVERY: Final = 1.0
_COUNTS: Final = (
    "SELECT (SELECT count(*) FROM audit_entries), (SELECT coalesce(max(size), 0) FROM audit_checkpoints), "
    "(SELECT count(*) FROM deliveries WHERE state IN ('queued', 'sending'))"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The hub at one moment."""

    at: float
    memory: float  # MiB: PSS, or RSS where the kernel does not tell
    files: int
    busy: float  # processor seconds so far
    entries: int
    sealed: int
    waiting: int


class Watch:
    """Samples in a thread. Use as a context manager; a question that fails is put again a second later."""

    def __init__(self, pid: int, ask: Callable[[str], list[tuple[Any, ...]]]) -> None:
        self.samples: list[Sample] = []
        self._process = psutil.Process(pid)
        self._ask = ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(15)

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            with contextlib.suppress(psutil.Error, OSError):
                [(entries, sealed, waiting)] = self._ask(_COUNTS)
                self.samples.append(Sample(time.time(), self._memory(), self._process.num_fds(), self._busy(), entries, sealed, waiting))

    def _busy(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _memory(self) -> float:
        with contextlib.suppress(psutil.AccessDenied, AttributeError):
            return float(self._process.memory_full_info().pss) / 2**20
        return float(self._process.memory_info().rss) / 2**20

    def between(self, start: float, end: float) -> list[Sample]:
        """The samples of one part of the run."""
        return [sample for sample in self.samples if start <= sample.at < end]

    def lags(self) -> list[float]:
        """For each sample, seconds that its oldest unsealed entry had waited, at most: it came after the last look without it."""
        found, first = [], 0
        for sample in self.samples:
            while self.samples[first].entries <= sample.sealed and self.samples[first].at < sample.at:
                first += 1
            behind = sample.entries > sample.sealed
            found.append(sample.at - self.samples[max(first - 1, 0)].at if behind else 0.0)
        return found
