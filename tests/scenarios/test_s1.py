"""Scenario S1 between real processes over real HTTP, on both databases; and that the command fails when anything differs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from gateway.sandbox.demo import SCENARIO, play_demo
from gateway.testing.postgres import PostgresServer, Role, create_roles

Json = dict[str, Any]
_numbers = itertools.count(1)


def differences(result: Json) -> list[str]:
    """Everything in a result that is not as the scenario says, for a message that helps."""
    acts = [f"{step['at']} {step['what']}: {check}" for step in wrong_acts(result) for check in step["checks"] if not check["ok"]]
    cells = [f"{cell['class']} / {cell['party']}: {cell['got']}" for cell in result["cells"] if not cell["ok"]]
    return [*acts, *cells, *result["strangers"], *([] if result["audit"]["ok"] else result["audit"]["report"])]


def wrong_acts(result: Json) -> list[Json]:
    return [step for step in (*result["steps"], *result["refusals"]) if not step["ok"]]


def is_whole(result: Json) -> None:
    """The run covered everything that the scenario names."""
    data = yaml.safe_load(SCENARIO.read_text(encoding="utf-8"))
    assert len(result["steps"]) + len(result["refusals"]) == len(data["steps"])
    assert len(result["cells"]) == len(data["visibility"]) * len(data["parties"])
    assert sorted(door["kind"] for door in result["doors"].values()) == ["hub-statement"] * 3 + ["smart-backend"]
    assert all(door["let_in"] and not door["turned_away"] for door in result["doors"].values())
    reads = [refusal for refusal in result["refusals"] if refusal["act"] == "read"]
    assert len(reads) == 6
    assert all(refusal["owner"]["status"] == 200 and refusal["owner"]["same-answer-as-an-unknown-id"] for refusal in reads)


def test_the_command_plays_the_night_on_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", "gateway.cli", "demo", "--once", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert file.exists(), done.stderr
    result = json.loads(file.read_bytes())
    assert differences(result) == []
    assert (done.returncode, result["ok"]) == (0, True)
    assert max(map(len, done.stdout.splitlines())) <= 100
    is_whole(result)


async def test_the_night_is_the_same_on_postgresql(postgres_server: PostgresServer) -> None:
    number = next(_numbers)
    hub, keys = f"s1_hub_{number}", f"s1_keys_{number}"
    for name in (hub, keys):
        postgres_server.create_database(name)
        create_roles(postgres_server, name)
    settings = {
        "GATEWAY_DATABASE_URL": postgres_server.url(Role.WRITER, hub),
        "GATEWAY_DATABASE_READER_URL": postgres_server.url(Role.READER, hub),
        "GATEWAY_DATABASE_OWNER_URL": postgres_server.url(Role.OWNER, hub),
        "GATEWAY_KEYS_URL": postgres_server.url(Role.WRITER, keys),
        "GATEWAY_KEYS_OWNER_URL": postgres_server.url(Role.OWNER, keys),
    }
    try:
        result = await play_demo(once=True, database=settings, quiet=True)
    finally:
        postgres_server.drop_database(hub)
        postgres_server.drop_database(keys)
    assert differences(result) == []
    is_whole(result)


@pytest.mark.ci
async def test_a_wrong_step_cell_or_refusal_is_found(tmp_path: Path) -> None:
    """Given a scenario that is wrong in four places, when it is played, then exactly those are told."""
    data = yaml.safe_load(SCENARIO.read_text(encoding="utf-8"))
    steps = {step["say"]: step for step in data["steps"]}
    steps["The officer's form still has a police file number on it"]["expect"]["refusal"] = "narrative-not-allowed"
    steps["Police want to close their copy themselves"]["expect"]["status"] = 200
    steps["The counsellor on call acknowledges"]["expect"]["sees"][1]["shows"] = ["contact-card"]
    data["visibility"][0]["cells"]["lakeridge"] = "-"
    data["date"] = str(data["date"])
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(data), encoding="utf-8")
    result = await play_demo(once=True, file=wrong, quiet=True)
    assert not result["ok"]
    assert [step["at"][11:16] for step in wrong_acts(result)] == ["02:04", "02:32", "01:59"]
    assert [(cell["party"], cell["got"]) for cell in result["cells"] if not cell["ok"]] == [("lakeridge", "y")]


@pytest.mark.ci
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running(how: signal.Signals, tmp_path: Path) -> None:
    """Given a demo that has started its processes, when it is stopped or killed, then all of them end."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "demo"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a run in the background begins with it ignored
    )
    until = time.monotonic() + 60
    while len(children := psutil.Process(demo.pid).children(recursive=True)) < 6 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(children) >= 6
    time.sleep(1)
    demo.send_signal(how)
    demo.wait(30)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    if how is signal.SIGINT:
        assert list(tmp_path.iterdir()) == []
