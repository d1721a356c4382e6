"""Attacks on the FHIR routes with tokens that are not access tokens of this hub, or not for this request. 401, always the same."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.oauth.keys import public_jwk
from tests.clients.hub import FORM, base64url, signed
from tests.security.attack_assertions import as_json, deep, non_canonical
from tests.security.forging import ATTACKER_EC, P256_ORDER, Attack, Forger, der, low_s, raw, twin, unbase64url

__all__ = ["TOKEN_ATTACKS"]

Send = Callable[[Forger], bytes]
WHAT: Final = "RFC 9068 section 4: at+jwt, of this issuer, for this resource, by this server's key, not expired"
HOW: Final = "RFC 6750 sections 2 and 3: in the Authorization header, and nowhere else"
FORGED: Final = "RFC 7515 section 5.2, RFC 8725: the algorithm and the key are the server's own"
NO: Final = frozenset({401})
NO_OR_BAD: Final = frozenset({400, 401, 431})


def made(**claims: Any) -> Send:
    """Signed by the hub's own key, with these claims."""
    return lambda f: f.read(f.token(claims=claims))


def headed(**header: Any) -> Send:
    return lambda f: f.read(f.token(header=header))


def good_but(change: Callable[[str], str]) -> Send:
    """A token that was good, changed as text."""
    return lambda f: f.read(change(f.token()))


def authorized(value: Callable[[Forger], str]) -> Send:
    return lambda f: raw("GET", "/fhir/Task", (("Authorization", value(f)),))


def sent_as(authorization: str) -> Send:
    return authorized(lambda f: authorization)


def audience(value: Callable[[Forger], Any]) -> Send:
    return lambda f: f.read(f.token(claims={"aud": value(f)}))


def expires(ahead: int) -> Send:
    return lambda f: f.read(f.token(claims={"exp": int(time.time()) + ahead}))


def two_headers(tokens: Callable[[Forger], tuple[str, str]]) -> Send:
    return lambda f: raw("GET", "/fhir/Task", tuple(("Authorization", f"Bearer {token}") for token in tokens(f)))


def presented(**changes: Any) -> Send:
    """A client assertion, made as like an access token as a client can make it. ``typ`` is a header, the others are claims."""

    def send(f: Forger) -> bytes:
        header = {"typ": changes["typ"]} if "typ" in changes else {}
        return f.read(f.assertion(header=header, claims={name: value for name, value in changes.items() if name != "typ"}))

    return send


def rewritten(**claims: Any) -> Send:
    """A good token's payload rewritten under its signature."""

    def send(f: Forger) -> bytes:
        head, body, signature = f.token().split(".")
        known = orjson.loads(unbase64url(body))
        return f.read(f"{head}.{base64url(orjson.dumps({**known, **claims})).decode()}.{signature}")

    return send


def twice(name: str) -> Send:
    """A claim given twice, signed by the hub's key: which of them counts must never be a question."""

    def send(f: Forger) -> bytes:
        head, body, _ = f.token().split(".")
        text = unbase64url(body).replace(b"{", b'{"' + name.encode() + b'": "x", ', 1)
        return f.read(signed_raw(f, unbase64url(head), text))

    return send


def signed_raw(f: Forger, head: bytes, body: bytes) -> str:
    text = base64url(head) + b"." + base64url(body)
    return low_s((text + b"." + base64url(jwt.get_algorithm_by_name("ES256").sign(text, f.hub_key()))).decode())


def unsigned(alg: str) -> Send:
    return lambda f: f.read(f.token(header={"alg": alg}).rpartition(".")[0] + ".")


def hashed(f: Forger) -> bytes:
    """The hub's public key, which anybody can fetch, taken for a secret."""
    head, body, _ = f.token(header={"alg": "HS256"}).split(".")
    secret = orjson.dumps(public_jwk(f.hub_key(), None, "ES256"))
    digest = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f.read(f"{head}.{body}.{base64url(digest).decode()}")


