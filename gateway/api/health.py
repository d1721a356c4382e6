"""Is the process up? Nothing about what it holds."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

__all__ = ["health_routes"]


def health_routes() -> list[Route]:
    """`/health/live` and `/health/ready`: served only once everything is open."""

    async def live(request: Request) -> Response:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    return [Route("/health/live", live, methods=["GET"]), Route("/health/ready", live, methods=["GET"])]
