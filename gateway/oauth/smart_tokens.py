"""Access tokens of one partner's authorization server, for one client (SMART App Launch 2, Backend Services; RFC 6749 section 4.4).

The assertion is Authlib's `PrivateKeyJWT` with its two unsafe defaults replaced: it would live an hour, and repeat one `jti` when claims
are configured.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import ECKey, RSAKey

from gateway.oauth.answers import Answer, NoAnswer, ask
from gateway.oauth.metadata import GRANT_TYPE
from gateway.oauth.partner_keys import AssertionAlg

__all__ = [
    "ANSWER_LIMIT",
    "ASSERTION_LIFETIME",
    "TOKEN_SECONDS",
    "PrivateKey",
    "SmartClientError",
    "SmartTokens",
    "make_assertion",
    "read_object",
]

ASSERTION_LIFETIME: Final = 240
"""Seconds: below the five minutes a server allows, by more than clocks differ."""

TOKEN_SECONDS: Final = 8.0
"""Within this a token endpoint has answered, or it counts as silent."""

ANSWER_LIMIT: Final = 256 * 1024
_RENEW_BEFORE: Final = 30
_LONGEST_KEPT: Final = 3600.0
_TOKEN_LIMIT: Final = 16 * 1024
_REFUSALS: Final = frozenset({400, 401, 403, 404})

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class SmartClientError(Exception):
    """The client can't get a token, or was asked to send one where it must not go. Holds no secret and nothing a server said but its
    `error` code and status."""

    def __init__(self, say: str, *, refused: bool = False) -> None:
        """`refused`: the server knows what was asked and said no, so that asking again helps nobody."""
        super().__init__(say)
        self.refused = refused


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


@dataclass(frozen=True, slots=True)
class _Held:
    token: str
    renew_at: float


class SmartTokens:
    """One client's token at one server: kept until near its expiry, and asked for once however many want it."""

    def __init__(
        self,
        client_id: str,
        private_key: PrivateKey,
        alg: AssertionAlg | str,
        http: httpx.AsyncClient,
        *,
        scope: str,
        token_url: Callable[[], Awaitable[str]],
        now: Callable[[], float],
        kid: str | None = None,
    ) -> None:
        """`token_url`: where the token endpoint is; asked before each request for a token. `now`: real seconds."""
        chosen = AssertionAlg(alg)

        def sign(audience: str) -> str:
            return make_assertion(private_key, client_id=client_id, audience=audience, alg=chosen, kid=kid, now=now)

        self._auth = ClientAuth(client_id, None, _FreshPrivateKeyJWT(sign))
        self._http = http
        self._scope = scope
        self._token_url = token_url
        self._now = now
        self._held: _Held | None = None
        self._flight: asyncio.Task[_Held] | None = None

    async def access_token(self, *, instead_of: str | None = None) -> str:
        """A token that is good for some time yet. `instead_of`: one that was refused, and is not to be returned again.

        Raises SmartClientError. Whoever asks while an answer is awaited shares it, and its failure too.
        """
        held = self._held
        if held is None or held.token == instead_of or self._now() >= held.renew_at:
            if self._flight is None:
                self._flight = asyncio.get_running_loop().create_task(self._fly())
            held = await asyncio.shield(self._flight)
        return held.token

    async def _fly(self) -> _Held:
        try:
            token, lifetime = await self._fetch()
            kept = min(max(lifetime - _RENEW_BEFORE, lifetime / 2), _LONGEST_KEPT)
            self._held = _Held(token, self._now() + kept)
            return self._held
        finally:
            self._flight = None

    async def _fetch(self) -> tuple[str, float]:
        url = await self._token_url()
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        body = prepare_token_request(GRANT_TYPE, scope=self._scope)
        url, headers, body = self._auth.prepare("POST", url, headers, body)
        try:
            answer = await ask(self._http, "POST", url, seconds=TOKEN_SECONDS, size=ANSWER_LIMIT, content=body.encode(), headers=headers)
        except NoAnswer:
            raise SmartClientError("the token endpoint gave no usable answer") from None
        said = read_object(answer)
        token, lifetime = said.get("access_token"), said.get("expires_in", 60)
        if answer.status != httpx.codes.OK or not _is_token(token) or not _is_lifetime(lifetime):
            code = said.get("error")
            known = code if isinstance(code, str) and len(code) < 64 and code.isascii() and code.isidentifier() else "no error code"
            raise SmartClientError(f"the token endpoint answered {answer.status} ({known})", refused=answer.status in _REFUSALS)
        return token, float(lifetime)


def read_object(answer: Answer) -> Mapping[str, Any]:
    """The JSON object of an answer. Raises SmartClientError."""
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise SmartClientError(f"the server's answer ({answer.status}) is not JSON", refused=answer.status in _REFUSALS) from None
    if not isinstance(said, dict):
        raise SmartClientError(f"the server's answer ({answer.status}) is not an object", refused=answer.status in _REFUSALS)
    return said


def _is_token(value: object) -> TypeGuard[str]:
    """RFC 6750 section 2.1: what can stand in a header."""
    return isinstance(value, str) and 0 < len(value) <= _TOKEN_LIMIT and value.isascii() and value.isprintable() and " " not in value


def _is_lifetime(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
