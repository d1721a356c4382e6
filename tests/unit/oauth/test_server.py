"""The token endpoint's answers (RFC 6749 section 5)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from gateway.identity import Caller, ClientId, PartyId, ShelfId, StatusView
from gateway.oauth.authentication import OAuthError
from gateway.oauth.devices import DeviceRule
from gateway.oauth.metadata import authorization_server_metadata, smart_configuration
from gateway.oauth.server import TokenResponse
from gateway.problems import IssueCode, Problem, ProblemType, Refusal
from tests.unit.oauth.world import URLS, MemoryReplay, assertion, claims, client, form, world

NO_STORE = {("Cache-Control", "no-store"), ("Pragma", "no-cache")}


async def test_a_token_response_is_as_the_rfc_says() -> None:
    hub = world()
    answer = await hub.service.token(form(assertion(claims()), scope="system/*.rs transfer.offer transfer.accept"), {})
    assert isinstance(answer, TokenResponse)
    assert set(answer.body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (answer.body["token_type"], answer.body["expires_in"]) == ("bearer", 300)
    assert answer.body["scope"] == "system/Patient.r system/Task.rs transfer.offer"
    assert NO_STORE <= set(answer.headers)
    assert hub.tokens.verify(answer.body["access_token"]).token_id == answer.token_id


WRONG: dict[str, tuple[dict[str, str | None], dict[str, str], int, str]] = {
    "no-grant-type": ({"grant_type": None}, {}, 400, "invalid_request"),
    "password-grant": ({"grant_type": "password"}, {}, 400, "unsupported_grant_type"),
    "jwt-bearer-grant": ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, {}, 400, "unsupported_grant_type"),
    "no-assertion": ({"client_assertion": None}, {}, 400, "invalid_client"),
    "no-assertion-type": ({"client_assertion_type": None}, {}, 400, "invalid_client"),
    "saml-assertion-type": (
        {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"},
        {},
        400,
        "invalid_client",
    ),
    "secret-beside": ({"client_secret": "x"}, {}, 400, "invalid_request"),
    "secret-only": ({"client_secret": "x", "client_assertion": None}, {}, 400, "invalid_request"),
    "basic-beside": ({}, {"authorization": "Basic eDp5"}, 400, "invalid_request"),
    "basic-only": ({"client_assertion": None}, {"authorization": "Basic eDp5"}, 401, "invalid_client"),
    "no-scope": ({"scope": None}, {}, 400, "invalid_scope"),
    "unregistered-scope": ({"scope": "transfer.accept"}, {}, 400, "invalid_scope"),
    "patient-scope": ({"scope": "patient/*.rs"}, {}, 400, "invalid_scope"),
    "other-resource": ({"resource": "https://other.test/fhir"}, {}, 400, "invalid_target"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_request_is_refused_as_the_rfc_says(case: str) -> None:
    changes, headers, status, error = WRONG[case]
    answer = await world().service.token(form(assertion(claims()), **changes), headers)
    assert isinstance(answer, OAuthError)
    assert (answer.status, answer.body["error"]) == (status, error)
    assert set(answer.body) == {"error", "error_description"}
    assert NO_STORE <= set(answer.headers)
    assert (status == 401) == any(name == "WWW-Authenticate" for name, _ in answer.headers)
    for value in changes.values():
        assert value is None or value not in answer.body["error_description"]


async def test_the_resource_may_be_named() -> None:
    for resource in (URLS.fhir_base, URLS.fhir_base + "/"):
        assert isinstance(await world().service.token(form(assertion(claims()), resource=resource), {}), TokenResponse)


async def test_scopes_are_not_told_to_who_is_not_authenticated() -> None:
    answer = await world().service.token(form("x", scope="nothing"), {})
    assert isinstance(answer, OAuthError) and answer.body["error"] == "invalid_client"


async def test_a_registration_that_does_not_hold_together_looks_like_any_failure() -> None:
    answer = await world(client(unit="nowhere")).service.token(form(assertion(claims())), {})
    assert isinstance(answer, OAuthError) and answer.body["error"] == "invalid_client"


class Down(MemoryReplay):
    async def use(self, issuer: str, jti: str, expires_at: int) -> bool:
        raise Problem(ProblemType.UNAVAILABLE, retry_after=7)


async def test_no_token_is_issued_when_the_use_cannot_be_recorded() -> None:
    answer = await world(replay=Down()).service.token(form(assertion(claims())), {})
    assert isinstance(answer, OAuthError)
    assert (answer.status, answer.body["error"]) == (503, "temporarily_unavailable")
    assert ("Retry-After", "7") in answer.headers


async def test_neither_the_assertion_nor_the_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = assertion(claims())
    answer: Any = await world().service.token(form(token), {})
    assert token not in caplog.text and answer.body["access_token"] not in caplog.text


def test_the_metadata_is_valid_for_authlib() -> None:
    metadata = AuthorizationServerMetadata(authorization_server_metadata(URLS, ["system/Task.rs"], certificates=True))
    metadata.validate()
    assert metadata["token_endpoint"] == "https://hub.test/oauth/token"
    for endpoint in ("introspection_endpoint", "revocation_endpoint"):  # RFC 7662 and RFC 7009 by way of RFC 8414 section 2
        assert metadata[f"{endpoint}_auth_methods_supported"] == ["private_key_jwt"]
        assert metadata[f"{endpoint}_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    assert metadata["dpop_signing_alg_values_supported"] == ["ES256", "ES384"]
    assert metadata["tls_client_certificate_bound_access_tokens"] is True


def test_the_smart_configuration_has_what_smart_requires() -> None:
    found = smart_configuration(URLS, ["transfer.offer", "system/Task.rs"], certificates=False)
    assert found["token_endpoint"] == URLS.token and found["jwks_uri"] == URLS.jwks and found["issuer"] == URLS.issuer
    assert found["grant_types_supported"] == ["client_credentials"]
    assert found["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert found["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert "client-confidential-asymmetric" in found["capabilities"]
    assert found["scopes_supported"] == ["system/Task.rs", "transfer.offer"]
    assert "authorization_endpoint" not in found


def test_the_metadata_address_follows_the_issuer() -> None:
    assert URLS.metadata_path == "/.well-known/oauth-authorization-server"
    assert replace(URLS, issuer="https://h.test/as").metadata_path == "/.well-known/oauth-authorization-server/as"


def test_the_device_rule_refuses_the_listed_pairs_only() -> None:
    rule = DeviceRule(lambda: {"police": frozenset({"counsellor"})})

    def caller(role: str, owner: str) -> Caller:
        return Caller(
            client_id=ClientId("c"),
            party=PartyId("alpha"),
            unit=None,
            shelf=ShelfId("alpha"),
            region="north",
            role=role,
            device_owner=owner,
            purposes=frozenset(),
            scopes=frozenset(),
            token_id="t",
            status_view=StatusView.FULL,
        )

    problem = rule.problem(caller("counsellor", "police"))
    assert problem is not None and problem.refusal is Refusal.DEVICE_NOT_ALLOWED and problem.code is IssueCode.FORBIDDEN
    assert rule.problem(caller("counsellor", "agency")) is None
    assert rule.problem(caller("officer", "police")) is None
