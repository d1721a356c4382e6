"""The outbound client: fresh assertions, a token kept and shared, and secrets that go nowhere else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import httpx
import jwt
import pytest

from gateway.oauth.client import ASSERTION_LIFETIME, PrivateKey, SmartBackendClient, SmartClientError
from gateway.oauth.keys import public_jwk
from tests.unit.oauth.world import EC_KEY, NOW, RSA_KEY, Clock

BASE = "https://partner.test/fhir"
TOKEN_URL = "https://login.partner.test/token"


@dataclass
class Server:
    """A SMART server: counts what it is asked, and issues numbered tokens."""

    token_url: str = TOKEN_URL
    lifetime: int = 300
    accept: int = 0  # tokens numbered below this are refused
    redirect: str | None = None
    clock: Clock = field(default_factory=Clock)
    assertions: list[str] = field(default_factory=list)
    seen: list[httpx.Request] = field(default_factory=list)
    token_status: int = 200

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if request.url.path.endswith("smart-configuration"):
            return httpx.Response(200, json={"token_endpoint": self.token_url})
        if str(request.url) == self.token_url:
            form = parse_qs(request.content.decode())
            assert form["grant_type"] == ["client_credentials"] and form["scope"] == ["system/Task.rs"]
            self.assertions += form["client_assertion"]
            body = {"access_token": f"token-{len(self.assertions)}", "expires_in": self.lifetime, "error": "invalid_client"}
            return httpx.Response(self.token_status, json=body)
        if self.redirect:
            return httpx.Response(302, headers={"location": self.redirect})
        number = int(request.headers["authorization"].removeprefix("Bearer token-"))
        return httpx.Response(200 if number > self.accept else 401, json={})

    def client(self, key: PrivateKey = EC_KEY, alg: str = "ES384", token_url: str | None = None, base: str = BASE) -> SmartBackendClient:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer), follow_redirects=True)
        return SmartBackendClient(base, "hub", key, alg, http, scope="system/Task.rs", now=self.clock, token_url=token_url)


@pytest.mark.parametrize("alg", ["ES384", "RS384"])
async def test_the_assertion_is_what_smart_asks_for(alg: str) -> None:
    server, key = Server(), EC_KEY if alg == "ES384" else RSA_KEY
    await server.client(key, alg).request("GET", "Task")
    made = server.assertions[0]
    assert jwt.get_unverified_header(made) == {"typ": "JWT", "alg": alg, "kid": public_jwk(key, None, alg)["kid"]}
    body = jwt.decode(made, key.public_key(), algorithms=[alg], audience=TOKEN_URL, options={"verify_exp": False, "verify_iat": False})
    assert body["iss"] == body["sub"] == "hub" and len(body["jti"]) >= 22
    assert body["exp"] - NOW == ASSERTION_LIFETIME <= 240


async def test_a_token_is_kept_until_near_its_expiry() -> None:
    server = Server()
    client = server.client()
    for at in (0, 100, 269):
        server.clock.at = NOW + at
        assert (await client.request("GET", "Task")).status_code == 200
    assert len(server.assertions) == 1
    server.clock.at = NOW + 271
    await client.request("GET", "Task")
    first, second = (jwt.decode(made, options={"verify_signature": False})["jti"] for made in server.assertions)
    assert first != second


async def test_concurrent_calls_share_one_token() -> None:
    server = Server()
    client = server.client()
    await asyncio.gather(*(client.request("GET", "Task") for _ in range(20)))
    assert len(server.assertions) == 1


async def test_a_401_is_answered_by_one_new_token_and_one_repeat() -> None:
    server = Server()
    client = server.client()
    await client.request("GET", "Task")
    server.accept = 1
    assert (await client.request("POST", "Task", content=b"{}")).status_code == 200
    assert len(server.assertions) == 2
    server.accept = 99
    assert (await client.request("GET", "Task")).status_code == 401
    assert len(server.assertions) == 3


async def test_a_pinned_token_url_is_not_discovered() -> None:
    server = Server()
    await server.client(token_url=TOKEN_URL).request("GET", "Task")
    assert [request.url.path for request in server.seen] == ["/token", "/fhir/Task"]


@pytest.mark.parametrize("number", range(4))
async def test_a_token_goes_to_its_own_server_only(number: int) -> None:
    elsewhere = ("https://evil.test/fhir/Task", "http://partner.test/fhir/Task", "https://partner.test:444/", "https://x@partner.test/fhir")
    server = Server()
    with pytest.raises(SmartClientError):
        await server.client().request("GET", elsewhere[number])
    assert server.seen == []


async def test_an_absolute_url_on_the_same_server_and_a_system_in_a_query_are_fine() -> None:
    server = Server()
    client = server.client()
    await client.request("GET", f"{BASE}/Task/1")
    await client.request("GET", "Task?identifier=https://other.test|1")
    assert [str(request.url.host) for request in server.seen[2:]] == ["partner.test", "partner.test"]


async def test_a_redirect_is_returned_and_not_followed() -> None:
    server = Server(redirect="https://evil.test/")
    assert (await server.client().request("GET", "Task")).status_code == 302
    assert all(request.url.host != "evil.test" for request in server.seen)


async def test_the_callers_headers_stay_but_cannot_replace_the_token() -> None:
    server = Server()
    await server.client().request("GET", "Task", headers={"X-Request-ID": "1", "Authorization": "Bearer token-99", "Accept": "text/plain"})
    sent = server.seen[-1].headers
    assert sent.get_list("authorization") == ["Bearer token-1"]
    assert (sent["x-request-id"], sent["accept"]) == ("1", "text/plain")


@pytest.mark.parametrize("number", range(4))
async def test_an_assertion_is_sent_over_https_only(number: int) -> None:
    urls = ("http://login.partner.test/token", "ftp://login.partner.test/token", "", "http://127.0.0.1:9/token")
    server = Server(token_url=urls[number])
    with pytest.raises(SmartClientError, match="token endpoint"):
        await server.client().request("GET", "Task")
    assert server.assertions == []


async def test_loopback_may_use_plain_http_to_loopback() -> None:
    server = Server(token_url="http://127.0.0.1:8000/oauth/token")
    assert (await server.client(base="http://127.0.0.1:8000/fhir").request("GET", "Task")).status_code == 200


async def test_a_refusal_tells_the_code_and_no_secret() -> None:
    server = Server(token_status=400)
    with pytest.raises(SmartClientError, match=r"400 \(invalid_client\)") as refused:
        await server.client().request("GET", "Task")
    assert server.assertions[0] not in str(refused.value)
