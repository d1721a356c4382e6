"""A small configuration, a clock and real keys for the OAuth tests. Parties and roles here are made up."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.identity import ClientId, PartyId, ShelfId, StatusView
from gateway.oauth.assertions import ASSERTION_TYPE, AssertionFault, AssertionRules, AssertionVerifier
from gateway.oauth.authentication import ClientAuthentication
from gateway.oauth.callers import Callers
from gateway.oauth.confirmation import Shown
from gateway.oauth.dpop import ProofVerifier
from gateway.oauth.introspection import TokenControl
from gateway.oauth.jwks import FetchLimits, JwksFetcher, PartnerKeys
from gateway.oauth.keys import SigningKey, SigningKeys, public_jwk
from gateway.oauth.metadata import OAuthUrls
from gateway.oauth.revocation import MemoryRevocations
from gateway.oauth.server import TokenService
from gateway.oauth.tokens import AccessTokens
from gateway.parties.model import Client, Party, Policy, Unit

NOW = 1_800_000_000.0
URLS = OAuthUrls.under("https://hub.test")
EC_KEY = ec.generate_private_key(ec.SECP384R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = ec.generate_private_key(ec.SECP384R1())
SCOPES = frozenset({"system/Task.rus", "system/Bundle.c", "system/Patient.r", "transfer.offer", "transfer.read-own"})

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Clock:
    """Real time, as far as the code under test can tell."""

    def __init__(self, at: float = NOW) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class FileReplay:
    """A replay store that survives a restart: one line per use, written through before the answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._used = set(path.read_text().splitlines()) if path.exists() else set()

    async def use(self, issuer: str, jti: str, expires_at: int) -> bool:
        mark = json.dumps([issuer, jti])
        if mark in self._used:
            return False
        self._used.add(mark)
        with self._path.open("a") as file:
            file.write(mark + "\n")
        return True


@dataclass
class MemoryReplay:
    """A replay store that also shows what was marked."""

    used: dict[tuple[str, str], int] = field(default_factory=dict)

    async def use(self, issuer: str, jti: str, expires_at: int) -> bool:
        if (issuer, jti) in self.used:
            return False
        self.used[issuer, jti] = expires_at
        return True


def party(name: str, units: tuple[Unit, ...] = ()) -> Party:
    shelves = tuple(ShelfId(f"{name}/{unit.id}") for unit in units if unit.own_shelf)
    return Party(
        id=PartyId(name),
        name=name,
        kind="police",
        organization_type="govt",
        region="north",
        status_view=StatusView.MINIMAL,
        units=units,
        shelves=(ShelfId(name), *shelves),
        addresses=(),
        services=frozenset(),
        routes=(),
    )


def client(name: str = "alpha-system", **changes: Any) -> Client:
    """A registered client with both of its key types inline."""
    keys = [public_jwk(EC_KEY, "ec-1", "ES384"), public_jwk(RSA_KEY, "rsa-1", "RS384")]
    made = Client(
        id=ClientId(name),
        party=PartyId("alpha"),
        unit="east",
        role="officer",
        device_owner="police",
        purposes=frozenset({"COC", "victim-support"}),
        scopes=SCOPES,
        jwks_url=None,
        jwks={"keys": keys},
    )
    return replace(made, **changes)


def policy(*clients: Client, epoch: int = 1) -> Policy:
    units = (Unit("east", "East", True), Unit("west", "West", True), Unit("desk", "Desk", False))
    return Policy(
        version="test",
        epoch=epoch,
        parties={PartyId("alpha"): party("alpha", units), PartyId("beta"): party("beta")},
        addresses={},
        services={},
        agreements=(),
        rows=(),
        scopes={},
        bases={},
        clocks=(),
        classes={},
        forbidden={},
        ingest={},
        mixed_units=frozenset(),
        clients={one.id: one for one in clients},
        endpoints={},
        timezones={},
        codes={},
    )


def signing_key() -> SigningKey:
    return SigningKey.of(ec.generate_private_key(ec.SECP256R1()))


@dataclass
class World:
    """Everything the token endpoint is made of, with handles on what a test changes."""

    clock: Clock
    replay: Any
    service: TokenService
    verifier: AssertionVerifier
    callers: Callers
    control: TokenControl
    tokens: AccessTokens
    keys: SigningKeys
    revocations: MemoryRevocations
    faults: list[AssertionFault]
    policy: Policy

    def configure(self, *clients: Client) -> None:
        """Put another configuration in force."""
        self.policy = policy(*clients, epoch=self.policy.epoch + 1)


