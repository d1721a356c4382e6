"""One party's system as a process of its own, that writes down what it asked and what it was promised.

    python -m tests.integration.durability.client CONFIG.json

It keeps its `X-Request-ID` on every retry, and now and then gives up on a request whose connection was lost (`abandoned`): whether
that one happened is then known to the hub alone. When the stop file appears it finishes what it has begun and ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway import vocabulary as v
from gateway.oauth.client import SmartBackendClient, SmartClientError
from tests.integration.durability.records import Counters, Journal
from tests.integration.night import fast_track, income_request
from tests.integration.world import coded, night_offer, output, patient

__all__ = ["answered", "sign_in"]

Json = dict[str, Any]
PAUSE: Final = 0.1
REFERRING: Final = 0.5
"""Seconds, on average half of it, between a worker's acts; and between two referrals, which make work for everybody else."""

ABANDON: Final = 0.25
PATIENCE: Final = 40.0
"""Seconds within which every request must be answered once no process is killed any more."""

NEXT: Final[Mapping[str, str]] = {
    "offered": "acknowledged",
    "backup-offered": "acknowledged",
    "acknowledged": "accepted",
    "accepted": "introduced",
    "introduced": "handed-over",
}


def sign_in(config: Json, http: httpx.AsyncClient) -> SmartBackendClient:
    """The registered client that a configuration names."""
    key = load_pem_private_key(Path(config["key"]).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = config["client"]
    return SmartBackendClient(config["hub"], name, key, "ES384", http, scope=config["scope"], now=time.time, kid=name)


def answered(response: httpx.Response) -> Json:
    """All that a client can tell one answer from another by, and what it says was stored."""
    location = response.headers.get("location")
    places = [location] if location else [entry["response"]["location"] for entry in response.json().get("entry", ())]
    stored = []
    for place in places:
        type_, id_, _, version = place.split("/")[-4:]
        stored.append([type_, id_, int(version)])
    return {
        "status": response.status_code,
        "body": hashlib.sha256(response.content).hexdigest(),
        "etag": response.headers.get("etag"),
        "location": location,
        "stored": stored,
    }


class Party:
    """A system with one journal. Its workers act side by side."""

    def __init__(self, config: Json, http: httpx.AsyncClient) -> None:
        self.name: str = config["name"]
        self.chance = random.Random(config["seed"])
        self._client = sign_in(config, http)
        self._journal = Journal(Path(config["journal"]))
        self._counters = Counters(Path(config["counters"]))
        self._slot: int = config["slot"]
        self._stop = Path(config["stop"])
        self._number = 0
        self.people: list[tuple[str, str]] = []  # (Patient id, alias) that this party wrote

    @property
    def stopping(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._stop.exists()

    async def read(self, path: str) -> Json | None:
        """A read; None when the hub can't be reached just now."""
        try:
            response = await self._client.request("GET", path)
        except (httpx.TransportError, SmartClientError):
            await asyncio.sleep(0.05)
            return None
        found: Json | None = response.json() if response.status_code == 200 else None
        return found

    async def write(self, method: str, path: str, body: Any, kind: str) -> httpx.Response | None:
        """A write, sent until it is answered; None when it was refused or given up."""
        self._number += 1
        id_, content = f"{self.name}-{self._number}", orjson.dumps(body)
        headers = {"content-type": kind, "x-request-id": id_}
        self._journal.write("sent", id=id_, method=method, path=path, body=content.decode(), kind=kind)
        met = ""
        while not self._overdue():
            answer, met, on_its_way = await self._try(method, path, content, headers)
            if answer is not None and answer.is_success:
                self._journal.write("done", id=id_, **answered(answer))
                return answer
            if answer is not None and answer.status_code != 503:
                self._journal.write("refused", id=id_, status=answer.status_code)
                return None
            if on_its_way:
                self._counters.add(self._slot)
                self._journal.write("cut", id=id_, met=met)
                if self.chance.random() < ABANDON:
                    self._journal.write("abandoned", id=id_)
                    return None
            await asyncio.sleep(0.05)
        self._journal.write("unanswered", id=id_, met=met)
        return None

    async def _try(self, method: str, path: str, content: bytes, headers: dict[str, str]) -> tuple[httpx.Response | None, str, bool]:
        """The answer; or None, what was met instead, and whether the request may have reached the hub."""
        try:
            await self._client.access_token()
        except (httpx.TransportError, SmartClientError) as error:
            return None, f"no token: {type(error).__name__}", False
        try:
            answer = await self._client.request(method, path, content=content, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, SmartClientError) as error:
            return None, type(error).__name__, False
        except httpx.TransportError as error:
            return None, type(error).__name__, True
        return answer, str(answer.status_code), False

    def _overdue(self) -> bool:
        return self.stopping and time.time() - self._stop.stat().st_mtime > PATIENCE

    async def act(self, task: Json) -> None:
        """The next step with a Task that was sent to this party, and sometimes a referral onward."""
        status = _code(task.get("businessStatus"))
        target = NEXT.get(status)
        if target is None:
            return
        patch: list[Json] = [{"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, target)}]
        if target == "accepted":
            worker = {"url": v.EXT_ACTING_WORKER, "valueString": f"Worker {self._number}"}
            patch.append({"op": "add", "path": "/extension", "value": [worker]})
        if target == "introduced" and self.name == "income":
            given = output("decision", valueCodeableConcept=coded(v.DECISION, "approved"))
            patch.append({"op": "add", "path": "/output", "value": [given]})
        done = await self.write("PATCH", f"Task/{task['id']}", patch, "application/json-patch+json")
        if done is not None and target == "introduced" and self.name == "counsellor":
            person = task["for"]["reference"].rpartition("/")[2]
            if self.chance.random() < 0.5:
                await self.write("POST", "", fast_track(person), "application/fhir+json")
            else:
                await self.write("POST", "", income_request(person, _now()), "application/fhir+json")

    async def offer(self) -> None:
        """A new person, offered to victim services with the consents that an officer recorded."""
        alias = f"Zz-{self.name}-{self._number}"
        done = await self.write("POST", "", night_offer(_now(), alias), "application/fhir+json")
        if done is not None:
            self.people.append((answered(done)["stored"][0][1], alias))

    async def edit(self) -> None:
        """Something about a person turns out different: her copies elsewhere follow."""
        id_, alias = self.chance.choice(self.people[-12:])
        changed = {**patient(f"{alias}-{self._number}", self.chance.choice(["16-17", "18-24"])), "id": id_}
        await self.write("PUT", f"Patient/{id_}", changed, "application/fhir+json")


async def refer(party: Party) -> None:
    """What an officer's system does."""
    if party.people and party.chance.random() < 0.4:
        await party.edit()
    else:
        await party.offer()


async def receive(party: Party) -> None:
    """What a receiving party's system does: it looks at one part of its work list, and goes on with one or two of what it finds."""
    status = party.chance.choice(["requested", "requested", "received", "accepted", "in-progress"])
    found = await party.read(f"Task?status={status}&_count=20&_sort=-_lastUpdated")
    tasks = [entry["resource"] for entry in (found or {}).get("entry", ()) if NEXT.get(_code(entry["resource"].get("businessStatus")))]
    theirs = [task for task in tasks if task["meta"].get("tag")]  # a copy that the hub made: somebody else's referral
    for task in party.chance.sample(theirs, min(2, len(theirs))):
        await party.act(task)


Work = Callable[[Party], Awaitable[None]]
WORK: Final[Mapping[str, tuple[Work, float]]] = {"police": (refer, REFERRING), "police-svu": (refer, REFERRING)}


async def run(config: Json) -> None:
    """Work until told to stop."""
    limits = httpx.Limits(max_connections=4)
    async with httpx.AsyncClient(timeout=httpx.Timeout(20, connect=2), limits=limits) as http:
        party = Party(config, http)
        work, pause = WORK.get(party.name, (receive, PAUSE))

        async def worker() -> None:
            while not party.stopping:
                await work(party)
                await asyncio.sleep(party.chance.random() * pause)

        await asyncio.gather(worker(), worker())


def _now() -> int:
    return time.time_ns() // 1_000_000


def _code(concept: Any) -> str:
    return str(concept["coding"][0]["code"]) if concept else ""


if __name__ == "__main__":
    asyncio.run(run(orjson.loads(Path(sys.argv[1]).read_bytes())))
