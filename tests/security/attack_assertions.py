"""Attacks on the client assertion. Every one is refused with the one body that every failure of authentication has."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.oauth.keys import public_jwk
from tests.clients.hub import RSA, base64url
from tests.security.forging import ATTACKER_EC, ATTACKER_RSA, P384_ORDER, Attack, Forger, der, twin

__all__ = ["ASSERTION_ATTACKS"]

Make = Callable[[Forger], str]
REFUSED: Final = frozenset({400})
LONG: Final = "x" * 256
"""One character more than a name may have."""


def header(**changes: Any) -> Make:
    return lambda f: f.assertion(header=changes)


def claims(**changes: Any) -> Make:
    return lambda f: f.assertion(claims=changes)


def at(name: str, seconds: float, **more: Any) -> Make:
    return lambda f: f.assertion(claims={name: int(time.time()) + seconds, **more})


def payload(change: Callable[[dict[str, Any]], Any]) -> Make:
    """The claims, made into any JSON value."""
    return lambda f: f.assertion(claims=orjson.dumps(change(f.claims({}))))


def text(change: Callable[[str], str]) -> Make:
    """The claims' JSON text, changed before it is signed."""
    return lambda f: f.assertion(claims=change(json.dumps(f.claims({}))).encode("utf-8", "surrogatepass"))


def header_text(change: Callable[[str], str]) -> Make:
    return lambda f: f.assertion(header=change(json.dumps(f.header({}))).encode("utf-8"))


def audience(change: Callable[[Forger], Any]) -> Make:
    return lambda f: f.assertion(claims={"aud": change(f)})


def expiry(value: str) -> Make:
    """Any JSON text, or none, as `exp`."""
    return text(lambda t: t.replace('"exp": ', f'"exp": {value}, "was": '))


def null(name: str) -> Make:
    return payload(lambda c: {**c, name: None})


def once_more(name: str) -> Callable[[str], str]:
    """The member stands in the text already: here it comes once more, before it."""
    return lambda t: t.replace("{", f'{{"{name}": "x", ', 1)


def compact(change: Callable[[str], str]) -> Make:
    """A good assertion, changed after it was signed."""
    return lambda f: change(f.assertion())


def signature(change: Callable[[bytes], bytes], client: str = "counsellor") -> Make:
    def make(f: Forger) -> str:
        f.client = client
        return f.with_signature(change)

    return make


def signed_with(alg: str, sign: Callable[[Forger, bytes], bytes]) -> Make:
    """Signed in earnest, with another algorithm."""

    def make(f: Forger) -> str:
        if alg.startswith(("RS", "PS")):
            f.client = RSA
        signed_text = base64url(orjson.dumps(f.header({"alg": alg}))) + b"." + base64url(orjson.dumps(f.claims({})))
        return (signed_text + b"." + base64url(sign(f, signed_text))).decode()

    return make


