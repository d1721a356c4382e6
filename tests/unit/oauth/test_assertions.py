"""The attack table: every way in which an assertion can be wrong is refused, alike, and costs the genuine client nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.oauth.assertions import AssertionFault, InvalidAssertion
from gateway.oauth.authentication import OAuthError
from gateway.oauth.keys import public_jwk
from gateway.oauth.server import TokenResponse
from tests.unit.oauth.world import (
    EC_KEY,
    NOW,
    OTHER_KEY,
    RSA_KEY,
    URLS,
    FileReplay,
    MemoryReplay,
    assertion,
    claims,
    client,
    form,
    raw_assertion,
    world,
)

Fault = AssertionFault


def _hmac_with_public_key() -> str:
    """The classic confusion: the public key, which everyone has, used as an HMAC secret."""
    header, payload = json.dumps({"alg": "HS384", "kid": "ec-1", "typ": "JWT"}).encode(), json.dumps(claims()).encode()
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    secret = EC_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signature = jwt.get_algorithm_by_name("HS384").sign(signed, secret)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _unsigned() -> str:
    parts = [json.dumps({"alg": "none", "kid": "ec-1"}).encode(), json.dumps(claims()).encode()]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def _raw(payload: str, header: str = '{"alg":"ES384","kid":"ec-1","typ":"JWT"}') -> str:
    return raw_assertion(header.encode(), payload.encode())


def _edited(part: int, change: Callable[[str], str]) -> str:
    parts = assertion(claims()).split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def _noncanonical_rsa() -> str:
    """256 signature bytes leave spare bits in the last base64url character: another spelling of the same bytes."""
    token = assertion(claims(), key=RSA_KEY, alg="RS384")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


_AUD = f'"iss":"alpha-system","sub":"alpha-system","aud":"{URLS.token}"'
_DEEP = "[" * 3000 + "]" * 3000

ATTACKS: dict[str, tuple[Callable[[], str], Fault]] = {
    # form (RFC 7515 section 3.1)
    "empty": (lambda: "", Fault.MALFORMED),
    "two-segments": (lambda: "e30.e30", Fault.MALFORMED),
    "four-segments": (lambda: assertion(claims()) + ".e30", Fault.MALFORMED),
    "newline-at-end": (lambda: assertion(claims()) + "\n", Fault.MALFORMED),
    "crlf-inside": (lambda: _edited(1, lambda s: s[:9] + "\r\n" + s[9:]), Fault.MALFORMED),
    "non-ascii": (lambda: _edited(1, lambda s: s + "é"), Fault.MALFORMED),
    "padded": (lambda: assertion(claims(), key=RSA_KEY, alg="RS384") + "==", Fault.MALFORMED),
    "noncanonical-signature": (_noncanonical_rsa, Fault.MALFORMED),
    "too-large": (lambda: assertion(claims(padding="x" * 9000)), Fault.MALFORMED),
    "too-deep": (lambda: _raw(_DEEP), Fault.MALFORMED),
    "payload-not-json": (lambda: _raw("{"), Fault.MALFORMED),
    "payload-not-object": (lambda: _raw("[]"), Fault.MALFORMED),
    "payload-not-utf8": (lambda: raw_assertion(b'{"alg":"ES384","kid":"ec-1"}', b'{"a":"\xff"}'), Fault.MALFORMED),
    "header-not-object": (lambda: _raw("{}", '"ES384"'), Fault.MALFORMED),
    "header-bom": (lambda: raw_assertion(b'\xef\xbb\xbf{"alg":"ES384","kid":"ec-1"}', b"{}"), Fault.MALFORMED),
    "duplicate-claim": (lambda: _raw(f'{{{_AUD},"jti":"a","exp":{NOW + 60},"exp":{NOW + 61}}}'), Fault.MALFORMED),
    "duplicate-header": (lambda: _raw(json.dumps(claims()), '{"alg":"ES384","alg":"ES384","kid":"ec-1"}'), Fault.MALFORMED),
    "nan": (lambda: _raw(f'{{{_AUD},"jti":"a","exp":NaN}}'), Fault.MALFORMED),
    "critical-extension": (lambda: assertion(claims(), crit=["exp"]), Fault.MALFORMED),
    # header (SMART client-confidential-asymmetric)
    "alg-none": (_unsigned, Fault.MALFORMED),
    "alg-hmac": (_hmac_with_public_key, Fault.ALGORITHM),
    "alg-rs256": (lambda: assertion(claims(), key=RSA_KEY, alg="RS256", kid="rsa-1"), Fault.ALGORITHM),
    "alg-ps384": (lambda: assertion(claims(), key=RSA_KEY, alg="PS384", kid="rsa-1"), Fault.ALGORITHM),
    "alg-es256": (lambda: assertion(claims(), key=ec.generate_private_key(ec.SECP256R1()), alg="ES256"), Fault.ALGORITHM),
    "alg-lower-case": (lambda: _raw(json.dumps(claims()), '{"alg":"es384","kid":"ec-1"}'), Fault.ALGORITHM),
    "alg-a-list": (lambda: _raw(json.dumps(claims()), '{"alg":["ES384"],"kid":"ec-1"}'), Fault.ALGORITHM),
    "alg-quoted": (lambda: _raw(json.dumps(claims()), '{"alg":"\\"ES384\\"","kid":"ec-1"}'), Fault.ALGORITHM),
    "no-alg": (lambda: _raw(json.dumps(claims()), '{"kid":"ec-1"}'), Fault.ALGORITHM),
    "no-kid": (lambda: _raw(json.dumps(claims()), '{"alg":"ES384"}'), Fault.HEADER),
    "kid-empty": (lambda: assertion(claims(), kid=""), Fault.HEADER),
    "kid-a-number": (lambda: _raw(json.dumps(claims()), '{"alg":"ES384","kid":1}'), Fault.HEADER),
    "kid-control-characters": (lambda: _raw(json.dumps(claims()), '{"alg":"ES384","kid":"ec-1\\r\\n"}'), Fault.HEADER),
    "kid-quoted": (lambda: assertion(claims(), kid='"ec-1"'), Fault.KEY),
    "kid-non-ascii": (lambda: assertion(claims(), kid="clé"), Fault.KEY),
    "kid-unknown": (lambda: assertion(claims(), kid="ec-2"), Fault.KEY),
    "kid-of-the-other-type": (lambda: assertion(claims(), kid="rsa-1"), Fault.KEY),
    "typ-access-token": (lambda: assertion(claims(), typ="at+jwt"), Fault.HEADER),
    "typ-a-number": (lambda: _raw(json.dumps(claims()), '{"alg":"ES384","kid":"ec-1","typ":1}'), Fault.HEADER),
    "jwk-brought-along": (lambda: assertion(claims(), key=OTHER_KEY, jwk=public_jwk(OTHER_KEY, "ec-1", "ES384")), Fault.HEADER),
    "x5c-brought-along": (lambda: assertion(claims(), x5c=["MIIB"]), Fault.HEADER),
    "x5u-brought-along": (lambda: assertion(claims(), x5u="https://evil.test/c"), Fault.HEADER),
    "jku-not-registered": (lambda: assertion(claims(), key=OTHER_KEY, jku="https://evil.test/jwks"), Fault.HEADER),
    # claims (RFC 7523 section 3)
    "no-iss": (lambda: assertion(claims(iss=None)), Fault.SUBJECT),
    "no-sub": (lambda: assertion(claims(sub=None)), Fault.SUBJECT),
    "iss-not-sub": (lambda: assertion(claims(sub="beta-system")), Fault.SUBJECT),
    "iss-a-list": (lambda: _raw(json.dumps(claims(iss=["alpha-system"], sub=["alpha-system"]))), Fault.SUBJECT),
    "iss-lone-surrogate": (lambda: _raw('{"iss":"\\ud800","sub":"\\ud800"}'), Fault.SUBJECT),
    "unknown-client": (lambda: assertion(claims(iss="nobody", sub="nobody")), Fault.UNKNOWN_CLIENT),
    "other-partner": (lambda: assertion(claims(iss="beta-system", sub="beta-system")), Fault.SIGNATURE),
    "no-aud": (lambda: assertion(claims(aud=None)), Fault.AUDIENCE),
    "aud-other": (lambda: assertion(claims(aud="https://other.test/oauth/token")), Fault.AUDIENCE),
    "aud-fhir-base": (lambda: assertion(claims(aud=URLS.fhir_base)), Fault.AUDIENCE),
    "aud-trailing-slash": (lambda: assertion(claims(aud=URLS.token + "/")), Fault.AUDIENCE),
    "aud-upper-case": (lambda: assertion(claims(aud=URLS.token.upper())), Fault.AUDIENCE),
    "aud-ours-and-another": (lambda: assertion(claims(aud=[URLS.token, "https://other.test"])), Fault.AUDIENCE),
    "aud-empty-list": (lambda: assertion(claims(aud=[])), Fault.AUDIENCE),
    "aud-an-object": (lambda: assertion(claims(aud={URLS.token: 1})), Fault.AUDIENCE),
    "no-exp": (lambda: assertion(claims(exp=None)), Fault.EXPIRED),
    "exp-past": (lambda: assertion(claims(exp=int(NOW) - 10)), Fault.EXPIRED),
    "exp-text": (lambda: _raw(f'{{{_AUD},"jti":"a","exp":"{int(NOW) + 60}"}}'), Fault.EXPIRED),
    "exp-true": (lambda: _raw(f'{{{_AUD},"jti":"a","exp":true}}'), Fault.EXPIRED),
    "exp-infinite": (lambda: _raw(f'{{{_AUD},"jti":"a","exp":1e999}}'), Fault.EXPIRED),
    "exp-a-year": (lambda: assertion(claims(exp=int(NOW) + 31_536_000)), Fault.TOO_LONG_LIVED),
    "exp-ten-seconds-too-far": (lambda: assertion(claims(exp=int(NOW) + 310)), Fault.TOO_LONG_LIVED),
    "iat-future": (lambda: assertion(claims(iat=int(NOW) + 120)), Fault.NOT_YET),
    "iat-text": (lambda: _raw(f'{{{_AUD},"jti":"a","exp":{NOW + 60},"iat":"now"}}'), Fault.NOT_YET),
    "nbf-future": (lambda: assertion(claims(nbf=int(NOW) + 120)), Fault.NOT_YET),
    "nbf-null": (lambda: _raw(f'{{{_AUD},"jti":"a","exp":{NOW + 60},"nbf":null}}'), Fault.NOT_YET),
    "no-jti": (lambda: assertion(claims(jti=None)), Fault.TOKEN_ID),
    "jti-empty": (lambda: assertion(claims(jti="")), Fault.TOKEN_ID),
    "jti-a-number": (lambda: _raw(f'{{{_AUD},"jti":7,"exp":{NOW + 60}}}'), Fault.TOKEN_ID),
    "jti-256": (lambda: assertion(claims(jti="x" * 256)), Fault.TOKEN_ID),
    "jti-nul": (lambda: assertion(claims(jti="a\x00b")), Fault.TOKEN_ID),
    # signature
    "other-key": (lambda: assertion(claims(), key=OTHER_KEY), Fault.SIGNATURE),
    "claims-edited": (
        lambda: _edited(1, lambda s: base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=").decode()),
        Fault.SIGNATURE,
    ),
    "signature-cut": (lambda: _edited(2, lambda s: s[:-4]), Fault.SIGNATURE),
    "signature-zero": (lambda: _edited(2, lambda s: "A" * len(s)), Fault.SIGNATURE),
    "signature-of-another-length": (lambda: _edited(2, lambda s: "AAAA"), Fault.SIGNATURE),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_wrong_assertion_is_refused_with_the_one_answer_and_burns_nothing(attack: str) -> None:
    make, fault = ATTACKS[attack]
    hub = world(client(), client("beta-system", jwks={"keys": [public_jwk(OTHER_KEY, "ec-1", "ES384")]}))

    answer = await hub.service.token(form(make()), {})

    assert isinstance(answer, OAuthError)
    assert (answer.status, answer.body) == (400, {"error": "invalid_client", "error_description": "The client was not authenticated."})
    assert hub.faults == [fault]
    assert hub.replay.used == {}


GOOD: dict[str, Callable[[], str]] = {
    "es384": lambda: assertion(claims()),
    "rs384": lambda: assertion(claims(), key=RSA_KEY, alg="RS384"),
    "aud-issuer": lambda: assertion(claims(aud=URLS.issuer)),
    "aud-list-of-ours": lambda: assertion(claims(aud=[URLS.issuer, URLS.token])),
    "exp-exactly-300": lambda: assertion(claims(exp=int(NOW) + 300)),
    "exp-just-past": lambda: assertion(claims(exp=int(NOW) - 3)),
    "exp-fraction": lambda: assertion(claims(exp=NOW + 60.5)),
    "no-iat": lambda: assertion(claims(iat=None)),
    "iat-fast-clock": lambda: assertion(claims(iat=int(NOW) + 30)),
    "no-typ": lambda: _raw(json.dumps(claims()), '{"alg":"ES384","kid":"ec-1"}'),
    "typ-explicit": lambda: assertion(claims(), typ="client-authentication+jwt"),
    "jti-255": lambda: assertion(claims(jti="x" * 255)),
    "jti-non-ascii": lambda: assertion(claims(jti="n°1")),
}


@pytest.mark.parametrize("case", GOOD)
async def test_a_right_assertion_gets_a_token_once(case: str) -> None:
    hub, token = world(), GOOD[case]()

    first = await hub.service.token(form(token), {})
    second = await hub.service.token(form(token), {})

    assert isinstance(first, TokenResponse)
    assert isinstance(second, OAuthError)
    assert hub.faults == [Fault.REPLAYED]


async def test_the_registered_jku_is_allowed_and_not_needed() -> None:
    hub = world(client(jwks_url="https://alpha.test/jwks"))
    answer = await hub.service.token(form(assertion(claims(), jku="https://alpha.test/jwks")), {})
    assert isinstance(answer, TokenResponse)


async def test_a_replay_is_refused_after_a_restart(tmp_path: Path) -> None:
    token = assertion(claims())
    before = world(replay=FileReplay(tmp_path / "used"))
    assert isinstance(await before.service.token(form(token), {}), TokenResponse)

    after = world(replay=FileReplay(tmp_path / "used"))

    assert isinstance(await after.service.token(form(token), {}), OAuthError)
    assert after.faults == [Fault.REPLAYED]


async def test_another_signature_over_the_same_jti_is_a_replay() -> None:
    hub, body = world(), claims()
    assert isinstance(await hub.service.token(form(assertion(body)), {}), TokenResponse)
    assert isinstance(await hub.service.token(form(assertion(body)), {}), OAuthError)


async def test_two_clients_may_use_the_same_jti() -> None:
    hub = world(client(), client("beta-system"))
    for name in ("alpha-system", "beta-system"):
        assert isinstance(await hub.service.token(form(assertion(claims(iss=name, sub=name, jti="1"))), {}), TokenResponse)


async def test_the_mark_outlives_the_assertion() -> None:
    hub = world(replay=MemoryReplay())
    await hub.service.token(form(assertion(claims(exp=int(NOW) + 300, jti="1"))), {})
    assert hub.replay.used["alpha-system", "1"] >= (NOW + 305) * 1000


async def test_client_id_must_name_the_same_client() -> None:
    hub = world()
    assert isinstance(await hub.service.token(form(assertion(claims()), client_id="beta-system"), {}), OAuthError)
    assert isinstance(await hub.service.token(form(assertion(claims()), client_id="alpha-system"), {}), TokenResponse)


async def test_a_client_removed_from_the_configuration_is_unknown_at_once() -> None:
    hub = world()
    hub.configure(client("beta-system"))
    with pytest.raises(InvalidAssertion) as refused:
        await hub.verifier.verify(assertion(claims()))
    assert refused.value.fault is Fault.UNKNOWN_CLIENT


async def test_a_failure_says_nothing_of_the_input() -> None:
    hub, marker = world(), "zebra-7391"
    answer: Any = await hub.service.token(form(assertion(claims(iss=marker, sub=marker, jti=marker), kid=marker), scope=marker), {})
    assert marker not in json.dumps(dict(answer.body))
