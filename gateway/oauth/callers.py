"""Who calls: an access token, and the proof of possession that it may need (RFC 6750, RFC 9449 section 7, RFC 8705 section 3)."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest

from gateway.identity import Caller
from gateway.oauth.confirmation import Shown
from gateway.oauth.dpop import InvalidProof, ProofVerifier
from gateway.oauth.tokens import AccessTokens, Held, no_token
from gateway.problems import Challenge, Finding, IssueCode, Problem, ProblemType

__all__ = ["Callers"]


class Callers:
    """Authenticates the requests to the API."""

    def __init__(self, tokens: AccessTokens, proofs: ProofVerifier) -> None:
        self._tokens = tokens
        self._proofs = proofs

    async def authenticate(self, authorization: str | None, shown: Callable[[], Shown]) -> Caller:
        """The caller that an ``Authorization`` header proves, or `Problem` (unauthenticated; unavailable when a proof's use can't be kept).

        No other way of sending a token counts. `shown` is asked only for a token that is bound. A bound token sent as a plain bearer
        token is refused like any bad one, and so is a plain one sent as a bound one (RFC 9449 sections 7.1 and 7.2).
        """
        scheme, _, token = (authorization or "").partition(" ")
        scheme = scheme.lower()
        if scheme == "bearer":
            held = self._tokens.held(token.strip(" "))
            bound = held.confirmation
            if bound is None:
                return held.caller
            if bound.key is not None:
                raise no_token()
            _check_certificate(held, shown())
            return held.caller
        if scheme == "dpop":
            return await self._proven(token.strip(" "), shown())
        raise no_token(Challenge.ABSENT)

    async def _proven(self, token: str, request: Shown) -> Caller:
        try:
            proof = self._proofs.check(request.proofs, method=request.method, url=request.url, token=token)
        except InvalidProof:
            raise _no_proof() from None
        held = self._tokens.held(token)
        if held.confirmation is None or held.confirmation.key is None or not compare_digest(held.confirmation.key, proof.key):
            raise no_token()
        _check_certificate(held, request)
        try:
            await self._proofs.use(proof)  # last, so that a request which fails another check does not use it up
        except InvalidProof:
            raise _no_proof() from None
        return held.caller


def _check_certificate(held: Held, request: Shown) -> None:
    """RFC 8705 section 3: the certificate of the connection is the one the token was issued to, if to any."""
    wanted = held.confirmation.certificate if held.confirmation is not None else None
    if wanted is not None and (request.certificate is None or not compare_digest(wanted, request.certificate)):
        raise no_token()


def _no_proof() -> Problem:
    say = "Send one fresh DPoP proof for this request, made with the key that the token is bound to."
    return Problem(ProblemType.UNAUTHENTICATED, Finding(IssueCode.LOGIN, say), challenge=Challenge.PROOF)
