"""Taking an answer from a server that is not trusted: within a size and a time, undecoded, and from where it was asked alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Final

import httpx

__all__ = ["Answer", "NoAnswer", "ask", "forgetful"]

_CONNECT_SECONDS: Final = 3.0
_NO_COOKIES: Final = DefaultCookiePolicy(allowed_domains=())


class NoAnswer(Exception):
    """No usable answer came: silence, too late, too large, packed, or no HTTP. Holds nothing of what was sent or said."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: httpx.Headers
    body: bytes


async def ask(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    seconds: float,
    size: int,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    cut: bool = False,
) -> Answer:
    """One request, answered within `seconds` (however it drips) and `size` bytes, or `NoAnswer`. No redirect is followed.

    A body with a content coding is never unpacked: a small one can be a large one (RFC 9110 section 8.4; none was asked for).
    `cut`: only the status counts, so a body that is too large is cut off, and a packed one left unread.
    """
    sent = httpx.Headers(headers)
    sent["accept-encoding"] = "identity"
    limits = httpx.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))
    body = bytearray()
    try:
        async with (
            asyncio.timeout(seconds),
            http.stream(method, url, content=content, headers=sent, timeout=limits, follow_redirects=False) as response,
        ):
            packed = response.headers.get("content-encoding", "identity").strip().lower() != "identity"
            if packed and not cut:
                raise NoAnswer("packed")
            if not packed:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > size:
                        break
            if len(body) > size and not cut:
                raise NoAnswer("too large")
            return Answer(response.status_code, response.headers, bytes(body[:size]))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError) as error:
        raise NoAnswer(type(error).__name__) from None


def forgetful(http: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same client, keeping no cookies: one partner's server can neither mark the hub nor fill its memory."""
    http.cookies.jar.set_policy(_NO_COOKIES)
    return http
