"""Which tokens no longer count although they have not expired: asked on every request, so it must answer from memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["MemoryRevocations", "RevocationStore", "Revocations"]


class Revocations(Protocol):
    """What has been taken back: single tokens and whole clients."""

    def is_revoked(self, jti: str, client_id: str) -> bool:
        """Whether the token `jti`, or its client, is cut off. No I/O: called for every request."""
        ...


class RevocationStore(Protocol):
    """Takes single tokens back for good, on every worker (RFC 7009)."""

    async def revoke(self, token_id: str, expires_at: float) -> None:
        """Take the token with this `jti` back until it expires anyway (`expires_at`, real time in seconds).

        When this returns, the revocation is durable and in force in this process; every other worker follows within a second, and one
        that is started later knows it too. Revoking twice is the same as once. Holds the id only: never a token (RFC 7009 section 3).
        Raises `gateway.problems.Problem` (unavailable) when it can't be stored; then the caller is told to try again.
        """
        ...


class MemoryRevocations:
    """The revocations one process knows of. Holds token ids, never a token (RFC 7009 section 3)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tokens: dict[str, float] = {}
        self._clients: set[str] = set()

    def is_revoked(self, jti: str, client_id: str) -> bool:
        return client_id in self._clients or jti in self._tokens

    async def revoke(self, token_id: str, expires_at: float) -> None:
        """Take one token back in this process. The mark goes when the token would have expired anyway (`expires_at`, seconds)."""
        now = self._now()
        for old in [known for known, end in self._tokens.items() if end < now]:
            del self._tokens[old]
        self._tokens[token_id] = expires_at

    def disable(self, client_id: str) -> None:
        """Cut a client off: every token it holds stops working at once."""
        self._clients.add(client_id)

    def enable(self, client_id: str) -> None:
        """Let a client in again, with whatever tokens of its have not expired."""
        self._clients.discard(client_id)
