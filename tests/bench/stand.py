"""The stand on which both builds are measured: databases, keys, tokens, and each server as a real process on one core."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
from sqlalchemy import Table, func, select

from gateway.identity import ClientId
from gateway.oauth.keys import SigningKeys
from gateway.oauth.metadata import OAuthUrls
from gateway.oauth.revocation import MemoryRevocations
from gateway.oauth.tokens import AccessTokens
from gateway.parties.load import load_policy
from gateway.settings import Settings
from gateway.storage.migrate import migrate_postgres
from gateway.storage.tables import keys_metadata
from gateway.testing.postgres import PostgresServer, Role, create_roles
from tests.bench.load import Job, Measured
from tests.integration.world import settings_for

__all__ = ["Build", "Database", "Server", "Stand", "cores", "put_load"]

ROOT: Final = Path(__file__).resolve().parents[2]
READY_SECONDS: Final = 60.0
_numbers = itertools.count(1)


class Build(StrEnum):
    """What is measured."""

    GATEWAY = "gateway"
    NAIVE = "naive"


class Database(StrEnum):
    """What it is measured on."""

    POSTGRES = "postgres"
    SQLITE = "sqlite"


_MODULES: Final[Mapping[Build, list[str]]] = {Build.GATEWAY: ["tests.bench.serve_gateway"], Build.NAIVE: ["tests.bench.naive.serve"]}


def cores() -> tuple[set[int], set[int]]:
    """(for the server, for everything else). On a machine of one core both are that core."""
    mine = sorted(os.sched_getaffinity(0))
    return {mine[0]}, set(mine[1:]) or {mine[0]}


@dataclass(slots=True)
class Server:
    """One running server."""

    build: Build
    port: int
    process: subprocess.Popen[bytes]
    settings: Settings
    ready_seconds: float

    def memory(self) -> float:
        """MiB that this process alone would free if it ended, with its share of what it shares (PSS)."""
        process = psutil.Process(self.process.pid)
        with contextlib.suppress(psutil.AccessDenied, AttributeError):
            return float(process.memory_full_info().pss) / 2**20
        return float(process.memory_info().rss) / 2**20

    def resident(self) -> float:
        """MiB of resident memory."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    def token(self, client: str) -> str:
        """A fresh access token, signed with the key that both builds verify with."""
        policy = load_policy(self.settings.config_root, registry=self.settings.registry)
        urls = OAuthUrls.under(self.settings.base_url)
        tokens = AccessTokens(
            SigningKeys.load(self.settings.signing_keys),
            issuer=urls.issuer,
            audience=f"{self.settings.base_url}/fhir",
            policy=lambda: policy,
            revocations=MemoryRevocations(time.time),
            now=time.time,
            new_id=lambda: os.urandom(16).hex(),
        )
        registered = policy.clients[ClientId(client)]
        return tokens.issue(registered, registered.scopes).token


class Stand:
    """Starts servers, each with an empty database of its own. Use as a context manager: at its end nothing is left running."""

    def __init__(self, folder: Path, *, pinned: bool = True) -> None:
        self._folder = folder
        self._pinned = pinned
        self._stack = contextlib.ExitStack()
        self._postgres: PostgresServer | None = None
        self._templates: tuple[str, str] | None = None

    def __enter__(self) -> Stand:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(
        self,
        build: Build,
        database: Database,
        *,
        module: list[str] | None = None,
        prepare: Callable[[Settings], None] | None = None,
    ) -> Server:
        """A server that answers, on an empty database. `prepare` may change the files that its settings name before it starts."""
        port = _free_port()
        folder = self._folder / f"{build}-{next(_numbers)}"
        urls = self._databases() if database is Database.POSTGRES else {}
        settings = settings_for(
            folder,
            base_url=f"http://127.0.0.1:{port}",
            port=port,
            sandbox_clock=None,
            endpoints=[{"shelf": "vsdr", "transport": "fhir-push", "address": "http://127.0.0.1:9/fhir"}],
            **urls,
        )
        if prepare is not None:
            prepare(settings)
        command = [sys.executable, "-m", *(module or _MODULES[build])]
        log = self._stack.enter_context((folder / "server.log").open("wb"))
        core = cores()[0] if self._pinned else None
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=_environment(settings),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            preexec_fn=(lambda: os.sched_setaffinity(0, core)) if core else None,
        )
        self._stack.callback(_end, process)
        _wait_ready(process, port, folder)
        return Server(build, port, process, settings, time.perf_counter() - began)

    def analyze(self, server: Server) -> None:
        """Let PostgreSQL count what is there, as it does by itself within minutes. Without that both builds would be measured on the
        guesses it makes about a table it has never seen filled."""
        if self._postgres is not None and server.settings.sqlite_path is None:
            self._postgres.execute("ANALYZE", urlsplit(server.settings.database_url).path[1:])

    def rows(self, server: Server, wanted: Sequence[Table]) -> dict[str, int]:
        """How many rows each table has, in the hub's database or its key store."""
        path = server.settings.sqlite_path
        counts: dict[str, int] = {}
        for table in wanted:
            count = str(select(func.count()).select_from(table))
            if path is not None:
                file = path.with_suffix(".keys.db") if table.metadata is keys_metadata else path
                with contextlib.closing(sqlite3.connect(file)) as connection:
                    [(counts[table.name],)] = connection.execute(count)
            elif self._postgres is not None:
                url = server.settings.keys_url if table.metadata is keys_metadata else server.settings.database_url
                counts[table.name] = int(self._postgres.execute(count, urlsplit(url or "").path[1:]))
        return counts

    def stop(self, server: Server) -> None:
        """End a server now."""
        _end(server.process)

    def _databases(self) -> dict[str, str]:
        if self._postgres is None:
            self._postgres = self._stack.enter_context(PostgresServer())
        server = self._postgres
        if self._templates is None:
            self._templates = ("hub_template", "keys_template")
            for name in self._templates:
                server.create_database(name)
                create_roles(server, name)
            hub, keys = (server.url(Role.OWNER, name) for name in self._templates)
            asyncio.run(migrate_postgres(hub, keys, reader=Role.READER, writer=Role.WRITER))
        number = next(_numbers)
        names = (f"hub_{number}", f"keys_{number}")
        for name, template in zip(names, self._templates, strict=True):
            server.create_database(name, owner=Role.OWNER, template=template)
            create_roles(server, name)
        return {
            "database_url": server.url(Role.WRITER, names[0]),
            "database_reader_url": server.url(Role.READER, names[0]),
            "keys_url": server.url(Role.WRITER, names[1]),
        }


def put_load(job: Job) -> Measured:
    """Run one job in a load generator of its own, off the server's core."""
    given = json.dumps({**{name: getattr(job, name) for name in Job.__slots__}, "cores": sorted(cores()[1])})
    done = subprocess.run([sys.executable, "-m", "tests.bench.load"], input=given.encode(), capture_output=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the load generator failed: {done.stderr.decode()[-2000:]}")
    return Measured(**json.loads(done.stdout))


def _environment(settings: Settings) -> dict[str, str]:
    values = {f"GATEWAY_{name.upper()}": str(value) for name, value in settings.model_dump().items() if value is not None}
    return {**{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}, **values}


def _wait_ready(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    began = time.perf_counter()
    while time.perf_counter() - began < READY_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {(folder / 'server.log').read_text()[-2000:]}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/fhir/metadata", timeout=5) as answer:
                if answer.status == 200:
                    return
        except HTTPError as error:
            raise RuntimeError(f"the server answered {error.code}") from None
        except (URLError, OSError):
            time.sleep(0.01)
    raise RuntimeError("the server was not ready in time")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
