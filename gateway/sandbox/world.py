"""Starts and stops a whole coalition on this machine: the hub, a system for each party, the text gateway. A process each.

Every process hangs on a leash (`kept`): it ends when this one does, however this one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import httpx

from gateway.sandbox.config import DemoConfig, Ports, Region, make_config

__all__ = ["World", "WorldError", "free_ports", "open_world"]

START_LIMIT: Final = 60.0
STOP_LIMIT: Final = 8.0


class WorldError(Exception):
    """A process did not start. The text says which, and where its output is."""


@dataclass(slots=True)
class World:
    """What is running."""

    config: DemoConfig
    region: Region
    systems: Mapping[str, str]  # party -> origin
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    logs: dict[str, IO[bytes]] = field(default_factory=dict)
    seconds: float = 0.0  # from the first start to the last being ready

    @property
    def hub(self) -> str:
        """The hub's origin."""
        return self.config.origin

    def run(self, *arguments: str, settings: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one `gateway` command to its end. `settings`: with the hub's settings, or with none at all."""
        environment = _environment(self.config.env_file if settings else None)
        command = [sys.executable, "-m", "gateway.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def start(self, name: str, *command: str) -> None:
        """Start one process on a leash; its output goes to a file."""
        folder = self.config.folder / "logs"
        folder.mkdir(exist_ok=True)
        log = (folder / f"{name}.log").open("wb")
        self.logs[name] = log
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "gateway.sandbox.kept", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(self.config.env_file),
            start_new_session=True,  # Ctrl-C is for the one who plays; it then lets go of the leashes
        )

    async def ready(self, http: httpx.AsyncClient, addresses: Mapping[str, str]) -> None:
        """Wait until every process answers. Raises WorldError when one has ended or takes too long."""
        until = time.monotonic() + START_LIMIT
        for name, address in addresses.items():
            while True:
                if self.processes[name].poll() is not None:
                    raise WorldError(f"{name} did not start: {self._last_words(name)}")
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(address)).status_code == httpx.codes.OK:
                        break
                if time.monotonic() > until:
                    raise WorldError(f"{name} was not ready in {START_LIMIT:.0f} s; its output is in {self.logs[name].name}")
                await asyncio.sleep(0.03)

    def _last_words(self, name: str) -> str:
        lines = Path(self.logs[name].name).read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-4:]) or "it said nothing"

    def stop(self) -> None:
        """Let go of all leashes and wait; whoever is still there then is ended."""
        for process in self.processes.values():
            if process.stdin is not None:
                process.stdin.close()
        until = time.monotonic() + STOP_LIMIT
        for process in self.processes.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self.logs.values():
            log.close()


@contextlib.asynccontextmanager
async def open_world(
    folder: Path, region: Region, http: httpx.AsyncClient, *, port: int | None = None, database: Mapping[str, str] | None = None
) -> AsyncIterator[World]:
    """Configure and start everything in `folder`; stop it at the end. `database`: settings of the hub's database, else SQLite.

    The clock file must be there (`ClockFile`). Raises WorldError.
    """
    began = time.monotonic()
    hub, phone, *others = free_ports(2 + len(region.systems))
    ports = Ports(port or hub, phone, {system.party: number for system, number in zip(region.systems, others, strict=True)})
    config = make_config(folder, region, ports, database=database)
    world = World(config, region, {party: f"http://127.0.0.1:{number}" for party, number in ports.systems.items()})
    try:
        if database is not None:
            migrated = await asyncio.to_thread(world.run, "migrate")
            if migrated.returncode != 0:
                raise WorldError(f"the database could not be prepared: {migrated.stderr.strip()[-400:]}")
        world.start("hub", "gateway.cli", "serve")
        world.start("phone", "gateway.sandbox.phone", str(ports.phone))
        for party, file in config.systems.items():
            world.start(party, "gateway.sandbox.system", str(file))
        ready = {party: f"{origin}/seen" for party, origin in world.systems.items()}
        await world.ready(http, {"hub": f"{world.hub}/health/ready", "phone": f"{config.phone}/messages", **ready})
        world.seconds = time.monotonic() - began
        yield world
    finally:
        await asyncio.to_thread(world.stop)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now, all different."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.bind(("127.0.0.1", 0))
            found.append(int(probe.getsockname()[1]))
        return found


def _environment(env_file: Path | None) -> dict[str, str]:
    """This process's environment, with no setting of another hub in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return {**kept, "GATEWAY_ENV_FILE": str(env_file)} if env_file is not None else kept
