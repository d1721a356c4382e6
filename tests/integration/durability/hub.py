"""The hub as an operator runs it, `gateway serve` in a process of its own, with parties whose keys a test holds."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.oauth.keys import public_jwk
from gateway.settings import Settings
from tests.integration.world import CLIENTS, settings_for

__all__ = ["ROOT", "HubFiles", "HubProcess", "free_port", "spawn"]

Json = dict[str, Any]
ROOT: Final = Path(__file__).resolve().parents[3]
READY: Final = 30.0
EPHEMERAL: Final = 32_768
"""Where Linux begins to take the ports of outgoing connections. A client that keeps calling a port above it while nobody listens
there may be given that very port, and would be connected to itself."""


def free_port() -> int:
    """A loopback port that nothing listens on, and that no outgoing connection is given while the server on it is down."""
    while True:
        port = random.randrange(20_000, EPHEMERAL)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def spawn(module: str, *arguments: str, log: IO[bytes], **environment: str) -> subprocess.Popen[bytes]:
    """A Python module as a process that ends when this one does, however that ends."""
    command = [sys.executable, "-m", "gateway.sandbox.kept", module, *arguments]
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment}
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env)


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Settings, keys and a registry in one folder."""

    folder: Path
    settings: Settings

    @classmethod
    def make(cls, folder: Path, database: Mapping[str, str], endpoints: Sequence[Mapping[str, str]] = (), **more: Any) -> HubFiles:
        """Everything a hub needs to start, on a free port and the machine's own clock."""
        port = free_port()
        settings = settings_for(
            folder,
            **{"base_url": f"http://127.0.0.1:{port}", "port": port, "sandbox_clock": None, "sweep_seconds": 0.05, **database, **more},
        )
        clients = []
        for name, entry in CLIENTS.items():
            key = ec.generate_private_key(ec.SECP384R1())
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{name}.pem").write_bytes(pem)
            clients.append({"client-id": name, **entry, "jwks": {"keys": [public_jwk(key, name, "ES384")]}})
        # JSON is YAML, and the loader takes it as such
        (folder / "registry.yaml").write_bytes(orjson.dumps({"clients": clients, "endpoints": list(endpoints)}))
        values = {name: str(value) for name, value in settings.model_dump(exclude_none=True, exclude_defaults=True).items()}
        (folder / "hub.env").write_text("".join(f"GATEWAY_{name.upper()}='{value}'\n" for name, value in values.items()))
        return cls(folder, settings)

    @property
    def environment(self) -> dict[str, str]:
        """What `gateway` is started with."""
        return {"GATEWAY_ENV_FILE": str(self.folder / "hub.env")}

    def client(self, name: str) -> Json:
        """What the process of one registered client is told of itself."""
        scope = " ".join(CLIENTS[name]["scopes"])
        return {"client": name, "key": str(self.folder / f"{name}.pem"), "hub": f"{self.settings.base_url}/fhir", "scope": scope}


class HubProcess:
    """One server process after another on the same files."""

    def __init__(self, files: HubFiles) -> None:
        self.files = files
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (files.folder / "hub.log").open("ab")

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return once it serves. Raises AssertionError with the end of its log."""
        self.begin()
        self.wait_ready()

    def begin(self) -> None:
        """Start, and return at once."""
        self._process = spawn("gateway.cli", "serve", log=self._log, **self.files.environment)

    def wait_ready(self) -> None:
        """Return once it serves."""
        give_up = time.monotonic() + READY
        while time.monotonic() < give_up:
            assert self._process is not None and self._process.poll() is None, self.log()[-2000:]
            if self._answers():
                return
            time.sleep(0.02)
        raise AssertionError(self.log()[-2000:])

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        return self._end(signal.SIGTERM)

    def log(self) -> str:
        """What all of them wrote to standard error."""
        return (self.files.folder / "hub.log").read_text()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.files.settings.port, timeout=1)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        return False

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with process:
            process.send_signal(how)
            if how is signal.SIGTERM:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
                process.kill()
        return process.returncode

    @contextlib.contextmanager
    def running(self) -> Iterator[HubProcess]:
        """Started here, and gone afterwards whatever happens."""
        try:
            self.start()
            yield self
        finally:
            self.kill()
            self._log.close()
