"""The OAuth endpoints over a real server on loopback: the flow of a backend client, and requests that are wrong as HTTP."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.api.oauth import FORM_LIMIT, routes
from gateway.api.shown import Showing
from gateway.oauth.client import SmartBackendClient, SmartClientError, make_assertion
from gateway.oauth.keys import public_jwk
from gateway.oauth.metadata import OAuthUrls
from gateway.oauth.mtls import ClientCertificates, TrustedProxies
from gateway.oauth.partner_keys import AssertionAlg
from gateway.oauth.scopes import Interaction, allows
from gateway.problems import Problem
from tests.unit.oauth.world import EC_KEY, RSA_KEY, SCOPES, Clock, FileReplay, MemoryReplay, World, client, form, world

FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}


class RealClock(Clock):
    """The machine's clock, which a test may push ahead."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def __call__(self) -> float:
        return time.time() + self.at


@dataclass
class Running:
    """A server and what it is made of."""

    origin: str
    hub: World
    http: httpx.AsyncClient

    def partner(
        self, alg: str = "ES384", key: Any = EC_KEY, scope: str = "system/*.rs transfer.offer", kid: str | None = None
    ) -> SmartBackendClient:
        kid = kid or ("ec-1" if alg == "ES384" else "rsa-1")
        return SmartBackendClient(f"{self.origin}/fhir", "alpha-system", key, alg, self.http, scope=scope, now=time.time, kid=kid)

    def assertion(self) -> str:
        return make_assertion(
            EC_KEY, client_id="alpha-system", audience=f"{self.origin}/oauth/token", alg=AssertionAlg.ES384, kid="ec-1", now=time.time
        )


