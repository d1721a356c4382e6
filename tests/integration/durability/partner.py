"""The systems of all receiving parties, as one process that outlives the hub: slow, sometimes unwilling, and never taking a key twice.

    python -m tests.integration.durability.partner CONFIG.json

Each request is written down before anything else (`seen`), and a delivery before it is answered (`applied`). Among the answers at
random: a slow one, a 503 before anything is applied, and a connection that ends after all was applied (its receipt is lost).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.integration.durability.records import Counters, Journal

__all__ = ["create_partner"]

SLOW: Final = 0.25
"""Seconds: the longest a partner takes before, and again after, it has applied a delivery."""

UNWILLING: Final = 0.04
LOST: Final = 0.04


def create_partner(journal: Journal, counters: Counters, cut: int, chance: random.Random) -> Starlette:
    """The application. `cut` is the slot that counts requests whose sender went away before it was answered."""
    applied: set[str] = set()
    unwilling: set[str] = set()

    async def receive(request: Request) -> Response:
        shelf, key, body = request.path_params["shelf"], request.headers["idempotency-key"], await request.body()
        journal.write("seen", key=key, shelf=shelf, digest=hashlib.sha256(body).hexdigest())
        try:
            await asyncio.sleep(chance.random() ** 3 * SLOW)
            if key not in applied:
                if key not in unwilling and chance.random() < UNWILLING:
                    unwilling.add(key)
                    return Response(status_code=503)
                # applied and written down in one step: nothing else runs in between
                applied.add(key)
                journal.write("applied", key=key, shelf=shelf, parts=_parts(orjson.loads(body)))
                await asyncio.sleep(chance.random() ** 3 * SLOW)
                if chance.random() < LOST:
                    return _Lost()
                return Response(b"{}", 200, media_type="application/fhir+json")
            return Response(b"{}", 208, media_type="application/fhir+json")
        finally:
            if await request.is_disconnected():
                counters.add(cut)

    return Starlette(routes=[Route("/{shelf:path}/deliveries", receive, methods=["POST"])])


class _Lost(Response):
    """An answer that never arrives: the connection ends within the headers' own promise."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        raise ConnectionResetError


def _parts(body: dict[str, Any]) -> list[list[Any]] | None:
    """What a push carries; None for a nudge, which carries nothing."""
    if "entry" not in body:
        return None
    resources = [entry["resource"] for entry in body["entry"]]
    return [[resource["resourceType"], resource["id"], int(resource["meta"]["versionId"])] for resource in resources]


def main() -> None:
    """Serve until told to stop."""
    config = orjson.loads(Path(sys.argv[1]).read_bytes())
    app = create_partner(
        Journal(Path(config["journal"])), Counters(Path(config["counters"])), config["slot"], random.Random(config["seed"])
    )
    uvicorn.run(app, host="127.0.0.1", port=config["port"], log_level="critical", lifespan="off", access_log=False)


if __name__ == "__main__":
    main()
