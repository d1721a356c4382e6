"""An HTTP/1.1 client that sends exactly the bytes it is given: a library would mend or refuse what an attacker sends."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Answer", "Wire"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` in order, names in lower case; `micros` from the last byte sent to the last byte read."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    micros: int

    def header(self, name: str) -> str | None:
        """The value of a header that comes at most once."""
        found = [value for known, value in self.headers if known == name]
        assert len(found) < 2, name
        return found[0] if found else None

    def lasting(self, *moments: str) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """Everything but the date and headers that are new each time; their values are blanked in the body too."""
        body = self.body
        for name in moments:
            value = self.header(name)
            body = body.replace(value.encode(), b"*") if value else body
        return self.status, tuple((name, value) for name, value in self.headers if name not in ("date", *moments)), body


class Wire:
    """One connection, kept open as long as the server keeps it and opened again when it does not."""

    def __init__(self, port: int, *, timeout: float = 10.0) -> None:
        self._port = port
        self._timeout = timeout
        self._socket: socket.socket | None = None

    def request(self, method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Answer:
        """One request. Header values are sent as Latin-1, unchecked."""
        sent = [("Host", f"127.0.0.1:{self._port}"), *headers]
        if body or method in ("POST", "PUT", "PATCH"):
            sent.append(("Content-Length", str(len(body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in sent)
        return self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body, bodiless=method == "HEAD")

    def send(self, raw: bytes, *, bodiless: bool = False) -> Answer:
        """These bytes, on the open connection; on a new one if the server had closed it."""
        for fresh in (False, True):
            if self._socket is None:
                fresh = True
                self._socket = socket.create_connection(("127.0.0.1", self._port), self._timeout)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._socket.sendall(raw)
                began = time.perf_counter_ns()
                return self._read(began, bodiless)
            except (ConnectionError, EOFError):
                self.close()
                if fresh:
                    raise
        raise AssertionError("not reached")

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self, began: int, bodiless: bool) -> Answer:
        assert self._socket is not None
        held = b""
        while b"\r\n\r\n" not in held:
            held += self._more()
        head, _, body = held.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
        named = dict(headers)
        length = 0 if bodiless else int(named.get("content-length", "0"))
        assert "transfer-encoding" not in named
        while len(body) < length:
            body += self._more()
        micros = (time.perf_counter_ns() - began) // 1000
        if named.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(first.split(" ", 2)[1]), headers, body, micros)

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(65536)
        if not data:
            raise EOFError
        return data
