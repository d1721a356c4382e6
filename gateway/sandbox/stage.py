"""The scenario runner's way to the systems: the clock file, and each system's desk over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
import orjson

from gateway.testing.clock import ClockFile

__all__ = ["HttpStage", "StageError"]

Json = dict[str, Any]


class StageError(Exception):
    """A system did not do what it was asked at all (which is something else than being refused by the hub). Names the system."""


class HttpStage:
    """Implements `gateway.testing.scenario_run.Stage`."""

    def __init__(self, http: httpx.AsyncClient, clock: ClockFile, systems: Mapping[str, str], phone: str) -> None:
        """`systems`: party -> the origin of its system; `phone`: the origin of the text gateway."""
        self._http = http
        self._clock = clock
        self._systems = systems
        self._phone = phone

    def set_time(self, at: datetime) -> None:
        """Move business time, for the hub and every system."""
        self._clock.set(at)

    async def ask(self, party: str, act: str, entered: Mapping[str, Any]) -> Json:
        """Let a party's system act."""
        return await self._json(party, await self._http.post(f"{self._systems[party]}/do/{act}", content=orjson.dumps(dict(entered))))

    async def seen(self, party: str) -> Json:
        """What the system knows by itself."""
        return await self._json(party, await self._http.get(f"{self._systems[party]}/seen"))

    async def versions(self, party: str) -> list[str]:
        """The newest version of everything the party can read at the hub."""
        found: list[str] = (await self._http.get(f"{self._systems[party]}/versions")).json()
        return found

    async def look(self, party: str) -> Json:
        """Everything the party can read at the hub, and all that was pushed to it."""
        return await self._json(party, await self._http.get(f"{self._systems[party]}/look"))

    async def texts(self) -> list[Json]:
        """What has reached the survivor's phone."""
        found: list[Json] = (await self._http.get(f"{self._phone}/messages")).json()
        return found

    async def pause(self, seconds: float) -> None:
        """Wait in real time."""
        await asyncio.sleep(seconds)

    async def _json(self, party: str, response: httpx.Response) -> Json:
        if response.status_code != httpx.codes.OK:
            raise StageError(f"the system of {party} answered {response.status_code}")
        answer: Json = response.json()
        return answer
