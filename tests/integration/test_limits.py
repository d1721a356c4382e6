"""Rate limits at a running server: whoever floods is refused at its own address, and nobody else notices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette

from gateway.app import create_app
from gateway.oauth.assertions import ASSERTION_TYPE
from gateway.oauth.client import make_assertion
from gateway.oauth.keys import public_jwk
from gateway.oauth.partner_keys import AssertionAlg, PartnerKey
from gateway.serving import server_config
from tests.integration.checks import row_counts
from tests.integration.world import open_world, settings_for

KEY, WRONG = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
SCOPE = "system/Organization.rs directory.read"


@dataclass
class Running:
    """A server, and callers at other loopback addresses."""

    origin: str
    at: dict[str, httpx.AsyncClient]

    def form(self, client: str, key: ec.EllipticCurvePrivateKey = KEY) -> dict[str, str]:
        url = f"{self.origin}/oauth/token"
        made = make_assertion(key, client_id=client, audience=url, alg=AssertionAlg.ES384, kid=client, now=time.time)
        return {"grant_type": "client_credentials", "scope": SCOPE, "client_assertion_type": ASSERTION_TYPE, "client_assertion": made}

    async def token(self, source: str, client: str, key: ec.EllipticCurvePrivateKey = KEY, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.at[source].post(f"{self.origin}/oauth/token", data=self.form(client, key), headers=sent)

    async def read(self, source: str, token: str) -> httpx.Response:
        return await self.at[source].get(f"{self.origin}/fhir/Organization/vsdr", headers={"Authorization": f"Bearer {token}"})


@asynccontextmanager
async def running(folder: Path, **rates: Any) -> AsyncIterator[Running]:
    """`gateway serve` in this process, its clients' keys known."""
    listener = uvicorn.Config(Starlette(), host="127.0.0.1", port=0, log_config=None).bind_socket()
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = settings_for(folder, base_url=origin, sandbox_clock=None, **rates)
    assert settings.registry is not None
    registry = yaml.safe_load(settings.registry.read_text())
    for client in registry["clients"]:
        client["jwks"] = {"keys": [public_jwk(KEY, client["client-id"], "ES384")]}
    settings.registry.write_text(yaml.safe_dump(registry))
    server = uvicorn.Server(server_config(create_app(settings), settings))
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    addresses = [f"127.0.0.{number}" for number in range(1, 5)]
    clients = {each: httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(local_address=each), timeout=20) for each in addresses}
    try:
        yield Running(origin, clients)
    finally:
        for client in clients.values():
            await client.aclose()
        server.should_exit = True
        await serving


def check_refusal(answer: httpx.Response, error: str | None = None) -> None:
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1 and answer.headers["cache-control"] == "no-store"
    body = answer.json()
    if error is not None:
        assert body["error"] == error
    else:
        assert body["resourceType"] == "OperationOutcome" and body["issue"][0]["code"] == "throttled"


async def test_a_flood_in_one_partys_name_stops_neither_it_elsewhere_nor_any_other_party(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, real = Counter[bool](), PartnerKey.verifies

    def counted(self: PartnerKey, signing_input: bytes, signature: bytes) -> bool:
        result = real(self, signing_input, signature)
        checked[result] += 1
        return result

    monkeypatch.setattr(PartnerKey, "verifies", counted)
    async with running(tmp_path, rate_failures=1) as hub:
        flood = await asyncio.gather(*(hub.token("127.0.0.2", "police", WRONG) for _ in range(100)))
        statuses = Counter(answer.status_code for answer in flood)
        assert set(statuses) == {400, 429} and statuses[400] == 20, statuses
        check_refusal(next(answer for answer in flood if answer.status_code == 429), "temporarily_unavailable")
        assert checked == {False: 20}, "a refused request costs no signature check"

        assert (await hub.token("127.0.0.1", "police")).status_code == 200
        assert (await hub.token("127.0.0.2", "counsellor")).status_code == 200
        assert (await hub.token("127.0.0.2", "police")).status_code == 429  # from there nobody is believed in that name for a while
        unknown = [await hub.token("127.0.0.3", "nobody") for _ in range(21)]
        assert [answer.status_code for answer in unknown] == [400] * 20 + [429], "whether a client exists is not told"


async def test_a_source_that_asks_too_much_is_refused_and_no_other(tmp_path: Path) -> None:
    async with running(tmp_path, rate_source=4) as hub:
        token = (await hub.token("127.0.0.1", "police")).json()["access_token"]
        answers = await asyncio.gather(*(hub.read("127.0.0.2", token) for _ in range(80)))
        count = Counter(answer.status_code for answer in answers)
        assert set(count) == {200, 429} and 20 <= count[200] <= 45, count
        check_refusal(next(answer for answer in answers if answer.status_code == 429))
        assert (await hub.at["127.0.0.2"].get(f"{hub.origin}/health/live")).status_code == 200
        assert (await hub.read("127.0.0.1", token)).status_code == 200

        bad = await asyncio.gather(*(hub.read("127.0.0.3", f"{token}x") for _ in range(40)))
        count = Counter(answer.status_code for answer in bad)
        assert set(count) == {401, 429} and 2 <= count[401] <= 6, "a failure counts ten times"
        refused = [await hub.token("127.0.0.3", "police") for _ in range(2)]
        check_refusal(refused[-1], "temporarily_unavailable")


async def test_forwarded_addresses_are_sources_behind_a_trusted_proxy_alone(tmp_path: Path) -> None:
    async with running(tmp_path, rate_failures=1, trusted_proxies=["127.0.0.4"]) as hub:

        async def last(source: str, forwarded: str) -> int:
            for number in range(20):
                await hub.token(source, "police", WRONG, X_Forwarded_For=forwarded.format(number))
            return (await hub.token(source, "police", WRONG, X_Forwarded_For=forwarded.format(20))).status_code

        assert await last("127.0.0.4", "198.51.100.{}") == 400
        assert await last("127.0.0.4", "198.51.{}.9, 203.0.113.9") == 429
        assert await last("127.0.0.2", "198.51.100.{}") == 429


async def test_a_client_has_so_many_tokens_wherever_it_asks(tmp_path: Path) -> None:
    async with running(tmp_path, rate_tokens=1) as hub:
        for _ in range(30):
            await hub.token("127.0.0.2", "police", WRONG)  # costs the client nothing
        for number in range(20):
            assert (await hub.token(f"127.0.0.{number % 2 + 3}", "police")).status_code == 200
        check_refusal(await hub.token("127.0.0.1", "police"), "temporarily_unavailable")
        assert (await hub.token("127.0.0.1", "counsellor")).status_code == 200


async def test_calls_are_limited_by_client_and_not_audited_one_by_one(tmp_path: Path, database: dict[str, str]) -> None:
    async with open_world(settings_for(tmp_path, rate_client=2, **database)) as world:
        before = (await row_counts(world))["audit_entries"]
        answers = await asyncio.gather(*(world.call("police", "GET", "/fhir/Task") for _ in range(60)))
        count = Counter(answer.status_code for answer in answers)
        assert set(count) == {200, 429} and 10 <= count[200] <= 30, count
        check_refusal(next(answer for answer in answers if answer.status_code == 429))
        assert (await world.call("nurse", "GET", "/fhir/Task")).status_code == 200
        assert (await row_counts(world))["audit_entries"] == before + count[200] + 1
