"""`make bench`: the hub against the naive build, in turns, on one core, over real HTTP.

Every round measures each build on each request, one after the other, so that whatever else the machine does falls on both. A ratio
belongs to its round. `--check` exits 1 when a threshold is missed; `--quick` takes a minute or two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

from rich.console import Console
from rich.table import Table

from tests.bench.disclosure import disclosure_micros, missed_disclosure
from tests.bench.load import Job, Measured
from tests.bench.stand import Build, Database, Server, Stand, put_load
from tests.bench.tokens import authorization_micros, measure_tokens, missed_tokens, token_table
from tests.integration.world import night_offer

__all__ = ["main"]

IN_FLIGHT: Final = 32
FILLED: Final = 300
"""How many offers each hub has before anything is read: both shelves are equally full, and no read meets what it has just used."""


class Kind(StrEnum):
    """The requests measured."""

    POST = "POST of 5"
    GET = "GET by id"
    SEARCH = "search, page of 10"


THRESHOLDS: Final[Mapping[Kind, float]] = {Kind.POST: 6.0, Kind.GET: 8.0}
START_SECONDS: Final = 3.0
MEMORY_MIB: Final = 150.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    warm: float
    databases: tuple[Database, ...]
    kinds: tuple[Kind, ...]


FULL: Final = Plan(5, 4.0, 1.0, (Database.POSTGRES, Database.SQLITE), tuple(Kind))
QUICK: Final = Plan(2, 1.5, 0.5, (Database.POSTGRES,), (Kind.POST, Kind.GET))


@dataclass(slots=True)
class Taken:
    """One build, one request, one round."""

    build: str
    kind: str
    round: int
    per_second: float
    p50_ms: float
    p99_ms: float
    processor_us: float
    wrong: int


@dataclass(slots=True)
class Cell:
    """One database: every measurement, the ratios of each round, and what a started server costs."""

    database: str
    taken: list[Taken] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    ready_seconds: dict[str, float] = field(default_factory=dict)
    resident_mib: dict[str, float] = field(default_factory=dict)
    private_mib: dict[str, float] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a minute or two, PostgreSQL only")
    parser.add_argument("--check", action="store_true", help="exit 1 below a threshold")
    parser.add_argument("--rounds", type=int, help="how many rounds instead of the plan's")
    parser.add_argument("--only", choices=("requests", "tokens"), help="one part of it")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    given = parser.parse_args(arguments)
    plan = QUICK if given.quick else FULL
    rounds = given.rounds or plan.rounds
    console = Console(width=max(100, Console().width))
    cells, tokens = [], []
    added = authorization_micros() if given.only != "requests" else 0.0
    disclosed = disclosure_micros() if given.only != "tokens" else 0.0
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder, Stand(Path(folder)) as stand:
        for database in plan.databases:
            if given.only != "tokens":
                cells.append(measure(stand, database, plan, rounds, console))
            if given.only != "requests":
                say = partial(console.print, style="dim", highlight=False)
                tokens.append(measure_tokens(stand, database, min(rounds, 3), plan.seconds, plan.warm, say))
    for cell in cells:
        console.print(_table(cell))
        console.print(_costs(cell))
    if tokens:
        console.print(token_table(tokens, added))
    if disclosed:
        console.print(
            f"Deciding on a referral of five resources and minimizing it takes {disclosed:.0f} us in one process.", highlight=False
        )
    if given.json is not None:
        measured = {
            "requests": [asdict(cell) for cell in cells],
            "tokens": [asdict(cell) for cell in tokens],
            "authorization_us": added,
            "disclosure_us": disclosed,
        }
        given.json.write_text(json.dumps(measured, indent=1))
    missed = [*(line for cell in cells for line in _missed(cell)), *missed_tokens(tokens, added), *missed_disclosure(disclosed)]
    for line in missed:
        console.print(f"[red]below the threshold:[/red] {line}")
    return 1 if given.check and missed else 0


def measure(stand: Stand, database: Database, plan: Plan, rounds: int, console: Console) -> Cell:
    """All rounds on one database."""
    cell = Cell(database)
    servers = {build: stand.start(build, database) for build in Build}
    for build, server in servers.items():
        cell.ready_seconds[build] = server.ready_seconds
    paths = {build: _filled(server) for build, server in servers.items()}
    for server in servers.values():
        stand.analyze(server)
    for kind in sorted(plan.kinds, key=lambda kind: kind is Kind.POST):  # offers last: they fill one shelf faster than the other
        for number in range(rounds):
            # the one that goes first changes, so that neither always comes after the other's writes
            order = list(Build) if number % 2 else list(reversed(Build))
            speeds: dict[Build, float] = {}
            for build in order:
                taken = _take(servers[build], kind, number, paths[build], plan)
                cell.taken.append(taken)
                speeds[build] = taken.per_second
                console.print(f"{database} {kind} round {number + 1}: {build} {taken.per_second:,.0f}/s", style="dim", highlight=False)
            cell.ratios.setdefault(kind, []).append(speeds[Build.GATEWAY] / max(speeds[Build.NAIVE], 0.01))
    for build, server in servers.items():
        cell.resident_mib[build] = server.resident()
        cell.private_mib[build] = server.memory()
        stand.stop(server)
    return cell


def _take(server: Server, kind: Kind, number: int, paths: list[str], plan: Plan) -> Taken:
    body = json.dumps(night_offer(time.time_ns() // 1_000_000), separators=(",", ":")) if kind is Kind.POST else None
    job = Job(
        port=server.port,
        token=server.token("police" if kind is Kind.POST else "counsellor"),
        method="POST" if kind is Kind.POST else "GET",
        paths={Kind.POST: ["/fhir"], Kind.GET: paths, Kind.SEARCH: ["/fhir/Task?status=requested&_count=10&_sort=-_lastUpdated"]}[kind],
        expect=200,
        seconds=plan.seconds,
        warm=plan.warm,
        in_flight=IN_FLIGHT,
        body=body,
        label=f"r{number}",
        server=server.process.pid,
    )
    measured = put_load(job)
    if measured.wrong:
        raise RuntimeError(f"{server.build} answered {measured.wrong} requests otherwise than expected: {measured.example}")
    return _taken(server.build, kind, number, measured)


def _taken(build: Build, kind: Kind, number: int, measured: Measured) -> Taken:
    micros = sorted(measured.micros) or [0]
    return Taken(
        build=build,
        kind=kind,
        round=number,
        per_second=measured.answers / measured.seconds,
        p50_ms=micros[len(micros) // 2] / 1000,
        p99_ms=micros[len(micros) * 99 // 100] / 1000,
        processor_us=measured.busy * 1e6 / max(1, measured.answers),
        wrong=measured.wrong,
    )


def _filled(server: Server) -> list[str]:
    """Put FILLED offers into a new hub and return the paths of the Tasks on the receiver's shelf, in no order of time."""
    body = json.dumps(night_offer(time.time_ns() // 1_000_000), separators=(",", ":"))
    job = Job(server.port, server.token("police"), "POST", ["/fhir"], 200, 0, 0, IN_FLIGHT, body, "fill", server.process.pid, FILLED)
    filled = put_load(job)
    if filled.answers != FILLED:
        raise RuntimeError(f"{server.build} took {filled.answers} of {FILLED} offers: {filled.example}")
    return sorted(_task_paths(server, server.token("counsellor")))


def _task_paths(server: Server, token: str) -> list[str]:
    paths: list[str] = []
    while True:
        url = f"http://127.0.0.1:{server.port}/fhir/Task?_count=100&_offset={len(paths)}"
        with urlopen(Request(url, headers={"Authorization": f"Bearer {token}"}), timeout=30) as answer:
            entries = json.load(answer).get("entry", [])
        paths += [f"/fhir/Task/{entry['resource']['id']}" for entry in entries]
        if len(entries) < 100:
            return paths


def _table(cell: Cell) -> Table:
    table = Table(title=f"{cell.database}: one worker on one core, {IN_FLIGHT} requests in flight", title_justify="left")
    for name in ("request", "build", "per s", "p50 ms", "p99 ms", "cpu us", "ratio min", "median"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("request", "build") else "right")
    for kind, ratios in cell.ratios.items():
        for build in Build:
            rows = [taken for taken in cell.taken if taken.kind == kind and taken.build == build]
            ours = build is Build.GATEWAY
            table.add_row(
                kind if ours else "",
                build,
                f"{statistics.median(taken.per_second for taken in rows):,.0f}",
                f"{statistics.median(taken.p50_ms for taken in rows):,.1f}",
                f"{statistics.median(taken.p99_ms for taken in rows):,.1f}",
                f"{statistics.median(taken.processor_us for taken in rows):,.0f}",
                f"{min(ratios):.1f}" if ours else "",
                f"{statistics.median(ratios):.1f}" if ours else "",
            )
    return table


def _costs(cell: Cell) -> Table:
    table = Table(title=f"{cell.database}: start, and memory after the load", title_justify="left")
    for name in ("build", "ready after, s", "RSS MiB", "PSS MiB"):
        table.add_column(name, justify="left" if name == "build" else "right")
    for build in Build:
        table.add_row(build, f"{cell.ready_seconds[build]:.2f}", f"{cell.resident_mib[build]:.0f}", f"{cell.private_mib[build]:.0f}")
    return table


def _missed(cell: Cell) -> list[str]:
    """The thresholds that the median of the rounds, the start or the memory of the hub misses."""
    missed = [
        f"{cell.database}, {kind}: {statistics.median(cell.ratios[kind]):.1f} times the naive build, {least:.0f} wanted"
        for kind, least in THRESHOLDS.items()
        if kind in cell.ratios and statistics.median(cell.ratios[kind]) < least
    ]
    if cell.ready_seconds[Build.GATEWAY] >= START_SECONDS:
        missed.append(f"{cell.database}: ready after {cell.ready_seconds[Build.GATEWAY]:.2f} s, less than {START_SECONDS:.0f} wanted")
    if cell.private_mib[Build.GATEWAY] >= MEMORY_MIB:
        missed.append(f"{cell.database}: {cell.private_mib[Build.GATEWAY]:.0f} MiB, less than {MEMORY_MIB:.0f} wanted")
    return missed


if __name__ == "__main__":
    sys.exit(main())
