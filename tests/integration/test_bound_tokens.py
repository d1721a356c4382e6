"""Bound tokens against a running `gateway serve`: certificates over real TLS connections, a proxy's header, and DPoP."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from gateway.cli import app
from gateway.oauth.jose import b64url
from gateway.oauth.keys import public_jwk
from gateway.testing.postgres import PostgresServer
from tests.integration.conftest import postgres_settings
from tests.integration.serving import Authority, Served, serving

CLIENTS: dict[str, dict[str, Any]] = {
    "nurse": {"binding": "mtls"},
    "income": {"binding": "dpop"},
    "counsellor": {},
    "police": {"unit": "htu"},
}
PROXY, STRANGER = "127.0.0.2", "127.0.0.3"
HOLDER = ec.generate_private_key(ec.SECP256R1())
Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """`mine` and `other` are from the authority that the hub accepts, `foreign` is from another."""
    folder = tmp_path_factory.mktemp("certificates")
    accepted, unknown = Authority(folder, "accepted"), Authority(folder, "unknown")
    pairs = {"mine": accepted.issue("mine"), "other": accepted.issue("other"), "foreign": unknown.issue("foreign")}
    return {**pairs, "authority": (accepted.file, accepted.file)}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, certificates: dict[str, Pair]) -> Iterator[Served]:
    """A hub that speaks TLS and takes client certificates."""
    folder = tmp_path_factory.mktemp("tls")
    with serving(folder / "hub", CLIENTS, authority=Authority(folder, "server"), tls_client_ca=certificates["authority"][0]) as served:
        yield served


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A hub behind a proxy that ends TLS."""
    folder = tmp_path_factory.mktemp("proxy") / "hub"
    with serving(folder, CLIENTS, trusted_proxies=[f"{PROXY}/32"], certificate_header="Client-Cert") as served:
        yield served


def call(http: httpx.Client, token: str, scheme: str = "Bearer", **headers: str) -> int:
    answer = http.get("/fhir/Task?status=requested", headers={"authorization": f"{scheme} {token}", **headers})
    if answer.status_code == 401:
        assert "invalid" in answer.headers["www-authenticate"] and "access_token" not in answer.text
    return answer.status_code


def header(pair: Pair) -> str:
    """As a proxy writes it (RFC 9440 section 2)."""
    der = x509.load_pem_x509_certificate(pair[0].read_bytes()).public_bytes(Encoding.DER)
    return f":{base64.b64encode(der).decode()}:"


def test_a_token_bound_to_a_certificate_works_over_its_connections_alone(tls: Served, certificates: dict[str, Pair]) -> None:
    mine, other = certificates["mine"], certificates["other"]
    with tls.connect(mine) as http:
        issued = tls.ask(http, "nurse")
        assert issued.status_code == 200, issued.text
        token = issued.json()["access_token"]
        der = x509.load_pem_x509_certificate(mine[0].read_bytes()).public_bytes(Encoding.DER)
        assert jwt.decode(token, options={"verify_signature": False})["cnf"] == {"x5t#S256": b64url(sha256(der).digest())}
        assert call(http, token) == 200
    with tls.connect(mine) as http:  # a new connection
        assert call(http, token) == 200
    with tls.connect(other) as http:
        assert call(http, token) == 401
    with tls.connect() as http:
        assert call(http, token) == 401
        assert call(http, token, **{"client-cert": header(mine)}) == 401  # a header counts for nothing here
    with tls.connect(other) as http:
        assert call(http, token, **{"client-cert": header(mine), "x-client-cert": header(mine)}) == 401


def test_a_client_bound_to_certificates_gets_no_token_without_one(tls: Served, certificates: dict[str, Pair]) -> None:
    with tls.connect() as http:
        for headers in ({}, {"client-cert": header(certificates["mine"])}):
            refused = tls.ask(http, "nurse", headers)
            assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
        plain = tls.ask(http, "counsellor")
        assert plain.json()["token_type"] == "bearer" and call(http, plain.json()["access_token"]) == 200
        assert http.get("/.well-known/oauth-authorization-server").json()["tls_client_certificate_bound_access_tokens"] is True


def test_a_certificate_of_an_unknown_authority_is_refused_by_tls(tls: Served, certificates: dict[str, Pair]) -> None:
    with tls.connect(certificates["foreign"]) as http, pytest.raises(httpx.TransportError):
        http.get("/health/live")


