"""Who may bring something to a partner's system: the hub alone, shown in the way that the partner has agreed with it.

A system without an authorization server of its own checks the hub's signed statement against the hub's published keys. One that has its
own is a SMART server to the hub: it authenticates the hub's assertion at a token endpoint, and lets in who holds one of its tokens. A
partner that writes its own receiver finds here all that it has to check.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import httpx
import jwt
from starlette.requests import Request

from gateway.identity import ClientId, PartyId
from gateway.oauth.assertions import ASSERTION_TYPE, AssertionRules, AssertionVerifier, InvalidAssertion
from gateway.oauth.partner_keys import AssertionAlg, KeySet, PartnerKey, read_jwks
from gateway.parties.model import Client
from gateway.sandbox.config import HUB_CLIENT, HUB_SCOPE

__all__ = ["Door", "StatementDoor", "Tally", "TokenDoor", "bearer_of"]

TOKEN_LIFETIME: Final = 300
BODY_LIMIT: Final = 16 * 1024
_LEEWAY: Final = 5
_ASK_AGAIN: Final = 1.0


@dataclass(slots=True)
class Tally:
    """What came to a door."""

    let_in: int = 0
    turned_away: int = 0
    tokens: int = 0


class Door(Protocol):
    """Decides who comes in."""

    @property
    def kind(self) -> str:
        """What it asks for: ``hub-statement`` or ``smart-backend``."""
        ...

    async def lets_in(self, bearer: str) -> bool:
        """Whether what a request showed is the hub's."""
        ...


def bearer_of(request: Request) -> str:
    """The token of an ``Authorization`` header (RFC 6750 section 2.1), or nothing."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


class _Once:
    """Ids that were used, until what they stood in has run out. Implements `gateway.oauth.replay.ReplayStore` for one process."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._used: dict[tuple[str, str], int] = {}

    async def use(self, issuer: str, jti: str, expires_at: int) -> bool:
        """True for the first use."""
        now = self._now() * 1000
        self._used = {name: until for name, until in self._used.items() if until > now}
        if (issuer, jti) in self._used:
            return False
        self._used[issuer, jti] = expires_at
        return True


class StatementDoor:
    """Checks the hub's statement: a JWT of the hub for this system's registered address, good for a minute and for one use."""

    kind = "hub-statement"

    def __init__(self, http: httpx.AsyncClient, *, issuer: str, address: str, now: Callable[[], float]) -> None:
        """`address`: as it stands in the hub's registry. `now`: real seconds."""
        self._http = http
        self._issuer = issuer
        self._address = address
        self._once = _Once(now)
        self._keys: dict[str, Any] = {}
        self._asked = -_ASK_AGAIN

    async def lets_in(self, bearer: str) -> bool:
        """Whether this is a statement of the hub for here."""
        try:
            kid = jwt.get_unverified_header(bearer).get("kid")
            key = await self._key(kid) if isinstance(kid, str) else None
            if key is None:
                return False
            claims = jwt.decode(
                bearer,
                key,
                algorithms=["ES256"],
                audience=self._address,
                issuer=self._issuer,
                leeway=_LEEWAY,
                options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"], "strict_aud": True},
            )
        except (jwt.PyJWTError, ValueError):
            return False
        return claims["sub"] == self._issuer and await self._once.use(self._issuer, claims["jti"], (claims["exp"] + _LEEWAY) * 1000)

    async def _key(self, kid: str) -> Any:
        """The hub's key of that name; its key set is read again for one that is not known, once a second at most."""
        if kid not in self._keys and time.monotonic() - self._asked >= _ASK_AGAIN:
            self._asked = time.monotonic()
            try:
                answer = await self._http.get(f"{self._issuer}/oauth/jwks")
                self._keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(answer.json()).keys if key.key_id}
            except (httpx.HTTPError, jwt.PyJWTError, ValueError):
                return None
        return self._keys.get(kid)


@dataclass(frozen=True, slots=True)
class _RegisteredKeys:
    keys: KeySet

    async def key(self, client: Client, kid: str, alg: AssertionAlg) -> PartnerKey | None:
        """The hub's public key, as the operator handed it over."""
        return self.keys.pick(kid, alg)


@dataclass(slots=True)
class TokenDoor:
    """A small SMART authorization server with one client, the hub (SMART App Launch 2, Backend Services)."""

    token_url: str
    hub_keys: Mapping[str, Any]
    now: Callable[[], float]
    tally: Tally
    kind: str = field(default="smart-backend", init=False)
    _tokens: dict[str, float] = field(default_factory=dict, init=False)
    _verifier: AssertionVerifier = field(init=False)

    def __post_init__(self) -> None:
        hub = Client(
            id=ClientId(HUB_CLIENT),
            party=PartyId(HUB_CLIENT),
            unit=None,
            role="",
            device_owner="",
            purposes=frozenset(),
            scopes=frozenset({HUB_SCOPE}),
            jwks_url=None,
            jwks=self.hub_keys,
        )
        self._verifier = AssertionVerifier(
            clients=lambda: {hub.id: hub},
            keys=_RegisteredKeys(read_jwks(self.hub_keys)),
            replay=_Once(self.now),
            audiences=(self.token_url,),
            now=self.now,
            rules=AssertionRules(),
        )

    async def token(self, request: Request) -> tuple[dict[str, Any], int]:
        """The token endpoint: what it says, and the status (RFC 6749 sections 5.1 and 5.2)."""
        body = await request.body()
        form = dict(parse_qsl(body.decode("utf-8", "replace"))) if len(body) <= BODY_LIMIT else {}
        if form.get("grant_type") != "client_credentials":
            return {"error": "unsupported_grant_type"}, 400
        try:
            if form.get("client_assertion_type") != ASSERTION_TYPE:
                return {"error": "invalid_client"}, 400
            await self._verifier.verify(form.get("client_assertion", ""), form.get("client_id"))
        except InvalidAssertion:
            return {"error": "invalid_client"}, 400
        if HUB_SCOPE not in form.get("scope", "").split():
            return {"error": "invalid_scope"}, 400
        made = secrets.token_urlsafe(32)
        self._tokens = {token: until for token, until in self._tokens.items() if until > self.now()}
        self._tokens[made] = self.now() + TOKEN_LIFETIME
        self.tally.tokens += 1
        return {"access_token": made, "token_type": "bearer", "expires_in": TOKEN_LIFETIME, "scope": HUB_SCOPE}, 200

    async def lets_in(self, bearer: str) -> bool:
        """Whether this is a token of this server that is still good."""
        return self._tokens.get(bearer, 0.0) > self.now()
