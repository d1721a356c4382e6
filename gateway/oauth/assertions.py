"""Client assertions: `private_key_jwt` (RFC 7521, RFC 7523) as SMART Backend Services and client-confidential-asymmetric narrow it.

Checked here and not by a library, because Authlib's verifier takes neither RS384 nor ES384, accepts an `exp` a year ahead, an assertion
without `kid` or with an empty `jti`, and raises on odd header values. The checks run from the cheapest to the dearest: form, header and
claims, then the key (which may be fetched), the signature, and the replay mark last, so that an assertion which fails any
other check does not use up its `jti`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from gateway.oauth.jose import Compact, MalformedToken, is_name, is_numeric_date, parse_compact
from gateway.oauth.jwks import ClientKeys
from gateway.oauth.partner_keys import AssertionAlg
from gateway.oauth.replay import ReplayStore
from gateway.parties.model import Client

__all__ = ["ASSERTION_TYPE", "AssertionFault", "AssertionRules", "AssertionVerifier", "Counts", "InvalidAssertion"]

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523 section 2.2."""

_ALGS: Final = {alg.value: alg for alg in AssertionAlg}
_TYPES: Final = frozenset({"jwt", "client-authentication+jwt"})
_FOREIGN_KEY_HEADERS: Final = frozenset({"jwk", "x5u", "x5c"})


