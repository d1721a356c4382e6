"""Two worlds: runs that differ only in what one viewer may not see must give that viewer the same answers, byte for byte.

A `Transcript` is all that one viewer was answered. What the hub draws at random (ids, correlation ids, numbers) is drawn for each shelf
anew, so each is replaced by the place where it first appeared; nothing else is. A scenario is any coroutine that is given a world and a
transcript: it acts for every party, and notes what the viewer is told, including every write that the viewer can make. `differing` plays
it in a fresh world for each course and names the first answer that tells two of them apart.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeVar

import httpx

__all__ = ["Asked", "Transcript", "differing"]

_DRAWN: Final = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|[0-9A-F]{12})\b")
_SHOWN: Final = 400


class Asked(Protocol):
    """A hub, as a client of any party reaches it."""

    async def call(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request as one party."""
        ...


W = TypeVar("W", bound=Asked)
C = TypeVar("C")


class Transcript:
    """Everything a viewer was answered, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[str, str] = {}

    def _named(self, found: re.Match[str]) -> str:
        return self._names.setdefault(found[0], f"<{len(self._names)}>")

    def note(self, what: str, response: httpx.Response) -> None:
        """One answer: status, every header but the date, and the body."""
        headers = {name: value for name, value in response.headers.items() if name != "date"}
        self.lines.append(_DRAWN.sub(self._named, f"{what}: {response.status_code} {sorted(headers.items())} {response.text}"))

    async def ask(self, world: Asked, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Ask, and note the answer."""
        response = await world.call(who, method, path, body, **headers)
        self.note(_DRAWN.sub(self._named, f"{method} {path}"), response)
        return response


async def differing(
    new_world: Callable[[], AbstractAsyncContextManager[W]],
    scenario: Callable[[W, Transcript, C], Awaitable[None]],
    reference: C,
    courses: Sequence[C],
) -> list[str]:
    """For each course that the viewer can tell from the reference, its name and the first answer that tells (its beginning).

    A course is whatever the scenario takes as its third argument: what happens where the viewer may not look.
    """

    async def played(course: C) -> list[str]:
        said = Transcript()
        async with new_world() as world:
            await scenario(world, said, course)
        return said.lines

    expected, told = await played(reference), []
    for course in courses:
        seen = await played(course)
        first = next((b for a, b in zip(expected, seen, strict=False) if a != b), None)
        if first is not None or len(seen) != len(expected):
            told.append(f"{getattr(course, '__name__', 'course')}: {(first or 'more or fewer answers')[:_SHOWN]}")
    return told
