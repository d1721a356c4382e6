"""The token endpoint's work (RFC 6749 sections 4.4 and 5, SMART Backend Services), without any HTTP framework.

One grant, one way to authenticate, so this is a straight line: is the request well formed, who is the client, what does it get, and what is
the token bound to (RFC 9449 section 5, RFC 8705 section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749.errors import InvalidRequestError, InvalidScopeError, OAuth2Error, UnsupportedGrantTypeError

from gateway.oauth.authentication import NO_STORE, ClientAuthentication, OAuthError, refusal
from gateway.oauth.confirmation import NOTHING_SHOWN, Confirmation, Shown
from gateway.oauth.dpop import InvalidProof, Proof, ProofVerifier
from gateway.oauth.metadata import GRANT_TYPE
from gateway.oauth.scopes import grant
from gateway.oauth.tokens import AccessTokens, MisregisteredClient
from gateway.parties.model import Binding, Client
from gateway.problems import Problem

__all__ = ["TokenResponse", "TokenService"]


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A token was issued. `body` holds it (RFC 6749 section 5.1); the other fields may be logged."""

    body: Mapping[str, Any]
    client_id: str
    token_id: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = NO_STORE


class TokenService:
    """Answers token requests."""

    def __init__(self, authentication: ClientAuthentication, tokens: AccessTokens, proofs: ProofVerifier, *, fhir_base: str) -> None:
        """`fhir_base`: the one resource there are tokens for."""
        self._authentication = authentication
        self._tokens = tokens
        self._proofs = proofs
        self._fhir_base = fhir_base

    async def token(self, form: Mapping[str, str], headers: Mapping[str, str], shown: Shown = NOTHING_SHOWN) -> TokenResponse | OAuthError:
        """Answer one token request. `form`: its parameters, each once, those without a value left out (RFC 6749 section 3.2); several
        `resource` values stand in one, with spaces between. `headers`: with lower-case names."""
        try:
            self._authentication.check_method(form, headers)
            _check_grant(form)
            proof = self._proof(shown)
            client = await self._authentication.client(form)
            self._check_resource(form)
            scopes = grant(form.get("scope", ""), client.scopes)
            if not scopes:  # RFC 6749 section 3.3: no default is used when scope is missing
                raise InvalidScopeError("None of the scopes asked for is registered for this client.")
            bound_to = _binding(client, proof, shown)
            if proof is not None:
                await self._use(proof)
            issued = self._tokens.issue(client, scopes, bound_to)
        except (OAuth2Error, MisregisteredClient, Problem) as error:
            return refusal(error)
        kind = "DPoP" if proof is not None else "bearer"  # RFC 9449 section 5
        body = {"access_token": issued.token, "token_type": kind, "expires_in": issued.expires_in, "scope": issued.scope}
        return TokenResponse(body, client.id, issued.token_id)

    def _proof(self, shown: Shown) -> Proof | None:
        """The key the token is to be bound to. Whoever shows one gets a bound token, registered so or not (RFC 9449 section 5)."""
        if not shown.proofs:
            return None
        try:
            return self._proofs.check(shown.proofs, method=shown.method, url=shown.url, token=None)
        except InvalidProof:
            raise _invalid_proof() from None

    async def _use(self, proof: Proof) -> None:
        try:
            await self._proofs.use(proof)
        except InvalidProof:
            raise _invalid_proof() from None

    def _check_resource(self, form: Mapping[str, str]) -> None:
        """RFC 8707 section 2: every resource named must be one that this server issues tokens for. There is one, written in two ways."""
        if any(resource.removesuffix("/") != self._fhir_base for resource in form.get("resource", self._fhir_base).split(" ")):
            raise OAuth2Error("There is no such resource here.", error="invalid_target")


def _binding(client: Client, proof: Proof | None, shown: Shown) -> Confirmation | None:
    """What this client's token is bound to. Raises OAuth2Error when it must be bound and nothing was shown."""
    certificate = None
    if client.binding is Binding.MTLS:
        certificate = shown.certificate
        if certificate is None:
            raise InvalidRequestError("This client's tokens are bound to a certificate: connect with it.")
    if client.binding is Binding.DPOP and proof is None:
        raise _invalid_proof()
    key = proof.key if proof is not None else None
    return Confirmation(key, certificate) if key is not None or certificate is not None else None


def _check_grant(form: Mapping[str, str]) -> None:
    """RFC 6749 section 4.4.2: the one grant this server has."""
    if "grant_type" not in form:
        raise InvalidRequestError("grant_type is missing.")
    if form["grant_type"] != GRANT_TYPE:
        raise UnsupportedGrantTypeError(None)


def _invalid_proof() -> OAuth2Error:
    """RFC 9449 section 5. Which check failed is not told."""
    return OAuth2Error("Send one fresh DPoP proof for this request.", error="invalid_dpop_proof")
