"""One partner's HTTP server: where the hub reaches it (a FHIR receiver or a notice address), and the desk where the scenario acts.

    POST /oauth/token   where this system is a SMART server to the hub: the hub gets its token here
    POST /fhir          the hub's copies: a transaction of updates, taken once per Idempotency-Key
    POST /notify        a notice without content; the system then reads its own shelf
    POST /do/{act}      the desk: a worker's act
    GET  /seen          what this system knows: its work list, what arrived, how many notices
    GET  /versions      the newest version of everything it can read at the hub, by name
    GET  /look          all of that with every earlier version, and what was pushed to it

The desk and what follows it are for the scenario runner, on this machine only; a real system would have a screen there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import httpx
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.oauth.client import SmartBackendClient
from gateway.sandbox.config import SystemConfig
from gateway.sandbox.system.desk import Desk
from gateway.sandbox.system.door import Door, StatementDoor, Tally, TokenDoor, bearer_of
from gateway.sandbox.system.hub import Hub
from gateway.sandbox.system.records import Records

__all__ = ["create_system"]

BODY_LIMIT: Final = 1 << 20


def create_system(config: SystemConfig, *, now: Callable[[], datetime], real: Callable[[], float]) -> Starlette:
    """The server of one system. `now` is business time; `real` is the machine's, for tokens."""
    records = Records.open(config.ledger)
    http = httpx.AsyncClient(timeout=httpx.Timeout(30.0, connect=5.0))
    client = SmartBackendClient(config.hub, config.client_id, config.private_key(), "ES384", http, scope=" ".join(config.scopes), now=real)
    desk = Desk(config.party, Hub(client), records, now, lists_people=config.lists_people)
    noticed = asyncio.Event()
    issuer, tally = config.hub.removesuffix("/fhir"), Tally()
    server = TokenDoor(f"{config.origin}/oauth/token", config.hub_keys, real, tally) if config.hub_keys is not None else None
    door: Door = server or StatementDoor(http, issuer=issuer, address=config.address, now=real)

    def for_the_hub(serve: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            if not await door.lets_in(bearer_of(request)):
                tally.turned_away += 1
                return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
            tally.let_in += 1
            return await serve(request)

        return endpoint

    async def token(request: Request) -> Response:
        said, status = await server.token(request) if server is not None else ({"error": "invalid_request"}, 404)
        return _json(said, status)

    async def receive(request: Request) -> Response:
        key = request.headers.get("idempotency-key")
        body = await request.body()
        if not key or len(body) > BODY_LIMIT:
            return _json({"error": "an Idempotency-Key and at most 1 MiB"}, 400)
        bundle = orjson.loads(body)
        entries = bundle.get("entry", ())
        if bundle.get("type") != "transaction" or any(entry["request"]["method"] != "PUT" for entry in entries):
            return _json({"error": "a transaction of updates"}, 422)
        new = records.take(key, (entry["resource"] for entry in entries))
        answered = [{"response": {"status": "201 Created" if new else "200 OK"}} for _ in entries]
        return _json({"resourceType": "Bundle", "type": "transaction-response", "entry": answered}, 200 if new else 208)

    async def notify(request: Request) -> Response:
        key = request.headers.get("idempotency-key", "")
        if not records.take(key, ()):
            return Response(status_code=208)
        records.notices += 1
        noticed.set()
        return Response(status_code=204)

    async def do(request: Request) -> Response:
        act = desk.acts.get(request.path_params["act"])
        if act is None:
            return _json({"error": "no such act"}, 404)
        return _json(await act(orjson.loads(await request.body() or b"{}")))

    async def seen(request: Request) -> Response:
        return _json(
            {
                "tasks": records.tasks(),
                "resources": len(records.resources),
                "arrivals": [list(a.parts) for a in records.arrivals],
                "repeats": records.repeats,
                "notices": records.notices,
                "door": {"kind": door.kind, **asdict(tally)},
            }
        )

    async def versions(request: Request) -> Response:
        shelf = await desk.look(earlier=False)
        return _json(sorted(f"{r['resourceType']}/{r['id']}/{r['meta']['versionId']}" for r in shelf))

    async def look(request: Request) -> Response:
        return _json({"shelf": await desk.look(), "pushed": list(records.seen.values())})

    async def catch_up() -> None:
        while True:
            await noticed.wait()
            noticed.clear()
            await desk.catch_up()

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        reader = asyncio.create_task(catch_up())
        try:
            yield
        finally:
            reader.cancel()
            await http.aclose()

    return Starlette(
        routes=[
            Route("/fhir", for_the_hub(receive), methods=["POST"]),
            Route("/notify", for_the_hub(notify), methods=["POST"]),
            Route("/oauth/token", token, methods=["POST"]),
            Route("/do/{act}", do, methods=["POST"]),
            Route("/seen", seen),
            Route("/versions", versions),
            Route("/look", look),
        ],
        lifespan=running,
    )


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
