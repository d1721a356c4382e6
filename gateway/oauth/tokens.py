"""Access tokens: RFC 9068 JWTs, signed by the hub (ES256), verified on every request.

A verified token is remembered under its SHA-256, so that the next request with it costs a hash and a look-up; each hit still checks
expiry, revocation and that the configuration and keys are those it was verified under. The hub keeps no token, only hashes and token ids.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import jwt

from gateway.identity import Caller, ClientId, StatusView
from gateway.oauth.confirmation import Confirmation, UnreadableConfirmation
from gateway.oauth.jose import Compact, MalformedToken, is_name, is_numeric_date, parse_compact
from gateway.oauth.keys import SigningKey, SigningKeys
from gateway.oauth.revocation import Revocations
from gateway.oauth.scopes import grant
from gateway.parties.model import Client, Policy
from gateway.problems import Challenge, Finding, IssueCode, Problem, ProblemType

__all__ = ["LONGEST_LIFETIME", "AccessTokens", "Held", "Issued", "MisregisteredClient", "caller_of", "identity_claims", "no_token"]

LONGEST_LIFETIME: Final = 300
"""Seconds. What a stolen token is worth at most."""

_SIZE: Final = 8192
_ALG: Final = "ES256"
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})  # RFC 9068 section 4
_REQUIRED: Final = ["iss", "exp", "aud", "sub", "client_id", "iat", "jti", "scope"]  # RFC 9068 section 2.2, and scope (2.2.3)
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_NO_TOKEN: Final = Finding(IssueCode.LOGIN, "Get an access token at the token endpoint and send it as 'Authorization: Bearer'.")
_EXPIRED: Final = Finding(IssueCode.EXPIRED, "The access token has expired. Get a new one at the token endpoint.")


class MisregisteredClient(Exception):
    """A client's registration names a party or unit that does not exist, or asks for a binding: it can't be given this token."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new access token. `token` is a secret: it goes into the token response and nowhere else."""

    token: str
    token_id: str
    expires_in: int
    scope: str


@dataclass(frozen=True, slots=True)
class Held:
    """A token that is good now, whoever shows it: whether this request may use it is for `gateway.oauth.callers` to say."""

    caller: Caller
    confirmation: Confirmation | None
    issued_at: int
    expires_at: float
    epoch: int  # of the policy it was verified under
    keys: object  # the key set it was verified against


def no_token(challenge: Challenge = Challenge.TOKEN) -> Problem:
    """The one answer to every token that does not count."""
    return Problem(ProblemType.UNAUTHENTICATED, _NO_TOKEN, challenge=challenge)


def caller_of(client: Client, policy: Policy, scopes: frozenset[str], purposes: frozenset[str], token_id: str) -> Caller | None:
    """What a token of this client amounts to under this configuration, or None when the registration does not hold together.

    A unit that its party does not have is not quietly read as the whole party: that would open another shelf.
    """
    party = policy.parties.get(client.party)
    if party is None or (client.unit is not None and all(unit.id != client.unit for unit in party.units)):
        return None
    shelf = party.shelf_of(client.unit)
    if shelf not in party.shelves:
        return None
    return Caller(
        client_id=client.id,
        party=party.id,
        unit=client.unit,
        shelf=shelf,
        region=party.region,
        role=client.role,
        device_owner=client.device_owner,
        purposes=purposes,
        scopes=scopes,
        token_id=token_id,
        status_view=party.view_of(shelf) if client.colocated is None else StatusView.MINIMAL,
        colocated=client.colocated,
    )


