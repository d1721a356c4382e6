"""What is wrong with the configuration, with the file and the line, all of it at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ConfigurationError", "Mistake", "Mistakes"]


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing to correct. `reason` says what is expected; of a registry it never repeats a value."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class ConfigurationError(Exception):
    """The hub does not start on a configuration with a mistake in it: failing open is not an option."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__(f"{len(mistakes)} mistakes" if len(mistakes) != 1 else "1 mistake")
        self.mistakes = mistakes

    def __str__(self) -> str:
        count = len(self.mistakes)
        head = "The configuration has one mistake:" if count == 1 else f"The configuration has {count} mistakes:"
        return "\n".join([head, *(f"  {mistake}" for mistake in self.mistakes)])


@dataclass(slots=True)
class Mistakes:
    """Collects mistakes while files are read, so that a person corrects all of them in one go."""

    root: Path
    found: list[Mistake] = field(default_factory=list)

    def add(self, file: Path, line: int, reason: str) -> None:
        """Note one mistake. `file` is shown relative to the root of the configuration where it lies in it."""
        shown = file.relative_to(self.root) if file.is_relative_to(self.root) else file
        self.found.append(Mistake(str(shown), line, reason))

    def stop_if_any(self) -> None:
        """Raise what was found. Called between stages: a later stage trusts the shape that an earlier one checked."""
        if self.found:
            raise ConfigurationError(tuple(sorted(set(self.found))))
