"""What a token is bound to (RFC 7800 `cnf`), and what a request shows to prove that it may use one.

A token bound to a key or a certificate is worth nothing to whoever copies it: the request that carries it must also prove possession.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.oauth.jose import is_name
from gateway.parties.model import Binding

__all__ = ["NOTHING_SHOWN", "Confirmation", "Shown", "UnreadableConfirmation"]

_JKT, _X5T = "jkt", "x5t#S256"


class UnreadableConfirmation(ValueError):
    """A `cnf` claim that this hub does not issue."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """At least one of: the thumbprint of a DPoP key (RFC 9449 section 6), and of a certificate (RFC 8705 section 3.1)."""

    key: str | None = None
    certificate: str | None = None

    @classmethod
    def of(cls, claim: object) -> Confirmation | None:
        """Read a `cnf` claim; None when there is none. Raises `UnreadableConfirmation`: a binding that is not understood is not ignored."""
        if claim is None:
            return None
        if not isinstance(claim, Mapping) or not claim or not claim.keys() <= {_JKT, _X5T} or not all(map(is_name, claim.values())):
            raise UnreadableConfirmation
        return cls(claim.get(_JKT), claim.get(_X5T))

    def claim(self) -> dict[str, str]:
        """As the value of `cnf`."""
        return {name: value for name, value in ((_JKT, self.key), (_X5T, self.certificate)) if value is not None}

    @staticmethod
    def suffices(confirmation: Confirmation | None, binding: Binding) -> bool:
        """Whether a token bound like this may be held by a client registered with `binding`."""
        if binding is Binding.NONE:
            return True
        if confirmation is None:
            return False
        return (confirmation.key if binding is Binding.DPOP else confirmation.certificate) is not None


@dataclass(frozen=True, slots=True)
class Shown:
    """What one request shows beside its token or assertion. `url` is the hub's own address of what was asked for, never a header's."""

    method: str
    url: str
    proofs: tuple[str, ...] = ()  # each DPoP header
    certificate: str | None = None  # thumbprint of the connection's client certificate


NOTHING_SHOWN: Final = Shown("POST", "")
"""A request that shows neither."""
