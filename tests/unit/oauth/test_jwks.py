"""Fetching partners' keys: within limits, from the registered place only, and no more often than needed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import orjson
import pytest

from gateway.oauth.jwks import FetchLimits, JwksFetcher, PartnerKeys, usable_url
from gateway.oauth.keys import public_jwk
from gateway.oauth.partner_keys import AssertionAlg
from tests.unit.oauth.world import EC_KEY, NOW, OTHER_KEY, Clock, client

URL = "https://alpha.test/jwks"
ES384 = AssertionAlg.ES384
Answer = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


def key_set(*kids: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(200, json={"keys": [public_jwk(EC_KEY, kid, "ES384") for kid in kids]}, headers=headers)


@dataclass
class Partner:
    """A partner's web server, as far as the fetcher sees it."""

    answer: Answer = lambda request: key_set("k1")
    clock: Clock = field(default_factory=Clock)
    limits: FetchLimits = field(default_factory=FetchLimits)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def handle(request: httpx.Request) -> httpx.Response:
            self.calls.append(str(request.url))
            answer = self.answer(request)
            return answer if isinstance(answer, httpx.Response) else await answer

        http = httpx.AsyncClient(transport=httpx.MockTransport(handle), follow_redirects=True)
        self.fetcher = JwksFetcher(http, sandbox=False, now=self.clock, limits=self.limits)

    async def has(self, kid: str, url: str = URL) -> bool:
        keys = await self.fetcher.keys(url, kid, ES384)
        return keys is not None and keys.pick(kid, ES384) is not None


