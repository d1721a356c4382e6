"""The export: one file of JSON lines that carries all a verifier needs, in the order it needs it.

::

    {"format":"gateway-audit-export/1","keys":["<verifier key>",...],"origin":"<log>"}
    {"checkpoint":"<signed note>"}                          any number, by size
    {"entry":{...},"hash":"<64 hex digits>","index":0}      every entry that has a place in the tree, in that order
    ...
    {"end":{"checkpoints":2,"entries":1871}}

The entry is embedded byte for byte as its writer hashed it, so its hash can be computed from the line itself. The hash
and the index beside it prove nothing; they let a verifier *name* the entry that was changed, removed or moved. The end
line tells a cut-off file from a whole one.

Checkpoints come first so that the roots can be compared while the entries stream by, in memory that does not grow with
the log. Read the checkpoints from the store before the entries: entries added in between are then simply not yet sealed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import orjson

from gateway.audit.checkpoint import VerifierKey

__all__ = [
    "FORMAT",
    "LINE_LIMIT",
    "EntryFrame",
    "ExportEntry",
    "ExportHeader",
    "entry_frame",
    "export_lines",
    "plain_line",
    "read_line",
    "write_export",
]

FORMAT: Final = "gateway-audit-export/1"
LINE_LIMIT: Final = 131_072
"""No line is longer: an entry is some hundred bytes, a note at most 64 KiB."""

_FRAME: Final = re.compile(rb'\{"entry":(\{.*\}),"hash":"([0-9a-f]{64})","index":(0|[1-9][0-9]{0,17})\}\n').fullmatch


class ExportHeader(NamedTuple):
    """Which log this is, and the keys (of the log and of partners that cosign) its checkpoints can be checked with."""

    origin: str
    keys: tuple[VerifierKey, ...]


class ExportEntry(NamedTuple):
    """An entry as stored: the hash that is in the tree, the body as its writer made it."""

    hash: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class EntryFrame:
    """The parts of an entry line."""

    body: bytes
    hash: bytes
    index: int


class Sink(Protocol):
    """Where bytes go: a binary file, or anything like one."""

    def write(self, data: bytes, /) -> object: ...


def plain_line(document: dict[str, Any]) -> bytes:
    """A header, checkpoint or end line."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def read_line(line: bytes) -> dict[str, Any] | None:
    """A line that `plain_line` wrote; None for any other bytes, a second spelling of the same document included."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) and plain_line(document) == line else None


def entry_frame(line: bytes) -> EntryFrame | None:
    """The parts of an entry line; None when the line is not framed as one. The body is not looked into."""
    match = _FRAME(line)
    return None if match is None else EntryFrame(match[1], bytes.fromhex(match[2].decode("ascii")), int(match[3]))


async def export_lines(header: ExportHeader, checkpoints: Sequence[str], entries: AsyncIterable[ExportEntry]) -> AsyncIterator[bytes]:
    """The lines of an export, in order. Copies what it is given: finding out whether it is sound is the verifier's work."""
    yield plain_line({"format": FORMAT, "keys": [str(key) for key in header.keys], "origin": header.origin})
    for note in checkpoints:
        yield plain_line({"checkpoint": note})
    index = 0
    async for entry in entries:
        yield b'{"entry":%b,"hash":"%b","index":%d}\n' % (entry.body, entry.hash.hex().encode("ascii"), index)
        index += 1
    yield plain_line({"end": {"checkpoints": len(checkpoints), "entries": index}})


async def write_export(sink: Sink, header: ExportHeader, checkpoints: Iterable[str], entries: AsyncIterable[ExportEntry]) -> None:
    """Write an export to `sink`, which must be opened in binary mode."""
    async for line in export_lines(header, tuple(checkpoints), entries):
        sink.write(line)
