"""Attacks with tokens that are bound to a key (RFC 9449): a proof that is wrong, old, stolen or not there. At the API 401, at the token
endpoint 400. The token itself is good each time, and the key is the right one unless the row says otherwise."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.oauth.keys import public_jwk
from tests.clients.hub import BOUND, FORM, base64url
from tests.security.forging import P256_ORDER, Attack, Forger, der, raw, signed_es256, twin

__all__ = ["PROOF_ATTACKS", "bound_token", "proof"]

Json = dict[str, Any]
CHECKS: Final = "RFC 9449 section 4.3: one proof, dpop+jwt, by the key in its header, for this method, address, token and time"
BOUND_TO: Final = "RFC 9449 sections 6.1 and 7.1: the key of the proof is the one that the token is bound to"
NOT_PLAIN: Final = "RFC 9449 section 7.2: a bound token is no bearer token, and a bearer token is no bound one"
ONCE: Final = "RFC 9449 section 11.1: a proof counts once"
OWN: Final = ec.generate_private_key(ec.SECP256R1())
OTHER: Final = ec.generate_private_key(ec.SECP256R1())
NO: Final = frozenset({401})
NOT_ISSUED: Final = frozenset({400})


def jwk_of(key: ec.EllipticCurvePrivateKey) -> Json:
    return {name: value for name, value in public_jwk(key, None, "ES256").items() if name in ("kty", "crv", "x", "y")}


def proof(
    method: str,
    url: str,
    token: str | None = None,
    *,
    header: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    key: ec.EllipticCurvePrivateKey = OWN,
) -> str:
    """A good proof with changes; ``...`` leaves a header or a claim out."""
    ath = base64url(hashlib.sha256(token.encode()).digest()).decode() if token is not None else ...
    good = {"jti": secrets.token_hex(16), "htm": method, "htu": url, "iat": int(time.time()), "ath": ath, **(claims or {})}
    head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk_of(key), **(header or {})}
    return signed_es256(key, *({name: value for name, value in part.items() if value is not ...} for part in (head, good)))


def bound_token(f: Forger) -> str:
    """A token bound to `OWN`, got as its client gets one."""
    with contextlib.closing(f.hub.wire()) as wire:
        form = f.hub.form(BOUND, scope="system/Task.rs transfer.read")
        answer = f.hub.ask(wire, form, ("DPoP", proof("POST", f.hub.token_url)))
    assert answer.status == 200, answer.body
    return str(orjson.loads(answer.body)["access_token"])


def address(f: Forger) -> str:
    return f"{f.hub.fhir}/Task"


def sent(token: str, *proofs: str, scheme: str = "DPoP", path: str = "/fhir/Task") -> bytes:
    return raw("GET", path, (("Authorization", f"{scheme} {token}"), *(("DPoP", one) for one in proofs)))


def made(
    header: Mapping[str, Any] | None = None, claims: Mapping[str, Any] | None = None, key: ec.EllipticCurvePrivateKey = OWN
) -> Callable[[Forger], bytes]:
    """A request with a good token and a proof that differs in this."""

    def send(f: Forger) -> bytes:
        token = bound_token(f)
        return sent(token, proof("GET", address(f), token, header=header, claims=claims, key=key))

    return send


def changed(change: Callable[[str], str]) -> Callable[[Forger], bytes]:
    """A good proof, changed as text."""

    def send(f: Forger) -> bytes:
        token = bound_token(f)
        return sent(token, change(proof("GET", address(f), token)))

    return send


def to(url: Callable[[str], str]) -> Callable[[Forger], bytes]:
    def send(f: Forger) -> bytes:
        token = bound_token(f)
        return sent(token, proof("GET", url(address(f)), token))

    return send


def seconds(ahead: int) -> Callable[[Forger], bytes]:
    return lambda f: made(claims={"iat": int(time.time()) + ahead})(f)


def replayed(change: Callable[[Forger, str], str]) -> Callable[[Forger], bytes]:
    def send(f: Forger) -> bytes:
        token = bound_token(f)
        good = proof("GET", address(f), token)
        with contextlib.closing(f.hub.wire()) as wire:
            first = wire.send(sent(token, good))
        assert first.status == 200, first.body
        return sent(token, change(f, good))

    return send


def two(f: Forger) -> bytes:
    token = bound_token(f)
    return sent(token, *(proof("GET", address(f), token) for _ in range(2)))


def asked(client: str, *proofs: Callable[[Forger], str]) -> Callable[[Forger], bytes]:
    """A token request with these proofs."""

    def send(f: Forger) -> bytes:
        form = urlencode(f.hub.form(client, scope="system/Task.rs transfer.read")).encode()
        return raw("POST", "/oauth/token", (FORM, *(("DPoP", one(f)) for one in proofs)), form)

    return send


def at_token_endpoint(**changes: Any) -> Callable[[Forger], str]:
    return lambda f: proof("POST", f.hub.token_url, **changes)


_AT_THE_API: Mapping[str, tuple[str, Callable[[Forger], bytes]]] = {
    "no proof": (CHECKS, lambda f: sent(bound_token(f))),
    "two proofs": (CHECKS, two),
    "as a plain bearer token": (NOT_PLAIN, lambda f: sent(bound_token(f), scheme="Bearer")),
    "as a plain bearer token, with a proof": (NOT_PLAIN, lambda f: plain_with_proof(f)),
    "a plain token with a proof": (NOT_PLAIN, lambda f: unbound(f)),
    "by another key": (BOUND_TO, made(key=OTHER)),
    "by another key, the right one shown": (BOUND_TO, made(header={"jwk": jwk_of(OWN)}, key=OTHER)),
    "replayed": (ONCE, replayed(lambda f, good: good)),
    "replayed as its twin, (r, n - s)": (ONCE, replayed(lambda f, good: f.with_signature(twin(P256_ORDER), good))),
    **{
        f"typ {name}": (CHECKS, made({"typ": value}))
        for name, value in {"left out": ..., "JWT": "JWT", "in capitals": "DPOP+JWT", "a list": ["dpop+jwt"]}.items()
    },
    **{
        f"alg {name}": (CHECKS, made({"alg": value}))
        for name, value in {"left out": ..., "none": "none", "HS256": "HS256", "another": "ES384", "a number": 1}.items()
    },
    **{
        f"jwk {name}": (CHECKS, made({"jwk": value}))
        for name, value in {
            "left out": ...,
            "empty": {},
            "a text": "x",
            "private": {**jwk_of(OWN), "d": "AAAA"},
            "symmetric": {"kty": "oct", "k": "AAAA"},
            "off the curve": {**jwk_of(OWN), "y": jwk_of(OTHER)["y"]},
            "of another curve": {**jwk_of(OWN), "crv": "P-384"},
            "short": {**jwk_of(OWN), "x": "AAAA"},
        }.items()
    },
    "unsigned": (CHECKS, changed(lambda t: t.rpartition(".")[0] + ".")),
    "signature as DER": (CHECKS, lambda f: changed(lambda t: f.with_signature(der, t))(f)),
    "base64 padding": (CHECKS, changed(lambda t: t + "=")),
    "too large": (CHECKS, made(claims={"pad": "a" * 5000})),
    "not a token": (CHECKS, changed(lambda t: "x")),
    "empty": (CHECKS, changed(lambda t: "")),
    "crit": (CHECKS, made({"crit": ["x"], "x": 1})),
    **{f"{name} left out": (CHECKS, made(claims={name: ...})) for name in ("jti", "htm", "htu", "iat", "ath")},
    **{f"{name} a list": (CHECKS, made(claims={name: ["x"]})) for name in ("jti", "htm", "htu", "iat", "ath")},
    "htm of another method": (CHECKS, made(claims={"htm": "POST"})),
    "htm in small letters": (CHECKS, made(claims={"htm": "get"})),
    **{
        f"htu {name}": (CHECKS, to(change))
        for name, change in {
            "of another type": lambda url: url.replace("Task", "Patient"),
            "of another host": lambda url: url.replace("127.0.0.1", "localhost"),
            "of another port": lambda url: url.replace("127.0.0.1:", "127.0.0.1:1"),
            "by https": lambda url: url.replace("http:", "https:"),
            "with a slash more": lambda url: f"{url}/",
            "with a user": lambda url: url.replace("://", "://a@"),
            "with dots": lambda url: url.replace("/fhir/", "/fhir/../fhir/"),
            "in small letters": lambda url: url.lower(),
            "without the rest": lambda url: "http://127.0.0.1",
            "with LF": lambda url: f"{url}\n",
        }.items()
    },
    "iat two minutes ago": (CHECKS, seconds(-120)),
    "iat an hour ago": (CHECKS, seconds(-3600)),
    "iat an hour ahead": (CHECKS, seconds(3600)),
    "ath of another token": (CHECKS, made(claims={"ath": base64url(hashlib.sha256(b"x").digest()).decode()})),
    "made for the token endpoint": (CHECKS, lambda f: sent(bound_token(f), proof("POST", f.hub.token_url))),
    "the access token as its own proof": (CHECKS, lambda f: itself(f)),
    "a client assertion as proof": (CHECKS, lambda f: sent(bound_token(f), f.assertion(header={"typ": "dpop+jwt"}))),
    "JSON serialization": (
        CHECKS,
        changed(lambda t: json.dumps(dict(zip(("protected", "payload", "signature"), t.split("."), strict=True)))),
    ),
}

_AT_THE_TOKEN_ENDPOINT: Mapping[str, tuple[str, Callable[[Forger], bytes]]] = {
    "a token without a proof for a client that must bind": (NOT_PLAIN, asked(BOUND)),
    "two proofs for a token": (CHECKS, asked(BOUND, at_token_endpoint(), at_token_endpoint())),
    "a token by a proof for another method": (CHECKS, asked(BOUND, at_token_endpoint(claims={"htm": "GET"}))),
    "a token by a proof for the API": (CHECKS, asked(BOUND, lambda f: proof("POST", f.hub.fhir))),
    "a token by a proof signed by another": (CHECKS, asked(BOUND, at_token_endpoint(header={"jwk": jwk_of(OTHER)}))),
    "a token by an old proof": (CHECKS, asked(BOUND, at_token_endpoint(claims={"iat": int(time.time()) - 3600}))),
    "a token by no proof at all": (CHECKS, asked(BOUND, lambda f: "x")),
    "a plain token asked for with a broken proof": (CHECKS, asked("counsellor", lambda f: "x")),
}


def plain_with_proof(f: Forger) -> bytes:
    token = bound_token(f)
    return sent(token, proof("GET", address(f), token), scheme="Bearer")


def unbound(f: Forger) -> bytes:
    token = f.token()
    return sent(token, proof("GET", address(f), token))


def itself(f: Forger) -> bytes:
    token = bound_token(f)
    return sent(token, token)


PROOF_ATTACKS: Final = (
    *(Attack(f"proof: {name}", clause, send, NO) for name, (clause, send) in _AT_THE_API.items()),
    *(Attack(f"proof: {name}", clause, send, NOT_ISSUED) for name, (clause, send) in _AT_THE_TOKEN_ENDPOINT.items()),
)
