"""DPoP proofs (RFC 9449): a JWT that shows, for one request, possession of the key a token is bound to.

Two algorithms, ES256 and ES384: a proof is verified on every request, and both are quick to verify and short. No nonces (section 8): a
proof counts for a minute, and its `jti` once across workers; a nonce would only forbid making proofs a minute ahead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from gateway.oauth.jose import Compact, MalformedToken, b64url, is_name, is_numeric_date, parse_compact
from gateway.oauth.replay import ReplayStore

__all__ = ["PROOF_ALGS", "InvalidProof", "Proof", "ProofVerifier"]

PROOF_ALGS: Final = ("ES256", "ES384")
"""`dpop_signing_alg_values_supported` (RFC 9449 section 5.1)."""

_CURVES: Final = {"ES256": ("P-256", 43), "ES384": ("P-384", 64)}  # alg -> curve, characters of a coordinate (RFC 7518 section 6.2.1.2)
_KEY_MEMBERS: Final = frozenset({"kty", "crv", "x", "y", "kid", "use", "alg", "key_ops", "ext"})
_SIZE: Final = 4096
_WINDOW: Final = 60  # seconds that `iat` may lie behind or ahead (section 11.1)
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PORTS: Final = {"https": 443, "http": 80}


class InvalidProof(Exception):
    """The proof does not count (section 4.3). Carries no part of it: which check failed is not told."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that is good but for its reuse. `key` is the thumbprint (RFC 7638) of the key that made it."""

    key: str
    token_id: str
    counts_until: int  # ms


class ProofVerifier:
    """Checks the proofs of requests to this server."""

    def __init__(self, replay: ReplayStore, now: Callable[[], float]) -> None:
        """`now`: real time in seconds."""
        self._replay = replay
        self._now = now

    def check(self, proofs: tuple[str, ...], *, method: str, url: str, token: str | None) -> Proof:
        """The one proof of a request (section 4.3, items 1 to 12), or `InvalidProof`.

        `url`: where the request came in, as published. `token`: the access token sent with it; None where a token is asked for.
        """
        if len(proofs) != 1:
            raise InvalidProof
        try:
            compact = parse_compact(proofs[0], limit=_SIZE)
        except MalformedToken:
            raise InvalidProof from None
        claims = compact.claims
        issued, token_id = claims.get("iat"), claims.get("jti")
        if not is_name(token_id) or not is_numeric_date(issued) or abs(self._now() - issued) > _WINDOW:
            raise InvalidProof
        if claims.get("htm") != method or not _same_url(claims.get("htu"), url):
            raise InvalidProof
        if token is not None and claims.get("ath") != b64url(sha256(token.encode("ascii", "replace")).digest()):
            raise InvalidProof
        return Proof(_signer(compact), token_id, int((issued + _WINDOW) * 1000) + 1)

    async def use(self, proof: Proof) -> None:
        """Use it up, on every worker (section 11.1). Raises `InvalidProof` when it was used before; `Problem` of the store is passed on."""
        if not await self._replay.use(f"dpop:{proof.key}", proof.token_id, proof.counts_until):  # no client id holds a colon
            raise InvalidProof


def _signer(compact: Compact) -> str:
    """The thumbprint of the key in the header, once it has verified the signature (section 4.2, header)."""
    header = compact.header
    alg, typ, jwk = header.get("alg"), header.get("typ"), header.get("jwk")
    if not isinstance(alg, str) or alg not in _CURVES or typ != "dpop+jwt" or not isinstance(jwk, Mapping):
        raise InvalidProof
    curve, length = _CURVES[alg]
    x, y = jwk.get("x"), jwk.get("y")
    if jwk.get("kty") != "EC" or jwk.get("crv") != curve or not jwk.keys() <= _KEY_MEMBERS:  # a private member is not among them
        raise InvalidProof
    if not isinstance(x, str) or not isinstance(y, str) or len(x) != length or len(y) != length:
        raise InvalidProof
    key, thumbprint = _key(alg, curve, x, y)
    if not jwt.get_algorithm_by_name(alg).verify(compact.signing_input, key, compact.signature):
        raise InvalidProof
    return thumbprint


@lru_cache(maxsize=1024)
def _key(alg: str, curve: str, x: str, y: str) -> tuple[EllipticCurvePublicKey, str]:
    """A public key and its thumbprint (RFC 7638 section 3.2). Raises `InvalidProof` for a point that is not on the curve."""
    try:
        key: Any = jwt.PyJWK({"kty": "EC", "crv": curve, "x": x, "y": y}, algorithm=alg).key
    except (jwt.PyJWTError, ValueError):
        raise InvalidProof from None
    numbers, size = key.public_numbers(), (key.key_size + 7) // 8
    if (x, y) != (b64url(numbers.x.to_bytes(size, "big")), b64url(numbers.y.to_bytes(size, "big"))):
        raise InvalidProof  # another spelling of the key would have another thumbprint
    return key, b64url(sha256(f'{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest())


def _same_url(claimed: object, url: str) -> bool:
    """Section 4.3 item 9: equal without query and fragment, after syntax- and scheme-based normalization (RFC 3986 section 6.2)."""
    if claimed == url:
        return True
    if not isinstance(claimed, str) or len(claimed) > _SIZE or not claimed.isascii() or not claimed.isprintable() or " " in claimed:
        return False
    try:
        return _normal(claimed) == _normal(url)
    except ValueError:
        return False


def _normal(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("user information")
    scheme = parts.scheme.lower()
    port = parts.port if parts.port is not None else _PORTS.get(scheme)
    return scheme, parts.hostname or "", port, _ESCAPE.sub(_plain, parts.path or "/")


def _plain(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _UNRESERVED else escape[0].upper()
