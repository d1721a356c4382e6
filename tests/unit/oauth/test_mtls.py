"""Tokens bound to a certificate (RFC 8705 section 3), and the header that only a trusted proxy may set (RFC 9440)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from urllib.parse import quote

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.oauth.authentication import OAuthError
from gateway.oauth.mtls import ClientCertificates, TrustedProxies, thumbprint
from gateway.oauth.server import TokenResponse
from gateway.parties.model import Binding
from gateway.problems import Challenge, Problem
from tests.unit.oauth.world import P256_KEY, World, assertion, at_token_endpoint, claims, client, form, proof, shown, world

BOUND = client(binding=Binding.MTLS)


def certificate(name: str = "alpha") -> x509.Certificate:
    """A self-signed certificate; made anew, so that two differ."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begins = datetime.now(UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder(subject, subject, P256_KEY.public_key(), x509.random_serial_number(), begins, begins + timedelta(days=9))
    ).sign(P256_KEY, hashes.SHA256())


CERTIFICATE, OTHER = certificate(), certificate()
DER = CERTIFICATE.public_bytes(Encoding.DER)
MINE, THEIRS = (thumbprint(one.public_bytes(Encoding.DER)) for one in (CERTIFICATE, OTHER))
AS_RFC_9440 = f":{base64.b64encode(DER).decode()}:"
AS_PEM = quote(CERTIFICATE.public_bytes(Encoding.PEM).decode())


async def bound_token(hub: World) -> str:
    issued = await hub.service.token(form(assertion(claims())), {}, at_token_endpoint(certificate=MINE))
    assert isinstance(issued, TokenResponse)
    return str(issued.body["access_token"])


async def passes(hub: World, authorization: str, *proofs: str, certificate: str | None) -> bool:
    try:
        await hub.callers.authenticate(authorization, partial(shown, *proofs, certificate=certificate))
    except Problem as problem:
        assert problem.challenge is Challenge.TOKEN
        return False
    return True


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    assert base64.urlsafe_b64decode(MINE + "=") == sha256(DER).digest()


async def test_a_token_is_bound_to_the_certificate_and_used_with_it_alone() -> None:
    hub = world(BOUND)
    token = await bound_token(hub)
    assert jwt.decode(token, options={"verify_signature": False})["cnf"] == {"x5t#S256": MINE}
    assert await passes(hub, f"Bearer {token}", certificate=MINE)
    assert not await passes(hub, f"Bearer {token}", certificate=THEIRS)
    assert not await passes(hub, f"Bearer {token}", certificate=None)
    assert await passes(hub, f"Bearer {token}", certificate=MINE)
    with pytest.raises(Problem):
        hub.tokens.verify(token)


async def test_a_bound_client_without_a_certificate_gets_nothing_and_its_plain_token_stops() -> None:
    hub = world()
    plain = hub.tokens.issue(client(), client().scopes).token
    hub.configure(BOUND)
    assert not await passes(hub, f"Bearer {plain}", certificate=MINE)
    refused = await hub.service.token(form(assertion(claims())), {}, at_token_endpoint())
    assert isinstance(refused, OAuthError) and (refused.status, refused.body["error"]) == (400, "invalid_request")


async def test_a_client_that_is_not_bound_is_not_bound_by_the_certificate_it_shows() -> None:
    hub = world()
    assert await passes(hub, f"Bearer {await bound_token(hub)}", certificate=None)


async def test_a_token_bound_twice_needs_both() -> None:
    hub = world(BOUND)
    issued = await hub.service.token(form(assertion(claims())), {}, at_token_endpoint(proof(), certificate=MINE))
    assert isinstance(issued, TokenResponse)
    token = str(issued.body["access_token"])
    assert await passes(hub, f"DPoP {token}", proof(token=token), certificate=MINE)
    assert not await passes(hub, f"DPoP {token}", proof(token=token), certificate=THEIRS)
    assert not await passes(hub, f"Bearer {token}", certificate=MINE)


async def test_a_dpop_token_does_not_serve_a_client_bound_to_certificates() -> None:
    hub = world(client(binding=Binding.DPOP))
    issued = await hub.service.token(form(assertion(claims())), {}, at_token_endpoint(proof()))
    assert isinstance(issued, TokenResponse)
    token = str(issued.body["access_token"])
    hub.configure(BOUND)
    assert not await passes(hub, f"DPoP {token}", proof(token=token), certificate=MINE)


PROXY = ClientCertificates(TrustedProxies(["10.0.0.0/24", "::1"]), "Client-Cert", from_tls=False)


def test_a_trusted_proxy_says_which_certificate_its_client_showed() -> None:
    for peer in ("10.0.0.7", "::1"):
        assert PROXY.shown(peer, None, [AS_RFC_9440]) == MINE
        assert PROXY.shown(peer, None, [AS_PEM]) == MINE
    assert PROXY.possible and PROXY.header == "client-cert"


@pytest.mark.parametrize("peer", ["10.0.1.7", "127.0.0.1", "::2", "proxy", "", None])
def test_from_anybody_else_the_header_is_dropped(peer: str | None) -> None:
    assert PROXY.shown(peer, None, [AS_RFC_9440]) is None
    assert PROXY.shown(peer, THEIRS, [AS_RFC_9440]) == THEIRS  # what TLS showed counts, whatever a header says


def test_a_proxys_own_certificate_is_not_its_clients() -> None:
    assert PROXY.shown("10.0.0.7", THEIRS, []) is None


def test_without_a_proxy_only_the_connection_counts() -> None:
    alone = ClientCertificates(TrustedProxies([]), None, from_tls=True)
    assert alone.shown("10.0.0.7", MINE, [AS_PEM]) == MINE and alone.possible
    assert alone.shown("10.0.0.7", None, [AS_PEM]) is None
    assert not ClientCertificates(TrustedProxies([]), None, from_tls=False).possible


NO_CERTIFICATE = {
    "twice": [AS_RFC_9440, AS_RFC_9440],
    "empty": [""],
    "colons": ["::"],
    "not-base64": [":%%%:"],
    "not-a-certificate": [":AAAA:"],
    "cut-off": [AS_RFC_9440[:200] + ":"],
    "with-parameters": [AS_RFC_9440 + ";x=1"],
    "two-in-one": [AS_PEM + AS_PEM],
    "a-key": [quote("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")],
    "not-utf-8": ["-----BEGIN CERTIFICATE-----%ff"],
    "non-ascii": ["-----BEGIN CERTIFICATE-----é"],
    "huge": [":" + "A" * 20_000 + ":"],
    "thumbprint": [MINE],
}


@pytest.mark.parametrize("what", NO_CERTIFICATE)
def test_a_header_that_holds_no_certificate_shows_none(what: str) -> None:
    assert PROXY.shown("10.0.0.7", None, NO_CERTIFICATE[what]) is None
