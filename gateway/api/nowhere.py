"""What is not routed: one answer for every path and every method, in the shape of all other errors."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.api.errors import answer
from gateway.problems import Finding, IssueCode, Problem, ProblemType

__all__ = ["AnyMethod", "nowhere_routes", "unsupported"]


class AnyMethod:
    """A handler behind a route that takes every method: Starlette gives a function only those it lists, and answers others itself."""

    def __init__(self, handler: Callable[[Request], Awaitable[Response]]) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self._handler(Request(scope, receive))
        await response(scope, receive, send)


def unsupported() -> Problem:
    """404 whatever the method: a 405 would say which types exist for others; the capability statement says what is served."""
    return Problem(ProblemType.NOT_FOUND, Finding(IssueCode.NOT_FOUND, "There is no such resource."))


def nowhere_routes() -> list[Route]:
    """The last route of all."""

    async def nowhere(request: Request) -> Response:
        return answer(unsupported(), secrets.token_hex(16))

    return [Route("/{rest:path}", AnyMethod(nowhere))]
