"""What the three endpoints for clients share (token, introspection, revocation): who the client is, and how an error is written.

The errors are Authlib's (their bodies, statuses and no-store headers); its server shell is not used, because it is synchronous where the
replay mark and a partner's keys have to be awaited, quotes input in error descriptions, and writes issued tokens to the debug log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError, OAuth2Error, UnsupportedGrantTypeError

from gateway.oauth.assertions import ASSERTION_TYPE, AssertionFault, AssertionVerifier, InvalidAssertion
from gateway.oauth.tokens import MisregisteredClient
from gateway.parties.model import Client
from gateway.problems import Problem, ProblemType

__all__ = ["NO_STORE", "ClientAuthentication", "OAuthError", "invalid_request", "refusal", "unauthenticated", "unavailable"]

NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
"""RFC 6749 section 5.1."""


@dataclass(frozen=True, slots=True)
class OAuthError:
    """A request was refused (RFC 6749 section 5.2). No value of the request is in it."""

    body: Mapping[str, Any]
    status: int
    headers: tuple[tuple[str, str], ...] = NO_STORE


class ClientAuthentication:
    """Authenticates clients by `private_key_jwt`, the one method there is."""

    def __init__(self, verifier: AssertionVerifier, refused: Callable[[AssertionFault, str | None], None]) -> None:
        """`refused` is told why a client was not authenticated, and which registered client it named: for counters, never the caller."""
        self._verifier = verifier
        self._refused = refused

    @staticmethod
    def check_method(form: Mapping[str, str], headers: Mapping[str, str]) -> None:
        """RFC 6749 section 2.3: one method of authentication in a request. `headers`: with lower-case names. Raises OAuth2Error."""
        if "authorization" in headers:
            if "client_assertion" in form:
                raise InvalidRequestError("Authenticate in one way only: with client_assertion.")
            raise InvalidClientError("Authenticate with client_assertion.", status_code=401)
        if "client_secret" in form:
            raise InvalidRequestError("Authenticate in one way only: with client_assertion.")

    async def client(self, form: Mapping[str, str], *, endpoint: str | None = None) -> Client:
        """The client that the request's assertion proves; raises OAuth2Error. Uses the assertion up.

        `endpoint`: the URL of this endpoint, where it may be the assertion's audience beside the token URL and the issuer.
        """
        assertion = form.get("client_assertion")
        if assertion is None or form.get("client_assertion_type") != ASSERTION_TYPE:  # RFC 7521 section 4.2
            raise unauthenticated()
        try:
            return await self._verifier.verify(assertion, form.get("client_id"), audience=endpoint)
        except InvalidAssertion as failure:
            self._refused(failure.fault, failure.client_id)
            raise unauthenticated() from None


def refusal(error: OAuth2Error | MisregisteredClient | Problem) -> OAuthError:
    """What the client is told. A `Problem` other than "unavailable" is nobody's to tell here, and is raised again."""
    if isinstance(error, Problem):
        if error.type is not ProblemType.UNAVAILABLE:
            raise error
        return unavailable(error.retry_after)
    if isinstance(error, MisregisteredClient):
        error = unauthenticated()
    if isinstance(error, UnsupportedGrantTypeError):
        body = {"error": error.error, "error_description": "Only the client_credentials grant is supported."}
        return OAuthError(body, 400)
    extra = tuple((name, value) for name, value in error.get_headers() if name.lower() == "www-authenticate")
    return OAuthError(dict(error.get_body()), error.status_code, (*NO_STORE, *extra))


def unavailable(retry_after: int | None) -> OAuthError:
    """The hub can't answer now; nothing happened. (The code is RFC 6749 section 4.1.2.1's; section 5.2 has none.)"""
    body = {"error": "temporarily_unavailable", "error_description": "Nothing was done. Try again."}
    return OAuthError(body, 503, (*NO_STORE, ("Retry-After", str(retry_after or 1))))


def invalid_request(description: str, status: int = 400) -> OAuthError:
    """The request is not one of an OAuth client (RFC 6749 section 5.2: invalid_request)."""
    return refusal(InvalidRequestError(description, status_code=status))


def unauthenticated() -> OAuth2Error:
    """The one answer to every failure of authentication: which check failed would help only an attacker."""
    return InvalidClientError("The client was not authenticated.")
