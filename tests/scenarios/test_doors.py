"""A partner's system lets nobody in but the hub: what each door checks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.oauth.keys import SigningKey, SigningKeys, public_jwk
from gateway.oauth.outbound import ClientKey
from gateway.oauth.partner_keys import AssertionAlg
from gateway.oauth.smart_tokens import SmartClientError, SmartTokens
from gateway.oauth.statement import hub_statement
from gateway.sandbox.config import HUB_CLIENT, HUB_SCOPE
from gateway.sandbox.system.door import StatementDoor, Tally, TokenDoor

HUB, ADDRESS = "https://hub.test", "https://partner.test/notify"
KEYS = SigningKeys((SigningKey.of(ec.generate_private_key(ec.SECP256R1())),))
OTHER = SigningKeys((SigningKey.of(ec.generate_private_key(ec.SECP256R1())),))


def statements(keys: SigningKeys = KEYS, issuer: str = HUB, later: float = 0.0) -> Callable[[str], str]:
    return hub_statement(keys, issuer, lambda: time.time() + later)


def changed(**claims: Any) -> str:
    made = jwt.decode(statements()(ADDRESS), options={"verify_signature": False})
    kept = {name: value for name, value in {**made, **claims}.items() if value is not None}
    return jwt.encode(kept, KEYS.current.private, algorithm="ES256", headers={"kid": KEYS.current.kid})


BAD: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "no-token": lambda: "x.y.z",
    "unsigned": lambda: jwt.encode({"iss": HUB, "sub": HUB, "aud": ADDRESS}, "", algorithm="none", headers={"kid": KEYS.current.kid}),
    "another-key": lambda: statements(OTHER)(ADDRESS),
    "another-hub": lambda: statements(issuer="https://other.test")(ADDRESS),
    "for-another-system": lambda: statements()("https://other.test/notify"),
    "too-old": lambda: statements(later=-120)(ADDRESS),
    "from-the-future": lambda: statements(later=120)(ADDRESS),
    "about-another": lambda: changed(sub="https://other.test"),
    "without-an-id": lambda: changed(jti=None),
    "without-an-end": lambda: changed(exp=None),
    "for-two": lambda: changed(aud=[ADDRESS, "https://other.test"]),
}


def statement_door() -> StatementDoor:
    def published(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"{HUB}/oauth/jwks"
        return httpx.Response(200, json=dict(KEYS.jwks))

    http = httpx.AsyncClient(transport=httpx.MockTransport(published))
    return StatementDoor(http, issuer=HUB, address=ADDRESS, now=time.time)


async def test_a_statement_of_the_hub_lets_it_in_once() -> None:
    door, sign = statement_door(), statements()
    shown = sign(ADDRESS)
    assert await door.lets_in(shown)
    assert not await door.lets_in(shown)
    assert await door.lets_in(sign(ADDRESS))


@pytest.mark.parametrize("case", BAD)
async def test_anything_else_is_turned_away(case: str) -> None:
    door = statement_door()
    assert not await door.lets_in(BAD[case]())
    assert await door.lets_in(statements()(ADDRESS))


TOKEN_URL = "https://partner.test/oauth/token"
HUB_KEY = ClientKey(ec.generate_private_key(ec.SECP384R1()), AssertionAlg.ES384)


class Desk:
    """A token door behind HTTP, and the hub's client for it."""

    def __init__(self) -> None:
        self.at = time.time()
        self.tally = Tally()
        keys = {"keys": [public_jwk(HUB_KEY.private, None, "ES384")]}
        self.door = TokenDoor(TOKEN_URL, keys, lambda: self.at, self.tally)

        async def token(request: Request) -> JSONResponse:
            said, status = await self.door.token(request)
            return JSONResponse(said, status)

        app = Starlette(routes=[Route("/oauth/token", token, methods=["POST"])])
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app))

    def hub(self, client: str = HUB_CLIENT, key: ClientKey = HUB_KEY, scope: str = HUB_SCOPE) -> SmartTokens:
        async def registered() -> str:
            return TOKEN_URL

        return SmartTokens(client, key.private, key.alg, self.http, scope=scope, token_url=registered, now=lambda: self.at)


async def test_a_token_of_its_own_server_lets_the_hub_in_until_it_runs_out() -> None:
    desk = Desk()
    token = await desk.hub().access_token()
    assert await desk.door.lets_in(token) and await desk.door.lets_in(token)
    assert not await desk.door.lets_in("") and not await desk.door.lets_in(f"{token}x")
    assert not await desk.door.lets_in(statements()(ADDRESS))
    desk.at += 301
    assert not await desk.door.lets_in(token) and desk.tally.tokens == 1


async def test_nobody_else_gets_a_token() -> None:
    desk = Desk()
    stranger = ClientKey(ec.generate_private_key(ec.SECP384R1()), AssertionAlg.ES384)
    for hub in (desk.hub(client="other"), desk.hub(key=stranger), desk.hub(scope="system/Patient.r")):
        with pytest.raises(SmartClientError) as refused:
            await hub.access_token()
        assert refused.value.refused
    assert desk.tally.tokens == 0
