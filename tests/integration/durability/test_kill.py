"""The hub's process is killed, again and again, while five parties refer, answer and edit, and a sixth process takes the deliveries.

What a client was promised must be there once; what it was not promised is there whole or not at all; nothing happens unaudited; a
partner that keeps to its idempotency keys applies each delivery once, in order. Each run has a seed, printed, and settable as
DURABILITY_SEED: it fixes what is asked and when the hub is killed, though not how the processes interleave.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from gateway.audit.exporting import export_log
from gateway.audit.verify import verify_export
from gateway.oauth.client import SmartBackendClient
from tests.integration.durability.client import answered, sign_in
from tests.integration.durability.evidence import CHECKS, Evidence
from tests.integration.durability.hub import HubFiles, HubProcess, free_port
from tests.integration.durability.records import Counters, read_journal
from tests.integration.durability.stage import NAMES, PARTNER, endpoints_at, evidence_of, processes, shelf_of, wait_until
from tests.soak.scale import scaled

SLOWEST_KILL: Final = 12.0
"""Seconds that one kill may take on average, before the run is given up."""


@dataclass
class Run:
    """The files of one run, and what was seen of its kills."""

    folder: Path
    files: HubFiles
    counters: Counters
    seed: int
    kills: int = 0
    idle: int = 0
    mid_request: int = 0
    mid_send: int = 0
    both: int = 0
    starting: int = 0

    def told(self, name: str) -> dict[str, Any]:
        """What one client's process is told."""
        slot = NAMES.index(name)
        more = {"slot": slot, "seed": self.seed * 31 + slot, "counters": str(self.folder / "counters"), "stop": str(self.folder / "stop")}
        return {**self.files.client(name), "name": name, "journal": str(self.journal(name)), **more}

    def journal(self, name: str) -> Path:
        """Where one process writes down what it did."""
        return self.folder / f"{name}.jsonl"

    def note(self, before: list[int]) -> None:
        """Count a kill by what it cut off: requests that clients had on the wire, sends that the partners had before them."""
        cut = [now - then for now, then in zip(self.counters.read(), before, strict=True)]
        requests, sends = any(cut[:PARTNER]), bool(cut[PARTNER])
        self.mid_request += requests
        self.mid_send += sends
        self.both += requests and sends
        self.kills += requests or sends
        self.idle += not (requests or sends)


@pytest.fixture
def run(tmp_path: Path, hub_files: Callable[..., HubFiles]) -> Iterator[Run]:
    """Files for the hub and everybody around it, and the partners' server."""
    port = free_port()
    files = hub_files(endpoints=endpoints_at(port), lease_seconds=1.0)
    seed = int(os.environ.get("DURABILITY_SEED") or random.SystemRandom().randrange(1_000_000))
    made = Run(tmp_path, files, Counters(tmp_path / "counters", len(NAMES) + 1), seed)
    config = {"port": port, "seed": seed, "slot": PARTNER, "counters": str(tmp_path / "counters"), "journal": str(made.journal("partner"))}
    with processes(tmp_path, {"partner": config}, "tests.integration.durability.partner"):
        yield made
    made.counters.close()


