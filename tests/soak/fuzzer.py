"""A system that sends nonsense, as a process of its own. It keeps the same journal as the durability runs' clients.

    python -m tests.soak.fuzzer CONFIG.json

Lines: `sent` and then `done` or `refused` for a write with a good head; `failed` for every answer that no request may get (5xx other than
503, or none at all), with enough to send it again; at the end one `tally` of what was answered to what.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from gateway import vocabulary as v
from tests.integration.durability.client import answered, sign_in
from tests.integration.durability.records import Journal
from tests.integration.night import contact
from tests.integration.world import coded, night_offer
from tests.soak.nonsense import broken_head, broken_text, changed_somewhere, examples

__all__ = ["Fuzzer"]

Json = dict[str, Any]
FHIR: Final = "application/fhir+json"
PATCH: Final = "application/json-patch+json"
PATIENCE: Final = 1.5
"""Seconds to wait for the answer to a broken head. Some are half a request, which the server may wait for longer than that."""

_QUERIES: Final = (
    *("", "?_count=x", "?_id=" + "1," * 900, "?_lastUpdated=ge2026-13-40", "?status:missing=x", "?patient.name=a", "?_x=%"),
    *("?_sort=_lastUpdated&_count=0", "?status=requested&status=received,accepted", "?owner=PractitionerRole/x", "?page=zz"),
)


class Fuzzer:
    """One client gone wrong. `poisoned`: every body has something in it that can't be accepted."""

    def __init__(self, config: Json, http: httpx.AsyncClient) -> None:
        self.name: str = config["name"]
        self.chance = random.Random(config["seed"])
        self.tally: Counter[str] = Counter()
        self._http = http
        self._base: str = config["hub"]
        self._client = sign_in(config, http)
        self._journal = Journal(Path(config["journal"]))
        self._poisoned: bool = config["poisoned"]
        self._number = 0
        self._known: list[Json] = []  # resources on its own shelf, newest last

    async def step(self) -> None:
        """One request of some kind."""
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            self._offer,
            self._offer,
            self._example,
            self._edit,
            self._text,
            self._head,
            self._ask,
        )
        await self.chance.choice(kinds)()

    def close(self) -> None:
        """Write down what was answered."""
        self._journal.write("tally", answers=dict(self.tally))

    async def _offer(self) -> None:
        offer = night_offer(_now(), f"Zz-{self.name}-{self._number}")
        offer["entry"][0]["resource"]["telecom"] = [contact(_now())]
        await self._write("POST", "", "bundle", changed_somewhere(self.chance, offer))

    async def _example(self) -> None:
        example = changed_somewhere(self.chance, self.chance.choice(examples()), times=self.chance.choice((0, 1, 2)))
        type_ = example.get("resourceType")
        path = str(type_) if isinstance(type_, str) and type_.isalnum() and type_ != "Bundle" else ""
        await self._write("POST", path, "example", example)

    async def _edit(self) -> None:
        """A write to something that is there, or that is not."""
        if not self._known or self.chance.random() < 0.1:
            await self._look()
        if not self._known:
            return
        known = self.chance.choice(self._known[-40:])
        path = f"{known['resourceType']}/{known['id']}"
        if known["resourceType"] == "Task" and self.chance.random() < 0.5:
            status = self.chance.choice(("acknowledged", "accepted", "handed-over", "paused-by-survivor", "stopped-by-survivor", "banana"))
            operations = [{"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, status)}]
            body = changed_somewhere(self.chance, {"patch": operations}).get("patch")
            await self._write("PATCH", path, "patch", body, kind=PATCH)
        else:
            await self._write("PUT", path, "edit", changed_somewhere(self.chance, known))

    async def _look(self) -> None:
        for type_ in ("Task", "Patient", "Consent", "ServiceRequest"):
            answer = await self._client.request("GET", f"{type_}?_count=10&_sort=-_lastUpdated")
            self._count("search", answer)
            if answer.status_code == 200:
                self._known += [entry["resource"] for entry in answer.json().get("entry", ())]
        del self._known[:-200]

    async def _text(self) -> None:
        await self._write("POST", "", "text", broken_text(self.chance, night_offer(_now())))

    async def _ask(self) -> None:
        """A read of nonsense, or with a token that is none."""
        ids = self.chance.choice(("x" * 65, "%00", "0" * 32, "a/b", "*", "é", "_history", "-", "%2e%2e"))
        query = self.chance.choice(
            ("", "?_count=x", "?_id=" + "1," * 900, "?_lastUpdated=ge2026-13-40", "?status:missing=x", "?patient.name=a", "?_x=%")
        )
        type_ = self.chance.choice(("Task", "Patient", "Consent", "Nothing", "task", "metadata", "$export", "Communication", "_history"))
        path = f"{type_}/{ids}{query}" if self.chance.random() < 0.5 else f"{type_}{query}"
        if self.chance.random() < 0.25:
            headers = {"authorization": self.chance.choice(("Bearer x", "Bearer " + "a." * 40, "Basic eA==", "Bearer"))}
            answer = await self._http.get(f"{self._base}/{path}", headers=headers)
            self._count("no token", answer)
            if answer.is_success and not path.startswith("metadata"):
                self._journal.write("failed", kind="no token", status=answer.status_code, sent=path)
        else:
            self._count("read", await self._client.request("GET", path))

    async def _head(self) -> None:
        address = urlsplit(self._base)
        raw = broken_head(self.chance, await self._client.access_token(), address.netloc)
        status = 0
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(raw)
            async with asyncio.timeout(PATIENCE):
                status = int((await reader.readline()).split()[1])
        except (OSError, TimeoutError, IndexError, ValueError):
            pass  # a connection closed without a word, or left waiting for the rest of a request, is an answer to half of one
        finally:
            writer.close()
        self.tally[f"head {status}"] += 1
        if status >= 500 and status != 503:
            self._journal.write("failed", kind="head", status=status, sent=base64.b64encode(raw).decode())

    async def _write(self, method: str, path: str, name: str, body: Any, *, kind: str = FHIR) -> None:
        self._number += 1
        if self._poisoned and isinstance(body, dict):
            body = {**body, "zz": 1}
        elif self._poisoned and isinstance(body, list):
            body = [*body, {"op": "banana"}]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        id_ = f"{self.name}-{self._number}"
        shown = {"method": method, "path": path, "kind": kind, "what": name}
        self._journal.write("sent", id=id_, **shown)
        try:
            answer = await self._client.request(method, path, content=content, headers={"content-type": kind, "x-request-id": id_})
        except httpx.TransportError as error:
            self.tally[f"{name} {type(error).__name__}"] += 1
            self._journal.write("failed", id=id_, status=0, sent=base64.b64encode(content).decode(), **shown)
            return
        if self._count(name, answer, base64.b64encode(content).decode()):
            told = {"status": answer.status_code, "correlation": answer.headers.get("x-correlation-id")}
            self._journal.write("refused", id=id_, nonsense=True, **told)
        elif answer.is_success:
            self._journal.write("done", id=id_, **answered(answer))

    def _count(self, name: str, answer: httpx.Response, sent: str = "") -> bool:
        """Whether it is a refusal."""
        self.tally[f"{name} {answer.status_code}"] += 1
        if answer.status_code >= 500:
            self._journal.write("busy" if answer.status_code == 503 else "failed", kind=name, status=answer.status_code, sent=sent)
        return 400 <= answer.status_code < 500


def _now() -> int:
    return time.time_ns() // 1_000_000


async def run(config: Json) -> None:
    """`requests` of them, or until the stop file appears."""
    stopped = Path(config["stop"]).exists
    limits = httpx.Limits(max_connections=4, keepalive_expiry=3)
    async with httpx.AsyncClient(timeout=30, limits=limits) as http:
        fuzzer = Fuzzer(config, http)
        left = config["requests"]

        async def worker() -> None:
            nonlocal left
            while left > 0 and not stopped():
                left -= 1
                await fuzzer.step()
                await asyncio.sleep(config["pause"] * fuzzer.chance.random())

        await asyncio.gather(worker(), worker(), worker())
        fuzzer.close()


if __name__ == "__main__":
    asyncio.run(run(orjson.loads(Path(sys.argv[1]).read_bytes())))
