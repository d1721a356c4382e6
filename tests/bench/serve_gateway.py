"""`gateway serve` with its delivery runner held still: neither figure includes sending, only the ledger's row, in both builds."""

from __future__ import annotations

from gateway.cli import app
from gateway.delivery.runner import EmbeddedRunner


async def _hold_still(self: EmbeddedRunner) -> None:
    return None


if __name__ == "__main__":
    EmbeddedRunner.start = _hold_still  # type: ignore[method-assign]  # the one thing that differs from the product
    app(["serve"])
