"""Who the hub is to each partner's server, for every delivery: the one client behind all adapters and built-in doors.

A partner that has no authorization server of its own gets the hub's signed statement (`gateway.oauth.statement`), made anew for each
delivery. One that has is called as a SMART backend client: with a key that is the hub's for this partner alone, at the token URL that was
registered and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.oauth.partner_keys import AssertionAlg
from gateway.oauth.smart_tokens import PrivateKey, SmartTokens
from gateway.parties.model import Endpoint, SmartAuth

__all__ = ["ClientKey", "Credential", "Outbound", "UnusableKey", "read_client_key"]

_OTHERS: Final = 0o007
_RSA_BITS: Final = range(2048, 8193)


class UnusableKey(Exception):
    """A private key can't be used. The text says what to do, and neither where it lies nor what it holds."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """The hub's private key for one partner."""

    private: PrivateKey
    alg: AssertionAlg


def read_client_key(file: Path) -> ClientKey:
    """An unencrypted PEM key: P-384 signs ES384, RSA signs RS384 (SMART client-confidential-asymmetric). Raises `UnusableKey`."""
    try:
        if file.stat().st_mode & _OTHERS:
            raise UnusableKey("is readable by others than its owner and group; chmod o= it")
        private = load_pem_private_key(file.read_bytes(), password=None)
    except FileNotFoundError:
        raise UnusableKey("is not there") from None
    except (ValueError, TypeError, OSError):
        raise UnusableKey("is not an unencrypted PEM private key") from None
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP384R1):
        return ClientKey(private, AssertionAlg.ES384)
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size in _RSA_BITS:
        return ClientKey(private, AssertionAlg.RS384)
    raise UnusableKey("is neither an EC key on P-384 nor an RSA key of at least 2048 bits")


class Credential(Protocol):
    """What one endpoint is shown."""

    async def bearer(self, *, instead_of: str | None = None) -> str | None:
        """A token for the ``Authorization`` header. `instead_of`: one that was just refused; None when there is no better one.

        Raises `gateway.oauth.smart_tokens.SmartClientError` when none can be had.
        """
        ...


class _Statement:
    """The hub's own signature; a second one would be refused for the same reason as the first."""

    def __init__(self, sign: Callable[[str], str], audience: str) -> None:
        self._sign = sign
        self._audience = audience

    async def bearer(self, *, instead_of: str | None = None) -> str | None:
        return None if instead_of is not None else self._sign(self._audience)


class _Smart:
    """A token of the partner's own server, one new one after a refusal."""

    def __init__(self, tokens: SmartTokens) -> None:
        self._tokens = tokens

    async def bearer(self, *, instead_of: str | None = None) -> str | None:
        return await self._tokens.access_token(instead_of=instead_of)


class Outbound:
    """Credentials by endpoint. Each is kept as long as its registration stays as it is, and with it its token."""

    def __init__(self, http: httpx.AsyncClient, *, statement: Callable[[str], str], now: Callable[[], float]) -> None:
        """`statement`: audience -> the hub's signed statement. `now`: real seconds."""
        self._http = http
        self._statement = statement
        self._now = now
        self._kept: dict[str, tuple[Endpoint, Credential]] = {}

    def credential(self, endpoint: Endpoint) -> Credential:
        """What this endpoint is shown. Raises `UnusableKey` when its key is no longer there."""
        kept = self._kept.get(endpoint.id)
        if kept is None or kept[0] != endpoint:
            kept = self._kept[endpoint.id] = (endpoint, self._make(endpoint))
        return kept[1]

    def _make(self, endpoint: Endpoint) -> Credential:
        auth = endpoint.auth
        return _Statement(self._statement, endpoint.address) if auth is None else _Smart(self._smart(auth))

    def _smart(self, auth: SmartAuth) -> SmartTokens:
        key = read_client_key(Path(auth.key_file))

        async def registered() -> str:
            return auth.token_url

        return SmartTokens(auth.client_id, key.private, key.alg, self._http, scope=auth.scope, token_url=registered, now=self._now)
