"""Introspection (RFC 7662, SMART App Launch 2) and revocation (RFC 7009): whose token, and what is said of it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest

from gateway.identity import PartyId
from gateway.oauth.authentication import OAuthError
from gateway.oauth.introspection import Answer
from gateway.problems import Finding, IssueCode, Problem, ProblemType
from tests.unit.oauth.test_tokens import resigned
from tests.unit.oauth.world import (
    NOW,
    OTHER_KEY,
    SCOPES,
    URLS,
    World,
    assertion,
    at_token_endpoint,
    claims,
    client,
    form,
    proof,
    world,
)

MINE = client()
COLLEAGUE = client("alpha-other", unit="west")
MANAGER = client("alpha-manager", manages_tokens=True)
STRANGER = client("beta-system", party=PartyId("beta"), unit=None, manages_tokens=True)
EVERYBODY = (MINE, COLLEAGUE, MANAGER, STRANGER)


def asking(token: str | None, *, who: str = "alpha-system", aud: str = URLS.introspection, **changes: str | None) -> dict[str, str]:
    """A good introspection or revocation request."""
    signed = assertion(claims(iss=who, sub=who, aud=aud))
    asked = {**form(signed, grant_type=None, scope=None, **changes), "token": token}
    return {name: value for name, value in asked.items() if value is not None}


async def said(hub: World, token: str, **who: Any) -> dict[str, Any]:
    answer = await hub.control.introspect(asking(token, **who), {})
    assert isinstance(answer, Answer) and answer.body is not None
    assert ("Cache-Control", "no-store") in answer.headers
    return dict(answer.body)


async def revokes(hub: World, token: str, who: str = "alpha-system") -> Answer | OAuthError:
    return await hub.control.revoke(asking(token, who=who, aud=URLS.revocation), {})


async def test_a_client_is_told_what_its_own_token_is() -> None:
    hub = world(*EVERYBODY)
    issued = hub.tokens.issue(MINE, SCOPES)
    assert await said(hub, issued.token, token_type_hint="refresh_token") == {
        "active": True,
        "scope": " ".join(sorted(SCOPES)),
        "client_id": "alpha-system",
        "sub": "alpha-system",
        "token_type": "bearer",
        "iss": URLS.issuer,
        "aud": URLS.fhir_base,
        "iat": NOW,
        "exp": NOW + 300,
        "jti": issued.token_id,
        "purpose_of_use": ["COC", "victim-support"],
        "party": "alpha",
        "unit": "east",
        "region": "north",
        "role": "officer",
        "device_owner": "police",
    }


async def test_a_bound_token_says_what_it_is_bound_to() -> None:
    hub = world(*EVERYBODY)
    issued: Any = await hub.service.token(form(assertion(claims())), {}, at_token_endpoint(proof()))
    found = await said(hub, issued.body["access_token"])
    assert found["token_type"] == "DPoP" and set(found["cnf"]) == {"jkt"}


async def test_what_is_no_longer_registered_is_no_longer_said() -> None:
    hub = world(MINE)
    token = hub.tokens.issue(MINE, SCOPES).token
    hub.configure(replace(MINE, scopes=frozenset({"system/Task.r"})))
    assert (await said(hub, token))["scope"] == "system/Task.r"


@pytest.mark.parametrize(("who", "told"), [("alpha-manager", True), ("alpha-other", False), ("beta-system", False)])
async def test_others_are_told_nothing_but_who_is_registered_to_manage_the_partys_tokens(who: str, told: bool) -> None:
    hub = world(*EVERYBODY)
    token = hub.tokens.issue(MINE, SCOPES).token
    found = await said(hub, token, who=who)
    assert found["active"] is told and (told or found == {"active": False})
    refusal = await revokes(hub, token, who)
    if told:
        assert refusal == Answer(None)
    else:
        assert isinstance(refusal, OAuthError) and refusal.body["error"] == "unauthorized_client"
    assert (await said(hub, token))["active"] is not told


def garbage(hub: World) -> dict[str, str]:
    good = hub.tokens.issue(MINE, SCOPES).token
    return {
        "text": "garbage",
        "assertion": assertion(claims()),
        "proof": proof(),
        "cut": good[:-1],
        "more": good + "x",
        "non-ascii": good + "é",
        "foreign": assertion(claims(aud=URLS.fhir_base), key=OTHER_KEY),
        "id-token": resigned(hub, header={"typ": "JWT"}),
        "other-audience": resigned(hub, aud="https://other.test/fhir"),
        "expired": resigned(hub, iat=NOW - 400, exp=NOW - 100),
        "nul": "a\0b",
        "long": "a" * 9000,
    }


@pytest.mark.parametrize("what", list(garbage(world())))
async def test_garbage_is_not_active_and_revoking_it_is_done_already(what: str) -> None:
    hub = world(*EVERYBODY)
    token = garbage(hub)[what]
    assert await said(hub, token) == {"active": False}
    assert await revokes(hub, token) == Answer(None)


async def test_a_revoked_token_is_not_active_and_may_be_revoked_again() -> None:
    hub = world(*EVERYBODY)
    token, other = hub.tokens.issue(MINE, SCOPES).token, hub.tokens.issue(MINE, SCOPES).token
    assert await revokes(hub, token) == Answer(None)
    with pytest.raises(Problem):
        hub.tokens.verify(token)
    assert await said(hub, token) == {"active": False}
    assert await revokes(hub, token) == Answer(None)
    assert (await said(hub, other))["active"]


async def test_a_revocation_that_cannot_be_kept_is_not_answered_with_200() -> None:
    hub = world(*EVERYBODY)

    async def lost(token_id: str, expires_at: float) -> None:
        raise Problem(ProblemType.UNAVAILABLE, Finding(IssueCode.TRANSIENT, "-"), retry_after=2)

    hub.revocations.revoke = lost  # type: ignore[method-assign]  # a store that fails
    answer = await revokes(hub, hub.tokens.issue(MINE, SCOPES).token)
    assert isinstance(answer, OAuthError) and answer.status == 503 and ("Retry-After", "2") in answer.headers


WRONG: dict[str, tuple[dict[str, str | None], dict[str, str], int, str]] = {
    "no-token": ({"token": None}, {}, 400, "invalid_request"),
    "no-assertion": ({"client_assertion": None}, {}, 400, "invalid_client"),
    "no-type": ({"client_assertion_type": None}, {}, 400, "invalid_client"),
    "bad-assertion": ({"client_assertion": "a.b.c"}, {}, 400, "invalid_client"),
    "other-client": ({"client_id": "beta-system"}, {}, 400, "invalid_client"),
    "secret": ({"client_secret": "s"}, {}, 400, "invalid_request"),
    "bearer": ({"client_assertion": None}, {"authorization": "Bearer x"}, 401, "invalid_client"),
    "two-ways": ({}, {"authorization": "Bearer x"}, 400, "invalid_request"),
}


@pytest.mark.parametrize("why", WRONG)
async def test_only_an_authenticated_client_is_answered(why: str) -> None:
    changes, headers, status, error = WRONG[why]
    hub = world(*EVERYBODY)
    token = hub.tokens.issue(MINE, SCOPES).token
    for ask, aud in ((hub.control.introspect, URLS.introspection), (hub.control.revoke, URLS.revocation)):
        body = {name: value for name, value in {**asking(token, aud=aud), **changes}.items() if value is not None}
        answer = await ask(body, headers)
        assert isinstance(answer, OAuthError) and (answer.status, answer.body["error"]) == (status, error)
    assert hub.tokens.verify(token).client_id == "alpha-system"


async def test_the_audience_is_the_endpoint_the_token_url_or_the_issuer_and_no_other_endpoint() -> None:
    hub = world(*EVERYBODY)
    token = hub.tokens.issue(MINE, SCOPES).token
    for aud in (URLS.introspection, URLS.token, URLS.issuer):
        assert (await said(hub, token, aud=aud))["active"]
    for aud in (URLS.revocation, URLS.fhir_base, URLS.jwks, f"{URLS.introspection}/", secrets.token_hex(4)):
        answer = await hub.control.introspect(asking(token, aud=aud), {})
        assert isinstance(answer, OAuthError) and answer.body["error"] == "invalid_client"
    elsewhere = await hub.service.token(form(assertion(claims(aud=URLS.introspection))), {})
    assert isinstance(elsewhere, OAuthError) and elsewhere.body["error"] == "invalid_client"


async def test_an_assertion_serves_one_question() -> None:
    hub = world(*EVERYBODY)
    body = asking(hub.tokens.issue(MINE, SCOPES).token)
    assert isinstance(await hub.control.introspect(body, {}), Answer)
    assert isinstance(await hub.control.introspect(body, {}), OAuthError)
