"""A hub as an operator runs it, with registered clients whose keys the test holds, and what such a client signs and sends."""

from __future__ import annotations

import base64
import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from gateway.oauth.keys import public_jwk
from tests.clients.wire import Answer, Wire
from tests.integration.durability.hub import HubFiles, HubProcess
from tests.integration.world import CLIENTS

__all__ = ["ASSERTION_TYPE", "BOUND", "FORM", "RSA", "PrivateKey", "Registered", "SmartHub", "base64url", "running_hub", "signed"]

Json = dict[str, Any]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")
RSA: Final = "counsellor-rsa"
"""Registered as `counsellor` is, with an RSA key."""
BOUND: Final = "counsellor-bound"
"""Registered as `counsellor` is, for tokens bound to a key of its own (RFC 9449)."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One registered client."""

    id: str
    key: PrivateKey
    scopes: tuple[str, ...]
    pem: Path

    @property
    def alg(self) -> str:
        return "RS384" if isinstance(self.key, rsa.RSAPrivateKey) else "ES384"

    @property
    def scope(self) -> str:
        return " ".join(self.scopes)


@dataclass
class SmartHub:
    """A running hub, as its clients see it."""

    process: HubProcess
    clients: Mapping[str, Registered]

    @property
    def origin(self) -> str:
        return self.process.files.settings.base_url

    @property
    def token_url(self) -> str:
        return f"{self.origin}/oauth/token"

    @property
    def fhir(self) -> str:
        return f"{self.origin}/fhir"

    def wire(self) -> Wire:
        """A connection of one's own."""
        return Wire(self.process.files.settings.port)

    def claims(self, client: str, **changes: Any) -> Json:
        """The claims of a good assertion (SMART: client-confidential-asymmetric); a change to None leaves one out."""
        now = int(time.time())
        good = {"iss": client, "sub": client, "aud": self.token_url, "exp": now + 240, "iat": now, "jti": secrets.token_urlsafe(24)}
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def assertion(self, client: str, **changes: Any) -> str:
        """A signed assertion of this client; `changes` as for `claims`."""
        known = self.clients[client]
        return signed(known.key, {"alg": known.alg, "kid": known.id, "typ": "JWT"}, self.claims(client, **changes))

    def form(self, client: str, assertion: str | None = None, **changes: str | None) -> Json:
        """The parameters of a good token request; a change to None leaves one out."""
        good = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion or self.assertion(client),
            "scope": self.clients[client].scope,
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def ask(self, wire: Wire, form: Mapping[str, str], *headers: tuple[str, str], path: str = "/oauth/token") -> Answer:
        """One request to the token endpoint, or to another that takes a form."""
        return wire.request("POST", path, (FORM, ("Accept", "application/json"), *headers), urlencode(form).encode())

    def token(self, client: str, scope: str | None = None) -> str:
        """A fresh access token, got as a client gets one."""
        with contextlib.closing(self.wire()) as wire:
            answer = self.ask(wire, self.form(client, scope=scope or self.clients[client].scope))
        assert answer.status == 200, answer.body
        return str(orjson.loads(answer.body)["access_token"])


def signed(key: PrivateKey, header: Json | bytes, payload: Json | bytes) -> str:
    """A compact JWS over exactly this header and payload, however odd they are: the JOSE libraries refuse to make many of them."""
    head, body = (part if isinstance(part, bytes) else orjson.dumps(part) for part in (header, payload))
    text = b".".join((base64url(head), base64url(body)))
    algorithm = jwt.get_algorithm_by_name("RS384" if isinstance(key, rsa.RSAPrivateKey) else "ES384")
    return b".".join((text, base64url(algorithm.sign(text, key)))).decode()


def base64url(raw: bytes) -> bytes:
    """RFC 7515 section 2."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


@contextlib.contextmanager
def running_hub(folder: Path, database: Mapping[str, str], more: Mapping[str, Json] | None = None, **settings: Any) -> Iterator[SmartHub]:
    """Start a hub with the four parties of the tests, a client with an RSA key, and `more` (client id -> how it differs from the
    counsellor's registration)."""
    files = HubFiles.make(folder, database, **settings)
    registry = orjson.loads((folder / "registry.yaml").read_bytes())
    for name, changes in {RSA: {}, **(more or {})}.items():
        key: PrivateKey = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048) if name == RSA else ec.generate_private_key(ec.SECP384R1())
        )
        (folder / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        jwk = public_jwk(key, name, "RS384" if name == RSA else "ES384")
        registry["clients"].append({"client-id": name, **CLIENTS["counsellor"], "jwks": {"keys": [jwk]}, **changes})
    (folder / "registry.yaml").write_bytes(orjson.dumps(registry))
    clients = {}
    for entry in registry["clients"]:
        name, pem = entry["client-id"], folder / f"{entry['client-id']}.pem"
        held = load_pem_private_key(pem.read_bytes(), None)
        assert isinstance(held, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        clients[name] = Registered(name, held, tuple(entry["scopes"]), pem)
    with HubProcess(files).running() as process:
        yield SmartHub(process, clients)