class AssertionFault(StrEnum):
    """Which check failed. For counters and the operator's log; a caller is never told."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    HEADER = "header"
    SUBJECT = "subject"
    UNKNOWN_CLIENT = "unknown-client"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    TOO_LONG_LIVED = "too-long-lived"
    NOT_YET = "not-yet"
    TOKEN_ID = "token-id"
    KEY = "key"
    SIGNATURE = "signature"
    REPLAYED = "replayed"


class InvalidAssertion(Exception):
    """The client is not authenticated. `client_id` is set only once a registered client is named (not proven)."""

    def __init__(self, fault: AssertionFault, client_id: str | None = None, kid: str = "") -> None:
        """`kid`: set only when it names a key of that client."""
        super().__init__(fault.value)
        self.fault = fault
        self.client_id = client_id
        self.kid = kid


@dataclass(frozen=True, slots=True)
class AssertionRules:
    """The numbers, in seconds and characters."""

    longest_ahead: int = 300  # SMART: exp no more than five minutes in the future
    exp_leeway: int = 5  # for clocks that differ, in both directions of exp
    start_leeway: int = 60  # a client's clock may run ahead this much (iat, nbf)
    size: int = 8192


class Counts(Protocol):
    """Counts how clients authenticate. Told of registered clients only."""

    def used(self, client: str, kid: str) -> None:
        """A client was authenticated with this key."""
        ...

    def failed(self, client: str, kid: str) -> None:
        """Somebody named this client, and a key of its or "", and was not authenticated."""
        ...


class AssertionVerifier:
    """Authenticates clients by their assertions."""

    def __init__(
        self,
        *,
        clients: Callable[[], Mapping[Any, Client]],
        keys: ClientKeys,
        replay: ReplayStore,
        audiences: Collection[str],
        now: Callable[[], float],
        rules: AssertionRules,
        counts: Counts | None = None,
    ) -> None:
        """`audiences`: the token URL and the issuer, exactly as published. `now`: real time in seconds. `counts` is told how it ended."""
        self._clients = clients
        self._keys = keys
        self._replay = replay
        self._audiences = frozenset(audiences)
        self._now = now
        self._rules = rules
        self._counts = counts

    async def verify(self, assertion: str, client_id: str | None = None, *, audience: str | None = None) -> Client:
        """The registered client that signed `assertion`, or `InvalidAssertion`.

        `client_id` is the request parameter of that name: optional, but it must name the same client (RFC 7521 section 4.2). After
        this returned, the same assertion never passes again. `audience`: one more name of this server that counts for this call (the
        endpoint asked). `Problem` of the replay store is passed on.
        """
        try:
            client, kid = await self._verify(assertion, client_id, audience)
        except InvalidAssertion as failure:
            if self._counts is not None and failure.client_id is not None:
                self._counts.failed(failure.client_id, failure.kid)
            raise
        if self._counts is not None:
            self._counts.used(client.id, kid)
        return client

    async def _verify(self, assertion: str, client_id: str | None, audience: str | None) -> tuple[Client, str]:
        try:
            token = parse_compact(assertion, limit=self._rules.size)
        except MalformedToken:
            raise InvalidAssertion(AssertionFault.MALFORMED) from None
        alg, kid = self._check_header(token)
        client = self._client_of(token, client_id)
        claims = token.claims
        if fault := self._claims_fault(claims, audience):
            raise InvalidAssertion(fault, client.id)
        if "jku" in token.header and token.header["jku"] != client.jwks_url:  # SMART: when present, it matches the registered URL
            raise InvalidAssertion(AssertionFault.HEADER, client.id)
        key = await self._keys.key(client, kid, alg)
        if key is None:
            raise InvalidAssertion(AssertionFault.KEY, client.id)
        if not key.verifies(token.signing_input, token.signature):
            raise InvalidAssertion(AssertionFault.SIGNATURE, client.id, kid)
        kept_until = int((claims["exp"] + self._rules.exp_leeway) * 1000) + 1
        if not await self._replay.use(client.id, claims["jti"], kept_until):
            raise InvalidAssertion(AssertionFault.REPLAYED, client.id, kid)
        return client, kid

    @staticmethod
    def _check_header(token: Compact) -> tuple[AssertionAlg, str]:
        """`alg`, `kid`, `typ` (SMART: "Authentication JWT Header Values"); no header that brings its own key is looked at."""
        header = token.header
        alg = header.get("alg")
        if not isinstance(alg, str) or alg not in _ALGS:
            raise InvalidAssertion(AssertionFault.ALGORITHM)
        kid = header.get("kid")
        if not is_name(kid) or not _FOREIGN_KEY_HEADERS.isdisjoint(header):
            raise InvalidAssertion(AssertionFault.HEADER)
        typ = header.get("typ", "JWT")  # widely used clients leave it out; what must not pass is another kind of token
        if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
            raise InvalidAssertion(AssertionFault.HEADER)
        return _ALGS[alg], kid

    def _client_of(self, token: Compact, client_id: str | None) -> Client:
        """RFC 7523 section 3 items 1 and 2.B: issuer and subject are the client, which is registered."""
        issuer, subject = token.claims.get("iss"), token.claims.get("sub")
        if not is_name(issuer) or subject != issuer:
            raise InvalidAssertion(AssertionFault.SUBJECT)
        if client_id is not None and client_id != issuer:
            raise InvalidAssertion(AssertionFault.SUBJECT)
        client = self._clients().get(issuer)
        if client is None:
            raise InvalidAssertion(AssertionFault.UNKNOWN_CLIENT)
        return client

    def _claims_fault(self, claims: Mapping[str, Any], audience: str | None) -> AssertionFault | None:
        """RFC 7523 section 3 items 3 to 7, with SMART's limits."""
        now, rules = self._now(), self._rules
        if not self._is_for_us(claims.get("aud"), audience):
            return AssertionFault.AUDIENCE
        exp = claims.get("exp")
        if not is_numeric_date(exp) or exp <= now - rules.exp_leeway:
            return AssertionFault.EXPIRED
        if exp > now + rules.longest_ahead + rules.exp_leeway:
            return AssertionFault.TOO_LONG_LIVED
        for name in ("iat", "nbf"):
            start = claims.get(name, 0)
            if not is_numeric_date(start) or start > now + rules.start_leeway:
                return AssertionFault.NOT_YET
        if not is_name(claims.get("jti")):
            return AssertionFault.TOKEN_ID
        return None

    def _is_for_us(self, claimed: object, endpoint: str | None) -> bool:
        """RFC 7523 section 3 item 3, compared as plain strings. Every audience named must be this server: an assertion that is
        also good elsewhere could be replayed from there."""
        named = claimed if isinstance(claimed, list) else [claimed]
        return bool(named) and all(isinstance(one, str) and (one in self._audiences or one == endpoint) for one in named)
