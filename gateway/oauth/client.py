"""The client side: how a system calls a FHIR server as a SMART backend client (SMART App Launch 2, Backend Services).

Used by the simulated partner systems, and by whoever calls one FHIR server as one client. What authenticates the hub's own deliveries is
`gateway.oauth.outbound`, over the same tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from gateway.oauth.answers import NoAnswer, ask
from gateway.oauth.jwks import is_loopback
from gateway.oauth.partner_keys import AssertionAlg
from gateway.oauth.smart_tokens import (
    ANSWER_LIMIT,
    ASSERTION_LIFETIME,
    TOKEN_SECONDS,
    PrivateKey,
    SmartClientError,
    SmartTokens,
    make_assertion,
    read_object,
)

__all__ = ["ASSERTION_LIFETIME", "PrivateKey", "SmartBackendClient", "SmartClientError", "make_assertion"]

_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class SmartBackendClient:
    """Calls one FHIR server as one registered client.

    `base_url`: the FHIR base. `token_url`: pinned when given; otherwise discovered at ``.well-known/smart-configuration``. `scope`: what is
    asked for. `http` is the caller's and stays open. The token is kept until near its expiry, shared by concurrent calls, replaced once
    after a 401, and sent to the origin of `base_url` only; redirects are never followed.
    """

    def __init__(
        self,
        base_url: str,
        client_id: str,
        private_key: PrivateKey,
        alg: AssertionAlg | str,
        http: httpx.AsyncClient,
        *,
        scope: str,
        now: Callable[[], float],
        kid: str | None = None,
        token_url: str | None = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._http = http
        self._token_url = token_url
        self._tokens = SmartTokens(client_id, private_key, alg, http, scope=scope, token_url=self._token_address, now=now, kid=kid)

    async def request(
        self, method: str, path: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send one authenticated request; `path` is relative to the base, or an absolute URL on its origin. A 401 is answered by one new
        token and one repeat. Raises `SmartClientError`, or what httpx raises."""
        url = self._address(path)
        token = await self.access_token()
        response = await self._send(method, url, token, content, headers)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            response = await self._send(method, url, await self.access_token(instead_of=token), content, headers)
        return response

    async def access_token(self, *, instead_of: str | None = None) -> str:
        """A token that is good for some time yet. `instead_of`: one that was refused, and is not to be returned again."""
        return await self._tokens.access_token(instead_of=instead_of)

    async def discover(self) -> Mapping[str, Any]:
        """The server's SMART configuration (SMART App Launch 2, "Using well-known")."""
        url = f"{self._base}/.well-known/smart-configuration"
        try:
            answer = await ask(self._http, "GET", url, seconds=TOKEN_SECONDS, size=ANSWER_LIMIT, headers={"accept": "application/json"})
        except NoAnswer:
            raise SmartClientError("the server's SMART configuration gave no usable answer") from None
        if answer.status != httpx.codes.OK:
            raise SmartClientError(f"the server's SMART configuration answered {answer.status}")
        return read_object(answer)

    async def _token_address(self) -> str:
        if self._token_url is None:
            found = (await self.discover()).get("token_endpoint")
            if not isinstance(found, str) or not self._may_hold_secrets(found):
                raise SmartClientError("the server's SMART configuration names no token endpoint that may be used")
            self._token_url = found
        return self._token_url

    def _may_hold_secrets(self, url: str) -> bool:
        """https; plain http only from loopback to loopback."""
        parts, base = urlsplit(url), urlsplit(self._base)
        if parts.scheme == "https":
            return parts.hostname is not None
        return parts.scheme == base.scheme == "http" and is_loopback(parts.hostname or "") and is_loopback(base.hostname or "")

    def _address(self, path: str) -> str:
        if _ABSOLUTE.match(path) is None:
            return f"{self._base}/{path.lstrip('/')}" if path else self._base
        wanted, base = httpx.URL(path), httpx.URL(self._base)
        if (wanted.scheme, wanted.host, wanted.port) != (base.scheme, base.host, base.port) or wanted.userinfo:
            raise SmartClientError("an access token is not sent to another host")
        return path

    async def _send(self, method: str, url: str, token: str, content: bytes | None, headers: Mapping[str, str] | None) -> httpx.Response:
        sent = httpx.Headers(headers)
        sent.setdefault("accept", "application/fhir+json")
        sent["authorization"] = f"Bearer {token}"
        return await self._http.request(method, url, content=content, headers=sent, follow_redirects=False)