def failing(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("down")


async def test_a_set_is_fetched_once_while_it_is_fresh() -> None:
    partner = Partner()
    assert await partner.has("k1") and await partner.has("k1")
    assert partner.calls == [URL]


async def test_max_age_is_honoured_and_the_set_not_used_longer() -> None:
    partner = Partner(answer=lambda request: key_set("k1", headers={"cache-control": "public, max-age=60"}))
    assert await partner.has("k1")
    partner.answer = failing
    partner.clock.at = NOW + 59
    assert await partner.has("k1")
    await asyncio.sleep(0)
    partner.clock.at = NOW + 61
    assert not await partner.has("k1")


@pytest.mark.parametrize(
    ("cache_control", "age"),
    [("no-store", 1), ("no-cache", 1), ("max-age=0", 1), ("", 300), ("max-age=999999999", 86_400), ('max-age="60"', 60)],
)
async def test_how_long_a_set_is_kept(cache_control: str, age: int) -> None:
    partner = Partner(answer=lambda request: key_set("k1", headers={"cache-control": cache_control}))
    await partner.has("k1")
    partner.answer = failing
    partner.clock.at = NOW + age - 0.5
    assert await partner.has("k1")
    await asyncio.sleep(0)
    partner.clock.at = NOW + age + 0.5
    assert not await partner.has("k1")


async def test_a_set_is_renewed_in_the_background_before_it_runs_out() -> None:
    partner = Partner()
    await partner.has("k1")
    partner.clock.at = NOW + 200
    assert await partner.has("k1")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(partner.calls) == 2
    partner.clock.at = NOW + 320
    assert await partner.has("k1")


async def test_a_rotated_key_is_found_by_one_fetch_after_the_cool_down() -> None:
    partner = Partner()
    await partner.has("k1")
    partner.answer = lambda request: key_set("k1", "k2")
    assert not await partner.has("k2")  # just fetched
    partner.clock.at = NOW + 11
    assert await partner.has("k2")
    assert len(partner.calls) == 2


async def test_a_flood_of_unknown_kids_is_one_fetch_per_cool_down() -> None:
    partner = Partner()
    await partner.has("k1")
    partner.clock.at = NOW + 11
    for number in range(50):
        assert not await partner.has(f"made-up-{number}")
    assert len(partner.calls) == 2
    assert await partner.has("k1")


async def test_concurrent_requests_share_one_flight() -> None:
    gate = asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return key_set("k1")

    partner = Partner(answer=slow)
    waiting = [asyncio.create_task(partner.has("k1")) for _ in range(20)]
    await asyncio.sleep(0.01)
    waiting.pop().cancel()  # one caller that goes away takes nobody with it
    gate.set()
    assert all(await asyncio.gather(*waiting))
    assert partner.calls == [URL]


async def test_one_partners_outage_slows_no_other() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "alpha.test":
            await asyncio.sleep(60)
        return key_set("k1")

    partner = Partner(answer=answer, limits=FetchLimits(timeout=0.2))
    stuck = asyncio.create_task(partner.has("k1"))
    await asyncio.sleep(0)
    async with asyncio.timeout(0.1):
        assert await partner.has("k1", "https://beta.test/jwks")
    assert not await stuck
    assert not await partner.has("k1")  # within the cool-down: no second wait
    assert partner.calls.count(URL) == 1


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 4096


UNUSABLE: dict[str, Answer] = {
    "down": failing,
    "error": lambda request: httpx.Response(500),
    "redirect": lambda request: httpx.Response(302, headers={"location": "https://evil.test/jwks"}),
    "created": lambda request: httpx.Response(201, json={"keys": []}),
    "endless": lambda request: httpx.Response(200, content=_endless()),
    "compressed": lambda request: httpx.Response(200, content=gzip.compress(key_set("k1").content), headers={"content-encoding": "gzip"}),
    "not-json": lambda request: httpx.Response(200, text="<html>"),
    "not-utf8": lambda request: httpx.Response(200, content=b"\xff\xfe"),
    "a-list": lambda request: httpx.Response(200, json=[]),
    "too-deep": lambda request: httpx.Response(200, text="[" * 20_000),
    "no-keys": lambda request: httpx.Response(200, json={}),
}


@pytest.mark.parametrize("case", UNUSABLE)
async def test_an_unusable_answer_yields_no_key_and_is_not_asked_for_again_at_once(case: str) -> None:
    partner = Partner(answer=UNUSABLE[case])
    assert not await partner.has("k1")
    assert not await partner.has("k1")
    assert partner.calls == [URL]
    partner.answer = lambda request: key_set("k1")
    partner.clock.at = NOW + 11
    assert await partner.has("k1")


REFUSED_URLS = (
    "http://alpha.test/jwks", "ftp://alpha.test/jwks", "file:///etc/passwd", "https://", "https://u:p@alpha.test/", "https://alpha.test/#k",
    "https://[::1", "https://alpha.test:99999/", "https://alpha.test/\r\nx", "alpha.test/jwks", "http://localhost/jwks", "",
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED_URLS)))
async def test_a_url_that_may_not_be_called_is_not_called(number: int) -> None:
    partner = Partner()
    assert not await partner.has("k1", REFUSED_URLS[number])
    assert partner.calls == []


def test_plain_http_is_for_loopback_in_the_sandbox_only() -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert usable_url(f"http://{host}:8000/jwks", sandbox=True)
        assert not usable_url(f"http://{host}:8000/jwks", sandbox=False)
    assert not usable_url("http://alpha.test/jwks", sandbox=True)


async def test_inline_keys_are_read_again_when_the_registration_changes() -> None:
    partner = Partner()
    keys, registered = PartnerKeys(partner.fetcher), client()
    first = await keys.key(registered, "ec-1", ES384)
    assert first is not None and first is await keys.key(registered, "ec-1", ES384)
    rotated = replace(registered, jwks={"keys": [public_jwk(OTHER_KEY, "ec-2", "ES384")]})
    assert await keys.key(rotated, "ec-1", ES384) is None
    assert await keys.key(rotated, "ec-2", ES384) is not None
    assert partner.calls == []


async def test_a_client_without_keys_has_none() -> None:
    keys = PartnerKeys(Partner().fetcher)
    assert await keys.key(client(jwks=None, jwks_url=None), "ec-1", ES384) is None
    assert await keys.key(client(jwks=None, jwks_url=URL), "k1", ES384) is not None


def test_the_example_set_is_json() -> None:
    loaded: dict[str, Any] = orjson.loads(key_set("k1").content)
    assert loaded["keys"][0]["kid"] == "k1"