def test_where_certificates_are_required_nobody_connects_without(tmp_path: Path, certificates: dict[str, Pair]) -> None:
    required = {"tls_client_ca": certificates["authority"][0], "tls_client_required": True}
    with serving(tmp_path / "hub", CLIENTS, authority=Authority(tmp_path, "server"), **required) as served:
        with served.connect() as http, pytest.raises(httpx.TransportError):
            http.get("/health/live")
        with served.connect(certificates["mine"]) as http:
            assert http.get("/health/live").status_code == 200


def test_a_proxys_header_counts_from_the_proxy_alone(behind: Served, certificates: dict[str, Pair]) -> None:
    mine, other = ({"client-cert": header(certificates[name])} for name in ("mine", "other"))
    with behind.connect(source=PROXY) as proxy, behind.connect(source=STRANGER) as stranger:
        issued = behind.ask(proxy, "nurse", mine)
        assert issued.status_code == 200, issued.text
        token = issued.json()["access_token"]
        assert call(proxy, token, **mine) == 200
        assert call(proxy, token, **other) == 401
        assert call(proxy, token) == 401
        assert call(stranger, token, **mine) == 401
        for forged in ({"x-forwarded-for": PROXY}, {"forwarded": f"for={PROXY}"}, {"x-real-ip": PROXY}):
            assert call(stranger, token, **mine, **forged) == 401
            with behind.connect() as neighbour:  # from this machine's own address, which proxies often have
                assert call(neighbour, token, **mine, **forged) == 401
        refused = behind.ask(stranger, "nurse", {**mine, "x-forwarded-for": PROXY})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
        assert call(proxy, token, **mine) == 200