class AccessTokens:
    """Issues and verifies the hub's access tokens."""

    def __init__(
        self,
        keys: SigningKeys,
        *,
        issuer: str,
        audience: str,
        policy: Callable[[], Policy],
        revocations: Revocations,
        now: Callable[[], float],
        new_id: Callable[[], str],
        lifetime: int = LONGEST_LIFETIME,
        remembered: int = 8192,
    ) -> None:
        """`audience`: the FHIR base URL. `now`: real time in seconds. `new_id`: a random id of at least 128 bits."""
        if not 1 <= lifetime <= LONGEST_LIFETIME:
            raise ValueError(f"an access token lives 1 to {LONGEST_LIFETIME} seconds")
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._policy = policy
        self._revocations = revocations
        self._now = now
        self._new_id = new_id
        self._lifetime = lifetime
        self._remembered = remembered
        self._known: dict[bytes, Held] = {}

    def issue(self, client: Client, scopes: frozenset[str], bound_to: Confirmation | None = None) -> Issued:
        """A token for `client` with the granted `scopes` (RFC 9068 section 2). Raises `MisregisteredClient`."""
        if not Confirmation.suffices(bound_to, client.binding):
            raise MisregisteredClient
        token_id = self._new_id()
        caller = caller_of(client, self._policy(), scopes, client.purposes, token_id)
        if caller is None:
            raise MisregisteredClient
        issued_at = int(self._now())
        scope = " ".join(sorted(scopes))
        claims = {
            "iss": self._issuer,
            "sub": client.id,
            "aud": self._audience,
            "client_id": client.id,
            "jti": token_id,
            "iat": issued_at,
            "exp": issued_at + self._lifetime,
            "scope": scope,
            "purpose_of_use": sorted(client.purposes),
            **identity_claims(caller),
            **({"cnf": bound_to.claim()} if bound_to is not None else {}),
        }
        key = self._keys.current
        token = jwt.encode(claims, key.private, algorithm=_ALG, headers={"typ": "at+jwt", "kid": key.kid})
        return Issued(_with_low_s(token), token_id, self._lifetime, scope)

    def verify(self, token: str) -> Caller:
        """The caller of a plain bearer token, or `Problem` (unauthenticated)."""
        held = self.held(token)
        if held.confirmation is not None:
            raise no_token()
        return held.caller

    def held(self, token: str) -> Held:
        """What this token stands for now (RFC 9068 section 4), or `Problem` (unauthenticated).

        Whatever is wrong with a token, the answer is the same, except that one which was good and has expired is told so.
        """
        try:
            digest = sha256(token.encode("ascii")).digest()
        except UnicodeEncodeError:
            raise no_token() from None
        known = self._known.get(digest)
        policy = self._policy()
        if known is None or known.epoch != policy.epoch or known.keys is not self._keys.jwks:
            known = self._verify_signed(token, policy)
            if len(self._known) >= self._remembered:
                self._known.pop(next(iter(self._known)), None)  # the oldest: all live equally long
            self._known[digest] = known
        caller = known.caller
        if self._now() >= known.expires_at:
            self._known.pop(digest, None)
            raise Problem(ProblemType.UNAUTHENTICATED, _EXPIRED)
        if self._revocations.is_revoked(caller.token_id, caller.client_id):
            raise no_token()
        return known

    def _verify_signed(self, token: str, policy: Policy) -> Held:
        keys = self._keys.jwks
        try:
            compact = parse_compact(token, limit=_SIZE)
            key = self._key_of(compact)
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[_ALG],
                audience=self._audience,
                issuer=self._issuer,
                # times are checked here, against the injected clock
                options={"require": _REQUIRED, "strict_aud": True, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            bound = Confirmation.of(claims.get("cnf"))
        except (MalformedToken, jwt.PyJWTError, UnreadableConfirmation):
            raise no_token() from None
        caller = self._caller(claims, bound, policy)
        if caller is None or not is_numeric_date(claims["exp"]) or not is_numeric_date(claims["iat"]):
            raise no_token()
        if claims["iat"] < policy.clients[caller.client_id].tokens_from:  # issued before its client was cut off, or had a key dropped
            raise no_token()
        return Held(caller, bound, int(claims["iat"]), float(claims["exp"]), policy.epoch, keys)

    def _key_of(self, compact: Compact) -> SigningKey:
        """RFC 9068 section 4: the type is at+jwt (so no other JWT passes), the algorithm and key are this server's own."""
        header = compact.header
        typ, kid = header.get("typ"), header.get("kid")
        key = self._keys.by_kid(kid) if isinstance(kid, str) else None
        if key is None or header.get("alg") != _ALG or not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise MalformedToken("not an access token of this server")
        if not _has_low_s(compact.signature):
            raise MalformedToken("not this server's form of signature")
        return key

    def _caller(self, claims: Mapping[str, Any], bound: Confirmation | None, policy: Policy) -> Caller | None:
        """The caller under today's configuration; None when the client is gone, or no longer what the token says it is, or must hold
        bound tokens and this one is not."""
        client_id, scope, purposes, token_id = (claims.get(name) for name in ("client_id", "scope", "purpose_of_use", "jti"))
        if not isinstance(client_id, str) or claims.get("sub") != client_id or not is_name(token_id):
            return None
        client = policy.clients.get(ClientId(client_id))
        if client is None or not Confirmation.suffices(bound, client.binding):
            return None
        if not isinstance(scope, str) or not isinstance(purposes, list):
            return None
        caller = caller_of(
            client,
            policy,
            grant(scope, client.scopes),
            client.purposes & {purpose for purpose in purposes if isinstance(purpose, str)},
            token_id,
        )
        if caller is None or identity_claims(caller) != {name: claims[name] for name in _IDENTITY if name in claims}:
            return None
        return caller


_IDENTITY: Final = ("party", "unit", "region", "role", "device_owner", "colocated")


def identity_claims(caller: Caller) -> dict[str, str]:
    """The claims that place a caller; `unit` is left out where the party is one unit."""
    placed = {
        "party": caller.party,
        "unit": caller.unit,
        "region": caller.region,
        "role": caller.role,
        "device_owner": caller.device_owner,
        "colocated": caller.colocated,
    }
    return {name: value for name, value in placed.items() if value is not None}


def _with_low_s(token: str) -> str:
    """The same token with the lower of the two equivalent ECDSA signatures, so that only one text of it is ever accepted."""
    signed, _, encoded = token.rpartition(".")
    raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    s = int.from_bytes(raw[32:], "big")
    low = min(s, _P256_ORDER - s)
    return signed + "." + base64.urlsafe_b64encode(raw[:32] + low.to_bytes(32, "big")).rstrip(b"=").decode("ascii")


def _has_low_s(signature: bytes) -> bool:
    return len(signature) == 64 and int.from_bytes(signature[32:], "big") <= _P256_ORDER // 2
