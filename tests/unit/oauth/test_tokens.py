"""Access tokens: what is in one, what passes as one, and how soon a change is felt."""

from __future__ import annotations

import base64
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.identity import PartyId, ShelfId, StatusView
from gateway.oauth.keys import SigningKey
from gateway.oauth.tokens import AccessTokens, MisregisteredClient
from gateway.problems import IssueCode, Problem, ProblemType
from tests.unit.oauth.world import EC_KEY, NOW, URLS, World, assertion, claims, client, shown, signing_key, world

GRANTED = frozenset({"system/Task.rs", "transfer.offer"})
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def issue(hub: World, **changes: Any) -> str:
    return hub.tokens.issue(client(**changes), GRANTED).token


def refusal(hub: World, token: str) -> IssueCode:
    with pytest.raises(Problem) as refused:
        hub.tokens.verify(token)
    assert refused.value.type is ProblemType.UNAUTHENTICATED
    return refused.value.findings[0].code


def passes(hub: World, token: str) -> bool:
    return hub.tokens.verify(token).client_id == "alpha-system"


def resigned(hub: World, *, header: dict[str, Any] | None = None, key: ec.EllipticCurvePrivateKey | None = None, **changes: Any) -> str:
    """A token that differs from a good one in the named header values or claims, signed with the hub's key unless another is given."""
    token = issue(hub)
    good = jwt.decode(token, options={"verify_signature": False})
    payload = {name: value for name, value in {**good, **changes}.items() if value is not None}
    head = {**jwt.get_unverified_header(token), **(header or {})}
    while True:  # until the signature has the form that the hub gives its own
        made = jwt.encode(payload, key or hub.keys.current.private, algorithm="ES256", headers=head)
        if _s(made) <= ORDER // 2:
            return made


def _signature(token: str) -> bytes:
    encoded = token.rpartition(".")[2]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def _s(token: str) -> int:
    return int.from_bytes(_signature(token)[32:], "big")


def test_a_token_says_who_calls_and_from_where() -> None:
    hub = world()
    issued = hub.tokens.issue(client(), GRANTED)
    caller = hub.tokens.verify(issued.token)
    assert (caller.client_id, caller.party, caller.unit, caller.shelf) == ("alpha-system", "alpha", "east", "alpha/east")
    assert (caller.region, caller.role, caller.device_owner, caller.status_view) == ("north", "officer", "police", StatusView.MINIMAL)
    assert caller.scopes == GRANTED and caller.purposes == client().purposes and caller.token_id == issued.token_id
    assert (issued.scope, issued.expires_in) == ("system/Task.rs transfer.offer", 300)


def test_a_token_has_the_form_of_rfc_9068() -> None:
    hub = world()
    token = issue(hub)
    header, body = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    assert header == {"typ": "at+jwt", "alg": "ES256", "kid": hub.keys.current.kid}
    assert body["iss"] == URLS.issuer and body["aud"] == URLS.fhir_base and body["sub"] == body["client_id"] == "alpha-system"
    assert body["exp"] - body["iat"] == 300 and body["iat"] == int(NOW)
    assert body["purpose_of_use"] == ["COC", "victim-support"] and body["device_owner"] == "police"


@pytest.mark.parametrize(("unit", "shelf"), [("east", "alpha/east"), ("west", "alpha/west"), ("desk", "alpha"), (None, "alpha")])
def test_a_token_names_one_shelf(unit: str | None, shelf: str) -> None:
    hub = world(client(unit=unit))
    assert hub.tokens.verify(issue(hub, unit=unit)).shelf == ShelfId(shelf)


@pytest.mark.parametrize("changes", [{"unit": "north"}, {"party": PartyId("gamma")}])
def test_a_registration_that_does_not_hold_together_gets_no_token(changes: dict[str, Any]) -> None:
    with pytest.raises(MisregisteredClient):
        issue(world(), **changes)