def proof(url: str, method: str, token: str | None = None, key: ec.EllipticCurvePrivateKey = HOLDER, **changes: Any) -> dict[str, str]:
    claims = {"jti": secrets.token_hex(8), "htm": method, "htu": url, "iat": int(time.time()), **changes}
    if token is not None:
        claims["ath"] = b64url(sha256(token.encode()).digest())
    jwk = {name: value for name, value in public_jwk(key, None, "ES256").items() if name in ("kty", "crv", "x", "y")}
    return {"dpop": jwt.encode(claims, key, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": jwk})}


def test_dpop_from_the_token_to_the_call(tls: Served) -> None:
    at, url = f"{tls.origin}/oauth/token", f"{tls.origin}/fhir/Task"
    with tls.connect() as http:
        assert tls.ask(http, "income").json()["error"] == "invalid_dpop_proof"
        shown = proof(at, "POST")
        issued = tls.ask(http, "income", shown)
        assert issued.status_code == 200 and issued.json()["token_type"] == "DPoP", issued.text
        assert tls.ask(http, "income", shown).json()["error"] == "invalid_dpop_proof"  # used
        token = issued.json()["access_token"]
        fresh = proof(url, "GET", token)
        assert call(http, token, "DPoP", **fresh) == 200
        assert call(http, token, "DPoP", **fresh) == 401  # used
        assert call(http, token, "DPoP", **proof(url, "POST", token)) == 401
        assert call(http, token, "DPoP", **proof(f"{tls.origin}/fhir/Patient", "GET", token)) == 401
        assert call(http, token, "DPoP", **proof(url, "GET", token, ec.generate_private_key(ec.SECP256R1()))) == 401
        assert call(http, token, "DPoP", **proof(url, "GET", token, iat=int(time.time()) - 90)) == 401
        assert call(http, token, "DPoP") == 401
        assert call(http, token) == 401
        elsewhere = proof(url.replace("127.0.0.1", "hub.example"), "GET", token)
        assert call(http, token, "DPoP", **elsewhere, host="hub.example") == 401  # a Host header is not the hub's address
        assert call(http, token, "DPoP", **proof(url, "GET", token)) == 200


def test_resource_introspection_and_revocation_over_the_wire(tls: Served) -> None:
    with tls.connect() as http:
        base = f"{tls.origin}/fhir"
        assert tls.ask(http, "counsellor", resource="https://other.example/fhir").json()["error"] == "invalid_target"
        token = tls.ask(http, "counsellor", resource=base).json()["access_token"]
        body = httpx.QueryParams({**tls.signed("counsellor", grant_type="client_credentials", scope="system/Task.rs")})
        for second, status in (("https://other.example", 400), (base, 200)):
            sent = str(body.add("resource", base).add("resource", second)).encode()
            answer = http.post("/oauth/token", content=sent, headers={"content-type": "application/x-www-form-urlencoded"})
            assert answer.status_code == status, answer.text
            body = httpx.QueryParams({**tls.signed("counsellor", grant_type="client_credentials", scope="system/Task.rs")})

        def introspect(who: str, about: str) -> dict[str, Any]:
            answer = http.post("/oauth/introspect", data=tls.signed(who, "introspect", token=about))
            assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
            found: dict[str, Any] = answer.json()
            return found

        assert introspect("counsellor", token)["active"] is True
        for who, about in (("police", token), ("counsellor", "garbage"), ("counsellor", tls.signed("counsellor")["client_assertion"])):
            assert introspect(who, about) == {"active": False}
        for who, about, status in (("police", token, 400), ("counsellor", "garbage", 200), ("counsellor", token, 200)):
            answer = http.post("/oauth/revoke", data=tls.signed(who, "revoke", token=about))
            assert answer.status_code == status and (status != 200 or answer.content == b"")
        assert call(http, token) == 401 and introspect("counsellor", token) == {"active": False}
        for endpoint in ("introspect", "revoke"):
            assert http.get(f"/oauth/{endpoint}").status_code == 405
            assert http.post(f"/oauth/{endpoint}", json={"token": token}).status_code == 400


def test_files_that_tls_cannot_use_are_named_by_their_setting(
    tmp_path: Path, certificates: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine, key), (_, another), text = certificates["mine"], certificates["other"], tmp_path / "text.pem"
    text.write_text("zz-secret")
    monkeypatch.setattr("gateway.log.configure_logging", lambda: None)  # it would log for this whole process, to where this test is heard
    for files, said in (
        ((tmp_path / "nowhere", key, None), "GATEWAY_TLS_CERTIFICATE: there is no such file"),
        ((text, key, None), "GATEWAY_TLS_CERTIFICATE, GATEWAY_TLS_KEY: not"),
        ((mine, another, None), "GATEWAY_TLS_CERTIFICATE, GATEWAY_TLS_KEY: not"),
        ((mine, key, text), "GATEWAY_TLS_CLIENT_CA: not"),
    ):
        monkeypatch.setenv("GATEWAY_BASE_URL", "https://hub.example")
        for name, file in zip(("CERTIFICATE", "KEY", "CLIENT_CA"), files, strict=True):
            monkeypatch.delenv(f"GATEWAY_TLS_{name}", raising=False)
            if file is not None:
                monkeypatch.setenv(f"GATEWAY_TLS_{name}", str(file))
        result = CliRunner().invoke(app, ["serve"])
        assert result.exit_code == 2 and said in result.output and "zz-secret" not in result.output


@pytest.mark.ci
def test_a_revoked_token_and_a_used_proof_are_known_to_the_other_worker(
    tmp_path: Path, postgres_server: PostgresServer, migrated: tuple[str, str]
) -> None:
    """Two server processes on one PostgreSQL, as behind one address."""
    database: dict[str, Any] = {**postgres_settings(postgres_server, migrated)}
    first_folder = tmp_path / "first"
    with serving(first_folder, CLIENTS, **database) as first:
        shared: dict[str, Any] = {name: first_folder / file for name, file in (("signing_keys", "signing"), ("secret_key", "secret.key"))}
        with (
            serving(tmp_path / "second", CLIENTS, base_url=first.origin, **shared, **database) as second,
            first.connect() as here,
            second.connect() as there,
        ):
            token = first.ask(here, "counsellor").json()["access_token"]
            assert call(there, token) == 200
            revoked = here.post("/oauth/revoke", data=first.signed("counsellor", "revoke", token=token))
            began = time.monotonic()
            assert revoked.status_code == 200 and call(here, token) == 401
            while call(there, token) == 200:
                assert time.monotonic() < began + 1
            shown = proof(f"{first.origin}/oauth/token", "POST")
            bound = first.ask(here, "income", shown).json()["access_token"]
            assert first.ask(there, "income", shown).json()["error"] == "invalid_dpop_proof"
            fresh = proof(f"{first.origin}/fhir/Task", "GET", bound)
            assert [call(http, bound, "DPoP", **fresh) for http in (there, here, there)] == [200, 401, 401]
