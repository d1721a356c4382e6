"""The text gateway: takes texts as a telephone company's service would, and shows the scenario what reached the phone.

POST /messages      {"to": "+1...", "text": "..."}; taken once per Idempotency-Key
GET  /messages      what arrived, in order
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["create_phone", "main"]


def create_phone() -> Starlette:
    """The server; it remembers until it stops."""
    taken: dict[str, dict[str, Any]] = {}

    async def take(request: Request) -> Response:
        message = orjson.loads(await request.body())
        if not isinstance(message.get("to"), str) or not isinstance(message.get("text"), str):
            return Response(status_code=422)
        key = request.headers.get("idempotency-key") or f"unkeyed-{len(taken)}"
        known = key in taken
        taken.setdefault(key, {"to": message["to"], "text": message["text"]})
        return Response(orjson.dumps({"id": key}), 208 if known else 202, media_type="application/json")

    async def show(request: Request) -> Response:
        return Response(orjson.dumps(list(taken.values())), media_type="application/json")

    return Starlette(routes=[Route("/messages", take, methods=["POST"]), Route("/messages", show, methods=["GET"])])


def main() -> None:
    """`python -m gateway.sandbox.phone PORT`."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m gateway.sandbox.phone PORT")
    uvicorn.run(create_phone(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
