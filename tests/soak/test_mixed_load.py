"""A long shift: everybody works at once, one partner is slow and one goes dark for a while, a stranger sends nonsense, tokens are renewed,
and nothing creeps: not memory, not open files, not the time an answer takes, not the audit log's lag behind what it records.

SOAK_SCALE=0.1 makes it a tenth as long; SOAK_SEED names a run.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from gateway.app import open_hub
from gateway.settings import Settings
from tests.integration.checks import assert_views_of
from tests.integration.durability.evidence import CHECKS
from tests.integration.durability.hub import HubFiles, HubProcess
from tests.integration.durability.stage import NAMES, evidence_of, processes, questions_to, shelf_of, wait_until
from tests.soak.rig import DARK, SLOW, STRANGERS, Rig
from tests.soak.scale import SCALE, scaled, seed
from tests.soak.watch import Sample, Watch

SECONDS: Final = scaled(300, least=30)
"""How long the parties work, on each database."""

WARM: Final = 0.4
"""The part of the run after which everything the hub keeps at hand has been filled."""

GROWTH: Final = 12.0 if SCALE >= 0.5 else 40.0
"""MiB that memory may grow from the first part after that to the last; a short run is hardly warm."""

FILES: Final = 8
LAG: Final = 5.0
"""Open files more at the end than in the middle; seconds that an entry may wait for its checkpoint while all cores are busy."""

DEARER: Final = 1.6
"""How many times as much processor time an answer may cost at the end as in the middle of the run."""

SLOWER: Final = 2.0
FLOOR: Final = 15.0
"""How many times as long the middle answer may take at the end as in the middle, and milliseconds that are added to that: of a whole run
alone, on a machine with nothing else to do."""


@pytest.mark.soak
def test_nothing_creeps_in_a_long_shift(
    tmp_path: Path, hub_files: Callable[..., HubFiles], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = Rig.make(tmp_path, hub_files, seed())
    say(capsys, f"\n{request.node.name}: seed {rig.seed}, {SECONDS} s; {SLOW} is slow, {DARK} goes dark")
    ask, _ = questions_to(rig.files, request)
    stranger = next(iter(STRANGERS))
    with ExitStack() as stack:
        stack.enter_context(rig.partners())
        hub = stack.enter_context(HubProcess(rig.files).running())
        watch = stack.enter_context(Watch(hub.pid, ask))
        clients = stack.enter_context(processes(tmp_path, {name: rig.told(name) for name in NAMES}, "tests.soak.client"))
        nonsense = {stranger: rig.told(stranger, requests=10**9, pause=0.4, poisoned=True)}
        clients |= stack.enter_context(processes(tmp_path, nonsense, "tests.soak.fuzzer"))
        wait_until(lambda: all(at_work(rig, name) for name in NAMES), 60, "everybody at work")
        wait_until(lambda: bool(watch.samples) and watch.samples[-1].sealed > 0, 15, "a sealed entry")
        began = time.time()
        kept = work_through(rig, began)
        for name, client in clients.items():
            assert client.wait(90) == 0, (tmp_path / f"{name}.log").read_text()[-2000:]
        ended = time.time()
        wait_until(lambda: watch.samples[-1].waiting == 0 and watch.samples[-1].at > ended, 300, "an empty ledger")
        wait_until(lambda: watch.samples[-1].sealed == watch.samples[-1].entries, 15, "a sealed log")
        drained = time.time() - ended
        assert hub.stop() in (0, -15)
    times = timed(rig)
    say(capsys, told(watch, times, rig, began, ended, drained))
    say(capsys, "  " + rig.verify_since(kept).strip().replace("\n", "\n  "))
    found = evidence_of(tmp_path, rig.files, request, {**{name: shelf_of(name) for name in NAMES}, stranger: shelf_of(STRANGERS[stranger])})
    check_answers(rig, times, stranger)
    for check in CHECKS:
        check(found)
    asyncio.run(views_are_the_facts(rig.files.settings))
    check_nothing_creeps(watch, times, began, ended)


def at_work(rig: Rig, name: str) -> bool:
    """Whether a party has been answered."""
    return rig.times(name).exists() and rig.times(name).stat().st_size > 0


def work_through(rig: Rig, began: float) -> Path:
    """The course of the shift. Returns an early checkpoint."""

    def until(part: float) -> None:
        time.sleep(max(0.0, began + part * SECONDS - time.time()))

    until(0.15)
    kept = rig.keep_checkpoint()
    until(0.3)
    rig.dark.touch()
    until(0.5)
    rig.dark.unlink()
    until(1.0)
    rig.stop.touch()
    return kept


async def views_are_the_facts(settings: Settings) -> None:
    """Looked at with the hub's own parts, while nothing is sent and no timer fires."""
    async with open_hub(settings) as hub:
        await hub.runner.stop()
        await assert_views_of(hub.parts)


Times = dict[str, list[tuple[float, float, int]]]
"""What was asked -> (when, milliseconds, status)."""


def timed(rig: Rig) -> Times:
    """Every answer that the parties timed."""
    found: Times = defaultdict(list)
    for name in NAMES:
        for line in rig.times(name).read_bytes().splitlines():
            at, what, took, status = orjson.loads(line)
            found[what].append((at, took, status))
    return found


