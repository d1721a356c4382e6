"""Who calls: PyJWT on every request, as a FastAPI dependency."""

from __future__ import annotations

from typing import Annotated, Any, Final

import jwt
from fastapi import Depends, Request

from gateway.identity import Caller, ClientId
from gateway.oauth.scopes import ActionScope, Interaction, allows, grant, has_action
from gateway.oauth.tokens import caller_of
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from tests.bench.naive.setup import Setup

__all__ = ["CallerHere", "SetupHere", "require"]

_REQUIRED: Final = ["iss", "sub", "aud", "client_id", "jti", "iat", "exp", "scope"]


def _setup(request: Request) -> Setup:
    setup: Setup = request.app.state.setup
    return setup


SetupHere = Annotated[Setup, Depends(_setup)]


async def _caller(request: Request, setup: SetupHere) -> Caller:
    refused = Problem(ProblemType.UNAUTHENTICATED, Finding(IssueCode.LOGIN, "Send a valid access token."))
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise refused
    try:
        header = jwt.get_unverified_header(token)
        key = setup.keys.by_kid(str(header.get("kid")))
        if key is None or header.get("typ") != "at+jwt":
            raise refused
        claims: dict[str, Any] = jwt.decode(
            token, key.public, algorithms=["ES256"], audience=setup.audience, issuer=setup.issuer, options={"require": _REQUIRED}
        )
    except jwt.PyJWTError:
        raise refused from None
    client = setup.policy.clients.get(ClientId(claims["client_id"]))
    if client is None:
        raise refused
    caller = caller_of(client, setup.policy, grant(claims["scope"], client.scopes), client.purposes, claims["jti"])
    if caller is None:
        raise refused
    finding = setup.device.problem(caller)
    if finding is not None:
        raise Problem(ProblemType.FORBIDDEN, finding)
    return caller


CallerHere = Annotated[Caller, Depends(_caller)]


def require(caller: Caller, interaction: Interaction, type_: str, *any_of: ActionScope) -> None:
    """Raises Problem(FORBIDDEN, scope-missing)."""
    if not allows(caller.scopes, interaction, type_) or not any(has_action(caller.scopes, action) for action in any_of):
        say = "Your client has no scope for this."
        raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, refusal=Refusal.SCOPE_MISSING))
