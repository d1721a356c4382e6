"""How long a soak run is: SOAK_SCALE=1, the default, is the whole of it; 0.1 a tenth, to see that it works."""

from __future__ import annotations

import os
import random
from typing import Final

__all__ = ["SCALE", "scaled", "seed"]

SCALE: Final = float(os.environ.get("SOAK_SCALE") or 1)


def scaled(full: int, *, least: int) -> int:
    """That many at the whole size, and in proportion at another, but no fewer than make sense."""
    return max(least, round(full * SCALE))


def seed() -> int:
    """SOAK_SEED, or any."""
    return int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))
