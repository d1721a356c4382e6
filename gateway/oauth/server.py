"""The token endpoint's work (RFC 6749 sections 4.4 and 5, SMART Backend Services), without any HTTP framework.

One grant, one way to authenticate, so this is a straight line: is the request well formed, who is the client, what does it get. The
errors are Authlib's (their bodies, statuses and no-store headers); its server shell is not used, because it is synchronous where the replay
mark and a partner's keys have to be awaited, quotes input in error descriptions, and writes issued tokens to the debug log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authlib.oauth2.rfc6749.errors import (
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    UnsupportedGrantTypeError,
)

from gateway.oauth.assertions import ASSERTION_TYPE, AssertionFault, AssertionVerifier, InvalidAssertion
from gateway.oauth.metadata import GRANT_TYPE
from gateway.oauth.scopes import grant
from gateway.oauth.tokens import AccessTokens, MisregisteredClient
from gateway.parties.model import Client
from gateway.problems import Problem, ProblemType

__all__ = ["NO_STORE", "OAuthError", "TokenResponse", "TokenService"]

NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
"""RFC 6749 section 5.1."""


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A token was issued. `body` holds it (RFC 6749 section 5.1); the other fields may be logged."""

    body: Mapping[str, Any]
    client_id: str
    token_id: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = NO_STORE


@dataclass(frozen=True, slots=True)
class OAuthError:
    """A token was refused (RFC 6749 section 5.2). No value of the request is in it."""

    body: Mapping[str, Any]
    status: int
    headers: tuple[tuple[str, str], ...] = NO_STORE


class TokenService:
    """Answers token requests."""

    def __init__(
        self, verifier: AssertionVerifier, tokens: AccessTokens, *, fhir_base: str, refused: Callable[[AssertionFault, str | None], None]
    ) -> None:
        """`refused` is told why a client was not authenticated, and which registered client it named: for counters, never the caller."""
        self._verifier = verifier
        self._tokens = tokens
        self._fhir_base = fhir_base
        self._refused = refused

    async def token(self, form: Mapping[str, str], headers: Mapping[str, str]) -> TokenResponse | OAuthError:
        """Answer one token request. `form`: its parameters, each once, those without a value left out (RFC 6749 section 3.2).
        `headers`: with lower-case names."""
        try:
            _check_request(form, headers)
            client = await self._authenticate(form)
            if form.get("resource", self._fhir_base).rstrip("/") != self._fhir_base.rstrip("/"):
                raise OAuth2Error("There is no such resource here.", error="invalid_target")  # RFC 8707 section 2
            scopes = grant(form.get("scope", ""), client.scopes)
            if not scopes:  # RFC 6749 section 3.3: no default is used when scope is missing
                raise InvalidScopeError("None of the scopes asked for is registered for this client.")
            issued = self._tokens.issue(client, scopes)
        except OAuth2Error as error:
            return _error(error)
        except MisregisteredClient:
            return _error(_unauthenticated())
        except Problem as problem:
            if problem.type is not ProblemType.UNAVAILABLE:
                raise
            return unavailable(problem.retry_after)
        body = {"access_token": issued.token, "token_type": "bearer", "expires_in": issued.expires_in, "scope": issued.scope}
        return TokenResponse(body, client.id, issued.token_id)

    async def _authenticate(self, form: Mapping[str, str]) -> Client:
        assertion = form.get("client_assertion")
        if assertion is None or form.get("client_assertion_type") != ASSERTION_TYPE:  # RFC 7521 section 4.2
            raise _unauthenticated()
        try:
            return await self._verifier.verify(assertion, form.get("client_id"))
        except InvalidAssertion as failure:
            self._refused(failure.fault, failure.client_id)
            raise _unauthenticated() from None


def unavailable(retry_after: int | None) -> OAuthError:
    """The hub can't issue tokens now; nothing happened. (The code is RFC 6749 section 4.1.2.1's; section 5.2 has none.)"""
    body = {"error": "temporarily_unavailable", "error_description": "Nothing was done. Try again."}
    return OAuthError(body, 503, (*NO_STORE, ("Retry-After", str(retry_after or 1))))


def invalid_request(description: str, status: int = 400) -> OAuthError:
    """The request is not a token request (RFC 6749 section 5.2: invalid_request)."""
    return _error(InvalidRequestError(description, status_code=status))


def _check_request(form: Mapping[str, str], headers: Mapping[str, str]) -> None:
    """RFC 6749 sections 2.3, 3.2 and 4.4.2: one authentication method, and the grant this server has."""
    if "authorization" in headers:
        if "client_assertion" in form:
            raise InvalidRequestError("Authenticate in one way only: with client_assertion.")
        raise InvalidClientError("Authenticate with client_assertion.", status_code=401)
    if "client_secret" in form:
        raise InvalidRequestError("Authenticate in one way only: with client_assertion.")
    if "grant_type" not in form:
        raise InvalidRequestError("grant_type is missing.")
    if form["grant_type"] != GRANT_TYPE:
        raise UnsupportedGrantTypeError(None)


def _unauthenticated() -> OAuth2Error:
    """The one answer to every failure of authentication: which check failed would help only an attacker."""
    return InvalidClientError("The client was not authenticated.")


def _error(error: OAuth2Error) -> OAuthError:
    if isinstance(error, UnsupportedGrantTypeError):
        body = {"error": error.error, "error_description": "Only the client_credentials grant is supported."}
        return OAuthError(body, 400)
    extra = tuple((name, value) for name, value in error.get_headers() if name.lower() == "www-authenticate")
    return OAuthError(dict(error.get_body()), error.status_code, (*NO_STORE, *extra))
