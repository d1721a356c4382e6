"""What one party sees of a world, written down so that two worlds can be compared byte for byte."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from tests.integration.world import World

__all__ = ["OpenWorld", "Transcript"]

OpenWorld = AbstractAsyncContextManager[World]
_ID = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|[0-9A-F]{12})\b")


class Transcript:
    """Everything a party was answered, in order. Ids are drawn at random, so each is replaced by the place where it first appeared."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[str, str] = {}

    def _named(self, found: re.Match[str]) -> str:
        return self._names.setdefault(found[0], f"<{len(self._names)}>")

    def note(self, what: str, response: httpx.Response) -> None:
        """One answer: status, every header but the date, and the body."""
        headers = {name: value for name, value in response.headers.items() if name != "date"}
        self.lines.append(_ID.sub(self._named, f"{what}: {response.status_code} {sorted(headers.items())} {response.text}"))

    async def ask(self, world: World, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Ask, and note the answer."""
        response = await world.call(who, method, path, body, **headers)
        self.note(_ID.sub(self._named, f"{method} {path}"), response)
        return response
