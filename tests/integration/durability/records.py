"""What the processes of a durability run write down: journals that survive a crash, and counters that are read while they run."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any, Final

import orjson

__all__ = ["Counters", "Journal", "read_journal"]

_SLOT: Final = 8


class Journal:
    """JSON lines, each on disk before `write` returns. One writer."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **fields: Any) -> None:
        """Add one line."""
        os.write(self._file, orjson.dumps({"event": event, **fields}) + b"\n")
        os.fdatasync(self._file)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Every line, oldest first."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


class Counters:
    """Whole numbers in a shared file, one slot for each process that counts; a slot has one writer."""

    def __init__(self, path: Path, slots: int | None = None) -> None:
        """`slots` makes the file; without it, an existing one is opened."""
        if slots is not None:
            path.write_bytes(bytes(slots * _SLOT))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map).cast("q")

    def add(self, slot: int, number: int = 1) -> None:
        """Count."""
        self._words[slot] += number

    def read(self) -> list[int]:
        """All of them, as they stand."""
        return list(self._words)

    def close(self) -> None:
        """Let go of the file."""
        self._words.release()
        self._map.close()