FORGERIES: dict[str, Callable[[World], str]] = {
    "empty": lambda hub: "",
    "garbage": lambda hub: "abc",
    "non-ascii": lambda hub: issue(hub) + "é",
    "newline": lambda hub: issue(hub) + "\n",
    "padded": lambda hub: issue(hub) + "=",
    "client-assertion": lambda hub: assertion(claims(aud=URLS.fhir_base)),
    "typ-jwt": lambda hub: resigned(hub, header={"typ": "JWT"}),
    "typ-missing": lambda hub: resigned(hub, header={"typ": ""}),
    "alg-none": lambda hub: jwt.encode({}, "", algorithm="none", headers={"typ": "at+jwt", "kid": hub.keys.current.kid}),
    "kid-unknown": lambda hub: resigned(hub, header={"kid": "other"}),
    "kid-empty-and-alg-es384": lambda hub: jwt.encode({}, EC_KEY, algorithm="ES384", headers={"typ": "at+jwt", "kid": ""}),
    "other-key-same-kid": lambda hub: resigned(hub, key=ec.generate_private_key(ec.SECP256R1())),
    "other-issuer": lambda hub: resigned(hub, iss="https://other.test"),
    "other-audience": lambda hub: resigned(hub, aud="https://other.test/fhir"),
    "two-audiences": lambda hub: resigned(hub, aud=[URLS.fhir_base, "https://other.test/fhir"]),
    "no-exp": lambda hub: resigned(hub, exp=None),
    "exp-infinite": lambda hub: resigned(hub, exp=1e999),
    "exp-text": lambda hub: resigned(hub, exp="later"),
    "no-jti": lambda hub: resigned(hub, jti=None),
    "no-scope": lambda hub: resigned(hub, scope=None),
    "scope-a-list": lambda hub: resigned(hub, scope=["system/Task.rs"]),
    "sub-another": lambda hub: resigned(hub, sub="beta-system"),
    "unknown-client": lambda hub: resigned(hub, sub="nobody", client_id="nobody"),
    "another-party": lambda hub: resigned(hub, party="beta"),
    "another-unit": lambda hub: resigned(hub, unit="west"),
    "no-unit": lambda hub: resigned(hub, unit=None),
    "another-role": lambda hub: resigned(hub, role="manager"),
    "another-device": lambda hub: resigned(hub, device_owner="agency"),
    "another-region": lambda hub: resigned(hub, region="south"),
    "purposes-text": lambda hub: resigned(hub, purpose_of_use="COC"),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_what_is_not_this_servers_token_does_not_pass(case: str) -> None:
    hub = world()
    assert refusal(hub, FORGERIES[case](hub)) is IssueCode.LOGIN


def test_only_one_spelling_of_a_signature_is_accepted() -> None:
    hub = world()
    for _ in range(8):
        token = issue(hub)
        assert _s(token) <= ORDER // 2
        twin = _signature(token)[:32] + (ORDER - _s(token)).to_bytes(32, "big")
        malleated = token.rpartition(".")[0] + "." + base64.urlsafe_b64encode(twin).rstrip(b"=").decode()
        assert passes(hub, token)
        assert refusal(hub, malleated) is IssueCode.LOGIN


def test_a_claim_can_widen_nothing() -> None:
    hub = world()
    caller = hub.tokens.verify(resigned(hub, scope="system/Task.cruds transfer.accept transfer.offer", purpose_of_use=["COC", "TREAT"]))
    assert caller.scopes == {"system/Task.rus", "transfer.offer"}
    assert caller.purposes == {"COC"}


def test_a_token_ends_at_its_expiry_also_when_remembered() -> None:
    hub = world()
    token = issue(hub)
    hub.clock.at = NOW + 299.9
    assert passes(hub, token)
    hub.clock.at = NOW + 300
    assert refusal(hub, token) is IssueCode.EXPIRED
    assert refusal(hub, token) is IssueCode.EXPIRED


async def test_a_revoked_token_or_disabled_client_is_refused_at_once() -> None:
    hub = world()
    token, other = issue(hub), issue(hub)
    await hub.revocations.revoke(hub.tokens.verify(token).token_id, NOW + 300)
    assert refusal(hub, token) is IssueCode.LOGIN
    assert passes(hub, other)
    hub.revocations.disable("alpha-system")
    assert refusal(hub, other) is IssueCode.LOGIN
    hub.revocations.enable("alpha-system")
    assert passes(hub, other)
    assert refusal(hub, token) is IssueCode.LOGIN


async def test_revocations_forget_tokens_that_have_expired_anyway() -> None:
    hub = world()
    await hub.revocations.revoke("old", NOW + 10)
    hub.clock.at = NOW + 20
    await hub.revocations.revoke("new", NOW + 300)
    assert not hub.revocations.is_revoked("old", "any") and hub.revocations.is_revoked("new", "any")


@pytest.mark.parametrize(
    "changes", [{"party": PartyId("beta"), "unit": None}, {"unit": "west"}, {"role": "manager"}, {"device_owner": "agency"}]
)
def test_a_remembered_token_does_not_survive_a_change_of_its_registration(changes: dict[str, Any]) -> None:
    hub = world()
    token = issue(hub)
    assert passes(hub, token)
    hub.configure(client(**changes))
    assert refusal(hub, token) is IssueCode.LOGIN


def test_scopes_taken_from_a_registration_are_gone_from_live_tokens() -> None:
    hub = world()
    token = issue(hub)
    hub.configure(client(scopes=frozenset({"system/Task.s"})))
    assert hub.tokens.verify(token).scopes == {"system/Task.s"}
    hub.configure()
    assert refusal(hub, token) is IssueCode.LOGIN


def test_a_rotated_key_signs_and_the_old_one_still_verifies() -> None:
    hub, fresh = world(), signing_key()
    old = issue(hub)
    hub.keys.replace((hub.keys.current, fresh))
    new = issue(hub)
    assert jwt.get_unverified_header(new)["kid"] == fresh.kid != jwt.get_unverified_header(old)["kid"]
    assert passes(hub, old) and passes(hub, new)
    hub.keys.replace((fresh,))
    assert passes(hub, issue(hub)) and passes(hub, new)
    assert refusal(hub, old) is IssueCode.LOGIN


def test_what_is_remembered_is_bounded() -> None:
    hub = world()
    small = AccessTokens(
        hub.keys,
        issuer=URLS.issuer,
        audience=URLS.fhir_base,
        policy=lambda: hub.policy,
        revocations=hub.revocations,
        now=hub.clock,
        new_id=lambda: "id",
        remembered=4,
    )
    tokens = []
    for number in range(12):
        hub.clock.at = NOW + number
        tokens.append(small.issue(client(), GRANTED).token)
    assert {small.verify(token).party for token in tokens * 2} == {"alpha"}
    assert len(small._known) <= 4


@pytest.mark.parametrize("lifetime", [0, 301, -1])
def test_a_token_never_lives_longer_than_five_minutes(lifetime: int) -> None:
    hub = world()
    with pytest.raises(ValueError):
        AccessTokens(
            hub.keys,
            issuer=URLS.issuer,
            audience=URLS.fhir_base,
            policy=lambda: hub.policy,
            revocations=hub.revocations,
            now=hub.clock,
            new_id=lambda: "id",
            lifetime=lifetime,
        )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_authorization_header_carries_the_token(scheme: str) -> None:
    hub = world()
    assert (await hub.callers.authenticate(f"{scheme} {issue(hub)}", shown)).party == "alpha"


@pytest.mark.parametrize("number", range(7))
async def test_no_other_header_value_authenticates(number: int) -> None:
    hub = world()
    token = issue(hub)
    values = (None, "", "Bearer", "Bearer ", f"Basic {token}", token, f"Bearer {token} {token}")
    with pytest.raises(Problem):
        await hub.callers.authenticate(values[number], shown)


def test_a_problem_never_shows_the_token() -> None:
    hub = world()
    token = resigned(hub, party="beta")
    with pytest.raises(Problem) as refused:
        hub.tokens.verify(token)
    assert token not in str(refused.value) + repr(refused.value) + repr(refused.value.findings)
    assert refused.value.__cause__ is None


def test_a_caller_is_a_value() -> None:
    hub = world()
    caller = hub.tokens.verify(issue(hub))
    with pytest.raises(dataclasses.FrozenInstanceError):
        caller.party = PartyId("beta")  # type: ignore[misc]  # the assignment that must fail


@pytest.mark.bench
def test_a_remembered_token_costs_a_few_microseconds() -> None:
    hub = world()
    token = issue(hub)
    hub.tokens.verify(token)
    samples = []
    for _ in range(200):
        start = time.perf_counter()
        for _ in range(100):
            hub.tokens.verify(token)
        samples.append((time.perf_counter() - start) / 100)
    assert statistics.median(samples) < 10e-6  # measured: 2 us on one shared core


def test_a_signing_key_is_named_by_its_thumbprint() -> None:
    key = signing_key()
    assert SigningKey.of(key.private).kid == key.kid != signing_key().kid