@asynccontextmanager
async def running(*, replay: Any = None, port: int = 0, jwks_url: str | None = None) -> AsyncIterator[Running]:
    """A bare application with the OAuth routes and one protected route, served by uvicorn on a free loopback port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()  # from here on a connection waits for the server instead of failing
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    urls = OAuthUrls.under(origin)
    async with httpx.AsyncClient() as http:
        registered = client() if jwks_url is None else client(jwks=None, jwks_url=jwks_url)
        hub = world(registered, urls=urls, replay=replay, http=http, clock=RealClock())

        async def read(request: Request) -> Response:
            try:
                caller = await hub.callers.authenticate(request.headers.get("authorization"), lambda: showing.of(request))
            except Problem:
                return JSONResponse({}, 401)
            permitted = allows(caller.scopes, Interaction.READ, request.path_params["type"])
            return JSONResponse({"shelf": caller.shelf}, 200 if permitted else 403)

        showing = Showing(origin, ClientCertificates(TrustedProxies(()), None, from_tls=False))
        oauth = routes(
            *(hub.service, hub.control, showing, hub.keys, urls),
            scopes=lambda: sorted(SCOPES),
            smart_paths=("", "/fhir"),
            document_age=300,
            certificates=False,
        )
        app = Starlette(routes=[*oauth, Route("/fhir/{type}/{id}", read)])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield Running(origin, hub, http)
        finally:
            server.should_exit = True
            await serving
            listener.close()


@pytest.mark.parametrize("alg", ["ES384", "RS384"])
async def test_a_backend_client_finds_the_hub_gets_a_token_and_calls(alg: str) -> None:
    async with running() as server:
        partner = server.partner(alg, EC_KEY if alg == "ES384" else RSA_KEY)
        answer = await partner.request("GET", "Task/1")
        assert (answer.status_code, answer.json()) == (200, {"shelf": "alpha/east"})
        assert (await partner.request("GET", "Consent/1")).status_code == 403


async def test_a_call_without_a_token_or_with_an_assertion_as_token_is_refused() -> None:
    async with running() as server:
        assert (await server.http.get(f"{server.origin}/fhir/Task/1")).status_code == 401
        headers = {"authorization": f"Bearer {server.assertion()}"}
        assert (await server.http.get(f"{server.origin}/fhir/Task/1", headers=headers)).status_code == 401


async def test_an_expired_token_is_replaced_by_the_client() -> None:
    async with running() as server:
        partner = server.partner()
        first = await partner.access_token()
        await server.hub.revocations.revoke(server.hub.tokens.verify(first).token_id, time.time() + 300)
        assert (await partner.request("GET", "Task/1")).status_code == 200
        assert await partner.access_token() != first


async def test_a_replay_is_refused_after_the_server_was_restarted(tmp_path: Path) -> None:
    async with running(replay=FileReplay(tmp_path / "used")) as server:
        body, port = form(server.assertion()), httpx.URL(server.origin).port
        assert (await server.http.post(f"{server.origin}/oauth/token", data=body)).status_code == 200
    async with running(replay=FileReplay(tmp_path / "used"), port=port or 0) as server:
        answer = await server.http.post(f"{server.origin}/oauth/token", data=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")
        assert (await server.http.post(f"{server.origin}/oauth/token", data=form(server.assertion()))).status_code == 200


async def test_one_of_many_parallel_uses_wins() -> None:
    class Slow(MemoryReplay):
        async def use(self, issuer: str, jti: str, expires_at: int) -> bool:
            await asyncio.sleep(0)
            return await super().use(issuer, jti, expires_at)

    async with running(replay=Slow()) as server:
        body = form(server.assertion())
        answers = await asyncio.gather(*(server.http.post(f"{server.origin}/oauth/token", data=body) for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19


async def test_a_partner_rotates_its_key_at_its_registered_address() -> None:
    published = {"keys": [public_jwk(EC_KEY, "2026-01", "ES384")]}

    async def jwks(request: Request) -> Response:
        return JSONResponse(published, headers={"cache-control": "max-age=0"})

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"
    publisher = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/jwks", jwks)]), log_level="error", lifespan="off"))
    serving = asyncio.create_task(publisher.serve([listener]))
    async with running(jwks_url=address) as server:
        assert (await server.partner(kid="2026-01").request("GET", "Task/1")).status_code == 200
        fresh = ec.generate_private_key(ec.SECP384R1())
        published["keys"].append(public_jwk(fresh, "2026-02", "ES384"))
        server.hub.clock.at += 2  # past the second for which even an uncacheable set is kept
        assert (await server.partner(key=fresh, kid="2026-02").request("GET", "Task/1")).status_code == 200
        assert (await server.partner(kid="2026-01").request("GET", "Task/1")).status_code == 200
        published["keys"].pop(0)
        server.hub.clock.at += 2
        with pytest.raises(SmartClientError):
            await server.partner(kid="2026-01").request("GET", "Task/1")
    publisher.should_exit = True
    await serving
    listener.close()


async def test_discovery_is_json_whatever_is_accepted() -> None:
    async with running() as server:
        for path in (
            "/.well-known/smart-configuration",
            "/fhir/.well-known/smart-configuration",
            "/.well-known/oauth-authorization-server",
        ):
            for accept in ("application/json", "application/fhir+json", "text/html", "*/*"):
                answer = await server.http.get(server.origin + path, headers={"accept": accept})
                assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
                assert answer.json()["token_endpoint"] == f"{server.origin}/oauth/token"
                assert answer.headers["cache-control"] == "public, max-age=300"


async def test_the_published_keys_verify_what_the_hub_signs() -> None:
    async with running() as server:
        keys = (await server.http.get(f"{server.origin}/oauth/jwks")).json()["keys"]
        assert [key["kid"] for key in keys] == [server.hub.keys.current.kid]
        assert not any("d" in key for key in keys)


@dataclass
class Http:
    """One wrong HTTP request to the token endpoint, and its answer."""

    status: int
    method: str = "POST"
    url: str = "/oauth/token"
    headers: tuple[tuple[str, str], ...] = tuple(FORM_TYPE.items())
    change: Callable[[bytes], bytes] = lambda body: body


WRONG = {
    "get": Http(405, method="GET"),
    "put": Http(405, method="PUT"),
    "delete": Http(405, method="DELETE"),
    "post-to-jwks": Http(405, url="/oauth/jwks"),
    "post-to-smart": Http(405, url="/fhir/.well-known/smart-configuration"),
    "json": Http(400, headers=(("content-type", "application/json"),), change=lambda body: b"{}"),
    "no-content-type": Http(400, headers=()),
    "two-content-types": Http(400, headers=(("content-type", "application/x-www-form-urlencoded"), ("content-type", "text/plain"))),
    "other-charset": Http(400, headers=(("content-type", "application/x-www-form-urlencoded; charset=utf-16"),)),
    "in-the-url": Http(400, url="/oauth/token?grant_type=client_credentials"),
    "empty": Http(400, change=lambda body: b""),
    "too-large": Http(413, change=lambda body: body + b"&x=" + b"a" * FORM_LIMIT),
    "repeated": Http(400, change=lambda body: body + b"&scope=transfer.offer"),
    "repeated-empty": Http(400, change=lambda body: body + b"&scope="),
    "too-many-fields": Http(400, change=lambda body: body + b"".join(b"&x%d=1" % number for number in range(40))),
    "raw-bytes": Http(400, change=lambda body: body + b"&x=\xff"),
    "bad-utf-8": Http(400, change=lambda body: body + b"&x=%ff"),
    "nul": Http(400, change=lambda body: body.replace(b"client_assertion=", b"client_assertion=%00")),
    "crlf": Http(400, change=lambda body: body.replace(b"client_assertion=", b"client_assertion=%0d%0a")),
    "assertion-huge": Http(400, change=lambda body: body.replace(b"client_assertion=", b"client_assertion=" + b"a" * 9000)),
    "basic": Http(400, headers=(*FORM_TYPE.items(), ("authorization", "Basic eDp5"))),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_request_that_is_wrong_as_http_is_refused_in_json_and_burns_nothing(case: str) -> None:
    wrong = WRONG[case]
    async with running() as server:
        body = str(httpx.QueryParams(form(server.assertion()))).encode()
        started = time.perf_counter()
        answer = await server.http.request(
            wrong.method,
            server.origin + wrong.url,
            headers=list(wrong.headers),
            content=wrong.change(body) if wrong.method != "GET" else None,
        )
        assert time.perf_counter() - started < 0.2
        assert answer.status_code == wrong.status
        assert answer.headers["content-type"] == "application/json" and answer.headers["cache-control"] == "no-store"
        assert set(answer.json()) == {"error", "error_description"}
        assert (wrong.status == 405) == ("allow" in answer.headers)
        assert server.hub.replay.used == {}


async def test_a_parameter_without_a_value_counts_as_left_out() -> None:
    async with running() as server:
        body = {**form(server.assertion()), "client_id": "", "resource": ""}
        answer = await server.http.post(
            f"{server.origin}/oauth/token", data=body, headers={"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
        )
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store" and answer.headers["pragma"] == "no-cache"


async def test_a_client_taken_out_of_the_configuration_loses_its_live_token() -> None:
    async with running() as server:
        partner = server.partner()
        assert (await partner.request("GET", "Task/1")).status_code == 200
        server.hub.configure(replace(client(), role="manager"))
        headers = {"authorization": f"Bearer {await partner.access_token()}"}
        assert (await server.http.get(f"{server.origin}/fhir/Task/1", headers=headers)).status_code == 401
        server.hub.configure()
        with pytest.raises(SmartClientError, match="invalid_client"):
            await partner.request("GET", "Task/1")
