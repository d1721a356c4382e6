"""The parts of the sandbox that others rely on: the clock file, a system's ledger, scenario files that are wrong, the leash."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from gateway.parties.errors import ConfigurationError
from gateway.sandbox.config import DEMO, load_region
from gateway.sandbox.demo import SCENARIO
from gateway.sandbox.system.records import Records
from gateway.testing.clock import ClockFile, RunnerClock
from gateway.testing.scenario import load_scenario

START = datetime(2026, 2, 11, 6, 59, tzinfo=UTC)
READER = (
    "import sys;from pathlib import Path;from gateway.testing.clock import RunnerClock;c=RunnerClock(Path(sys.argv[1]))\n"
    "for line in sys.stdin: print(c.now().isoformat(), flush=True)"
)


def test_a_clock_moves_for_another_process_and_never_back(tmp_path: Path) -> None:
    with ClockFile(tmp_path / "clock", START) as clock:
        with subprocess.Popen(
            [sys.executable, "-c", READER, str(clock.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdin is not None and reader.stdout is not None
            for minutes in (0, 1, 600):
                clock.set(START + timedelta(minutes=minutes))
                reader.stdin.write("now\n")
                reader.stdin.flush()
                assert reader.stdout.readline().strip() == (START + timedelta(minutes=minutes)).isoformat()
            reader.stdin.close()
        with pytest.raises(ValueError, match="does not go back"):
            clock.set(START)


def test_a_clock_needs_a_file_that_is_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError):
        RunnerClock(tmp_path / "empty")
    with pytest.raises(OSError):
        RunnerClock(tmp_path / "missing")


def test_a_delivery_is_taken_once_also_after_a_restart(tmp_path: Path) -> None:
    task = {"resourceType": "Task", "id": "t", "meta": {"versionId": "1"}}
    records = Records.open(tmp_path / "ledger")
    assert records.take("key-1", [task])
    assert not records.take("key-1", [task])
    again = Records.open(tmp_path / "ledger")
    assert not again.take("key-1", [task])
    assert again.take("key-2", [task])
    assert [arrival.key for arrival in again.arrivals] == ["key-1", "key-2"]


def test_an_older_version_never_replaces_a_newer_one(tmp_path: Path) -> None:
    records = Records.open(tmp_path / "ledger")
    for version in ("2", "1"):
        records.keep({"resourceType": "Task", "id": "t", "meta": {"versionId": version}})
    assert records.resources["Task/t"]["meta"]["versionId"] == "2"
    assert len(records.seen) == 2


def test_the_shipped_scenario_and_region_are_sound() -> None:
    scenario, region = load_scenario(SCENARIO, DEMO / "schemas"), load_region()
    assert set(scenario.parties) == {system.party for system in region.systems}


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("steps", 0, "who"), "nobody", "not one of the parties"),
        (("steps", 3, "at"), "01:00", "earlier than the step before"),
        (("steps", 1, "expect", "sees", 0, "of"), "T9", "no step is called"),
        (("steps", 0, "act"), "guess", "must be one of"),
        (("visibility", 0, "of"), ["T9.alias"], "no step is called"),
        (("visibility", 0, "cells"), {"drps": "y"}, "what every party sees"),
    ],
)
def test_a_mistake_in_a_scenario_is_told_with_its_place(path: tuple[str | int, ...], value: object, reason: str, tmp_path: Path) -> None:
    data = yaml.safe_load(SCENARIO.read_text(encoding="utf-8"))
    data["date"] = str(data["date"])
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_scenario(file, DEMO / "schemas")
    assert reason in str(caught.value)
    assert "wrong.yaml:" in str(caught.value)


def test_a_process_on_a_leash_ends_when_it_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.sandbox.kept", "sleeper"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as kept:
        assert kept.stdin is not None and kept.stdout is not None
        assert kept.stdout.readline() == b"up\n"
        assert kept.poll() is None
        kept.stdin.close()
        try:
            assert kept.wait(10) != 0
        finally:
            kept.kill()
