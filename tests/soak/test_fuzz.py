"""Two systems send nonsense over HTTP, without a pause: real messages with something wrong in them, texts that are no JSON, heads that
are no HTTP. The hub refuses, or takes what is right after all; it never fails, keeps nothing of what it refused but the audit entry that
says so, and the same process answers at the end.

SOAK_SCALE=0.1 sends a tenth; SOAK_SEED names a run.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.integration.durability.client import answered, sign_in
from tests.integration.durability.evidence import (
    Evidence,
    check_effects_are_audited,
    check_ledger,
    check_promises,
    check_transfers_are_whole,
    check_versions,
)
from tests.integration.durability.hub import HubFiles, HubProcess
from tests.integration.durability.records import Journal
from tests.integration.durability.stage import evidence_of, processes, questions_to, shelf_of, wait_until
from tests.integration.world import night_offer
from tests.soak.rig import STRANGERS, Rig
from tests.soak.scale import scaled, seed
from tests.soak.watch import Watch

REQUESTS: Final = scaled(10_000, least=500)
"""From each of them, on each database."""

GROWTH: Final = 40.0
"""MiB: the caches fill up, and that is all."""

WORKER: Final = "worker"
"""A third system, that does one thing right, before the nonsense and after it."""


@pytest.mark.soak
def test_nonsense_is_refused_and_leaves_nothing_behind(
    tmp_path: Path, hub_files: Callable[..., HubFiles], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = Rig.make(tmp_path, hub_files, seed())
    say(capsys, f"\n{request.node.name}: seed {rig.seed}, {REQUESTS} requests from each of {len(STRANGERS)}")
    ask, _ = questions_to(rig.files, request)
    with ExitStack() as stack:
        stack.enter_context(rig.partners())
        hub = stack.enter_context(HubProcess(rig.files).running())
        watch = stack.enter_context(Watch(hub.pid, ask))
        process = hub.pid
        asyncio.run(offer_well(rig, "before"))
        began = time.monotonic()
        told = {name: rig.told(name, requests=REQUESTS, pause=0, poisoned=False) for name in STRANGERS}
        clients = stack.enter_context(processes(tmp_path, told, "tests.soak.fuzzer"))
        for name, client in clients.items():
            assert client.wait(max(120.0, REQUESTS * 0.2)) == 0, (tmp_path / f"{name}.log").read_text()[-2000:]
        took = time.monotonic() - began
        asyncio.run(offer_well(rig, "after"))
        wait_until(lambda: watch.samples[-1].waiting == 0 and watch.samples[-1].sealed == watch.samples[-1].entries, 120, "rest")
        assert hub.pid == process
        assert hub.stop() in (0, -15)
    say(capsys, figures(rig, watch, took))
    for name in STRANGERS:
        failed = rig.lines(name, "failed")
        assert not failed, (name, failed[:3])
    assert "unexpected" not in hub.log()
    clients_of = {**STRANGERS, WORKER: "police"}
    found = evidence_of(tmp_path, rig.files, request, {name: shelf_of(client) for name, client in clients_of.items()})
    for check in (check_promises, check_versions, check_transfers_are_whole, check_effects_are_audited, check_ledger):
        check(found)
    check_nothing_of_the_refused(found)
    assert watch.samples[-1].memory - watch.samples[0].memory <= GROWTH
    assert watch.samples[-1].files <= watch.samples[0].files + 30


async def offer_well(rig: Rig, id_: str) -> None:
    """An offer that the hub takes."""
    journal = Journal(rig.journal(WORKER))
    async with httpx.AsyncClient(timeout=30) as http:
        client = sign_in(rig.files.client("police"), http)
        content = json.dumps(night_offer(time.time_ns() // 1_000_000, f"Zz-{id_}")).encode()
        journal.write("sent", id=id_)
        headers = {"content-type": "application/fhir+json", "x-request-id": id_}
        answer = await client.request("POST", "", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        journal.write("done", id=id_, **answered(answer))


def check_nothing_of_the_refused(found: Evidence) -> None:
    """Whatever lies on a shelf was written by a request that was answered 2xx, or was made by the hub for a transfer that one opened; every
    refusal is in the audit log, once."""
    refused = list(found.events("refused"))
    assert refused
    assert not found.requests.keys() & {(shelf, line["id"]) for shelf, line in refused}
    written = {(shelf, str(type_), str(id_)) for (shelf, _), answer in found.requests.items() for _, type_, id_, _ in answer}
    made = set()
    for shelf, *ids in found.ask("SELECT shelf, task, request, patient, consent, provenance FROM attempts"):
        made |= {
            (shelf, type_, id_) for type_, id_ in zip(("Task", "ServiceRequest", "Patient", "Consent", "Provenance"), ids, strict=True)
        }
    unasked = {version[:3] for version in found.copies} - written - made
    taken = found.ask("SELECT sender_shelf FROM transfers WHERE id IN (SELECT transfer FROM attempts WHERE accepted IS NOT NULL)")
    cards = Counter(place[0] for place in unasked if place[1] == "Communication")
    assert cards <= Counter(shelf for (shelf,) in taken), "more contact cards than acceptances"
    assert not [place[1] for place in unasked if place[1] != "Communication"]
    assert written | made <= {version[:3] for version in found.copies}
    opened = {(shelf, "Task", id_) for shelf, id_ in found.ask("SELECT sender_shelf, sender_task FROM transfers")}
    assert opened <= written
    entries = Counter(entry["correlation_id"] for entry in found.audit if entry["action"] == "refuse")
    unaudited = [line for _, line in refused if line["status"] not in (401, 429) and entries[line["correlation"]] != 1]
    assert not unaudited, unaudited[:3]


def figures(rig: Rig, watch: Watch, took: float) -> str:
    """What was sent and answered."""
    lines = []
    for name in STRANGERS:
        [tally] = rig.lines(name, "tally")
        kinds: dict[str, dict[str, int]] = {}
        for answer, number in sorted(tally["answers"].items()):
            kind, _, status = answer.rpartition(" ")
            kinds.setdefault(kind, {})[status] = number
        lines.append(f"  {name}: {sum(tally['answers'].values())} requests, {sum(tally['answers'].values()) / took:.0f}/s")
        lines += [
            f"    {kind:<9}" + ", ".join(f"{status}: {number}" for status, number in answers.items()) for kind, answers in kinds.items()
        ]
    first, last, most = watch.samples[0], watch.samples[-1], max(sample.files for sample in watch.samples)
    lines.append(f"  memory {first.memory:.1f} MiB at first, {last.memory:.1f} at the end")
    lines.append(f"  open files {first.files} at first, {most} at most, {last.files} at the end")
    return "\n".join(lines)


def say(capsys: pytest.CaptureFixture[Any], text: str) -> None:
    """Print at once."""
    with capsys.disabled():
        print(text, flush=True)
