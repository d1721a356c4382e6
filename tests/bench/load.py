"""The load generator: a keep-alive HTTP/1.1 client on raw sockets, in its own process, so that it costs the server nothing.

``python -m tests.bench.load`` reads one `Job` as JSON from standard input and writes one `Measured` as JSON to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import psutil
import uvloop

__all__ = ["Job", "Measured", "main"]

ALIAS = b"Zz-Robin"
"""The text in a body template that becomes an alias of its own for each request."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, how often at once and for how long.

    `paths` are taken in turn; a `body` is sent with a new alias and request id each time. `server` is the process whose processor time
    is read before and after. With a `count` that many requests are sent, however long it takes, and nothing is timed. `forms` are bodies
    for the token endpoint, each sent once: the load ends with them, if not before.
    """

    port: int
    token: str
    method: str
    paths: list[str]
    expect: int
    seconds: float
    warm: float
    in_flight: int
    body: str | None = None
    label: str = "l"
    server: int = 0
    count: int = 0
    forms: list[str] | None = None


@dataclass(slots=True)
class Measured:
    """Answers counted after the warm-up. `wrong` are those with another status than expected."""

    answers: int = 0
    wrong: int = 0
    seconds: float = 0.0
    busy: float = 0.0  # processor seconds of the server
    micros: list[int] = field(default_factory=list)
    example: str = ""


def requests(job: Job) -> Iterator[bytes]:
    """The bytes of each request."""
    if job.forms is not None:
        [path] = job.paths
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        for form in job.forms:
            yield f"{head}Content-Length: {len(form)}\r\n\r\n{form}".encode()
        return
    common = f"Host: 127.0.0.1\r\nAuthorization: Bearer {job.token}\r\nAccept: application/fhir+json\r\n"
    if job.body is None:
        if not job.paths:
            raise ValueError("a job needs a path")
        ready = [f"{job.method} {path} HTTP/1.1\r\n{common}\r\n".encode() for path in job.paths]
        yield from itertools.cycle(ready)
    template = (job.body or "").encode()
    [path] = job.paths
    for number in itertools.count():
        body = template.replace(ALIAS, f"{job.label}-{number}".encode())
        head = (
            f"{job.method} {path} HTTP/1.1\r\n{common}Content-Type: application/fhir+json\r\n"
            f"X-Request-ID: {job.label}-{number}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last one is complete."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._held = b""
        self._transport: asyncio.Transport | None = None
        self._began = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        request = self._load.next()
        if request is None:
            self._transport.close()
            return
        self._began = time.perf_counter_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        held = self._held + data
        end = held.find(b"\r\n\r\n")
        if end < 0:
            self._held = held
            return
        head = held[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(held) < end + 4 + length:
            self._held = held
            return
        self._held = b""
        self._load.answered(int(head[9:12]), (time.perf_counter_ns() - self._began) // 1000, held)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.closed()


class _Load:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._requests = requests(job)
        self._open = job.in_flight
        self._sent = 0
        self._counting = False
        self._over = False
        self.measured = Measured()
        self.done = asyncio.Event()
        self._used_up = asyncio.Event()

    def next(self) -> bytes | None:
        if self._over or (self._job.count and self._sent == self._job.count):
            return None
        self._sent += 1
        request = next(self._requests, None)
        if request is None:
            self._used_up.set()
        return request

    def answered(self, status: int, micros: int, raw: bytes) -> None:
        if self._over:
            return
        if status != self._job.expect:
            self.measured.wrong += 1
            self.measured.example = raw[:400].decode("utf-8", "replace")
        elif self._counting:
            self.measured.answers += 1
            self.measured.micros.append(micros)

    def closed(self) -> None:
        self._open -= 1
        if self._open == 0:
            self.done.set()

    async def run(self) -> Measured:
        loop = asyncio.get_running_loop()
        for _ in range(self._job.in_flight):
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._job.port)
        if self._job.count:
            self._counting = True
            await self.done.wait()
            return self.measured
        await asyncio.sleep(self._job.warm)
        self._counting, began, busy = True, time.perf_counter(), _busy(self._job.server)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._used_up.wait(), self._job.seconds)
        self._over, self.measured.seconds, self.measured.busy = True, time.perf_counter() - began, _busy(self._job.server) - busy
        await asyncio.wait_for(self.done.wait(), 30)
        return self.measured


def _busy(process: int) -> float:
    if not process:
        return 0.0
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


async def _run(job: Job) -> Measured:
    return await _Load(job).run()


def main() -> None:
    """Read a job, do it, write what was measured."""
    given: dict[str, Any] = json.load(sys.stdin)
    cores = given.pop("cores", None)
    if cores:
        os.sched_setaffinity(0, cores)
    json.dump(asdict(uvloop.run(_run(Job(**given)))), sys.stdout)


if __name__ == "__main__":
    main()
