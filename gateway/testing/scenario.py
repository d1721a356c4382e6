"""A scenario as data: who does what at which time, what each party then sees, what is refused, and the table of who may see what.

Read from YAML, checked against its JSON Schema; a mistake is told with its file and line. The runner (`scenario_run`) plays it.
Inside `with`, ``@HH:MM`` is a local time of the scenario's day (``@+1 HH:MM`` the day after), ``$NAME.task`` an id as the acting party
knows it and ``$PARTY:NAME.task`` as another party does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.parties.errors import Mistakes
from gateway.parties.schema import checker
from gateway.parties.yaml_lines import Document, read

__all__ = ["Expectation", "Row", "Scenario", "Sight", "Step", "load_scenario", "local_time"]


@dataclass(frozen=True, slots=True)
class Sight:
    """What one party's own system knows of a transfer once a step has had its effect."""

    by: str
    of: str  # the transfer's name
    status: str  # business status, as that party is shown it
    task_status: str | None = None
    shows: frozenset[str] = frozenset()  # output codes that must be there
    hides: frozenset[str] = frozenset()  # output codes that must not
    arrives: str | None = None  # "push" or "notice": it must have come to the system by itself


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a step must lead to."""

    status: int
    refusal: str | None = None
    element: str | None = None  # a word of the element that the refusal names
    answer: frozenset[str] = frozenset()  # output codes and state of the Task in the very first answer
    resource: str | None = None  # the status of the resource in the answer
    texts: int | None = None  # how many texts have reached the phone since the start
    unchanged: tuple[str, ...] = ()  # parties whose shelf and system saw nothing of it
    sees: tuple[Sight, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that one party does."""

    at: datetime
    say: str
    who: str
    act: str
    entered: Mapping[str, Any]
    expect: Expectation
    number: str | None = None  # of the narrative
    name: str | None = None  # under which later steps refer to what it made
    why: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the point of the step is that it must not work."""
        return self.expect.status >= 400


Cell = str | frozenset[str]
"""``y`` sees all of it, ``-`` nothing, ``own`` all of it and wrote it, ``o`` all of it and owns it; or the parts that are seen."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of who sees what: values that a named step wrote, and what each party must see of them."""

    name: str
    of: tuple[tuple[str, str], ...]  # (name of the step, class)
    only: frozenset[str] | None
    cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario."""

    id: str
    title: str
    zone: ZoneInfo
    day: date
    parties: tuple[str, ...]
    given: tuple[str, ...]
    steps: tuple[Step, ...]
    rows: tuple[Row, ...] = field(default=())


def load_scenario(file: Path, schemas: Path) -> Scenario:
    """Read and check a scenario. Raises ConfigurationError with every mistake, its file and line."""
    mistakes = Mistakes(file.parent)
    document = read(file, mistakes)
    mistakes.stop_if_any()
    checker(schemas, "scenario")(document, mistakes)
    mistakes.stop_if_any()
    _check_names(document, mistakes)
    mistakes.stop_if_any()
    data = document.data
    zone, day = ZoneInfo(data["timezone"]), date.fromisoformat(data["date"])
    return Scenario(
        id=data["scenario"],
        title=data["title"],
        zone=zone,
        day=day,
        parties=tuple(data["parties"]),
        given=tuple(data["given"]),
        steps=tuple(_step(item, day, zone) for item in data["steps"]),
        rows=tuple(_row(item) for item in data["visibility"]),
    )


def local_time(text: str, day: date, zone: ZoneInfo) -> datetime:
    """``HH:MM`` or ``+N HH:MM`` as an aware local time. Raises ValueError."""
    ahead, _, clock = text.rpartition(" ")
    return datetime.combine(day + timedelta(days=int(ahead or 0)), time.fromisoformat(clock), zone)


def _step(item: Mapping[str, Any], day: date, zone: ZoneInfo) -> Step:
    expect = item["expect"]
    return Step(
        at=local_time(item["at"], day, zone),
        say=item["say"],
        who=item["who"],
        act=item["act"],
        entered=item["with"],
        number=item.get("number"),
        name=item.get("as"),
        why=item.get("why"),
        expect=Expectation(
            status=expect["status"],
            refusal=expect.get("refusal"),
            element=expect.get("element"),
            answer=frozenset(expect.get("answer", ())),
            resource=expect.get("resource"),
            texts=expect.get("texts"),
            unchanged=tuple(expect.get("unchanged", ())),
            sees=tuple(_sight(sight) for sight in expect.get("sees", ())),
        ),
    )


def _sight(item: Mapping[str, Any]) -> Sight:
    return Sight(
        by=item["by"],
        of=item["of"],
        status=item["status"],
        task_status=item.get("task-status"),
        shows=frozenset(item.get("shows", ())),
        hides=frozenset(item.get("hides", ())),
        arrives=item.get("arrives"),
    )


def _row(item: Mapping[str, Any]) -> Row:
    named = (entry.partition(".") for entry in item["of"])
    return Row(
        name=item["name"],
        of=tuple((name, data_class) for name, _, data_class in named),
        only=frozenset(item["only"]) if "only" in item else None,
        cells={party: cell if isinstance(cell, str) else frozenset(cell) for party, cell in item["cells"].items()},
    )


def _check_names(document: Document, mistakes: Mistakes) -> None:
    """Parties and step names that are not there, and a clock that goes back."""
    data = document.data
    parties, names = set(data["parties"]), {step["as"] for step in data["steps"] if "as" in step}
    last = ""
    for index, step in enumerate(data["steps"]):
        place = ("steps", index)
        said = [step["who"], *step["expect"].get("unchanged", ()), *(sight["by"] for sight in step["expect"].get("sees", ()))]
        for party in said:
            if party not in parties:
                mistakes.add(document.file, document.line(place), f"{party!r} is not one of the parties")
        for sight in step["expect"].get("sees", ()):
            if sight["of"] not in names:
                mistakes.add(document.file, document.line((*place, "expect", "sees")), f"no step is called {sight['of']!r}")
        at = step["at"] if step["at"].startswith("+") else f"+0 {step['at']}"
        if at < last:
            mistakes.add(document.file, document.line((*place, "at")), "is earlier than the step before")
        last = at
    for index, row in enumerate(data["visibility"]):
        place = ("visibility", index)
        if set(row["cells"]) != parties:
            mistakes.add(document.file, document.line((*place, "cells")), "has to say what every party sees")
        for entry in row["of"]:
            if entry.partition(".")[0] not in names:
                mistakes.add(document.file, document.line((*place, "of")), f"no step is called {entry.partition('.')[0]!r}")
