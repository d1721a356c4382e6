"""An assertion is used once (RFC 7523 section 3 item 7, SMART Backend Services: `jti`)."""

from __future__ import annotations

from typing import Protocol

__all__ = ["ReplayStore"]


class ReplayStore(Protocol):
    """Remembers which assertions were used, across workers and restarts."""

    async def use(self, issuer: str, jti: str, expires_at: int) -> bool:
        """Mark (`issuer`, `jti`) as used; True exactly for the first call, False for every other one.

        `expires_at` (milliseconds since 1970, real time) is when the assertion can no longer be accepted; the mark may be dropped after
        it and not before. The mark is durable when this returns: a caller that got True and was killed has used the assertion up.
        Raises `gateway.problems.Problem` (unavailable) when the mark can't be stored; then no token is issued.
        """
        ...
