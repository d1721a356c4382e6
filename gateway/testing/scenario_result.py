"""What came of a scenario: each step with its checks, each cell of the table, and whether all of it is as it was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.testing.scenario import Cell, Step

__all__ = ["CellResult", "Check", "Played", "Reading", "StepResult", "cell_text"]


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. `got` says what was found, or how it came."""

    says: str
    ok: bool
    got: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A refused read, held against two others: by the owner of the id at that moment, and of an id that nobody has."""

    owner: str
    owner_status: int
    same_as_unknown: bool

    @property
    def ok(self) -> bool:
        """The owner can read it, and the refusal does not tell that it exists."""
        return self.owner_status == 200 and self.same_as_unknown


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step as it went."""

    step: Step
    status: int
    refusals: tuple[str, ...]
    says: tuple[str, ...]
    checks: tuple[Check, ...]
    reading: Reading | None
    seconds: float
    text: str | None = None  # the last text that has reached the phone, where the step asks for texts

    @property
    def ok(self) -> bool:
        """Whether everything was as expected."""
        return all(check.ok for check in self.checks) and (self.reading is None or self.reading.ok)


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell of the table: what a party must see of a row, and what it does see."""

    row: str
    party: str
    expected: Cell
    got: Cell

    @property
    def ok(self) -> bool:
        """Whether they are the same."""
        return self.expected == self.got


@dataclass(frozen=True, slots=True)
class Played:
    """A whole run. `strangers`: referrals found on the shelf of a party that has no part in them."""

    scenario: str
    title: str
    steps: tuple[StepResult, ...]
    cells: tuple[CellResult, ...]
    strangers: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every step, cell and refusal is as the scenario says."""
        return all(step.ok for step in self.steps) and all(cell.ok for cell in self.cells) and not self.strangers

    def to_json(self) -> dict[str, Any]:
        """For `--json`. Refusals are steps whose point is that they must not work."""
        return {
            "scenario": self.scenario,
            "title": self.title,
            "ok": self.ok,
            "steps": [_step(result) for result in self.steps if not result.step.is_refused],
            "refusals": [_step(result) for result in self.steps if result.step.is_refused],
            "cells": [
                {"class": c.row, "party": c.party, "expected": cell_text(c.expected), "got": cell_text(c.got), "ok": c.ok}
                for c in self.cells
            ],
            "strangers": list(self.strangers),
        }


def cell_text(cell: Cell) -> str:
    """A cell in words short enough for a table."""
    if isinstance(cell, frozenset):
        return ", ".join(sorted(cell))
    return "y (own)" if cell == "own" else cell


def _step(result: StepResult) -> dict[str, Any]:
    step = result.step
    shown: dict[str, Any] = {
        "at": step.at.isoformat(timespec="minutes"),
        "number": step.number,
        "who": step.who,
        "act": step.act,
        "what": step.say,
        "expected": {"status": step.expect.status, "refusal": step.expect.refusal},
        "got": {"status": result.status, "refusals": list(result.refusals)},
        "checks": [{"check": check.says, "ok": check.ok, "got": check.got} for check in result.checks],
        "ok": result.ok,
        "milliseconds": round(result.seconds * 1000),
    }
    if result.reading is not None:
        shown["owner"] = {
            "party": result.reading.owner,
            "status": result.reading.owner_status,
            "same-answer-as-an-unknown-id": result.reading.same_as_unknown,
        }
    return shown
