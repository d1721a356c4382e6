"""What a client may ask and do about a token it holds: introspection (RFC 7662, SMART App Launch 2) and revocation (RFC 7009).

Both are for the client a token was issued to, and for a client of the same party that is registered to manage its party's tokens. To
anybody else a token is not active, and not theirs to revoke. Authlib's endpoints can't be used: they look tokens up synchronously.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749.errors import InvalidRequestError, OAuth2Error, UnauthorizedClientError

from gateway.oauth.authentication import NO_STORE, ClientAuthentication, OAuthError, refusal
from gateway.oauth.revocation import RevocationStore
from gateway.oauth.tokens import AccessTokens, Held, MisregisteredClient, identity_claims
from gateway.parties.model import Client
from gateway.problems import Problem, ProblemType

__all__ = ["Answer", "TokenControl"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered with 200. `body` None = nothing to say."""

    body: Mapping[str, Any] | None
    headers: tuple[tuple[str, str], ...] = NO_STORE


class TokenControl:
    """Answers introspection and revocation requests."""

    def __init__(
        self,
        authentication: ClientAuthentication,
        tokens: AccessTokens,
        revocations: RevocationStore,
        *,
        issuer: str,
        audience: str,
        introspection_url: str,
        revocation_url: str,
        revoked: Callable[[str, str], None],
    ) -> None:
        """`revoked` is told which client revoked which token id, for the log. `audience`: the FHIR base, which tokens are for."""
        self._authentication = authentication
        self._tokens = tokens
        self._revocations = revocations
        self._issuer = issuer
        self._audience = audience
        self._introspection_url = introspection_url
        self._revocation_url = revocation_url
        self._revoked = revoked

    async def introspect(self, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer | OAuthError:
        """RFC 7662 section 2. Whatever is not a live token of the asking client or party is ``{"active": false}``, and nothing more
        (section 2.2). A hint of the type is not needed."""
        try:
            client, held = await self._asked(form, headers, self._introspection_url)
        except (OAuth2Error, MisregisteredClient, Problem) as error:
            return refusal(error)
        if held is None or not _manages(client, held):
            return Answer({"active": False})
        caller, bound = held.caller, held.confirmation
        return Answer(
            {
                "active": True,
                "scope": " ".join(sorted(caller.scopes)),
                "client_id": caller.client_id,
                "token_type": "DPoP" if bound is not None and bound.key is not None else "bearer",
                "exp": int(held.expires_at),
                "iat": held.issued_at,
                "sub": caller.client_id,
                "aud": self._audience,
                "iss": self._issuer,
                "jti": caller.token_id,
                "purpose_of_use": sorted(caller.purposes),
                **identity_claims(caller),
                **({"cnf": bound.claim()} if bound is not None else {}),
            }
        )

    async def revoke(self, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer | OAuthError:
        """RFC 7009 section 2. 200 once the token no longer counts on any worker, also for text that never was one (section 2.2);
        refused for a live token of somebody else (section 2.1)."""
        try:
            client, held = await self._asked(form, headers, self._revocation_url)
            if held is None:
                return Answer(None)
            if not _manages(client, held):
                raise UnauthorizedClientError("The token was not issued to this client.")
            await self._revocations.revoke(held.caller.token_id, held.expires_at)
        except (OAuth2Error, MisregisteredClient, Problem) as error:
            return refusal(error)
        self._revoked(client.id, held.caller.token_id)
        return Answer(None)

    async def _asked(self, form: Mapping[str, str], headers: Mapping[str, str], endpoint: str) -> tuple[Client, Held | None]:
        """Who asks, and the token asked about: None when it does not count (any more)."""
        self._authentication.check_method(form, headers)
        if "token" not in form:
            raise InvalidRequestError("token is missing.")
        client = await self._authentication.client(form, endpoint=endpoint)
        try:
            return client, self._tokens.held(form["token"])
        except Problem as problem:
            if problem.type is not ProblemType.UNAUTHENTICATED:
                raise
            return client, None


def _manages(client: Client, held: Held) -> bool:
    return held.caller.client_id == client.id or (client.manages_tokens and held.caller.party == client.party)