_ROWS: Mapping[str, tuple[str, Send, frozenset[int]]] = {
    # -- where it is ----------------------------------------------------------------------------------------------------------------
    "no token": (HOW, lambda f: raw("GET", "/fhir/Task"), NO),
    **{
        f"Authorization {name}": (HOW, sent_as(value), NO)
        for name, value in {
            "empty": "",
            "Basic": "Basic Y291bnNlbGxvcjp4",
            "without a token": "Bearer",
            "of one letter": "Bearer x",
        }.items()
    },
    "token without a scheme": (HOW, authorized(lambda f: f.token()), NO),
    "token under another scheme": (HOW, authorized(lambda f: f"Token {f.token()}"), NO),
    "two tokens in one header": (HOW, authorized(lambda f: f"Bearer {f.token()} {f.token()}"), NO),
    "two tokens by a comma": (HOW, authorized(lambda f: f"Bearer {f.token()}, Bearer {f.token()}"), NO),
    "two headers, the second good": (HOW, two_headers(lambda f: ("x", f.token())), NO_OR_BAD),
    "two headers, the first good": (HOW, two_headers(lambda f: (f.token(), "x")), NO_OR_BAD),
    "token in the address": (HOW, lambda f: raw("GET", f"/fhir/Task?access_token={f.token()}"), NO),
    "token in the body": (HOW, lambda f: raw("POST", "/fhir/Task/_search", (FORM,), f"access_token={f.token()}".encode()), NO),
    "token in a cookie": (HOW, lambda f: raw("GET", "/fhir/Task", (("Cookie", f"access_token={f.token()}"),)), NO),
    "a caller's name from a header": (
        HOW,
        lambda f: raw("GET", "/fhir/Task", (("X-Forwarded-User", "counsellor"), ("X-Client-Id", "counsellor"))),
        NO,
    ),
    # -- what it is -----------------------------------------------------------------------------------------------------------------
    "a client assertion": (WHAT, presented(), NO),
    "a client assertion for FHIR": (WHAT, presented(client_id="counsellor", scope="system/Task.rs transfer.read", party="vsdr"), NO),
    "a client assertion dressed as a token": (WHAT, presented(typ="at+jwt", client_id="counsellor", scope="system/Task.rs"), NO),
    **{
        f"typ {name}": (WHAT, headed(typ=value), NO)
        for name, value in {"JWT": "JWT", "left out": ..., "of a proof": "dpop+jwt", "a list": ["at+jwt"], "at": "at"}.items()
    },
    "an id token": (WHAT, lambda f: f.read(f.token(header={"typ": "JWT"}, claims={"aud": "counsellor", "nonce": "x", "scope": None})), NO),
    "a statement of the hub to a partner": (
        WHAT,
        lambda f: f.read(f.token(header={"typ": "JWT"}, claims={"sub": f.hub.origin, "client_id": None})),
        NO,
    ),
    **{
        f"{name} left out": (WHAT, made(**{name: None}), NO)
        for name in ("iss", "sub", "aud", "client_id", "jti", "iat", "exp", "scope", "party", "role")
    },
    **{
        f"aud {name}": (WHAT, audience(value), NO)
        for name, value in {
            "elsewhere": lambda f: "https://other.example/fhir",
            "the issuer": lambda f: f.hub.origin,
            "the token endpoint": lambda f: f.hub.token_url,
            "with a slash more": lambda f: f"{f.hub.fhir}/",
            "a list": lambda f: [f.hub.fhir, "https://other.example/fhir"],
            "empty": lambda f: "",
        }.items()
    },
    **{
        f"iss {name}": (WHAT, made(iss=value), NO)
        for name, value in {"another hub": "https://other.example", "empty": "", "a list": ["x"], "the client": "counsellor"}.items()
    },
    **{f"exp {name}": (WHAT, expires(ahead), NO) for name, ahead in {"now": 0, "gone": -1, "long gone": -86_400}.items()},
    **{
        f"exp {name}": (WHAT, made(exp=value), NO)
        for name, value in {"text": "4102444800", "true": True, "a list": [4102444800], "negative": -1}.items()
    },
    "not yet issued to this client": (WHAT, made(sub="police"), NO),
    "of a client that is none": (WHAT, made(sub="nobody", client_id="nobody"), NO),
    **{
        f"{name} of another": (WHAT, made(**{name: value}), NO)
        for name, value in {
            "party": "drps",
            "unit": "htu",
            "region": "peel",
            "role": "police-officer",
            "device_owner": "police",
            "client_id": "police",
        }.items()
    },
    "scope a list": (WHAT, made(scope=["system/Task.rs"]), NO),
    "purposes as text": (WHAT, made(purpose_of_use="COC"), NO),
    "jti empty": (WHAT, made(jti=""), NO),
    **{f"{name} twice": (WHAT, twice(name), NO) for name in ("iss", "aud", "scope", "party", "jti")},
    # -- who signed it --------------------------------------------------------------------------------------------------------------
    **{f"alg {alg}, unsigned": (FORGED, unsigned(alg), NO) for alg in ("none", "None", "ES256")},
    **{f"alg {alg}": (FORGED, headed(alg=alg), NO) for alg in ("ES384", "RS256", "HS256", "es256")},
    "alg HS256 with the public key as secret": (FORGED, hashed, NO),
    "the attacker's key under the hub's kid": (FORGED, lambda f: f.read(f.token(key=ec.generate_private_key(ec.SECP256R1()))), NO),
    "the attacker's key and kid": (FORGED, lambda f: f.read(f.token(header={"kid": "x"}, key=ec.generate_private_key(ec.SECP256R1()))), NO),
    "a partner's key under the hub's kid": (FORGED, lambda f: f.read(signed(ATTACKER_EC, f.token_header(), {})), NO),
    **{
        f"kid {name}": (FORGED, headed(kid=value), NO)
        for name, value in {"left out": ..., "a number": 1, "a path": "../0001", "empty": "", "of a client": "counsellor"}.items()
    },
    "jwk of the attacker": (FORGED, lambda f: f.read(f.token(header={"jwk": public_jwk(ATTACKER_EC, "x", "ES384"), "kid": "x"})), NO),
    "jku": (FORGED, lambda f: f.read(f.token(header={"jku": f.trap, "kid": "x"})), NO),
    "crit": (FORGED, headed(crit=["x"], x=1), NO),
    "scope rewritten": (FORGED, rewritten(scope="system/Task.cruds transfer.offer transfer.read"), NO),
    "party rewritten": (FORGED, rewritten(party="drps", unit="htu"), NO),
    "exp rewritten": (FORGED, rewritten(exp=4_102_444_800), NO),
    "its twin, (r, n - s)": (FORGED, lambda f: f.read(f.with_signature(twin(P256_ORDER), f.token())), NO),
    "signature as DER": (FORGED, lambda f: f.read(f.with_signature(der, f.token())), NO),
    "signature of zeros": (FORGED, lambda f: f.read(f.with_signature(lambda s: b"\0" * 64, f.token())), NO),
    "signature one bit off": (FORGED, lambda f: f.read(f.with_signature(lambda s: s[:-1] + bytes([s[-1] ^ 1]), f.token())), NO),
    "signature a byte long": (FORGED, lambda f: f.read(f.with_signature(lambda s: s + b"\0", f.token())), NO),
    # -- its spelling ---------------------------------------------------------------------------------------------------------------
    "base64 padding": (FORGED, good_but(lambda t: t + "="), NO),
    "base64 with unused bits": (FORGED, good_but(non_canonical), NO),
    "four segments": (FORGED, good_but(lambda t: f"{t}.AAAA"), NO),
    "two segments": (FORGED, good_but(lambda t: t.rpartition(".")[0]), NO),
    "dots only": (FORGED, lambda f: f.read(".."), NO),
    "letters from elsewhere": (FORGED, good_but(lambda t: t[:-1] + "\xe9"), NO),
    "nested": (FORGED, lambda f: f.read(signed_raw(f, b'{"alg":"ES256","typ":"at+jwt","cty":"JWT"}', f.token().encode())), NO),
    "too large": (FORGED, made(pad="a" * 9_000), NO),
    "of 60 KB": (FORGED, lambda f: f.read("a" * 60_000), NO_OR_BAD),
    "too deep": (FORGED, lambda f: f.read(signed_raw(f, unbase64url(f.token().split(".")[0]), f'{{"a": {deep(2800)}}}'.encode())), NO),
    "not JSON": (FORGED, lambda f: f.read(signed_raw(f, unbase64url(f.token().split(".")[0]), b"x")), NO),
    "JSON serialization": (FORGED, lambda f: f.read(as_json(f.token())), NO),
    "CR and LF after": (HOW, authorized(lambda f: f"Bearer {f.token()}x\r\nX-Evil: 1"), NO),
    "a bare LF after": (HOW, authorized(lambda f: f"Bearer {f.token()}x\nX-Evil: 1"), NO_OR_BAD),
    "NUL after": (HOW, authorized(lambda f: f"Bearer {f.token()}\x00"), NO_OR_BAD),
    "not ASCII before": (HOW, authorized(lambda f: f"Be\xe4rer {f.token()}"), NO),
    "a tab for the space": (HOW, authorized(lambda f: f"Bearer\t{f.token()}"), NO),
}

TOKEN_ATTACKS: Final = tuple(Attack(f"token: {name}", clause, send, status) for name, (clause, send, status) in _ROWS.items())
