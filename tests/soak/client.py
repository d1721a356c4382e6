"""One party's system, working a long shift: the durability runs' client, that also declines, holds, resumes, stops, reads and asks for
new tokens, and times everything.

    python -m tests.soak.client CONFIG.json

Each answer is a line in its times file: [seconds since the epoch, what was asked, milliseconds, status]; status 0 where none came.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from gateway import vocabulary as v
from gateway.oauth.client import SmartClientError
from tests.integration.durability.client import NEXT, Party, refer
from tests.integration.world import coded

__all__ = ["Shift"]

Json = dict[str, Any]
PATCH: Final = "application/json-patch+json"
PAUSE: Final = 0.2
REFERRING: Final = 1.6
"""Seconds, on average half of it, between a worker's acts, and between two referrals of a police unit."""

DECLINED: Final = 0.1
HELD: Final = 0.1
RENEWED: Final = 0.02
"""How often an offer is declined, an accepted transfer is put on hold, and a new token is fetched before a write."""

STATUSES: Final = ("requested", "requested", "received", "accepted", "in-progress", "on-hold")


class Shift(Party):
    """A party whose every request is timed."""

    def __init__(self, config: Json, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        self._times = Path(config["times"]).open("wb", buffering=0)
        self._held: set[str] = set()

    async def read(self, path: str) -> Json | None:
        began = time.time()
        try:
            answer = await self._client.request("GET", path)
        except (httpx.TransportError, SmartClientError):
            self._time("search" if "?" in path else "read", began, 0)
            return None
        self._time("search" if "?" in path else "read", began, answer.status_code)
        found: Json | None = answer.json() if answer.status_code == 200 else None
        return found

    async def _try(self, method: str, path: str, content: bytes, headers: dict[str, str]) -> tuple[httpx.Response | None, str, bool]:
        if self.chance.random() < RENEWED:
            await self._renew()
        began = time.time()
        tried = await super()._try(method, path, content, headers)
        self._time({"POST": "transaction", "PATCH": "act"}.get(method, "edit"), began, tried[0].status_code if tried[0] is not None else 0)
        return tried

    async def _renew(self) -> None:
        began, status = time.time(), 200
        try:
            await self._client.access_token(instead_of=await self._client.access_token())
        except (httpx.TransportError, SmartClientError):
            status = 0
        self._time("token", began, status)

    def _time(self, what: str, began: float, status: int) -> None:
        self._times.write(orjson.dumps([began, what, (time.time() - began) * 1000, status]) + b"\n")

    def close(self) -> None:
        """Everything timed is in the file."""
        self._times.close()

    async def act(self, task: Json) -> None:
        """The next step with a Task that was sent to this party; or the one that nobody hopes for."""
        status, roll, id_ = _code(task["businessStatus"]), self.chance.random(), str(task["id"])
        if status in ("offered", "acknowledged") and roll < DECLINED:
            reason = {"op": "add", "path": "/statusReason", "value": coded(v.DECLINE_REASON, "no-capacity")}
            await self._move(id_, "declined-no-capacity", reason)
        elif status == "accepted" and roll < HELD and id_ not in self._held:
            self._held.add(id_)
            await self._move(id_, "paused-by-survivor")
        elif status == "paused-by-survivor":
            worker = {"url": v.EXT_ACTING_WORKER, "valueString": "Night"}
            await self._move(id_, "accepted", {"op": "add", "path": "/extension", "value": [worker]})
        else:
            await super().act(task)

    async def stop_untaken(self) -> None:
        """What nobody took is not left lying: she was helped another way."""
        found = await self.read("Task?status=on-hold&_count=5")
        for entry in (found or {}).get("entry", ())[:1]:
            path = f"Task/{entry['resource']['id']}"
            await self.write("PATCH", path, [{"op": "replace", "path": "/status", "value": "cancelled"}], PATCH)

    async def browse(self, tasks: list[Json]) -> None:
        """A worker looks at a few things, and at one that is not there."""
        for task in tasks[:2]:
            await self.read(f"Task/{task['id']}")
            await self.read(task["for"]["reference"])
            await self.read(task["focus"]["reference"])
            await self.read(f"Task/{task['id']}/_history/1")
        await self.read(f"Task/{self.chance.getrandbits(128):032x}")
        await self.read("Task?status=completed&_count=5&_sort=-_lastUpdated")

    async def _move(self, id_: str, status: str, *more: Json) -> None:
        move = {"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, status)}
        await self.write("PATCH", f"Task/{id_}", [move, *more], PATCH)


async def send(party: Shift) -> None:
    """What an officer's system does."""
    await refer(party)
    roll = party.chance.random()
    if roll < 0.2:
        await party.stop_untaken()
    elif roll < 0.5:
        found = await party.read("Task?_count=10&_sort=-_lastUpdated")
        await party.browse([entry["resource"] for entry in (found or {}).get("entry", ())])


async def receive(party: Shift) -> None:
    """What a receiving party's system does: it looks at one part of its work list, from either end, and goes on with some of it."""
    status, order = party.chance.choice(STATUSES), party.chance.choice(("", "-"))
    found = await party.read(f"Task?status={status}&_count=20&_sort={order}_lastUpdated")
    tasks = [entry["resource"] for entry in (found or {}).get("entry", ())]
    theirs = [task for task in tasks if task["meta"].get("tag") and _code(task["businessStatus"]) in (*NEXT, "paused-by-survivor")]
    for task in party.chance.sample(theirs, min(2, len(theirs))):
        await party.act(task)
    if party.chance.random() < 0.1:
        await party.browse(tasks)


async def run(config: Json) -> None:
    """Work until told to stop."""
    limits = httpx.Limits(max_connections=4, keepalive_expiry=3)
    async with httpx.AsyncClient(timeout=httpx.Timeout(30, connect=5), limits=limits) as http:
        party = Shift(config, http)
        work: Callable[[Shift], Awaitable[None]]
        work, pause = (send, REFERRING) if party.name.startswith("police") else (receive, PAUSE)

        async def worker() -> None:
            while not party.stopping:
                await work(party)
                await asyncio.sleep(party.chance.random() * pause)

        await asyncio.gather(worker(), worker(), worker())
        party.close()


def _code(concept: Any) -> str:
    return str(concept["coding"][0]["code"]) if concept else ""


if __name__ == "__main__":
    asyncio.run(run(orjson.loads(Path(sys.argv[1]).read_bytes())))
