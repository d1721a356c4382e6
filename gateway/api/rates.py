"""How often is too often: token buckets by key, with the clock passed in and a bounded memory. Pure; what the keys mean is `limits`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

__all__ = ["Buckets", "Rate"]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second in the long run, and at most `burst` at once."""

    per_second: float
    burst: float


class Buckets:
    """A bucket for each key. A bucket that was never used, or not for long, is full and takes no memory.

    Each is one number: the time at which it will be full again (the generic cell rate algorithm). When there are more than `room`, the one
    not used for longest is forgotten, and so is full again: forgetting never refuses anybody.
    """

    __slots__ = ("_crowded", "_depth", "_each", "_full_at", "_now", "_room")

    def __init__(self, rate: Rate, now: Callable[[], float], *, room: int) -> None:
        """`now`: seconds that never go back."""
        self._each = 1.0 / rate.per_second
        self._depth = rate.burst * self._each
        self._now = now
        self._room = room
        self._crowded = room // 2
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable) -> float:
        """Take one. 0.0 = taken; otherwise nothing was taken, and one can be in so many seconds."""
        now, kept = self._now(), self._full_at
        full_at = kept.get(key, now)
        after = (full_at if full_at > now else now) + self._each
        late = after - now - self._depth
        if late > 1e-9:
            return late
        self._keep(key, after)
        return 0.0

    def wait(self, key: Hashable) -> float:
        """The seconds until one can be taken, 0.0 = now. Takes nothing."""
        now = self._now()
        return max(0.0, max(self._full_at.get(key, 0.0), now) + self._each - now - self._depth)

    def charge(self, key: Hashable, count: float = 1.0) -> None:
        """Take what was used already, even when it is not there: a debt of at most one whole bucket."""
        now = self._now()
        self._keep(key, min(max(self._full_at.get(key, 0.0), now) + count * self._each, now + 2 * self._depth))

    def give_back(self, key: Hashable) -> None:
        """Put one back that was taken and not used."""
        full_at = self._full_at.get(key)
        if full_at is not None:
            self._full_at[key] = full_at - self._each

    def _keep(self, key: Hashable, full_at: float) -> None:
        kept = self._full_at
        kept[key] = full_at
        if len(kept) > self._crowded:  # before that nothing is about to be forgotten, and the order need not be kept
            kept.move_to_end(key)
            if len(kept) > self._room:
                kept.popitem(last=False)
