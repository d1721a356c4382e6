"""Whatever is sent, the answer is a refusal and never an exception."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.oauth.authentication import OAuthError
from gateway.oauth.jose import MalformedToken, parse_compact
from gateway.oauth.partner_keys import read_jwk, read_jwks
from gateway.oauth.scopes import grant
from gateway.problems import Problem
from tests.unit.oauth.world import EC_KEY, SCOPES, assertion, claims, form, raw_assertion, world

HUB = world()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
HEADER = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "jku", "jwk", "x5c", "b64"]), JSON | st.sampled_from(["ES384", "ec-1", "JWT"])
)
CLAIMS = st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]), JSON | st.just("alpha-system"))
JWK = st.dictionaries(
    st.sampled_from(["kty", "kid", "crv", "x", "y", "n", "e", "use", "alg", "key_ops"]),
    JSON | st.sampled_from(["EC", "RSA", "P-384", "AQAB"]),
)


@given(st.text() | st.from_regex(r"[\w-]{0,20}\.[\w-]{0,20}\.[\w-]{0,20}"))
def test_any_text_is_a_token_or_is_refused(text: str) -> None:
    try:
        parse_compact(text, limit=100)
    except MalformedToken as refused:
        assert len(text) < 8 or text not in str(refused)
    try:
        HUB.tokens.verify(text)
    except Problem:
        return
    raise AssertionError("a made-up token passed")


@settings(max_examples=200)
@given(HEADER, CLAIMS)
def test_any_signed_json_is_refused(header: dict[str, Any], payload: dict[str, Any]) -> None:
    head = json.dumps({"alg": "ES384", "kid": "ec-1", **header}).encode()
    body = json.dumps({**claims(), "jti": "", **payload}).encode()
    answer = asyncio.run(HUB.service.token(form(raw_assertion(head, body, EC_KEY)), {}))
    assert isinstance(answer, OAuthError) or payload.get("jti")


@given(st.dictionaries(st.text(), st.text()))
def test_any_form_is_refused(fields: dict[str, str]) -> None:
    assert isinstance(asyncio.run(HUB.service.token({**form(assertion(claims()), client_assertion="x"), **fields}, fields)), OAuthError)


@given(JWK)
def test_any_jwk_is_a_key_or_has_a_problem(jwk: dict[str, Any]) -> None:
    read_jwk(jwk)
    read_jwks({"keys": [jwk, jwk]})


@given(st.text())
def test_any_scope_grants_nothing_unregistered(asked: str) -> None:
    assert grant(asked, SCOPES) <= SCOPES
