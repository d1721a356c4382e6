"""Attacks on the token request around a good assertion: how it is sent, what else is asked for. Refused as RFC 6749 section 5.2 says."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from tests.clients.hub import FORM
from tests.security.forging import Attack, Forger, raw

__all__ = ["REQUEST_ATTACKS"]

Form = dict[str, str]
GRANT: Final = "RFC 6749 sections 3.2 and 4.4.2"
ONE: Final = "RFC 6749 section 3.2: parameters SHALL NOT be included more than once"
WAY: Final = "RFC 6749 section 2.3: one authentication method in each request"
SCOPE: Final = "RFC 6749 section 3.3, SMART App Launch 2 scopes"
HTTP: Final = "RFC 6749 section 3.2 and appendix B: POST, form-encoded, in the body"
BAD: Final = frozenset({400})
ANY: Final = frozenset({400, 411, 413, 415, 431, 501})
"""Where the server itself may refuse before the hub sees anything."""


def body(change: Callable[[bytes], bytes], *headers: tuple[str, str]) -> Callable[[Forger], bytes]:
    """The good request's body, changed."""
    return lambda f: raw("POST", "/oauth/token", headers or (FORM,), change(urlencode(f.good()).encode()))


def changed(**parameters: str | None) -> Callable[[Forger], bytes]:
    def send(f: Forger) -> bytes:
        return f.form({name: value for name, value in {**f.good(), **parameters}.items() if value is not None})

    return send


def more(*pairs: tuple[str, str]) -> Callable[[Forger], bytes]:
    return lambda f: f.form([*f.good().items(), *pairs])


def headed(*headers: tuple[str, str]) -> Callable[[Forger], bytes]:
    return lambda f: f.form(f.good(), *headers)


def method(name: str, *headers: tuple[str, str]) -> Callable[[Forger], bytes]:
    return lambda f: raw(name, "/oauth/token", (FORM, *headers), urlencode(f.good()).encode())


def other_assertion(f: Forger) -> bytes:
    """Two assertions, the first of them good."""
    return f.form([*f.good().items(), ("client_assertion", f.assertion())])


def smuggled(f: Forger) -> bytes:
    """Two lengths: a proxy that believes one and a server that believes the other see different requests (RFC 9112 section 6.3)."""
    good = urlencode(f.good()).encode()
    head = f"Host: 127.0.0.1\r\nContent-Type: {FORM[1]}\r\nContent-Length: {len(good)}\r\nContent-Length: 0\r\n\r\n"
    return b"POST /oauth/token HTTP/1.1\r\n" + head.encode() + good


def chunks_and_length(f: Forger) -> bytes:
    good = urlencode(f.good()).encode()
    head = f"Host: 127.0.0.1\r\nContent-Type: {FORM[1]}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    return b"POST /oauth/token HTTP/1.1\r\n" + head.encode() + f"{len(good):x}\r\n".encode() + good + b"\r\n0\r\n\r\n"


