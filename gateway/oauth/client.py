"""The client side: how a system authenticates as a SMART backend client (SMART App Launch 2, Backend Services) and keeps its token.

Used by the simulated partner systems, and for calling partners that are SMART servers themselves. The assertion is Authlib's
`PrivateKeyJWT` with its two unsafe defaults replaced: it would live an hour, and repeat one `jti` when claims are configured.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import ECKey, RSAKey

from gateway.oauth.jwks import is_loopback
from gateway.oauth.metadata import GRANT_TYPE
from gateway.oauth.partner_keys import AssertionAlg

__all__ = ["ASSERTION_LIFETIME", "SmartBackendClient", "SmartClientError", "make_assertion"]

ASSERTION_LIFETIME: Final = 240
"""Seconds: below the five minutes a server allows, by more than clocks differ."""

_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_RENEW_BEFORE: Final = 30
_ANSWER_LIMIT: Final = 256 * 1024

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class SmartClientError(Exception):
    """The client can't get a token, or was asked to send one where it must not go. Holds no secret and nothing a server said but its
    `error` code and status."""


def make_assertion(
    private_key: PrivateKey, *, client_id: str, audience: str, alg: AssertionAlg, kid: str | None = None, now: Callable[[], float]
) -> str:
    """A fresh client assertion (RFC 7523 section 3; SMART: headers alg, kid, typ; claims iss, sub, aud, exp, jti).

    `kid` None = the key's RFC 7638 thumbprint, as `gateway.oauth.keys.public_jwk` names it.
    """
    key = ECKey.import_key(private_key) if isinstance(private_key, ec.EllipticCurvePrivateKey) else RSAKey.import_key(private_key)
    return str(
        private_key_jwt_sign(
            key,
            client_id=client_id,
            token_endpoint=audience,
            alg=alg.value,
            claims={"jti": secrets.token_urlsafe(24)},
            header={"typ": "JWT", "kid": kid or key.thumbprint()},
            issued_at=int(now()),
            expires_in=ASSERTION_LIFETIME,
        )
    )


class _FreshPrivateKeyJWT(PrivateKeyJWT):  # type: ignore[misc]  # Authlib ships no types
    """Authlib's client authentication with an assertion made anew for every request."""

    def __init__(self, sign: Callable[[str], str]) -> None:
        super().__init__()
        self._sign = sign

    def sign(self, auth: Any, token_endpoint: str) -> str:
        return self._sign(token_endpoint)


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
        self._scope = scope
        self._now = now
        self._token_url = token_url
        self._token: str | None = None
        self._renew_at = 0.0
        self._lock = asyncio.Lock()
        chosen = AssertionAlg(alg)

        def sign(audience: str) -> str:
            return make_assertion(private_key, client_id=client_id, audience=audience, alg=chosen, kid=kid, now=now)

        self._auth = ClientAuth(client_id, None, _FreshPrivateKeyJWT(sign))

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
        async with self._lock:
            if self._token is None or self._token == instead_of or self._now() >= self._renew_at:
                self._token, lifetime = await self._fetch_token()
                self._renew_at = self._now() + max(lifetime - _RENEW_BEFORE, lifetime / 2)
            return self._token

    async def discover(self) -> Mapping[str, Any]:
        """The server's SMART configuration (SMART App Launch 2, "Using well-known")."""
        url = f"{self._base}/.well-known/smart-configuration"
        response = await self._http.get(url, headers={"accept": "application/json"}, follow_redirects=False)
        if response.status_code != httpx.codes.OK:
            raise SmartClientError(f"the server's SMART configuration answered {response.status_code}")
        return _object(response)

    async def _fetch_token(self) -> tuple[str, float]:
        url = await self._token_address()
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        body = prepare_token_request(GRANT_TYPE, scope=self._scope)
        url, headers, body = self._auth.prepare("POST", url, headers, body)
        response = await self._http.post(url, content=body, headers=headers, follow_redirects=False)
        answer = _object(response)
        token, lifetime = answer.get("access_token"), answer.get("expires_in", 60)
        if response.status_code != httpx.codes.OK or not isinstance(token, str) or not isinstance(lifetime, int | float):
            code = answer.get("error")
            known = code if isinstance(code, str) and code.isascii() and code.isidentifier() else "no error code"
            raise SmartClientError(f"the token endpoint answered {response.status_code} ({known})")
        return token, float(lifetime)

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


def _object(response: httpx.Response) -> Mapping[str, Any]:
    if len(response.content) > _ANSWER_LIMIT:
        raise SmartClientError("the server's answer is too large")
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        raise SmartClientError(f"the server's answer ({response.status_code}) is not JSON") from None
    if not isinstance(answer, dict):
        raise SmartClientError(f"the server's answer ({response.status_code}) is not an object")
    return answer
