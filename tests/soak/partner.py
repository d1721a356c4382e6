"""The durability runs' partners, with moods: one that dawdles and sometimes hangs, and one that goes dark while a file says so.

python -m tests.soak.partner CONFIG.json
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.integration.durability.partner import create_partner
from tests.integration.durability.records import Counters, Journal

__all__ = ["Moody"]

DAWDLES: Final = 1.5
HANGS: Final = 12.0
"""Seconds: the longest a slow partner takes, and a time after which nobody waits for it any more."""


class Moody:
    """Answers for some shelves as a partner in trouble does, and lets the well one answer for the others."""

    def __init__(self, well: ASGIApp, *, slow: str, dark: str, while_there: Path, chance: random.Random) -> None:
        self._well = well
        self._slow = f"/{slow}/"
        self._dark = f"/{dark}/"
        self._while_there = while_there
        self._chance = chance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, roll = scope["path"], self._chance.random()
        if path.startswith(self._slow):
            await asyncio.sleep(HANGS if roll < 0.01 else roll * DAWDLES if roll < 0.3 else 0)
        elif path.startswith(self._dark) and self._while_there.exists():
            if roll < 0.1:
                await asyncio.sleep(HANGS)
            elif roll < 0.3:
                raise ConnectionResetError
            await Response(status_code=self._chance.choice((503, 502, 500, 429, 401)))(scope, receive, send)
            return
        await self._well(scope, receive, send)


def main() -> None:
    """Serve until told to stop."""
    config: dict[str, Any] = orjson.loads(Path(sys.argv[1]).read_bytes())
    chance = random.Random(config["seed"])
    well = create_partner(Journal(Path(config["journal"])), Counters(Path(config["counters"])), config["slot"], chance)
    app = Moody(well, slow=config["slow"], dark=config["dark"], while_there=Path(config["dark-while"]), chance=chance)
    uvicorn.run(app, host="127.0.0.1", port=config["port"], log_level="critical", lifespan="off", access_log=False)


if __name__ == "__main__":
    main()
