"""What every run against a hub in a process of its own needs around it: the partners' addresses, processes, and what is left to look at."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from gateway.testing.postgres import PostgresServer
from tests.integration.durability.evidence import Evidence, Row, postgres_rows, sqlite_rows
from tests.integration.durability.hub import HubFiles, spawn
from tests.integration.world import CLIENTS

__all__ = ["NAMES", "PARTNER", "endpoints_at", "evidence_of", "processes", "questions_to", "shelf_of", "wait_until"]

NAMES: Final = ("police", "police-svu", "counsellor", "nurse", "income")
"""The registered clients that are at work here: one for each shelf that something is delivered to."""
PARTNER: Final = len(NAMES)
"""The slot of the partners' process among the counters; before it, one for each client."""

PUSHED: Final = frozenset({"counsellor", "nurse"})
"""The parties whose manifests say that copies are pushed to them; the others are nudged."""


def shelf_of(name: str) -> str:
    """The shelf that a registered client's token names."""
    party, unit = CLIENTS[name]["party"], CLIENTS[name].get("unit")
    return f"{party}/{unit}" if unit else str(party)


def endpoints_at(port: int) -> list[dict[str, str]]:
    """Every party's endpoint, all of them on the partners' one server."""
    return [
        {
            "shelf": shelf_of(name),
            "transport": "fhir-push" if name in PUSHED else "nudge",
            "address": f"http://127.0.0.1:{port}/{shelf_of(name)}/deliveries",
        }
        for name in NAMES
    ]


@contextmanager
def processes(folder: Path, configs: Mapping[str, dict[str, Any]], module: str) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """One process for each configuration, gone afterwards."""
    with ExitStack() as stack:
        started = {}
        for name, config in configs.items():
            file = folder / f"{name}.json"
            file.write_bytes(orjson.dumps(config))
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            started[name] = process = stack.enter_context(spawn(module, str(file), log=log))
            stack.callback(process.kill)
        yield started


def questions_to(files: HubFiles, request: pytest.FixtureRequest) -> tuple[Callable[[str], list[Row]], Callable[[str], list[Row]]]:
    """Ways to ask the hub's database and its key store, as their administrator."""
    path = files.settings.sqlite_path
    if path is not None:
        return sqlite_rows(path), sqlite_rows(path.with_suffix(".keys.db"))
    server: PostgresServer = request.getfixturevalue("postgres_server")
    names = [str(url).rpartition("/")[2] for url in (files.settings.database_url, files.settings.keys_url)]
    return postgres_rows(server.url(database=names[0])), postgres_rows(server.url(database=names[1]))


def evidence_of(folder: Path, files: HubFiles, request: pytest.FixtureRequest, clients: Mapping[str, str]) -> Evidence:
    """What is left of a run whose processes kept their journals in `folder`. `clients`: name -> the shelf it writes on."""
    ask, keys = questions_to(files, request)
    journals = {f"{shelf}|{name}": folder / f"{name}.jsonl" for name, shelf in clients.items()}
    return Evidence(ask, keys, journals, folder / "partner.jsonl")


def wait_until(met: Callable[[], bool], seconds: float, what: str) -> None:
    """Return once it is so. Raises AssertionError saying what never came."""
    give_up = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < give_up, f"waited {seconds} s for {what}"
        time.sleep(0.1)
