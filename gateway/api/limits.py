"""Rate limits, in front of everything: 429 with Retry-After, counted and never audited one by one.

What is limited is what somebody can be held to::

    source                  every request, by where it comes from; one that fails to authenticate counts ten times
    source, named client    failures to authenticate at the OAuth endpoints, before any key is fetched or signature checked
    proven client           access tokens issued; calls of the API

Anybody can send a client's name, so what is sent in a client's name costs that client nothing until it is proven: a flood in one
party's name is refused at its source, and neither that party elsewhere nor any other notices. The buckets are this process's own.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.errors import answer
from gateway.api.oauth import FORM_LIMIT
from gateway.api.rates import Buckets, Rate
from gateway.oauth.authentication import NO_STORE
from gateway.oauth.mtls import TrustedProxies
from gateway.problems import Finding, IssueCode, Problem, ProblemType

__all__ = ["Limiter", "Limits", "Rates", "Sources"]

log = structlog.get_logger("gateway.api")

ROOM: Final = 20_000
"""Keys remembered for each limit; some 4 MB when all are full."""

FAILURE_COSTS: Final = 10
TELL_EVERY: Final = 10.0
_HOPS: Final = 10
_FREE: Final = "/health/"
_OAUTH: Final = "/oauth/"
_TOO_MANY: Final = Finding(IssueCode.THROTTLED, "Too many requests. Wait as long as Retry-After says, then send it again.")


@dataclass(frozen=True, slots=True)
class Rates:
    """The numbers. A burst is five seconds' worth of requests or calls, and twenty of tokens or failures."""

    source: float  # requests a second from one source
    client: float  # calls a second by one proven client
    tokens: float  # access tokens a minute for one proven client
    failures: float  # failures a minute from one source in one client's name


class Sources:
    """Where a request comes from: an IPv4 address, or the /64 of an IPv6 address, which is the least that one host is given (RFC 6177)."""

    def __init__(self, proxies: TrustedProxies) -> None:
        """`proxies`: those whose ``X-Forwarded-For`` is believed. Nobody else's is read."""
        self._trusted = lru_cache(maxsize=4096)(proxies.__contains__)
        self._direct = not proxies.any

    def of(self, scope: Scope) -> str:
        """The source of a request. Behind a trusted proxy, the address nearest to it that is not itself one."""
        client = scope.get("client")
        peer = client[0] if client else ""
        if self._direct or not self._trusted(peer):
            return _block(peer)
        named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1").split(",")
        for hop in reversed(named[-_HOPS:]):
            address = _bare(hop)
            if not _is_address(address):
                break
            if not self._trusted(address):
                return _block(address)
        return _block(peer)


class Limits:
    """The buckets, and how often each refused."""

    def __init__(self, rates: Rates, sources: Sources, now: Callable[[], float]) -> None:
        """`now`: seconds that never go back."""
        self.sources = sources
        self.requests = Buckets(Rate(rates.source, rates.source * 5), now, room=ROOM)
        self.calls = Buckets(Rate(rates.client, rates.client * 5), now, room=ROOM)
        self.tokens = Buckets(Rate(rates.tokens / 60, max(20.0, rates.tokens / 3)), now, room=ROOM)
        self.failures = Buckets(Rate(rates.failures / 60, max(20.0, rates.failures / 3)), now, room=ROOM)
        self.refused: Counter[str] = Counter()
        self._told: dict[str, tuple[float, int]] = {}
        self._now = now

    def call(self, client_id: str) -> None:
        """One call of the API by a client that has proven itself. Raises Problem(THROTTLED)."""
        if wait := self.calls.take(client_id):
            raise self.problem("client", wait)

    def failed(self, scope: Scope) -> None:
        """A call of the API came without a token that is good."""
        self.requests.charge(self.sources.of(scope), FAILURE_COSTS - 1)

    def problem(self, limit: str, wait: float) -> Problem:
        """The refusal, counted; the log is told of the first, and then of how many at most every ten seconds."""
        self.refused[limit] += 1
        now, (at, before) = self._now(), self._told.get(limit, (-TELL_EVERY, 0))
        if now - at >= TELL_EVERY:
            self._told[limit] = (now, self.refused[limit])
            log.info("throttled", reason=limit, count=self.refused[limit] - before)
        return Problem(ProblemType.THROTTLED, _TOO_MANY, retry_after=max(1, ceil(wait)))


