"""The public keys of partners: which JWKs are usable, and which one a signed assertion names.

SMART App Launch 2, client-confidential-asymmetric: a server must support RS384 and ES384; the assertion's `kid` and the key's `kty`
together pick one key. A key that is unusable is left out of the set and named by a `KeyProblem`, so that registration can refuse it
with the reason while a set fetched later still works with its other keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.oauth.jose import is_name

__all__ = ["KEYS_LIMIT", "AssertionAlg", "KeyProblem", "KeySet", "PartnerKey", "read_jwk", "read_jwks"]

KEYS_LIMIT: Final = 32
"""More keys than this in one set and the set is refused: nobody rotates so fast."""

_RSA_BITS: Final = range(2048, 8193)
_EXPONENT_LIMIT: Final = 1 << 33
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518 sections 6.2.2, 6.3.2, 6.4.1


class AssertionAlg(StrEnum):
    """The signature algorithms an assertion may use (SMART client-confidential-asymmetric, "Signature algorithms")."""

    RS384 = "RS384"
    ES384 = "ES384"


_ALG_OF_KTY: Final = {"RSA": AssertionAlg.RS384, "EC": AssertionAlg.ES384}


class KeyProblem(StrEnum):
    """Why a JWK can't be used; the text is the reason a registration is told."""

    NOT_A_KEY = "not a readable JWK"
    PRIVATE = "it holds private or symmetric key material"
    NO_KID = "it has no usable kid"
    KTY = "its kty is neither RSA nor EC"
    PURPOSE = "its use, key_ops or alg does not allow verifying RS384 (RSA) or ES384 (EC)"
    CURVE = "its curve is not P-384"
    RSA_SIZE = "its RSA modulus is not 2048 to 8192 bits, or its exponent is out of range"
    SAME_KID = "another key of the set has the same kid and kty"
    TOO_MANY = "the set holds too many keys"


@dataclass(frozen=True, slots=True)
class PartnerKey:
    """One usable public key. `alg` follows from its type; a header can't choose another."""

    kid: str
    alg: AssertionAlg
    key: RSAPublicKey | EllipticCurvePublicKey

    def verifies(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `signing_input` (RFC 7518 sections 3.3 and 3.4). Never raises."""
        try:
            return bool(jwt.get_algorithm_by_name(self.alg.value).verify(signing_input, self.key, signature))
        except (ValueError, TypeError, jwt.PyJWTError):
            return False


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one client, and what was wrong with the others."""

    keys: Mapping[tuple[str, AssertionAlg], PartnerKey]
    problems: tuple[KeyProblem, ...] = ()

    def pick(self, kid: str, alg: AssertionAlg) -> PartnerKey | None:
        """The one key that `kid` and the algorithm's `kty` name, or None."""
        return self.keys.get((kid, alg))


def read_jwks(document: Mapping[str, Any]) -> KeySet:
    """Read a JWK Set (RFC 7517 section 5). Two keys with the same kid and kty cancel each other out: neither is chosen by chance."""
    entries = document.get("keys")
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        return KeySet({}, (KeyProblem.NOT_A_KEY,))
    if len(entries) > KEYS_LIMIT:
        return KeySet({}, (KeyProblem.TOO_MANY,))
    found: dict[tuple[str, AssertionAlg], PartnerKey] = {}
    doubled: set[tuple[str, AssertionAlg]] = set()
    problems: list[KeyProblem] = []
    for entry in entries:
        key = read_jwk(entry)
        if isinstance(key, KeyProblem):
            problems.append(key)
            continue
        name = (key.kid, key.alg)
        if name in found:
            doubled.add(name)
            problems.append(KeyProblem.SAME_KID)
        found[name] = key
    return KeySet({name: key for name, key in found.items() if name not in doubled}, tuple(problems))


def read_jwk(jwk: object) -> PartnerKey | KeyProblem:
    """One JWK as a usable key, or why it is not (RFC 7517 section 4, RFC 7518 section 6)."""
    if not isinstance(jwk, Mapping):
        return KeyProblem.NOT_A_KEY
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        return KeyProblem.PRIVATE
    kid = jwk.get("kid")
    if not is_name(kid):
        return KeyProblem.NO_KID
    kty = jwk.get("kty")
    alg = _ALG_OF_KTY.get(kty) if isinstance(kty, str) else None
    if alg is None:
        return KeyProblem.KTY
    if not _for_verifying(jwk, alg):
        return KeyProblem.PURPOSE
    if alg is AssertionAlg.ES384 and jwk.get("crv") != "P-384":
        return KeyProblem.CURVE
    try:
        key = jwt.PyJWK(dict(jwk), algorithm=alg.value).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return KeyProblem.NOT_A_KEY
    if isinstance(key, EllipticCurvePublicKey):
        return PartnerKey(kid, alg, key)
    if isinstance(key, RSAPublicKey):
        if key.key_size not in _RSA_BITS or not 3 <= key.public_numbers().e < _EXPONENT_LIMIT:
            return KeyProblem.RSA_SIZE
        return PartnerKey(kid, alg, key)
    return KeyProblem.NOT_A_KEY


def _for_verifying(jwk: Mapping[str, Any], alg: AssertionAlg) -> bool:
    """RFC 7517 sections 4.2 to 4.4: absent members do not restrict; present ones must allow verifying with this algorithm."""
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", alg.value) != alg.value:
        return False
    key_ops = jwk.get("key_ops", ["verify"])
    return isinstance(key_ops, Sequence) and not isinstance(key_ops, str | bytes) and "verify" in key_ops
