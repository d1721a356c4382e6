"""Where a partner's key server may lie: on the public internet, whatever its name resolves to (CWE-918, server-side request forgery).

The name is resolved here, every address it has is checked, and the connection goes to an address that was checked: a name that is
answered differently the second time (DNS rebinding) reaches nothing. TLS still proves the name, not the address.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx

__all__ = ["PinnedTransport", "Resolve", "Resolver", "may_be_called"]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> addresses. Raises OSError."""

_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"), IPv6Network("fec0::/10"))


def may_be_called(address: str, *, loopback: bool) -> bool:
    """Whether a resolved address is a public one (RFC 6890), or this machine where that is allowed.

    An address that holds another (mapped, 6to4, Teredo, NAT64) is never called: what it leads to is somebody else's choice.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip != IPv6Address("::1"):
        if ip.ipv4_mapped or ip.sixtofour or ip.teredo or any(ip in network for network in _TRANSLATED):
            return False
    if ip.is_loopback:
        return loopback
    return _is_public(ip)


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_link_local or ip.is_private)


class Resolver:
    """The machine's resolver, with one question under way for each name.

    Each question has a thread of its own: the event loop shares a few threads among all questions, and a partner whose name servers
    hang would take them from every other.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host. Raises OSError."""
        asked = self._asked.get((host, port))
        if asked is None:
            asked = self._asked[host, port] = self._ask(host, port)
        return await asyncio.shield(asked)

    def _ask(self, host: str, port: int) -> asyncio.Future[Sequence[str]]:
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[Sequence[str]] = loop.create_future()

        def settle(found: Sequence[str] | None) -> None:
            self._asked.pop((host, port), None)
            if asked.cancelled():
                return
            if found is None:
                asked.set_exception(OSError("the name could not be resolved"))
                asked.exception()  # seen: whoever asked may have gone
            else:
                asked.set_result(found)

        def look_up() -> None:
            found: Sequence[str] | None = None
            try:
                found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            except (OSError, UnicodeError):
                pass  # nobody answers, or it is no name
            try:
                loop.call_soon_threadsafe(settle, found)
            except RuntimeError:
                return  # the loop has ended meanwhile

        threading.Thread(target=look_up, name="resolver", daemon=True).start()
        return asked


class PinnedTransport(httpx.AsyncBaseTransport):
    """Sends a request to a checked address of its host; raises `httpx.ConnectError` when the host has one that may not be called.

    No connection is used twice: one that was made for a name must not serve another name at the same address.
    """

    def __init__(self, *, loopback: bool, resolve: Resolve, inner: httpx.AsyncBaseTransport | None = None) -> None:
        """`loopback`: whether this machine may be called. `inner`: what connects; by default without any proxy of the environment."""
        self._loopback = loopback
        self._resolve = resolve
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._inner = inner or httpx.AsyncHTTPTransport(limits=limits, retries=0, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Resolve, check, connect; `Host` and the name that TLS proves stay those of the request."""
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        try:
            found = await self._resolve(host, port)
        except OSError:
            raise httpx.ConnectError("unresolved", request=request) from None
        if not found or not all(may_be_called(address, loopback=self._loopback) for address in found):
            raise httpx.ConnectError("not a public address", request=request)
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=found[0]),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()