def world(
    *clients: Client, replay: Any = None, http: httpx.AsyncClient | None = None, urls: OAuthUrls = URLS, clock: Clock | None = None
) -> World:
    clock = clock or Clock()
    keys = SigningKeys((signing_key(),))
    revocations = MemoryRevocations(clock)
    faults: list[AssertionFault] = []
    store = replay if replay is not None else MemoryReplay()
    made: World

    def current() -> Policy:
        return made.policy

    fetcher = JwksFetcher(http or httpx.AsyncClient(), sandbox=True, now=clock, limits=FetchLimits())
    verifier = AssertionVerifier(
        clients=lambda: current().clients,
        keys=PartnerKeys(fetcher),
        replay=store,
        audiences=(urls.token, urls.issuer),
        now=clock,
        rules=AssertionRules(),
    )
    tokens = AccessTokens(
        keys,
        issuer=urls.issuer,
        audience=urls.fhir_base,
        policy=current,
        revocations=revocations,
        now=clock,
        new_id=lambda: secrets.token_urlsafe(16),
    )

    def refused(fault: AssertionFault, client_id: str | None) -> None:
        faults.append(fault)

    authentication = ClientAuthentication(verifier, refused)
    proofs = ProofVerifier(store, clock)
    service = TokenService(authentication, tokens, proofs, fhir_base=urls.fhir_base)
    control = TokenControl(
        authentication,
        tokens,
        revocations,
        issuer=urls.issuer,
        audience=urls.fhir_base,
        introspection_url=urls.introspection,
        revocation_url=urls.revocation,
        revoked=lambda client_id, token_id: None,
    )
    registered = policy(*(clients or (client(),)))
    made = World(clock, store, service, verifier, Callers(tokens, proofs), control, tokens, keys, revocations, faults, registered)
    return made


P256_KEY = ec.generate_private_key(ec.SECP256R1())


def proof(
    *,
    key: PrivateKey = P256_KEY,
    alg: str = "ES256",
    at: float = NOW,
    token: str | None = None,
    header: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A good DPoP proof for the token endpoint, or with `token` for a read of a Task; a change to None leaves the claim out."""
    url, method = (URLS.token, "POST") if token is None else (f"{URLS.fhir_base}/Task/1", "GET")
    payload = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": int(at)}
    if token is not None:
        payload["ath"] = _b64(sha256(token.encode()).digest()).decode()
    jwk = {name: value for name, value in public_jwk(key, None, alg).items() if name in ("kty", "crv", "x", "y", "n", "e")}
    headers = {"typ": "dpop+jwt", "jwk": jwk, **(header or {})}
    left = {name: value for name, value in {**payload, **changes}.items() if value is not None}
    return jwt.encode(left, key, algorithm=alg, headers={name: value for name, value in headers.items() if value is not None})


def shown(*proofs: str, method: str = "GET", url: str = f"{URLS.fhir_base}/Task/1", certificate: str | None = None) -> Shown:
    """What a request to the API shows."""
    return Shown(method, url, proofs, certificate)


def at_token_endpoint(*proofs: str, certificate: str | None = None) -> Shown:
    """What a token request shows."""
    return Shown("POST", URLS.token, proofs, certificate)


def claims(at: float = NOW, **changes: Any) -> dict[str, Any]:
    """Good assertion claims; a change to None leaves the claim out."""
    good = {
        "iss": "alpha-system",
        "sub": "alpha-system",
        "aud": URLS.token,
        "exp": int(at) + 240,
        "iat": int(at),
        "jti": secrets.token_urlsafe(16),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def assertion(payload: Mapping[str, Any], *, key: PrivateKey = EC_KEY, alg: str = "ES384", **header: Any) -> str:
    """A signed assertion; a header of None is left out."""
    made = {"typ": "JWT", "kid": "ec-1" if alg == "ES384" else "rsa-1", **header}
    return jwt.encode(
        dict(payload),
        key,
        algorithm=alg,
        headers={name: value for name, value in made.items() if value is not None} | ({} if made["typ"] is not None else {"typ": ""}),
    )


def raw_assertion(header: bytes, payload: bytes, key: ec.EllipticCurvePrivateKey = EC_KEY) -> str:
    """An ES384 assertion over exactly these bytes, however odd they are."""
    signed = b".".join((_b64(header), _b64(payload)))
    signature = jwt.get_algorithm_by_name("ES384").sign(signed, key)
    return b".".join((signed, _b64(signature))).decode()


def form(token: str, **changes: str | None) -> dict[str, str]:
    """A good token request carrying this assertion; a change to None leaves the parameter out."""
    good = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": token,
        "scope": "system/Task.rs transfer.offer",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def _b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
