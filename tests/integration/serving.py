"""`gateway serve` as a real process, and the certificates of those who connect to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.oauth.client import make_assertion
from gateway.oauth.keys import public_jwk
from gateway.oauth.partner_keys import AssertionAlg
from gateway.settings import Settings
from tests.integration.world import CLIENTS, settings_for

__all__ = ["KEY", "Authority", "Served", "serving"]

KEY = ec.generate_private_key(ec.SECP384R1())
"""Signs the assertions of every client here."""


class Authority:
    """A certificate authority that writes what it issues into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.file = folder / f"{name}.pem"
        made = _builder(self._name, self._name, self._key.public_key()).add_extension(x509.BasicConstraints(True, 0), True)
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for this machine, and its key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        made = _builder(_named(name), self._name, key.public_key()).add_extension(here, False).sign(self._key, hashes.SHA256())
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(made.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    begins = datetime.now(UTC) - timedelta(hours=1)
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begins, begins + timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    origin: str
    authority: Path | None  # whom its certificate is from

    def connect(self, certificate: tuple[Path, Path] | None = None, *, source: str | None = None) -> httpx.Client:
        """Connections with this client certificate, or from this address of the machine."""
        verify: ssl.SSLContext | bool = False
        if self.authority is not None:
            verify = ssl.create_default_context(cafile=self.authority)
            if certificate is not None:
                verify.load_cert_chain(*certificate)
        return httpx.Client(base_url=self.origin, transport=httpx.HTTPTransport(verify=verify, local_address=source), timeout=10)

    def signed(self, client: str, endpoint: str = "token", **form: str) -> dict[str, str]:
        """A form that authenticates a client."""
        url = f"{self.origin}/oauth/{endpoint}"
        assertion = make_assertion(KEY, client_id=client, audience=url, alg=AssertionAlg.ES384, kid="k", now=time.time)
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return {"client_assertion_type": kind, "client_assertion": assertion, **form}

    def ask(self, http: httpx.Client, client: str, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        """Ask for a token."""
        wanted = {"grant_type": "client_credentials", "scope": "system/Task.rs transfer.read transfer.read-own", **form}
        return http.post("/oauth/token", data=self.signed(client, **wanted), headers=headers)


@contextlib.contextmanager
def serving(folder: Path, bindings: dict[str, dict[str, Any]], *, authority: Authority | None = None, **changes: Any) -> Iterator[Served]:
    """`gateway serve` on a free port with these clients bound; TLS with a certificate of `authority` when there is one."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tls: dict[str, Any] = {}
    if authority is not None:
        tls = dict(zip(("tls_certificate", "tls_key"), authority.issue(f"server-{port}"), strict=True))
    origin = f"{'https' if authority else 'http'}://127.0.0.1:{port}"
    settings = settings_for(folder, **{"base_url": origin, "port": port, "sandbox_clock": None, **tls, **changes})
    jwks = {"jwks": {"keys": [public_jwk(KEY, "k", "ES384")]}}
    clients = [{"client-id": name, **CLIENTS[name], **jwks, **more} for name, more in bindings.items()]
    assert settings.registry is not None
    settings.registry.write_text(yaml.safe_dump({"clients": clients, "endpoints": []}))
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "serve"], env=_environment(settings), cwd=folder, stdout=log, stderr=log
        )
    served = Served(origin, authority.file if authority is not None else None)
    try:
        _wait(process, port, folder)
        yield served
    finally:
        process.terminate()
        process.wait(15)


def _environment(settings: Settings) -> dict[str, str]:
    values = {name: value for name, value in settings.model_dump(mode="json").items() if value is not None}
    mine = {f"GATEWAY_{name.upper()}": value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return {**{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}, **mine}


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        assert process.poll() is None, (folder / "server.log").read_text()[-2000:]
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the server was not ready in time")