class Limiter:
    """The ASGI application in front of the others."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith(_FREE):  # whether the hub is up is asked from beside it, and nothing may stop that
                return await self._app(scope, receive, send)
            limits = self._limits
            source = limits.sources.of(scope)
            if wait := limits.requests.take(source):
                return await self._refuse("source", wait, scope, receive, send)
            if path.startswith(_OAUTH) and scope["method"] == "POST":
                return await self._authenticating(source, scope, receive, send)
        await self._app(scope, receive, send)

    async def _authenticating(self, source: str, scope: Scope, receive: Receive, send: Send) -> None:
        """A request to an OAuth endpoint: it counts as failed until it has not."""
        limits = self._limits
        body, first = await _read(receive)
        client = named_client(body)
        attempt = hash((source, client))  # a number, whatever was sent: names can't fill the memory
        by_client = limits.tokens if scope["path"] == "/oauth/token" else limits.calls
        if wait := limits.failures.take(attempt):
            return await self._refuse("failures", wait, scope, receive, send)
        if wait := by_client.wait(client):
            limits.failures.give_back(attempt)
            return await self._refuse("client", wait, scope, receive, send)
        held: list[Message] = [first]
        status = 500

        async def again() -> Message:
            return held.pop() if held else await receive()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, again, watched)
        finally:
            if status < 400:
                by_client.charge(client)
            if 400 <= status < 500:
                limits.requests.charge(source, FAILURE_COSTS - 1)
            else:
                limits.failures.give_back(attempt)

    async def _refuse(self, limit: str, wait: float, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._limits.problem(limit, wait)
        is_oauth = scope["path"].startswith(_OAUTH)
        response = _oauth_error(problem) if is_oauth else answer(problem, secrets.token_hex(16))
        await response(scope, receive, send)


def named_client(body: bytes) -> str:
    """The client that a form claims to come from: its assertion's issuer, else its `client_id`. Nothing of it is proven."""
    try:
        form = dict(parse_qsl(body.decode("ascii"), max_num_fields=32))
        claims: Any = form.get("client_assertion", "").split(".")[1]
        issuer = orjson.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iss"]
    except (ValueError, LookupError, TypeError, binascii.Error):
        issuer = None
    if isinstance(issuer, str):
        return issuer
    try:
        return dict(parse_qsl(body.decode("ascii"), max_num_fields=32)).get("client_id", "")
    except ValueError:
        return ""


async def _read(receive: Receive) -> tuple[bytes, Message]:
    """A form, as far as it is not too large; and one message that says all of it again."""
    body, more = bytearray(), True
    while more and len(body) <= FORM_LIMIT:
        message = await receive()
        if message["type"] != "http.request":
            return b"", message
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body), {"type": "http.request", "body": bytes(body), "more_body": more}


def _oauth_error(problem: Problem) -> Response:
    """RFC 6749 section 5.2 in form; it has no code for this, so it is that of section 4.1.2.1."""
    body = {"error": "temporarily_unavailable", "error_description": _TOO_MANY.say}
    headers = {**dict(NO_STORE), "Retry-After": str(problem.retry_after)}
    return Response(orjson.dumps(body), 429, headers, "application/json")


@lru_cache(maxsize=4096)
def _block(address: str) -> str:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return ip.exploded[:19]  # four groups of four digits: a /64


def _bare(hop: str) -> str:
    """An address without the port that some proxies add."""
    hop = hop.strip()
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
