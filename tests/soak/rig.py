"""What both soak runs stand on: the partners' process, what each client's is told, and an export held to an early checkpoint."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.integration.durability.hub import ROOT, HubFiles, free_port
from tests.integration.durability.records import Counters, read_journal
from tests.integration.durability.stage import NAMES, PARTNER, endpoints_at, processes, shelf_of

__all__ = ["DARK", "SLOW", "STRANGERS", "Rig", "command"]

SLOW: Final = "income"
DARK: Final = "nurse"
STRANGERS: Final = {"stranger": "police-svu", "stranger-inside": "counsellor"}
"""Processes that send nonsense -> the registered client whose key each has."""


def command(files: HubFiles, *arguments: str) -> str:
    """What `gateway ARGUMENT...` says. Raises AssertionError when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        cwd=ROOT,
        env=files.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@dataclass
class Rig:
    """The files of one run."""

    folder: Path
    files: HubFiles
    seed: int
    port: int

    @classmethod
    def make(cls, folder: Path, hub_files: Any, seed: int) -> Rig:
        """Settings for a hub whose partners all live on one port."""
        port = free_port()
        return cls(folder, hub_files(endpoints=endpoints_at(port), sweep_seconds=0.25), seed, port)

    @contextmanager
    def partners(self) -> Iterator[None]:
        """The partners' process."""
        counters = Counters(self.folder / "counters", PARTNER + 1 + len(STRANGERS))
        config = {
            **{"port": self.port, "seed": self.seed, "slot": PARTNER, "counters": str(self.folder / "counters")},
            **{"journal": str(self.folder / "partner.jsonl"), "slow": shelf_of(SLOW), "dark": shelf_of(DARK)},
            "dark-while": str(self.dark),
        }
        with processes(self.folder, {"partner": config}, "tests.soak.partner"):
            yield
        counters.close()

    @property
    def dark(self) -> Path:
        """While this file is there, one partner is dark."""
        return self.folder / "dark"

    @property
    def stop(self) -> Path:
        """When this file is there, nothing new is begun."""
        return self.folder / "stop"

    def told(self, name: str, **more: Any) -> dict[str, Any]:
        """What one process is told. A stranger has the key of a registered client."""
        names = (*NAMES, *STRANGERS)
        slot = names.index(name)
        return {
            **self.files.client(STRANGERS.get(name, name)),
            **{"name": name, "slot": slot, "seed": self.seed * 31 + slot, "counters": str(self.folder / "counters")},
            **{"stop": str(self.stop), "journal": str(self.journal(name)), "times": str(self.times(name))},
            **more,
        }

    def journal(self, name: str) -> Path:
        """Where one process writes down what it did."""
        return self.folder / f"{name}.jsonl"

    def times(self, name: str) -> Path:
        """Where one process writes down how long it waited."""
        return self.folder / f"{name}.times"

    def lines(self, name: str, event: str) -> list[dict[str, Any]]:
        """What a process wrote down of one kind."""
        return [line for line in read_journal(self.journal(name)) if line["event"] == event]

    def keep_checkpoint(self) -> Path:
        """Export the log while the hub runs, verify it, and keep its newest checkpoint."""
        export, kept = self.folder / "early.jsonl", self.folder / "early.checkpoint"
        command(self.files, "audit", "export", str(export))
        command(self.files, "audit", "verify", str(export), "--keep", str(kept))
        return kept

    def verify_since(self, kept: Path) -> str:
        """Export the whole log, and prove that it only grew since."""
        export = self.folder / "whole.jsonl"
        command(self.files, "audit", "export", str(export))
        return command(self.files, "audit", "verify", str(export), "--since", str(kept))
