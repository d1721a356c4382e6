"""Partners' keys by client: registered inline, or fetched from the registered URL and kept as long as the partner allows.

The fetcher trusts nothing but the registration: the URL is the registered one and never a header's (`jku`), no redirect is followed,
and what comes back is limited in size and time. One URL's outage or flood touches no other: each has its own flight and cool-down.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx

from gateway.oauth.answers import NoAnswer, ask
from gateway.oauth.partner_keys import AssertionAlg, KeySet, PartnerKey, read_jwks
from gateway.parties.model import Client

__all__ = ["ClientKeys", "FetchLimits", "JwksFetcher", "PartnerKeys", "is_loopback", "usable_url"]

_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_NO_CACHE: Final = re.compile(r"(?:^|[,\s])(?:no-store|no-cache)(?:$|[,\s=])", re.IGNORECASE)


class ClientKeys(Protocol):
    """Finds the key that an assertion's header names among those a client registered."""

    async def key(self, client: Client, kid: str, alg: AssertionAlg) -> PartnerKey | None:
        """The one key, or None: unknown, ambiguous, or not to be had now. Never raises for a partner's fault."""
        ...


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How a partner's key set is fetched and kept. Seconds and bytes."""

    timeout: float = 3.0
    size: int = 64 * 1024
    default_age: float = 300.0  # when the partner says nothing
    shortest_age: float = 1.0  # even for no-store: one flood is one fetch a second
    longest_age: float = 86_400.0
    cool_down: float = 10.0  # after a failure, or before an unknown kid may cause another fetch


@dataclass(slots=True)
class _Kept:
    keys: KeySet | None = None
    fresh_until: float = 0.0
    renew_after: float = 0.0
    quiet_until: float = 0.0
    flight: asyncio.Task[None] | None = field(default=None, repr=False)


class JwksFetcher:
    """Key sets by URL (RFC 7517 section 5), cached as `Cache-Control` says.

    SMART client-confidential-asymmetric: a set is never used longer than its `max-age`. After half of that time it is renewed in the
    background, so that a short outage of the partner's host is not noticed.
    """

    def __init__(self, http: httpx.AsyncClient, *, sandbox: bool, now: Callable[[], float], limits: FetchLimits) -> None:
        self._http = http
        self._sandbox = sandbox
        self._now = now
        self._limits = limits
        self._kept: dict[str, _Kept] = {}

    async def keys(self, url: str, kid: str, alg: AssertionAlg) -> KeySet | None:
        """The key set of `url`, fetched when there is none in force or `kid` is not in it; None when it can't be had."""
        if not usable_url(url, sandbox=self._sandbox):
            return None
        kept = self._kept.setdefault(url, _Kept())
        now = self._now()
        in_force = kept.keys if now < kept.fresh_until else None
        if in_force is None or in_force.pick(kid, alg) is None:
            if kept.flight is not None or now >= kept.quiet_until:
                await asyncio.shield(self._fly(url, kept))
        elif now >= kept.renew_after and now >= kept.quiet_until:
            _ = self._fly(url, kept)
        return kept.keys if self._now() < kept.fresh_until else None

    def _fly(self, url: str, kept: _Kept) -> asyncio.Task[None]:
        if kept.flight is None:
            kept.flight = asyncio.get_running_loop().create_task(self._fetch(url, kept))
        return kept.flight

    async def _fetch(self, url: str, kept: _Kept) -> None:
        try:
            keys, age = await self._get(url)
        except (NoAnswer, ValueError, RecursionError):
            kept.quiet_until = self._now() + self._limits.cool_down
        else:
            now = self._now()
            kept.keys = keys
            kept.fresh_until = now + age
            kept.renew_after = now + age / 2
            kept.quiet_until = now + min(self._limits.cool_down, age)
        finally:
            kept.flight = None

    async def _get(self, url: str) -> tuple[KeySet, float]:
        limits = self._limits
        answer = await ask(self._http, "GET", url, seconds=limits.timeout, size=limits.size, headers={"accept": "application/json"})
        if answer.status != httpx.codes.OK:
            raise ValueError("not a plain 200")
        document = json.loads(answer.body.decode("utf-8"))
        if not isinstance(document, dict):
            raise ValueError("not a key set")
        return read_jwks(document), self._age(answer.headers)

    def _age(self, headers: httpx.Headers) -> float:
        """How long it may be kept from now (RFC 9111 sections 4.2.3, 5.2.2.1, 5.2.2.4 and 5.2.2.5)."""
        cache_control = headers.get("cache-control", "")
        if _NO_CACHE.search(cache_control):
            return self._limits.shortest_age
        match = _MAX_AGE.search(cache_control)
        age = float(match[1]) if match else self._limits.default_age
        spent = headers.get("age", "0").strip()  # in a cache on the way
        age -= min(float(spent), age) if spent.isascii() and spent.isdecimal() and len(spent) < 10 else 0.0
        return min(max(age, self._limits.shortest_age), self._limits.longest_age)


class PartnerKeys:
    """`ClientKeys` over both ways of registering: inline (`Client.jwks`), else by URL."""

    def __init__(self, fetcher: JwksFetcher) -> None:
        self._fetcher = fetcher
        self._inline: dict[str, tuple[object, KeySet]] = {}

    async def key(self, client: Client, kid: str, alg: AssertionAlg) -> PartnerKey | None:
        if client.jwks is not None:
            known = self._inline.get(client.id)
            if known is None or known[0] is not client.jwks:
                known = self._inline[client.id] = (client.jwks, read_jwks(client.jwks))
            return known[1].pick(kid, alg)
        if client.jwks_url is None:
            return None
        keys = await self._fetcher.keys(client.jwks_url, kid, alg)
        return keys.pick(kid, alg) if keys else None


def usable_url(url: str, *, sandbox: bool) -> bool:
    """Whether a registered URL may be called: https, or plain http on loopback in the sandbox; no user information, no fragment."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None or parts.fragment or not url.isprintable():
        return False
    return parts.scheme == "https" or (sandbox and parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
