"""DPoP: what a proof must be (RFC 9449 section 4.3), at the token endpoint (section 5) and at the API (section 7)."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.api.errors import answer
from gateway.identity import ClientId, PartyId
from gateway.oauth.authentication import OAuthError
from gateway.oauth.jose import b64url
from gateway.oauth.keys import public_jwk
from gateway.oauth.server import TokenResponse
from gateway.parties.model import Binding
from gateway.problems import Challenge, Problem, ProblemType
from tests.unit.oauth.test_tokens import resigned
from tests.unit.oauth.world import (
    EC_KEY,
    NOW,
    P256_KEY,
    RSA_KEY,
    SCOPES,
    URLS,
    World,
    assertion,
    at_token_endpoint,
    claims,
    client,
    form,
    proof,
    shown,
    world,
)

BOUND = client(binding=Binding.DPOP)
OTHER_P256 = ec.generate_private_key(ec.SECP256R1())


async def bound_token(hub: World, **proof_is: Any) -> str:
    issued = await hub.service.token(form(assertion(claims())), {}, at_token_endpoint(proof(**proof_is)))
    assert isinstance(issued, TokenResponse), issued
    assert issued.body["token_type"] == "DPoP"
    return str(issued.body["access_token"])


async def refused(hub: World, authorization: str, *proofs: str) -> Challenge:
    with pytest.raises(Problem) as caught:
        await hub.callers.authenticate(authorization, partial(shown, *proofs))
    assert caught.value.type is ProblemType.UNAUTHENTICATED
    return caught.value.challenge


@pytest.mark.parametrize(("key", "alg"), [(P256_KEY, "ES256"), (EC_KEY, "ES384")])
async def test_a_token_is_bound_to_the_key_and_used_with_it(key: Any, alg: str) -> None:
    hub = world(BOUND)
    token = await bound_token(hub, key=key, alg=alg)
    thumbprint = public_jwk(key, None, alg)["kid"]
    assert jwt.decode(token, options={"verify_signature": False})["cnf"] == {"jkt": thumbprint}
    first, second = (proof(key=key, alg=alg, token=token) for _ in range(2))
    for fresh in (first, second):
        caller = await hub.callers.authenticate(f"DPoP {token}", partial(shown, fresh))
        assert caller.party == "alpha"
    assert await refused(hub, f"dpop {token}", second) is Challenge.PROOF  # the same once more


async def test_a_client_that_is_not_bound_gets_a_bound_token_by_showing_a_proof() -> None:
    hub = world()
    token = await bound_token(hub)
    assert await refused(hub, f"Bearer {token}") is Challenge.TOKEN


async def test_a_bound_token_is_no_bearer_token_with_or_without_a_proof() -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    assert await refused(hub, f"Bearer {token}") is Challenge.TOKEN
    assert await refused(hub, f"Bearer {token}", proof(token=token)) is Challenge.TOKEN
    with pytest.raises(Problem):
        hub.tokens.verify(token)


async def test_a_bound_client_neither_gets_nor_uses_a_plain_token() -> None:
    hub = world()
    plain = hub.tokens.issue(client(), SCOPES).token
    assert (await hub.callers.authenticate(f"Bearer {plain}", shown)).party == "alpha"
    hub.configure(BOUND)
    assert await refused(hub, f"Bearer {plain}") is Challenge.TOKEN
    assert await refused(hub, f"DPoP {plain}", proof(token=plain)) is Challenge.TOKEN
    missing = await hub.service.token(form(assertion(claims())), {}, at_token_endpoint())
    assert isinstance(missing, OAuthError) and (missing.status, missing.body["error"]) == (400, "invalid_dpop_proof")


async def test_a_plain_token_is_not_used_with_a_proof() -> None:
    hub = world()
    plain = hub.tokens.issue(client(), SCOPES).token
    assert await refused(hub, f"DPoP {plain}", proof(token=plain)) is Challenge.TOKEN


async def test_another_key_a_missing_proof_or_two_are_refused() -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    assert await refused(hub, f"DPoP {token}", proof(token=token, key=OTHER_P256)) is Challenge.TOKEN
    assert await refused(hub, f"DPoP {token}") is Challenge.PROOF
    assert await refused(hub, f"DPoP {token}", proof(token=token), proof(token=token)) is Challenge.PROOF
    assert await refused(hub, f"DPoP {token}", f"{proof(token=token)}, {proof(token=token)}") is Challenge.PROOF


JWK = {name: value for name, value in public_jwk(P256_KEY, None, "ES256").items() if name in ("kty", "crv", "x", "y")}
WRONG: dict[str, dict[str, Any]] = {
    "typ-jwt": {"header": {"typ": "JWT"}},
    "typ-missing": {"header": {"typ": None}},
    "no-key": {"header": {"jwk": None}},
    "key-is-text": {"header": {"jwk": "x"}},
    "anothers-key": {"header": {"jwk": {name: value for name, value in public_jwk(OTHER_P256, None, "ES256").items() if name in JWK}}},
    "private-key": {"header": {"jwk": {**JWK, "d": "AAAA"}}},
    "not-on-the-curve": {"header": {"jwk": {**JWK, "x": "A" * 43}}},
    "key-respelled": {"header": {"jwk": {**JWK, "x": JWK["x"] + "="}}},
    "key-in-unused-bits": {"header": {"jwk": {**JWK, "x": JWK["x"][:-1] + chr(ord(JWK["x"][-1]) + 1)}}},
    "curve-of-the-other": {"header": {"jwk": {**JWK, "crv": "P-384"}}},
    "critical": {"header": {"crit": ["exp"]}},
    "rsa": {"key": RSA_KEY, "alg": "RS256"},
    "no-jti": {"jti": None},
    "empty-jti": {"jti": ""},
    "number-jti": {"jti": 1},
    "long-jti": {"jti": "j" * 256},
    "no-iat": {"iat": None},
    "old": {"iat": int(NOW) - 61},
    "ahead": {"iat": int(NOW) + 61},
    "iat-text": {"iat": "now"},
    "iat-true": {"iat": True},
    "no-method": {"htm": None},
    "other-method": {"htm": "PUT"},
    "method-lower": {"htm": "get"},
    "no-url": {"htu": None},
    "other-path": {"htu": f"{URLS.fhir_base}/Task/2"},
    "other-host": {"htu": "https://other.test/fhir/Task/1"},
    "other-scheme": {"htu": "http://hub.test/fhir/Task/1"},
    "other-port": {"htu": "https://hub.test:444/fhir/Task/1"},
    "bad-port": {"htu": "https://hub.test:x/fhir/Task/1"},
    "path-case": {"htu": f"{URLS.fhir_base}/task/1"},
    "user": {"htu": "https://me@hub.test/fhir/Task/1"},
    "number-url": {"htu": 1},
    "control-in-url": {"htu": "https://hub.test/fhir/\nTask/1"},
    "no-ath": {"ath": None},
    "other-ath": {"ath": "A" * 43},
}


@pytest.mark.parametrize("why", WRONG)
async def test_a_proof_that_is_wrong_is_refused_and_not_used_up(why: str) -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    used = dict(hub.replay.used)
    assert await refused(hub, f"DPoP {token}", proof(token=token, **WRONG[why])) is Challenge.PROOF
    assert hub.replay.used == used


@pytest.mark.parametrize("alg", ["ES384", "none", "RS256", "HS256", "", None, 1])
async def test_the_algorithm_is_that_of_the_key(alg: object) -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    _, payload, _ = proof(token=token).split(".")

    def signed_as(name: object) -> str:
        head = b64url(json.dumps({"typ": "dpop+jwt", "jwk": JWK, "alg": name}).encode())
        signature = jwt.get_algorithm_by_name("ES256").sign(f"{head}.{payload}".encode(), P256_KEY)
        return f"{head}.{payload}.{b64url(signature)}"

    assert await refused(hub, f"DPoP {token}", signed_as(alg)) is Challenge.PROOF
    await hub.callers.authenticate(f"DPoP {token}", partial(shown, signed_as("ES256")))


SAME = {
    "query": f"{URLS.fhir_base}/Task/1?x=1",
    "fragment": f"{URLS.fhir_base}/Task/1#x",
    "host-case": "HTTPS://HUB.test/fhir/Task/1",
    "default-port": "https://hub.test:443/fhir/Task/1",
    "escaped": "https://hub.test/fhir/%54ask/%31",
}


@pytest.mark.parametrize("how", SAME)
async def test_an_address_may_be_written_in_every_equivalent_way(how: str) -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    await hub.callers.authenticate(f"DPoP {token}", partial(shown, proof(token=token, htu=SAME[how])))


@pytest.mark.parametrize("change", ["", "x", "."])
async def test_text_that_is_no_proof_is_refused(change: str) -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    good = proof(token=token)
    assert await refused(hub, f"DPoP {token}", change) is Challenge.PROOF
    assert await refused(hub, f"DPoP {token}", good[:-4] + "AAAA") is Challenge.PROOF
    assert await refused(hub, f"DPoP {token}", good + "a" * 5000) is Challenge.PROOF
    assert await refused(hub, f"DPoP {token}é", good) is Challenge.PROOF


async def test_the_window_ends_where_it_says() -> None:
    hub = world(BOUND)
    for at in (NOW - 60, NOW + 60):
        token = await bound_token(hub, at=at)
        await hub.callers.authenticate(f"DPoP {token}", partial(shown, proof(token=token, at=at)))
    kept = sorted({until for (issuer, _), until in hub.replay.used.items() if issuer.startswith("dpop:")})
    assert kept == [NOW * 1000 + 1, (NOW + 120) * 1000 + 1]  # as long as each could be shown again


async def test_a_proof_is_no_assertion_no_token_and_not_good_for_the_other_endpoint() -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    bad = await hub.service.token(form(proof()), {}, at_token_endpoint(proof()))
    assert isinstance(bad, OAuthError) and bad.body["error"] == "invalid_client"
    assert await refused(hub, f"Bearer {proof(token=token)}") is Challenge.TOKEN
    assert await refused(hub, f"DPoP {token}", proof(ath=None)) is Challenge.PROOF
    answer = await hub.service.token(form(assertion(claims())), {}, at_token_endpoint(proof(token=token)))
    assert isinstance(answer, OAuthError) and answer.body["error"] == "invalid_dpop_proof"


async def test_an_assertion_or_a_client_that_fails_does_not_use_the_proof_up() -> None:
    hub = world(BOUND)
    shows = at_token_endpoint(proof())
    for bad in (form(assertion(claims(exp=int(NOW) - 100))), form(assertion(claims()), scope="nothing.known")):
        assert isinstance(await hub.service.token(bad, {}, shows), OAuthError)
    assert isinstance(await hub.service.token(form(assertion(claims())), {}, shows), TokenResponse)
    again = await hub.service.token(form(assertion(claims())), {}, shows)
    assert isinstance(again, OAuthError) and again.body["error"] == "invalid_dpop_proof"


async def test_a_proof_that_is_wrong_does_not_use_the_assertion_up() -> None:
    hub = world(BOUND)
    body = form(assertion(claims()))
    assert isinstance(await hub.service.token(body, {}, at_token_endpoint(proof(htm="GET"))), OAuthError)
    assert isinstance(await hub.service.token(body, {}, at_token_endpoint(proof())), TokenResponse)


@pytest.mark.parametrize("cnf", [{}, {"jkt": 1}, {"jkt": ""}, {"jwk": {}}, {"jkt": "a", "x": "b"}, "jkt", [], 0, False])
async def test_a_confirmation_that_is_not_understood_is_not_ignored(cnf: object) -> None:
    hub = world()
    assert await refused(hub, f"Bearer {resigned(hub, cnf=cnf)}") is Challenge.TOKEN


def test_the_challenges_are_those_of_the_rfcs() -> None:
    """RFC 6750 section 3: no error where nothing was sent; RFC 9449 section 7.1: the scheme, the error and the algorithms."""

    def challenge(which: Challenge) -> str:
        return answer(Problem(ProblemType.UNAUTHENTICATED, challenge=which), "c").headers["www-authenticate"]

    assert challenge(Challenge.ABSENT) == 'Bearer, DPoP algs="ES256 ES384"'
    assert challenge(Challenge.TOKEN) == 'Bearer error="invalid_token", DPoP error="invalid_token", algs="ES256 ES384"'
    assert challenge(Challenge.PROOF) == 'DPoP error="invalid_dpop_proof", algs="ES256 ES384"'


async def test_a_bound_token_stops_with_its_client() -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    hub.configure(client(binding=Binding.DPOP, party=PartyId("beta"), unit=None))
    assert await refused(hub, f"DPoP {token}", proof(token=token)) is Challenge.TOKEN
    hub.configure(BOUND)
    hub.revocations.disable(ClientId("alpha-system"))
    assert await refused(hub, f"DPoP {token}", proof(token=token)) is Challenge.TOKEN
