"""Who the hub is, to a partner's server: a short JWT for one audience, verifiable with the hub's JWKS (RFC 7519)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import jwt

from gateway.oauth.keys import SigningKeys

__all__ = ["hub_statement"]

_LIFETIME: Final = 60  # seconds


def hub_statement(keys: SigningKeys, issuer: str, now: Callable[[], float]) -> Callable[[str], str]:
    """A signer: audience -> JWT with `iss` = `sub` = the hub, living one minute, with a fresh `jti`. `now`: real seconds."""

    def sign(audience: str) -> str:
        claims = {
            "iss": issuer,
            "sub": issuer,
            "aud": audience,
            "iat": int(now()),
            "exp": int(now()) + _LIFETIME,
            "jti": secrets.token_hex(16),
        }
        key = keys.current
        return jwt.encode(claims, key.private, algorithm="ES256", headers={"kid": key.kid, "typ": "JWT"})

    return sign