@pytest.mark.parametrize(
    "kills",
    [6, pytest.param(50, marks=pytest.mark.ci), pytest.param(scaled(300, least=6), marks=pytest.mark.soak)],
    ids=["few", "many", "soak"],
)
def test_nothing_is_lost_doubled_or_unaudited_when_the_hub_is_killed(
    run: Run, kills: int, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    with capsys.disabled():
        print(f"\n{request.node.name}: seed {run.seed}")
    with HubProcess(run.files).running() as hub:
        told = {name: run.told(name) for name in NAMES}
        with processes(run.folder, told, "tests.integration.durability.client") as clients:
            wait_until(lambda: any(line["event"] == "done" for line in read_journal(run.journal("nurse"))), 60, "a transfer onward")
            _kill_often(run, hub, kills)
            (run.folder / "stop").touch()
            for name, client in clients.items():
                assert client.wait(90) == 0, (run.folder / f"{name}.log").read_text()[-2000:]
        killing = time.monotonic() - started
        found = evidence_of(run.folder, run.files, request, {name: shelf_of(name) for name in NAMES})
        # a delivery that several kills cut off waits two minutes for its next try when a partner is unwilling once more
        wait_until(lambda: not found.ask("SELECT 1 FROM deliveries WHERE state IN ('queued', 'sending') LIMIT 1"), 300, "an empty ledger")
        asyncio.run(_asked_again(run))
        ended = hub.stop()
        for check in CHECKS:
            check(found)
        with capsys.disabled():
            print(_summary(run, found, killing, time.monotonic() - started))
        assert ended in (0, -15)
    assert run.kills >= kills and run.mid_send and run.mid_request
    _check_export(run, found)


def _kill_often(run: Run, hub: HubProcess, kills: int) -> None:
    """Kill until enough kills have cut something off. One in eight is followed by another while the next process starts."""
    chance = random.Random(run.seed)
    give_up = time.monotonic() + kills * SLOWEST_KILL
    while run.kills < kills:
        assert time.monotonic() < give_up, f"only {run.kills} kills hit anything"
        time.sleep(0.05 + chance.random() * 0.5)
        before = run.counters.read()
        hub.kill()
        if chance.random() < 0.125:
            hub.begin()
            time.sleep(chance.random() * 1.2)
            hub.kill()
            run.starting += 1
        hub.start()
        run.note(before)


async def _asked_again(run: Run) -> None:
    """Each acknowledged request, sent again, is answered alike, byte for byte; and each version it wrote can be read."""
    async with httpx.AsyncClient(timeout=30) as http:
        for name in NAMES:
            client = sign_in(run.told(name), http)
            lines = {line["id"]: line for line in read_journal(run.journal(name)) if line["event"] == "sent"}
            promised = [line for line in read_journal(run.journal(name)) if line["event"] == "done"]
            gate = asyncio.Semaphore(8)
            await asyncio.gather(*(_ask_again(client, gate, lines[promise["id"]], promise) for promise in promised))


async def _ask_again(client: SmartBackendClient, gate: asyncio.Semaphore, sent: dict[str, Any], promise: dict[str, Any]) -> None:
    async with gate:
        headers = {"content-type": sent["kind"], "x-request-id": sent["id"]}
        again = await client.request(sent["method"], sent["path"], content=sent["body"].encode(), headers=headers)
        assert again.is_success, again.text
        assert answered(again) == {key: promise[key] for key in ("status", "body", "etag", "location", "stored")}
        type_, id_, version = promise["stored"][-1]
        read = await client.request("GET", f"{type_}/{id_}/_history/{version}")
        assert read.status_code == 200 and read.json()["meta"]["versionId"] == str(version)


def _check_export(run: Run, found: Evidence) -> None:
    """The log of all those processes is one sound log, and holds every entry that was committed."""
    file = run.folder / "audit.jsonl"
    asyncio.run(export_log(run.files.settings, file))
    with file.open("rb") as source:
        report = verify_export(iter(source))
    assert report.ok, report
    assert report.entries == report.sealed == len(found.audit)
    assert report.writers > 1


def _summary(run: Run, found: Evidence, killing: float, total: float) -> str:
    events = Counter(line["event"] for lines in found.journals.values() for line in lines)
    seen = Counter(line["key"] for line in found.partner if line["event"] == "seen")
    [[interrupted]] = found.ask("SELECT count(*) FROM sends WHERE ended IS NULL")
    abandoned = {(shelf, line["id"]) for shelf, line in found.events("abandoned")}
    happened = len(abandoned & found.requests.keys())
    return (
        f"  {run.kills} kills: {run.mid_request} mid-request, {run.mid_send} mid-send ({run.both} both); {run.idle} more hit nothing, "
        f"{run.starting} more during a start; {killing:.0f} s of killing, {total:.0f} s in all\n"
        f"  {events['sent']} requests: {events['done']} acknowledged, {events['refused']} refused, {events['cut']} cut off, "
        f"{len(abandoned)} given up ({happened} of them had happened)\n"
        f"  {len(found.deliveries)} deliveries, {sum(n > 1 for n in seen.values())} of them seen by the partner more than once, "
        f"{interrupted} sends cut off; {len(found.audit)} audit entries by {len({e['writer'] for e in found.audit})} processes"
    )
