"""What an attacker can make: assertions and access tokens of every wrong kind, and the bytes that carry them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.oauth.keys import public_jwk
from tests.clients.hub import FORM, PrivateKey, SmartHub, base64url, signed

__all__ = [
    "ATTACKER_EC",
    "ATTACKER_RSA",
    "P256_ORDER",
    "P384_ORDER",
    "Attack",
    "Forger",
    "der",
    "low_s",
    "raw",
    "signed_es256",
    "twin",
    "unbase64url",
]

Json = dict[str, Any]
ATTACKER_EC: Final = ec.generate_private_key(ec.SECP384R1())
ATTACKER_RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P384_ORDER: Final = int("F" * 48 + "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)


def raw(method: str, path: str, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"", host: str = "127.0.0.1") -> bytes:
    """One HTTP/1.1 request; nothing is mended."""
    lines = [("Host", host), *headers]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(("Content-Length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


@dataclass
class Forger:
    """One attack in the making: a hub, a client whose key leaked or not, and a `jti` of this attack's own."""

    hub: SmartHub
    trap: str  # an address that nobody may ever call
    client: str = "counsellor"
    jti: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def claims(self, changes: Mapping[str, Any]) -> Json:
        return self.hub.claims(self.client, **{"jti": self.jti, **changes})

    def header(self, changes: Mapping[str, Any]) -> Json:
        known = self.hub.clients[self.client]
        made = {"alg": known.alg, "kid": known.id, "typ": "JWT", **changes}
        return {name: value for name, value in made.items() if value is not ...}

    def assertion(self, header: Json | bytes | None = None, claims: Json | bytes | None = None, key: PrivateKey | None = None) -> str:
        """An assertion signed by the client's own key unless another is given. `header`, `claims`: changes (``...`` leaves a header
        out, None a claim), or the very bytes."""
        head = header if isinstance(header, bytes) else self.header(header or {})
        body = claims if isinstance(claims, bytes) else self.claims(claims or {})
        return signed(key or self.hub.clients[self.client].key, head, body)

    def keyed_hash(self, alg: str, key: bytes) -> str:
        """The public key taken for a secret."""
        text = base64url(orjson.dumps(self.header({"alg": alg}))) + b"." + base64url(orjson.dumps(self.claims({})))
        digest = hmac.new(key, text, hashlib.sha384 if alg == "HS384" else hashlib.sha256).digest()
        return (text + b"." + base64url(digest)).decode()

    def with_signature(self, change: Callable[[bytes], bytes], token: str | None = None) -> str:
        """A token whose signature is changed, canonically encoded."""
        text, _, signature = (token or self.assertion()).rpartition(".")
        return f"{text}.{base64url(change(unbase64url(signature))).decode()}"

    def request(self, assertion: str, **changes: str | None) -> bytes:
        """A token request that carries this assertion and is good in everything else."""
        return self.form(self.hub.form(self.client, assertion, **{"scope": "system/Task.rs transfer.read", **changes}))

    def form(self, form: Mapping[str, str] | list[tuple[str, str]], *headers: tuple[str, str]) -> bytes:
        return raw("POST", "/oauth/token", (FORM, *headers), urlencode(form).encode())

    def good(self) -> dict[str, str]:
        """The parameters of a good request."""
        return self.hub.form(self.client, self.assertion(), scope="system/Task.rs transfer.read")

    # -- access tokens ------------------------------------------------------------------------------------------------------------

    def hub_key(self) -> ec.EllipticCurvePrivateKey:
        """The hub's own signing key: with it each claim can be wrong while the signature is right."""
        [file] = sorted(self.hub.process.files.settings.signing_keys.iterdir())[:1]
        key = load_pem_private_key(file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def token_header(self) -> Json:
        return {"alg": "ES256", "typ": "at+jwt", "kid": public_jwk(self.hub_key(), None, "ES256")["kid"]}

    def token(self, header: Json | None = None, claims: Json | None = None, key: ec.EllipticCurvePrivateKey | None = None) -> str:
        """An access token as the hub makes them, with changes; signed by the hub's key unless another is given."""
        own = self.hub_key()
        now = int(time.time())
        good = {
            "iss": self.hub.origin,
            "sub": "counsellor",
            "aud": self.hub.fhir,
            "client_id": "counsellor",
            "jti": self.jti,
            "iat": now,
            "exp": now + 300,
            "scope": "system/Task.rs transfer.read",
            "purpose_of_use": ["COC"],
            "party": "vsdr",
            "region": "durham",
            "role": "ht-cic",
            "device_owner": "victim-services",
        }
        body = {name: value for name, value in {**good, **(claims or {})}.items() if value is not None}
        head = {**self.token_header(), **(header or {})}
        return low_s(signed_es256(key or own, {name: value for name, value in head.items() if value is not ...}, body))

    def read(self, token: str, *headers: tuple[str, str], path: str = "/fhir/Task") -> bytes:
        return raw("GET", path, (("Authorization", f"Bearer {token}"), *headers))


@dataclass(frozen=True, slots=True)
class Attack:
    """One row: what is sent, and how it is refused. `clause` says why. `spares`: the assertion's `jti` must still be good afterwards."""

    name: str
    clause: str
    send: Callable[[Forger], bytes]
    status: frozenset[int]
    error: str | None = None
    spares: bool = False


def signed_es256(key: ec.EllipticCurvePrivateKey, header: Json, payload: Json) -> str:
    text = b".".join((base64url(orjson.dumps(header)), base64url(orjson.dumps(payload))))
    return b".".join((text, base64url(jwt.get_algorithm_by_name("ES256").sign(text, key)))).decode()


def low_s(token: str) -> str:
    """The form of signature that the hub gives its own tokens."""
    text, _, signature = token.rpartition(".")
    bytes_ = unbase64url(signature)
    if len(bytes_) != 64:
        return token
    s = int.from_bytes(bytes_[32:], "big")
    return f"{text}.{base64url(bytes_[:32] + min(s, P256_ORDER - s).to_bytes(32, 'big')).decode()}"


def twin(order: int) -> Callable[[bytes], bytes]:
    """The other signature that ECDSA accepts for the same text: (r, n - s)."""

    def change(signature: bytes) -> bytes:
        half = len(signature) // 2
        s = int.from_bytes(signature[half:], "big")
        return signature[:half] + (order - s).to_bytes(half, "big")

    return change


def der(signature: bytes) -> bytes:
    """The ASN.1 form, which JWS does not use (RFC 7518 section 3.4)."""
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))


def unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
