"""Which keys a partner may register or publish."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.oauth.keys import public_jwk
from gateway.oauth.partner_keys import KEYS_LIMIT, AssertionAlg, KeyProblem, PartnerKey, read_jwk, read_jwks
from tests.unit.oauth.world import EC_KEY, OTHER_KEY, RSA_KEY

EC_JWK = public_jwk(EC_KEY, "k", "ES384")
RSA_JWK = public_jwk(RSA_KEY, "k", "RS384")
SMALL_RSA = {**jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True), "kid": "k"}
P256 = public_jwk(ec.generate_private_key(ec.SECP256R1()), "k", "ES384")


def without(jwk: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in names}


REFUSED: dict[str, tuple[object, KeyProblem]] = {
    "not-an-object": ("key", KeyProblem.NOT_A_KEY),
    "private": ({**EC_JWK, "d": "AAAA"}, KeyProblem.PRIVATE),
    "symmetric": ({"kty": "oct", "k": "AAAA", "kid": "k"}, KeyProblem.PRIVATE),
    "no-kid": (without(EC_JWK, "kid"), KeyProblem.NO_KID),
    "kid-empty": ({**EC_JWK, "kid": ""}, KeyProblem.NO_KID),
    "no-kty": (without(EC_JWK, "kty"), KeyProblem.KTY),
    "kty-okp": ({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "k"}, KeyProblem.KTY),
    "kty-a-list": ({**EC_JWK, "kty": ["EC"]}, KeyProblem.KTY),
    "for-encryption": ({**EC_JWK, "use": "enc"}, KeyProblem.PURPOSE),
    "alg-of-another": ({**RSA_JWK, "alg": "RS256"}, KeyProblem.PURPOSE),
    "ops-sign-only": ({**EC_JWK, "key_ops": ["sign"]}, KeyProblem.PURPOSE),
    "ops-text": ({**EC_JWK, "key_ops": "verify"}, KeyProblem.PURPOSE),
    "p-256": (P256, KeyProblem.CURVE),
    "no-curve": (without(EC_JWK, "crv"), KeyProblem.CURVE),
    "rsa-1024": (SMALL_RSA, KeyProblem.RSA_SIZE),
    "rsa-exponent-huge": ({**RSA_JWK, "e": "AQAAAAEB"}, KeyProblem.RSA_SIZE),
    "ec-no-x": (without(EC_JWK, "x"), KeyProblem.NOT_A_KEY),
    "ec-x-a-number": ({**EC_JWK, "x": 1}, KeyProblem.NOT_A_KEY),
    "ec-not-on-curve": ({**EC_JWK, "x": EC_JWK["y"]}, KeyProblem.NOT_A_KEY),
    "rsa-no-e": (without(RSA_JWK, "e"), KeyProblem.NOT_A_KEY),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unusable_key_is_refused_with_its_reason(case: str) -> None:
    jwk, problem = REFUSED[case]
    assert read_jwk(jwk) is problem


@pytest.mark.parametrize(
    "jwk", [EC_JWK, RSA_JWK, without(EC_JWK, "use", "alg"), {**EC_JWK, "key_ops": ["verify"]}, {**EC_JWK, "x5t": "AA"}]
)
def test_a_usable_key_is_read(jwk: dict[str, Any]) -> None:
    key = read_jwk(jwk)
    assert isinstance(key, PartnerKey)
    assert key.kid == "k"


def test_kid_and_key_type_pick_one_key() -> None:
    keys = read_jwks({"keys": [EC_JWK, RSA_JWK]})
    assert keys.problems == ()
    picked = [keys.pick("k", alg) for alg in AssertionAlg]
    assert [key.alg for key in picked if key] == [AssertionAlg.RS384, AssertionAlg.ES384]
    assert keys.pick("other", AssertionAlg.ES384) is None


def test_two_keys_of_one_name_cancel_each_other_out() -> None:
    keys = read_jwks({"keys": [EC_JWK, public_jwk(OTHER_KEY, "k", "ES384"), RSA_JWK]})
    assert keys.pick("k", AssertionAlg.ES384) is None
    assert keys.pick("k", AssertionAlg.RS384) is not None
    assert keys.problems == (KeyProblem.SAME_KID,)


def test_a_bad_key_does_not_spoil_the_good_ones() -> None:
    keys = read_jwks({"keys": [P256, {**EC_JWK, "kid": "good"}]})
    assert keys.pick("good", AssertionAlg.ES384) is not None
    assert keys.problems == (KeyProblem.CURVE,)


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": "k"}, {"keys": {"kid": "k"}}, {"keys": [EC_JWK] * (KEYS_LIMIT + 1)}])
def test_what_is_not_a_key_set_has_no_keys(document: dict[str, Any]) -> None:
    keys = read_jwks(document)
    assert not keys.keys and keys.problems