def check_answers(rig: Rig, times: Times, stranger: str) -> None:
    """Every request was answered; a 5xx is a 503 that says to try again, and those are few; nonsense is refused and never accepted."""
    statuses = Counter(status for answers in times.values() for _, _, status in answers)
    assert not [status for status in statuses if status == 0 or (status >= 500 and status != 503)], dict(statuses)
    assert statuses[503] <= statuses.total() // 1000, dict(statuses)
    assert not [line for name in (*NAMES, stranger) for line in rig.lines(name, "cut")]
    failed = rig.lines(stranger, "failed")
    assert not failed, failed[:3]
    assert not rig.lines(stranger, "done"), "what can't be accepted was"
    assert "unexpected" not in (rig.files.folder / "hub.log").read_text()


def check_nothing_creeps(watch: Watch, times: Times, began: float, ended: float) -> None:
    """The last part of the run is like its middle."""
    middle, last = parts_of(watch, began, ended)
    grown = memory(last) - memory(middle)
    assert grown <= GROWTH, f"memory grew by {grown:.1f} MiB"
    assert statistics.median(s.files for s in last) - statistics.median(s.files for s in middle) <= FILES
    assert max(watch.lags()) <= LAG, f"an entry waited {max(watch.lags()):.1f} s to be sealed"
    then, now = (cost(watch, times, began, ended, quarter) for quarter in (1, 3))
    assert now <= then * DEARER, f"an answer costs {now:.1f} ms of processor time, and cost {then:.1f}"
    for what, answers in times.items():
        if SCALE >= 1 and what != "token":
            then, now = (middle_time(answers, began, ended, part) for part in (1, 3))
            assert now <= then * SLOWER + FLOOR, f"{what}: {then:.0f} ms became {now:.0f} ms"


def parts_of(watch: Watch, began: float, ended: float) -> tuple[list[Sample], list[Sample]]:
    """The samples just after the warm-up, and those at the end."""
    length = ended - began
    return watch.between(began + WARM * length, began + (WARM + 0.15) * length), watch.between(began + 0.85 * length, ended)


def memory(samples: list[Sample]) -> float:
    """MiB."""
    return statistics.median(sample.memory for sample in samples)


def cost(watch: Watch, times: Times, began: float, ended: float, quarter: int) -> float:
    """Milliseconds of the hub's processor time for each answer in one quarter of the run, with all that goes on beside."""
    length = (ended - began) / 4
    samples = watch.between(began + quarter * length, began + (quarter + 1) * length)
    first, last = samples[0], samples[-1]
    answers = sum(first.at <= at < last.at for each in times.values() for at, _, _ in each)
    return (last.busy - first.busy) * 1000 / max(answers, 1)


def middle_time(answers: list[tuple[float, float, int]], began: float, ended: float, quarter: int) -> float:
    """Milliseconds of the middle answer in one quarter of the run."""
    length = (ended - began) / 4
    return statistics.median(took for at, took, _ in answers if quarter * length <= at - began < (quarter + 1) * length)


def told(watch: Watch, times: Times, rig: Rig, began: float, ended: float, drained: float) -> str:
    """The figures."""
    statuses = Counter(status for answers in times.values() for _, _, status in answers)
    nonsense = Counter(rig.lines(next(iter(STRANGERS)), "tally")[-1]["answers"])
    middle, last = parts_of(watch, began, ended)
    seconds = ended - began
    costs = ", ".join(f"{cost(watch, times, began, ended, quarter):.1f}" for quarter in range(4))
    lines = [
        f"  {statuses.total()} requests in {seconds:.0f} s, {statuses.total() / seconds:.0f}/s: {dict(sorted(statuses.items()))}; "
        f"{nonsense.total()} of nonsense",
        f"  memory {watch.samples[0].memory:.1f} MiB at first, {memory(middle):.1f} warm, {memory(last):.1f} at the end; open files "
        f"{watch.samples[0].files}, {max(s.files for s in watch.samples)} at most, {watch.samples[-1].files} at the end",
        f"  {watch.samples[-1].entries} audit entries, sealed at most {max(watch.lags()):.1f} s late; "
        f"at most {max(s.waiting for s in watch.samples)} deliveries waited, none {drained:.0f} s after the end",
        f"  processor time for each answer by quarter: {costs} ms",
        "  milliseconds (half, 95%, 99%) in each quarter:",
    ]
    for what, answers in sorted(times.items()):
        quarters = []
        for quarter in range(4):
            length = (ended - began) / 4
            took = sorted(ms for at, ms, _ in answers if quarter * length <= at - began < (quarter + 1) * length)
            quarters.append("/".join(f"{took[int(len(took) * part)]:.0f}" for part in (0.5, 0.95, 0.99)) if took else "-")
        lines.append(f"    {what:<12}{len(answers):>7}   {'   '.join(f'{each:>12}' for each in quarters)}")
    return "\n".join(lines)


def say(capsys: pytest.CaptureFixture[Any], text: str) -> None:
    """Print at once."""
    with capsys.disabled():
        print(text, flush=True)
