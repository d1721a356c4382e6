"""`gateway demo`: one night between real processes, told as it happens, checked against the scenario, then left running to explore."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from gateway.audit.checkpoint import Signer
from gateway.parties.errors import ConfigurationError
from gateway.sandbox.config import DEMO, Region, load_region
from gateway.sandbox.stage import HttpStage, StageError
from gateway.sandbox.telling import Teller, console
from gateway.sandbox.world import World, WorldError, open_world
from gateway.testing.clock import ClockFile
from gateway.testing.scenario import Scenario, load_scenario
from gateway.testing.scenario_run import play

__all__ = ["SCENARIO", "play_demo", "run_demo"]

Json = dict[str, Any]

SCENARIO: Final = DEMO / "scenarios" / "S1.yaml"
EXPORT: Final = "audit-export.jsonl"
DIFFERENT: Final = 1
CANNOT: Final = 2
INTERRUPTED: Final = 130
"""Exit codes, beside 0: something differs from the scenario; it could not be played; it was stopped before its end."""

TOKEN_EVERY: Final = 120.0
"""Real seconds between renewals of the tokens a person may use; the hub's live five minutes at most."""


def run_demo(once: bool, json_file: Path | None, port: int | None, database_url: str | None) -> int:
    """Play it. Returns 0 when everything was as the scenario says, else one of the exit codes of this module.

    `once`: stop afterwards; without it the world keeps running until Ctrl-C. `json_file`: where to write the result. `port`: the hub's.
    `database_url`: an SQLite address (``sqlite:///PATH``) for the hub's database; a new one in a temporary folder without it.
    """
    database = {"GATEWAY_DATABASE_URL": database_url} if database_url is not None else None
    results: list[Json] = []

    def keep(result: Json) -> None:
        results.append(result)
        if json_file is not None:
            json_file.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")

    try:
        asyncio.run(_interruptible(play_demo(once=once, port=port, database=database, keep=keep)))
    except KeyboardInterrupt:
        pass
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return CANNOT
    except (WorldError, StageError, httpx.HTTPError) as error:
        sys.stderr.write(f"The demo could not be played: {str(error) or type(error).__name__}\n")
        return CANNOT
    if not results:
        return INTERRUPTED
    return 0 if results[0]["ok"] else DIFFERENT


async def _interruptible(work: Coroutine[Any, Any, Json]) -> None:
    """End the work cleanly on SIGTERM and SIGHUP too, not only on Ctrl-C."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(name, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def play_demo(
    *,
    once: bool,
    port: int | None = None,
    database: Mapping[str, str] | None = None,
    file: Path = SCENARIO,
    quiet: bool = False,
    keep: Callable[[Json], None] | None = None,
) -> Json:
    """Play a scenario and give its result as JSON; `keep` gets it as soon as it is there, and before the world is left running.

    `database`: the hub's database settings (`GATEWAY_...`), else a new SQLite file. `quiet`: tell nothing.

    Raises WorldError, StageError, ConfigurationError, or what httpx raises when a process is gone.
    """
    began = time.monotonic()
    region, scenario = load_region(), load_scenario(file, DEMO / "schemas")
    out = console()
    out.quiet = quiet
    teller = Teller(out, region, scenario)
    teller.opening()
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as name:
        folder = Path(name)
        with ClockFile(folder / "clock", scenario.steps[0].at - timedelta(minutes=1)) as clock:
            async with httpx.AsyncClient(timeout=httpx.Timeout(30.0)) as http:
                async with open_world(folder, region, http, port=port, database=database) as world:
                    stage = HttpStage(http, clock, world.systems, world.config.phone)
                    result = await _play(scenario, world, stage, teller, began)
                    if keep is not None:
                        keep(result)
                    if not once:
                        await _keep_running(scenario, world, stage, teller)
                    return result


async def _play(scenario: Scenario, world: World, stage: HttpStage, teller: Teller, began: float) -> Json:
    teller.started(world)
    played = await play(scenario, stage, teller.step)
    teller.table(played)
    doors = {party: (await stage.seen(party))["door"] for party in scenario.parties}
    teller.doors(doors)
    audit = await asyncio.to_thread(_audit, world)
    teller.audit(audit["ok"], audit["report"])
    seconds = time.monotonic() - began
    ok = played.ok and audit["ok"] and all(door["let_in"] > 0 and door["turned_away"] == 0 for door in doors.values())
    teller.verdict(ok, played, seconds)
    timings = {"start": world.seconds, "scenario": played.seconds, "all": seconds}
    rounded = {name: round(value, 2) for name, value in timings.items()}
    return {**played.to_json(), "ok": ok, "doors": doors, "audit": audit, "seconds": rounded}


def _audit(world: World) -> Json:
    """Export the log from the running hub; verify the file without it, trusting the key that the hub was given and no other."""
    export = world.config.folder / EXPORT
    made = world.run("audit", "export", str(export))
    if made.returncode != 0:
        return {"ok": False, "report": [f"the export failed: {made.stderr.strip()[-200:]}"]}
    signer = Signer.from_pem(
        world.config.environment["GATEWAY_AUDIT_ORIGIN"], Path(world.config.environment["GATEWAY_AUDIT_KEY"]).read_bytes()
    )
    verified = world.run("audit", "verify", str(export), "--key", str(signer.verifier), settings=False)
    return {
        "ok": verified.returncode == 0,
        "report": verified.stdout.strip().splitlines() or [verified.stderr.strip()],
    }


async def _keep_running(scenario: Scenario, world: World, stage: HttpStage, teller: Teller) -> None:
    """Keep tokens fresh and everything up until somebody stops it."""
    folder = world.config.folder / "tokens"
    folder.mkdir(mode=0o700)
    tokens = {party: folder / party for party in scenario.parties}
    await _renew(stage, tokens)
    teller.explore(world, tokens, await _tries(scenario, world, stage, tokens))
    while True:
        await asyncio.sleep(TOKEN_EVERY)
        await _renew(stage, tokens)


async def _renew(stage: HttpStage, tokens: Mapping[str, Path]) -> None:
    for party, file in tokens.items():
        answer = await stage.ask(party, "token", {})
        file.touch(mode=0o600)
        file.write_text(answer["token"])


async def _tries(scenario: Scenario, world: World, stage: HttpStage, tokens: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Lines to try: what is public, one's own shelf, and one id asked for by its owner and by somebody else."""
    fhir = f"{world.hub}/fhir"

    def curl(party: str, path: str) -> str:
        return f'curl -s -H "Authorization: Bearer $(cat {tokens[party]})" {fhir}/{path}'

    owner, other = next((p, q) for p in scenario.parties for q in scenario.parties if q != p and _pushed(world.region, p))
    task = (await stage.seen(owner))["tasks"][-1]["id"]
    return [
        ("what the hub can do", f"curl -s {fhir}/metadata"),
        ("how a client gets in", f"curl -s {fhir}/.well-known/smart-configuration"),
        (f"what {owner} has on its shelf", curl(owner, "Task")),
        (f"what {other} has on its shelf: its own view", curl(other, "Task")),
        (f"one of the tasks of {owner}, read by {owner}", curl(owner, f"Task/{task}")),
        (f"the same id, asked for by {other}: not found", curl(other, f"Task/{task}")),
        ("the audit log, verified from its export alone", f"{sys.executable} -m gateway.cli audit verify {world.config.folder / EXPORT}"),
        ("what reached the phone", f"curl -s {world.config.phone}/messages"),
    ]


def _pushed(region: Region, party: str) -> bool:
    return any(system.party == party and system.receives == "fhir-push" for system in region.systems)