_SPLIT = "1\r\nX-Evil: 1"
_ROWS: Mapping[str, tuple[str, Callable[[Forger], bytes], frozenset[int], str | None]] = {
    # -- method, media type, place ------------------------------------------------------------------------------------------------
    **{
        f"method {name}": (HTTP, method(name), frozenset({405}), "invalid_request") for name in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS")
    },
    "method HEAD": (HTTP, lambda f: raw("HEAD", "/oauth/token"), frozenset({405}), None),
    "method TRACE": (HTTP, method("TRACE"), frozenset({400, 405, 501}), None),
    "method of one's own": (HTTP, method("FROBNICATE"), frozenset({400, 405, 501}), None),
    "GET that says it is a POST": (HTTP, method("GET", ("X-HTTP-Method-Override", "POST")), frozenset({405}), "invalid_request"),
    **{
        f"content type {name}": (HTTP, body(lambda b: b, ("Content-Type", value)), BAD, "invalid_request")
        for name, value in {
            "JSON": "application/json",
            "text": "text/plain",
            "multipart": "multipart/form-data; boundary=x",
            "in UTF-16": f"{FORM[1]}; charset=utf-16",
            "in UTF-7": f"{FORM[1]}; charset=utf-7",
            "two in one": f"{FORM[1]}, text/plain",
            "not ASCII": f"{FORM[1]}\xe9",
        }.items()
    },
    "content type left out": (
        HTTP,
        lambda f: raw("POST", "/oauth/token", (("X-A", "b"),), urlencode(f.good()).encode()),
        BAD,
        "invalid_request",
    ),
    "content type twice": (HTTP, body(lambda b: b, FORM, ("Content-Type", "text/plain")), BAD, "invalid_request"),
    "body JSON": (HTTP, body(lambda b: b'{"grant_type": "client_credentials"}'), BAD, "invalid_request"),
    "body empty": (HTTP, body(lambda b: b""), BAD, "invalid_request"),
    "body compressed": (HTTP, body(gzip.compress, FORM, ("Content-Encoding", "gzip")), BAD, "invalid_request"),
    "body a compressed flood": (
        HTTP,
        body(lambda b: gzip.compress(b"a" * 9_000_000), FORM, ("Content-Encoding", "gzip")),
        BAD,
        "invalid_request",
    ),
    "body too large": (HTTP, body(lambda b: b + b"&x=" + b"a" * 17_000), frozenset({413}), "invalid_request"),
    "body of a megabyte": (HTTP, body(lambda b: b + b"&x=" + b"a" * 1_000_000), frozenset({413}), "invalid_request"),
    "body of 40 fields": (HTTP, body(lambda b: b + b"".join(b"&x%d=1" % n for n in range(40))), BAD, "invalid_request"),
    "body of raw bytes": (HTTP, body(lambda b: b + b"&x=\xff\xfe"), BAD, "invalid_request"),
    "body with half an escape": (HTTP, body(lambda b: b + b"&x=%ff"), BAD, "invalid_request"),
    "body parts by semicolons": (HTTP, body(lambda b: b.replace(b"&", b";")), BAD, None),
    "parameters in the address": (HTTP, lambda f: raw("POST", f"/oauth/token?{urlencode(f.good())}", (FORM,)), BAD, "invalid_request"),
    "one parameter in the address": (
        HTTP,
        lambda f: raw("POST", "/oauth/token?scope=transfer.offer", (FORM,), urlencode(f.good()).encode()),
        BAD,
        "invalid_request",
    ),
    "two lengths": ("RFC 9112 section 6.3", smuggled, ANY, None),
    "chunks and a length": ("RFC 9112 section 6.1", chunks_and_length, ANY, None),
    # -- parameters ---------------------------------------------------------------------------------------------------------------
    "grant_type left out": (GRANT, changed(grant_type=None), BAD, "invalid_request"),
    "grant_type empty": (GRANT, changed(grant_type=""), BAD, "invalid_request"),
    **{
        f"grant_type {name}": (GRANT, changed(grant_type=name), BAD, "unsupported_grant_type")
        for name in (
            "authorization_code",
            "refresh_token",
            "password",
            "implicit",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "urn:ietf:params:oauth:grant-type:device_code",
            "CLIENT_CREDENTIALS",
            "client_credentials ",
            "client_credentials\x00",
            "client_credentials\r\nX-Evil: 1",
        )
    },
    "client_assertion left out": ("RFC 7521 section 4.2", changed(client_assertion=None), BAD, "invalid_client"),
    "client_assertion empty": ("RFC 7521 section 4.2", changed(client_assertion=""), BAD, "invalid_client"),
    "client_assertion_type left out": ("RFC 7521 section 4.2", changed(client_assertion_type=None), BAD, "invalid_client"),
    **{
        f"client_assertion_type {name}": ("RFC 7521 section 4.2", changed(client_assertion_type=value), BAD, "invalid_client")
        for name, value in {
            "of SAML": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
            "in capitals": "URN:IETF:PARAMS:OAUTH:CLIENT-ASSERTION-TYPE:JWT-BEARER",
            "and more": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer ",
        }.items()
    },
    **{
        f"{name} twice": (ONE, more((name, value)), BAD, "invalid_request")
        for name, value in {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "scope": "transfer.offer",
            "an unknown parameter": "x",
        }.items()
        if name != "an unknown parameter"
    },
    "an unknown parameter twice": (ONE, more(("x", "1"), ("x", "2")), BAD, "invalid_request"),
    "scope twice, once empty": (ONE, more(("scope", "")), BAD, "invalid_request"),
    "client_assertion twice": (ONE, other_assertion, BAD, "invalid_request"),
    "client_id twice": (ONE, more(("client_id", "counsellor"), ("client_id", "police")), BAD, "invalid_request"),
    **{
        f"client_id {name}": ("RFC 7521 section 4.2", changed(client_id=value), BAD, "invalid_client")
        for name, value in {
            "of another party": "police",
            "unknown": "nobody",
            "with a space": "counsellor ",
            "with LF": "counsellor\n",
        }.items()
    },
    # -- more than one way to authenticate ----------------------------------------------------------------------------------------
    "Basic as well": (WAY, headed(("Authorization", "Basic Y291bnNlbGxvcjp4")), BAD, "invalid_request"),
    "a bearer token as well": (WAY, headed(("Authorization", "Bearer x")), BAD, "invalid_request"),
    "an empty Authorization as well": (WAY, headed(("Authorization", "")), BAD, "invalid_request"),
    "client_secret as well": (WAY, changed(client_secret="x", client_id="counsellor"), BAD, "invalid_request"),
    "client_secret alone": (WAY, changed(client_secret="x", client_id="counsellor", client_assertion=None), BAD, "invalid_request"),
    "Basic alone": (
        WAY,
        lambda f: f.form({"grant_type": "client_credentials", "scope": "transfer.read"}, ("Authorization", "Basic Y291bnNlbGxvcjp4")),
        frozenset({401}),
        "invalid_client",
    ),
    "client_id alone": (
        WAY,
        lambda f: f.form({"grant_type": "client_credentials", "scope": "transfer.read", "client_id": "counsellor"}),
        BAD,
        "invalid_client",
    ),
    # -- asking for more ----------------------------------------------------------------------------------------------------------
    "scope left out": (SCOPE, changed(scope=None), BAD, "invalid_scope"),
    **{
        f"scope {name}": (SCOPE, changed(scope=value), BAD, "invalid_scope")
        for name, value in {
            "empty": "",
            "blank": "   ",
            "not registered": "system/Observation.rs",
            "of another role": "emergency.review",
            "of a person": "user/*.* patient/*.read",
            "of a launch": "launch openid fhirUser offline_access",
            "with letters out of order": "system/Task.sr",
            "with a letter that is none": "system/Task.x",
            "without letters": "system/Task.",
            "in another case": "system/task.rs TRANSFER.READ",
            "with a search narrowed": "system/Task.rs?owner=x",
            "by commas": "system/Task.rs,transfer.read",
            "by tabs": "system/Task.rs\ttransfer.read",
            "by line ends": "transfer.read\r\nsystem/Task.d",
            "with NUL": "transfer.read\x00",
            "in other letters": "tr\u0430nsfer.read",
            "very long": "a" * 8000,
            "many": " ".join(f"system/Type{n}.rs" for n in range(400)),
        }.items()
    },
    **{
        f"resource {name}": ("RFC 8707 section 2", changed(resource=value), BAD, "invalid_target")
        for name, value in {
            "elsewhere": "https://other.example/fhir",
            "not an address": "x",
            "with a fragment": "http://127.0.0.1/fhir#a",
        }.items()
    },
    # -- headers ------------------------------------------------------------------------------------------------------------------
    "header with a bare LF": ("RFC 9112 section 2.2", headed(("X-A", "b\nX-Evil: 1")), frozenset({200, 400}), None),
    "header with NUL": ("RFC 9110 section 5.5", headed(("X-A", "b\x00")), ANY, None),
    "header folded": ("RFC 9112 section 5.2", headed(("X-A", "b\r\n c")), frozenset({200, 400}), None),
    "header name with a space": ("RFC 9112 section 5.1", headed(("Authorization ", "Basic x")), ANY, None),
}

REQUEST_ATTACKS: Final = tuple(
    Attack(name, clause, send, status, error, spares=status == BAD and error in ("invalid_request", "unsupported_grant_type"))
    for name, (clause, send, status, error) in _ROWS.items()
)
