"""Partners' servers on loopback, well behaved or not: what they answer is written byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

__all__ = ["ROGUES", "Answer", "Heard", "Partner", "partner", "plain", "reply"]


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def bearer(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


_BOMB: Final = gzip.compress(b" " * 20_000_000, 1)

Answer = Callable[[Heard, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Partner:
    """A running server: what it heard, and what it answers from now on."""

    origin: str
    answer: Answer
    heard: list[Heard] = field(default_factory=list)
    open: int = 0


def plain(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; the connection is closed after it."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def reply(status: int, content: Any = None, **headers: str) -> Answer:
    """Answers the same JSON every time."""
    body = b"" if content is None else json.dumps(content).encode()

    async def answer(heard: Heard, out: asyncio.StreamWriter) -> None:
        out.write(plain(status, body, Content_Type="application/json", **headers))

    return answer


async def _hang(heard: Heard, out: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _drip(heard: Heard, out: asyncio.StreamWriter) -> None:
    out.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
    while not out.is_closing():
        out.write(b" ")
        await out.drain()
        await asyncio.sleep(0.02)


async def _drip_head(heard: Heard, out: asyncio.StreamWriter) -> None:
    out.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        out.write(b"X-%d: y\r\n" % number)
        await out.drain()
        await asyncio.sleep(0.02)


async def _huge(heard: Heard, out: asyncio.StreamWriter) -> None:
    out.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10485760\r\n\r\n")
    for _ in range(160):
        out.write(b" " * 65_536)
        await out.drain()


async def _bomb(heard: Heard, out: asyncio.StreamWriter) -> None:
    out.write(plain(200, _BOMB, Content_Encoding="gzip", Content_Type="application/json"))


async def _slam(heard: Heard, out: asyncio.StreamWriter) -> None:
    out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


async def _not_http(heard: Heard, out: asyncio.StreamWriter) -> None:
    out.write(b"SSH-2.0-OpenSSH_9.9\r\n")


ROGUES: Final[Mapping[str, Answer]] = {
    "hangs": _hang,
    "drips": _drip,
    "drips-headers": _drip_head,
    "sends-10-MB": _huge,
    "sends-a-gzip-bomb": _bomb,
    "cuts-off": _slam,
    "is-no-http": _not_http,
    "fails": reply(500, {"error": "server_error"}),
}
"""Ways to misbehave that end in no usable answer."""


@contextlib.asynccontextmanager
async def partner(answer: Answer) -> AsyncIterator[Partner]:
    """A server on a free loopback port, until the block ends."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        made.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            heard = Heard(method, target, headers, body)
            made.heard.append(heard)
            await made.answer(heard, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            made.open -= 1
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Partner(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", answer)
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
