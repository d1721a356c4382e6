"""What one process knows of tokens taken back, and whether it still knows it: a process that can't follow the database lets nobody in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from typing import Final, Protocol

from gateway.problems import Finding, IssueCode, Problem, ProblemType

__all__ = ["FRESH_SECONDS", "DurableRevocations", "FollowedRevocations", "Freshness"]

FRESH_SECONDS: Final = 5.0
"""How long a process may go on without having seen what was registered, cut off and revoked."""


class DurableRevocations(Protocol):
    """Keeps revocations beyond this process."""

    async def revoke(self, token_id: str, expires: int) -> None:
        """Write one down (`expires`: real milliseconds). Raises Problem(UNAVAILABLE)."""
        ...


class Freshness:
    """When the database was last seen whole. Fails closed."""

    def __init__(self, now: Callable[[], float], bound: float = FRESH_SECONDS) -> None:
        """`now`: seconds that only ever grow."""
        self.now = now
        self._bound = bound
        self._until = float("-inf")

    def mark(self, began: float) -> None:
        """Everything that was there when a look began is known here now."""
        self._until = began + self._bound

    def require(self) -> None:
        """Raises Problem(UNAVAILABLE) when what is known is too old to let anybody in."""
        if self.now() > self._until:
            say = "The hub can't tell at present who may call, so nothing was done. Send the same request again."
            raise Problem(ProblemType.UNAVAILABLE, Finding(IssueCode.TRANSIENT, say), retry_after=1)


class FollowedRevocations:
    """`gateway.oauth.revocation.Revocations` and `RevocationStore`: answers from memory, keeps in the database."""

    def __init__(self, store: DurableRevocations, freshness: Freshness, now: Callable[[], float]) -> None:
        """`now`: real seconds."""
        self._store = store
        self._freshness = freshness
        self._now = now
        self._tokens: dict[str, float] = {}

    def is_revoked(self, jti: str, client_id: str) -> bool:
        """Raises Problem(UNAVAILABLE) when this process has lost touch: then no token counts. (A client that is cut off is not in the
        policy any more, which a token is checked against whenever the policy changes.)"""
        self._freshness.require()
        return jti in self._tokens

    async def revoke(self, token_id: str, expires_at: float) -> None:
        await self._store.revoke(token_id, ceil(expires_at * 1000))
        self._tokens[token_id] = expires_at

    def learn(self, rows: Iterable[tuple[str, int]]) -> None:
        """Take up (token id, expiry in milliseconds) from the database, and forget what has expired."""
        now = self._now()
        for old in [known for known, end in self._tokens.items() if end < now]:
            del self._tokens[old]
        self._tokens.update((token, expires / 1000) for token, expires in rows if expires / 1000 >= now)
