"""Tells a scenario on a terminal while it happens, in at most 100 columns. What it shows comes from results; it decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.sandbox.config import Region
from gateway.sandbox.world import World
from gateway.testing.scenario import Scenario
from gateway.testing.scenario_result import Played, StepResult, cell_text

__all__ = ["Teller", "console"]

WIDTH: Final = 100
_GOOD: Final = "green"
_BAD: Final = "bold red"
_REFUSED: Final = "yellow"
_QUIET: Final = "bright_black"

Line = tuple[str, Text]
"""A mark, and what it marks."""


def console() -> Console:
    """A terminal of at most 100 columns; without one, plain text of that width."""
    made = Console(highlight=False)
    return Console(highlight=False, width=min(WIDTH, made.width) if made.is_terminal else WIDTH)


class Teller:
    """Prints the story. `short` names of the parties come from the region."""

    def __init__(self, out: Console, region: Region, scenario: Scenario) -> None:
        self._out = out
        self._scenario = scenario
        self._names = {system.party: system.short for system in region.systems}

    def opening(self) -> None:
        """Before anything starts."""
        given = "\n".join(self._scenario.given)
        self._out.print(Panel(Text(given), title=f"[bold]{escape(self._scenario.title)}[/]", title_align="left", padding=(1, 2)))
        self._out.print(Text("Everyone here is invented. Each partner is a process with a key and a store of its own.", _QUIET))

    def started(self, world: World) -> None:
        """Where everything is."""
        grid = Table.grid(padding=(0, 2))
        grid.add_row(Text("hub", "bold"), world.hub, Text("FHIR R4 and SMART Backend Services", _QUIET))
        for system in world.region.systems:
            how = "copies are pushed to it" if system.receives == "fhir-push" else "a notice without content, then it reads its shelf"
            grid.add_row(Text(self._names[system.party], "bold"), world.systems[system.party], Text(f"{system.title}: {how}", _QUIET))
        grid.add_row(Text("phone", "bold"), world.config.phone, Text("the text gateway: what reaches her phone", _QUIET))
        self._out.print()
        self._out.print(grid)
        self._out.print(
            Text(f"All up in {world.seconds:.1f} s. Times below are the scenario's; the hub takes them from its clock.", _QUIET)
        )
        self._out.print()

    def step(self, result: StepResult) -> None:
        """One step, once its effects are known."""
        step = result.step
        lines = self._refused(result) if step.is_refused else self._done(result)
        lines += [("≠", Text(f"expected: {check.says}; found: {check.got}", _BAD)) for check in result.checks if not check.ok]
        effects = Table.grid(padding=(0, 1))
        effects.add_column(width=1)
        effects.add_column()
        for mark, text in lines:
            effects.add_row(Text(mark, text.style), text)
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=5)
        grid.add_column(width=15)
        grid.add_column()
        who = Text(self._name(step.who), _REFUSED if step.is_refused else "cyan")
        grid.add_row(Text(f"{step.at:%H:%M}", "bold"), who, Group(Text(step.say, "bold"), effects))
        self._out.print(grid)

    def _name(self, party: str) -> str:
        return self._names.get(party, party)

    def _done(self, result: StepResult) -> list[Line]:
        """What followed, in a few words for each party."""
        lines: list[Line] = []
        if not result.ok:
            return lines
        expect = result.step.expect
        for sight in expect.sees:
            if sight.by == result.step.who and len(expect.sees) > 1:
                continue
            shown = f", with {' and '.join(sorted(sight.shows))}" if sight.shows else ""
            how = {"push": " (pushed)", "notice": " (a notice; then it read its shelf)"}.get(sight.arrives or "", "")
            lines.append(("→", Text(f"{self._name(sight.by)}: {sight.status}{shown}{how}", _GOOD)))
        if expect.answer:
            lines.append(("→", Text("the first answer gives the line that always answers", _GOOD)))
        if expect.resource is not None:
            lines.append(("→", Text(f"the message is {expect.resource}", _GOOD)))
        if expect.texts is not None:
            lines.append(("→", Text(f"her phone: {result.text or 'no text'}", _GOOD)))
        if expect.unchanged:
            quiet = ", ".join(self._name(party) for party in expect.unchanged)
            lines.append((" ", Text(f"{quiet}: nothing; no new version, no notice", _QUIET)))
        return lines

    def _refused(self, result: StepResult) -> list[Line]:
        said = " ".join((str(result.status), *result.refusals))
        reading = result.reading
        if reading is not None and reading.same_as_unknown:
            said += ", as for an id that nobody has"
        lines: list[Line] = [("✗", Text(f"{said}. {result.step.why or ''}", _REFUSED))]
        if reading is not None:
            owner = f"{self._name(reading.owner)}, whose id it is, read it at this moment: {reading.owner_status}"
            lines.append((" ", Text(owner, _QUIET if reading.ok else _BAD)))
            if not reading.same_as_unknown:
                lines.append(("≠", Text("the answer is not the one for an id that nobody has", _BAD)))
        return lines

    def table(self, played: Played) -> None:
        """Who sees what, as it was read."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Who sees what", title_style="bold", title_justify="left")
        table.add_column("", min_width=28)
        for party in self._scenario.parties:
            table.add_column(self._name(party), justify="center", max_width=18)
        rows: dict[str, list[Text]] = {}
        for cell in played.cells:
            text = cell_text(cell.got).replace(", ", "\n")
            style = _QUIET if text == "-" else _GOOD
            shown = Text(text, style) if cell.ok else Text(f"{text} (expected {cell_text(cell.expected)})", _BAD)
            rows.setdefault(cell.row, []).append(shown)
        for name, cells in rows.items():
            table.add_row(name, *cells)
        self._out.print()
        self._out.print(table)
        legend = "Read from every version on each party's shelf and all that was pushed to it. y sees (own: wrote it), o owns, - nothing."
        self._out.print(Text(legend, _QUIET))
        for stranger in played.strangers:
            self._out.print(Text(f"DIFFERENT: a referral it has no part in lies on the shelf of {stranger}", _BAD))

    def doors(self, doors: Mapping[str, Mapping[str, Any]]) -> None:
        """How the hub showed each system who it is, as that system checked it."""
        grid = Table.grid(padding=(0, 1))
        for party, door in doors.items():
            token = door["kind"] == "smart-backend"
            shown = "with a token of its own authorization server" if token else "by the hub's statement, checked against the hub's keys"
            times = "once" if door["let_in"] == 1 else f"{door['let_in']} times"
            away = Text(f", {door['turned_away']} TURNED AWAY", _BAD) if door["turned_away"] else Text()
            grid.add_row(Text(self._name(party), "bold"), Text(f"let the hub in {times} {shown}", _GOOD).append_text(away))
        self._out.print()
        self._out.print(Text("Who the hub was to each system", "bold"))
        self._out.print(Padding(grid, (0, 0, 0, 2)))

    def audit(self, ok: bool, lines: list[str]) -> None:
        """What the offline verifier said."""
        self._out.print()
        self._out.print(Text("The audit log, exported and verified offline", "bold"))
        for line in lines:
            self._out.print(Padding(Text(line, _GOOD if ok else _BAD), (0, 0, 0, 2)))

    def verdict(self, ok: bool, played: Played, seconds: float) -> None:
        """All of it in one line."""
        refused = sum(result.step.is_refused for result in played.steps)
        counts = f"{len(played.steps) - refused} steps, {refused} refusals, {len(played.cells)} cells"
        self._out.print()
        if ok:
            self._out.print(Text(f"✓ As the scenario says: {counts}, and a sound audit log, in {seconds:.1f} s.", f"bold {_GOOD}"))
        else:
            wrong = sum(not r.ok for r in played.steps) + sum(not c.ok for c in played.cells)
            self._out.print(
                Text(f"✗ Not as the scenario says: {wrong} differences in {counts}, or an audit log that does not verify.", _BAD)
            )

    def explore(self, world: World, tokens: Mapping[str, Path], tries: list[tuple[str, str]]) -> None:
        """What a person can try while it keeps running."""
        self._out.print()
        self._out.print(Text("It keeps running. Try, in another terminal:", "bold"))
        for says, line in tries:
            self._out.print(Padding(Text(f"# {says}", _QUIET), (0, 0, 0, 2)), soft_wrap=True)
            self._out.print(f"  {line}", soft_wrap=True, markup=False)
        self._out.print(
            Text(f"Tokens are renewed in {next(iter(tokens.values())).parent}. Ctrl-C stops everything.", _QUIET), soft_wrap=True
        )