def rsa_key(f: Forger) -> rsa.RSAPrivateKey:
    key = f.hub.clients[RSA].key
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def pss(digest: SHA256 | SHA384 | SHA512) -> Callable[[Forger, bytes], bytes]:
    return lambda f, signing: rsa_key(f).sign(signing, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


def as_other_client(name: str) -> Make:
    """Everything is this client's but the signature, which is the counsellor's: a stolen key opens its own door only."""

    def make(f: Forger) -> str:
        own = f.hub.clients["counsellor"].key
        f.client = name
        return f.assertion(key=own)

    return make


def public_pem(f: Forger) -> bytes:
    return rsa_key(f).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def without_signature(alg: str) -> Make:
    return lambda f: f.assertion(header={"alg": alg}).rpartition(".")[0] + "."


def swapped(f: Forger) -> str:
    """Another assertion's payload under this one's signature."""
    one, other = f.assertion().split("."), f.assertion(claims={"exp": int(time.time()) + 299}).split(".")
    return f"{one[0]}.{other[1]}.{one[2]}"


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def plus_modulus(f: Forger) -> str:
    f.client = RSA
    modulus = rsa_key(f).public_key().public_numbers().n
    return f.with_signature(lambda s: (int.from_bytes(s, "big") + modulus).to_bytes(len(s) + 1, "big"))


def plus_order(s: bytes) -> bytes:
    return (int.from_bytes(s[:48], "big") + P384_ORDER).to_bytes(49, "big") + b"\0" + s[48:]


def non_canonical(token: str) -> str:
    """The last character's unused bits set: base64 decoders that are lax read the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    head, last = token[:-1], alphabet.index(token[-1])
    unused = {0: 0, 2: 4, 3: 2}[len(token.rpartition(".")[2]) % 4]
    return head + alphabet[last | ((1 << unused) - 1 if unused else 0)] if unused else token + "A"


def as_json(token: str) -> str:
    """RFC 7515 section 7.2: another form of the same thing, which nobody asked for."""
    return json.dumps(dict(zip(("protected", "payload", "signature"), token.split("."), strict=True)))


HEADER, KEYS, CLAIMS, REPLAY, FORM = (
    "RFC 7515 section 4, SMART client-confidential-asymmetric: alg, kid, typ",
    "SMART client-confidential-asymmetric: one registered key, by kid and kty; nothing fetched but the registered address",
    "RFC 7523 section 3, SMART client-confidential-asymmetric: iss, sub, aud, exp, jti",
    "RFC 7523 section 3 item 7: used once",
    "RFC 7515 section 3.1, 5.2, RFC 7518 section 3: one spelling of one signature",
)

_ATTACKS: dict[str, tuple[str, Make]] = {
    # -- alg ----------------------------------------------------------------------------------------------------------------------
    **{f"alg {alg}, unsigned": (HEADER, without_signature(alg)) for alg in ("none", "None", "NONE", "nOnE", "ES384")},
    **{f"alg {alg}, signed": (HEADER, header(alg=alg)) for alg in ("none", "es384", "ES384 ", "ES384\x00", "ES256", "RS384", "HS384", "")},
    **{f"alg {name}": (HEADER, header(alg=value)) for name, value in {"left out": ..., "a number": 384, "a list": ["ES384"]}.items()},
    "alg null": (HEADER, header_text(lambda head: head.replace('"ES384"', "null"))),
    "alg HS384 with the public key as secret": (HEADER, lambda f: f.keyed_hash("HS384", public_pem(f))),
    "alg HS256 with the key set as secret": (
        HEADER,
        lambda f: f.keyed_hash("HS256", orjson.dumps(public_jwk(f.hub.clients[f.client].key, "counsellor", "ES384"))),
    ),
    "alg RS256": (HEADER, signed_with("RS256", lambda f, signing: rsa_key(f).sign(signing, padding.PKCS1v15(), SHA256()))),
    "alg RS512": (HEADER, signed_with("RS512", lambda f, signing: rsa_key(f).sign(signing, padding.PKCS1v15(), SHA512()))),
    "alg PS256": (HEADER, signed_with("PS256", pss(SHA256()))),
    "alg PS384": (HEADER, signed_with("PS384", pss(SHA384()))),
    "alg RS384, signed as PS384": (HEADER, signed_with("RS384", pss(SHA384()))),
    "alg EdDSA": (HEADER, signed_with("EdDSA", lambda f, signing: ed25519.Ed25519PrivateKey.generate().sign(signing))),
    # -- kid ----------------------------------------------------------------------------------------------------------------------
    **{
        f"kid {name}": (KEYS, header(kid=value))
        for name, value in {
            "left out": ...,
            "empty": "",
            "a number": 1,
            "a list": ["counsellor"],
            "an object": {"kid": "counsellor"},
            "unknown": "nobody",
            "of another party": "police",
            "too long": LONG,
            "a path": "../../../../dev/null",
            "an address": "http://127.0.0.1:9/key",
            "SQL": "counsellor' OR '1'='1",
            "with NUL": "counsellor\x00",
            "with CR and LF": "counsellor\r\nX-Evil: 1",
            "with a space": "counsellor ",
            "in capitals": "COUNSELLOR",
            "look-alike": "c\u043eunsellor",
        }.items()
    },
    "kid null": (KEYS, header_text(lambda head: head.replace('"kid": "counsellor"', '"kid": null'))),
    # -- keys that come with the signature ----------------------------------------------------------------------------------------
    "jku elsewhere": (KEYS, lambda f: f.assertion(header={"jku": f.trap}, key=ATTACKER_EC)),
    "jku elsewhere, signed rightly": (KEYS, lambda f: f.assertion(header={"jku": f.trap})),
    "jku at the hub": (KEYS, lambda f: f.assertion(header={"jku": f"{f.hub.origin}/oauth/jwks"})),
    "jku a list": (KEYS, lambda f: f.assertion(header={"jku": [f.trap]})),
    "jku a file": (KEYS, header(jku="file:///etc/passwd")),
    "jku empty": (KEYS, header(jku="")),
    "jwk of the attacker": (KEYS, lambda f: f.assertion(header={"jwk": public_jwk(ATTACKER_EC, "counsellor", "ES384")}, key=ATTACKER_EC)),
    "jwk, signed rightly": (KEYS, lambda f: f.assertion(header={"jwk": public_jwk(f.hub.clients[f.client].key, f.client, "ES384")})),
    "x5u": (KEYS, lambda f: f.assertion(header={"x5u": f.trap}, key=ATTACKER_EC)),
    "x5u, signed rightly": (KEYS, lambda f: f.assertion(header={"x5u": f.trap})),
    "x5c": (KEYS, header(x5c=["MIIB"])),
    "crit": (HEADER, header(crit=["exp"], exp=1)),
    "b64 false": (HEADER, header(b64=False, crit=["b64"])),
    "another's key": (KEYS, lambda f: f.assertion(key=ATTACKER_EC)),
    "another's RSA key": (KEYS, lambda f: f.assertion(header={"alg": "RS384"}, key=ATTACKER_RSA)),
    "another curve": (KEYS, lambda f: f.assertion(key=ec.generate_private_key(ec.SECP256K1()))),
    # -- typ ----------------------------------------------------------------------------------------------------------------------
    **{
        f"typ {name}": (HEADER, header(typ=value))
        for name, value in {
            "of an access token": "at+jwt",
            "of a proof": "dpop+jwt",
            "of an id token": "id_token+jwt",
            "JWE": "JWE",
            "a number": 1,
            "a list": ["JWT"],
            "empty": "",
        }.items()
    },
    # -- aud ----------------------------------------------------------------------------------------------------------------------
    **{
        f"aud {name}": (CLAIMS, audience(change))
        for name, change in {
            "left out": lambda f: None,
            "empty": lambda f: "",
            "an empty list": lambda f: [],
            "another server": lambda f: "https://other.example/oauth/token",
            "the FHIR base": lambda f: f.hub.fhir,
            "the key set": lambda f: f"{f.hub.origin}/oauth/jwks",
            "with a slash more": lambda f: f"{f.hub.token_url}/",
            "with a query": lambda f: f"{f.hub.token_url}?a=b",
            "with a fragment": lambda f: f"{f.hub.token_url}#a",
            "with a user": lambda f: f.hub.token_url.replace("://", "://a@"),
            "in capitals": lambda f: f.hub.token_url.upper(),
            "as a prefix": lambda f: f"{f.hub.token_url}.evil.example",
            "with a space": lambda f: f"{f.hub.token_url} ",
            "by another name": lambda f: f.hub.token_url.replace("127.0.0.1", "localhost"),
            "by https": lambda f: f.hub.token_url.replace("http:", "https:"),
            "escaped": lambda f: f.hub.token_url.replace("token", "tok%65n"),
            "also another server": lambda f: [f.hub.token_url, "https://other.example/oauth/token"],
            "a list in a list": lambda f: [[f.hub.token_url]],
            "a number": lambda f: 1,
            "an object": lambda f: {"url": f.hub.token_url},
            "true": lambda f: True,
        }.items()
    },
    # -- iss, sub -----------------------------------------------------------------------------------------------------------------
    **{f"{name} left out": (CLAIMS, claims(**{name: None})) for name in ("iss", "sub", "exp", "jti")},
    **{
        f"{name} {kind}": (CLAIMS, claims(**{name: value}))
        for name in ("iss", "sub")
        for kind, value in {"of another party": "police", "unknown": "nobody", "empty": "", "a number": 1, "a list": ["counsellor"]}.items()
    },
    **{
        f"iss and sub {kind}": (CLAIMS, claims(iss=value, sub=value))
        for kind, value in {
            "unknown": "nobody",
            "with a space": "counsellor ",
            "with NUL": "counsellor\x00",
            "too long": LONG,
            "in capitals": "COUNSELLOR",
            "look-alike": "c\u043eunsellor",
            "lists": ["counsellor"],
        }.items()
    },
    **{f"the counsellor's key as {name}": (KEYS, as_other_client(name)) for name in ("police", "nurse", "income", RSA)},
    # -- exp, nbf, iat ------------------------------------------------------------------------------------------------------------
    "exp gone": (CLAIMS, at("exp", -30)),
    "exp long gone": (CLAIMS, at("exp", -86_400)),
    "exp in an hour": (CLAIMS, at("exp", 3_600)),
    "exp in a year": (CLAIMS, at("exp", 31_536_000)),
    "exp in milliseconds": (CLAIMS, lambda f: f.assertion(claims={"exp": int(time.time() * 1000) + 200_000})),
    **{
        f"exp {name}": (CLAIMS, expiry(value))
        for name, value in {
            "null": "null",
            "text": '"4102444800"',
            "true": "true",
            "a list": "[4102444800]",
            "negative": "-1",
            "NaN": "NaN",
            "Infinity": "Infinity",
            "beyond a float": "1e400",
            "with 4,000 digits": "9" * 4000,
            "with 5,000 digits": "9" * 5000,
        }.items()
    },
    **{f"{name} far ahead": (CLAIMS, at(name, 3_600)) for name in ("nbf", "iat")},
    **{f"{name} text": (CLAIMS, claims(**{name: "0"})) for name in ("nbf", "iat")},
    **{f"{name} null": (CLAIMS, null(name)) for name in ("nbf", "iat")},
    # -- jti ----------------------------------------------------------------------------------------------------------------------
    **{
        f"jti {name}": (CLAIMS, claims(jti=value))
        for name, value in {
            "empty": "",
            "a number": 7,
            "a list": ["a"],
            "true": True,
            "too long": LONG,
            "LF": "a\nb",
            "NUL": "\x00",
        }.items()
    },
    "jti null": (CLAIMS, payload(lambda c: {**c, "jti": None})),
    "jti half a character": (CLAIMS, text(lambda t: t.replace('"jti": "', '"jti": "\\ud800'))),
    # -- members given twice ------------------------------------------------------------------------------------------------------
    **{f"two {name}": (HEADER, header_text(once_more(name))) for name in ("alg", "kid", "typ")},
    **{f"{name} twice": (CLAIMS, text(once_more(name))) for name in ("iss", "sub", "aud", "exp", "jti")},
    "iss twice, once escaped": (CLAIMS, text(lambda t: t.replace("{", '{"\\u0069ss": "police", ', 1))),
    "a member twice, deep inside": (CLAIMS, text(lambda t: t.replace("{", '{"a": {"b": 1, "b": 2}, ', 1))),
    # -- the signature and its spelling -------------------------------------------------------------------------------------------
    "ES384 as DER": (FORM, signature(der)),
    "ES384 with r and s zero": (FORM, signature(lambda s: b"\0" * 96)),
    "ES384 with r and s one": (FORM, signature(lambda s: (b"\0" * 47 + b"\1") * 2)),
    "ES384 with r and s full": (FORM, signature(lambda s: b"\xff" * 96)),
    "ES384 with s zero": (FORM, signature(lambda s: s[:48] + b"\0" * 48)),
    "ES384 with r beyond the order": (FORM, signature(plus_order)),
    "ES384 a byte short": (FORM, signature(lambda s: s[:-1])),
    "ES384 a byte long": (FORM, signature(lambda s: s + b"\0")),
    "ES384 padded in front": (FORM, signature(lambda s: b"\0" + s[:48] + b"\0" + s[48:])),
    "ES384 halves swapped": (FORM, signature(lambda s: s[48:] + s[:48])),
    "ES384 one bit off": (FORM, signature(lambda s: s[:-1] + bytes([s[-1] ^ 1]))),
    "RS384 padded in front": (FORM, signature(lambda s: b"\0" + s, RSA)),
    "RS384 a byte short": (FORM, signature(lambda s: s[:-1], RSA)),
    "RS384 plus the modulus": (FORM, plus_modulus),
    "RS384 all zero": (FORM, signature(lambda s: b"\0" * len(s), RSA)),
    "signature of one byte": (FORM, signature(lambda s: b"\0")),
    "another payload under the signature": (FORM, swapped),
    "base64 padding": (FORM, compact(lambda t: t + "=")),
    "base64 with unused bits": (FORM, compact(non_canonical)),
    "base64 of the other alphabet": (FORM, compact(lambda t: t.replace("-", "+").replace("_", "/") + "/")),
    "a space before": (FORM, compact(lambda t: f" {t}")),
    "a line end after": (FORM, compact(lambda t: f"{t}\n")),
    "a line end inside": (FORM, compact(lambda t: t.replace(".", "\r\n.", 1))),
    "NUL after": (FORM, compact(lambda t: f"{t}\x00")),
    "Bearer before": (FORM, compact(lambda t: f"Bearer {t}")),
    "two tokens": (FORM, compact(lambda t: f"{t} {t}")),
    "two segments": (FORM, compact(lambda t: t.rpartition(".")[0])),
    "four segments": (FORM, compact(lambda t: f"{t}.AAAA")),
    "five segments, as encryption has": (FORM, compact(lambda t: f"{t}.AAAA.AAAA")),
    "dots only": (FORM, lambda f: ".."),
    "JSON serialization": (FORM, lambda f: as_json(f.assertion())),
    "one letter": (FORM, lambda f: "x"),
    "letters from elsewhere": (FORM, compact(lambda t: t.replace("e", "\u0435", 1))),
    # -- what is inside -----------------------------------------------------------------------------------------------------------
    "nested": (FORM, lambda f: f.assertion(header={"cty": "JWT"}, claims=f.assertion().encode())),
    "nested in a text": (FORM, payload(lambda c: json.dumps(c))),
    "compressed": (FORM, lambda f: f.assertion(header={"zip": "DEF"}, claims=zlib.compress(orjson.dumps(f.claims({})))[2:-4])),
    "a compressed flood": (FORM, lambda f: f.assertion(header={"zip": "DEF"}, claims=zlib.compress(b"[" * 4_000_000, 9)[:5000])),
    "payload a list": (FORM, payload(lambda c: [c])),
    "payload null": (FORM, payload(lambda c: None)),
    "payload empty": (FORM, lambda f: f.assertion(claims=b"")),
    "payload not JSON": (FORM, lambda f: f.assertion(claims=b"iss=counsellor")),
    "payload with a byte order mark": (FORM, text(lambda t: "\ufeff" + t)),
    "payload in UTF-16": (FORM, lambda f: f.assertion(claims=json.dumps(f.claims({})).encode("utf-16"))),
    "payload not UTF-8": (FORM, lambda f: f.assertion(claims=json.dumps(f.claims({})).encode()[:-1] + b', "a": "\xff"}')),
    "payload and more": (FORM, text(lambda t: t + "{}")),
    "header a list": (FORM, lambda f: f.assertion(header=b'["ES384"]')),
    "header too deep": (FORM, lambda f: f.assertion(header=f'{{"alg": "ES384", "a": {deep(1200)}}}'.encode())),
    "payload too deep": (FORM, text(lambda t: t.replace("{", f'{{"a": {deep(2800)}, ', 1))),
    "too large": (FORM, text(lambda t: t.replace("{", f'{{"a": "{"a" * 9000}", ', 1))),
    "many members, too large": (FORM, payload(lambda c: {**c, **{f"m{number}": number for number in range(1000)}})),
}


def replays() -> Iterator[Attack]:
    """Used before, in the same spelling or as its twin."""

    def used(change: Callable[[bytes], bytes] | None, client: str) -> Callable[[Forger], bytes]:
        def send(f: Forger) -> bytes:
            f.client = client
            token = f.assertion()
            wire = f.hub.wire()
            first = wire.send(f.request(token))
            wire.close()
            assert first.status == 200, first.body
            return f.request(f.with_signature(change, token) if change else token)

        return send

    yield Attack("replay, ES384", REPLAY, used(None, "counsellor"), REFUSED, "invalid_client")
    yield Attack("replay, RS384", REPLAY, used(None, RSA), REFUSED, "invalid_client")
    yield Attack("replay as its twin, (r, n - s)", REPLAY, used(twin(P384_ORDER), "counsellor"), REFUSED, "invalid_client")
    yield Attack("replay signed anew", REPLAY, signed_anew, REFUSED, "invalid_client")


def signed_anew(f: Forger) -> bytes:
    """The same `jti` in an assertion that is new in everything else."""
    wire = f.hub.wire()
    assert wire.send(f.request(f.assertion())).status == 200
    wire.close()
    return f.request(f.assertion(claims={"exp": int(time.time()) + 200}))


def attack(name: str, clause: str, make: Make) -> Attack:
    """Sent as the assertion of a request that is good in everything else. Its `jti` must not be used up by failing."""
    spares = not name.startswith(("jti", "two jti", "the counsellor's key"))
    return Attack(name, clause, lambda f: f.request(make(f)), REFUSED, "invalid_client", spares)


ASSERTION_ATTACKS: Final = (*(attack(name, clause, make) for name, (clause, make) in _ATTACKS.items()), *replays())
