"""What a verifier found: a list of faults, each naming the entry it is about, and a verdict.

Nothing an export says is repeated unless it is a number, a hash, or a name of the narrow form that ids have: an export
may have been tampered with by someone who knows that its report is read in a terminal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Final

import orjson

__all__ = ["FAULTS_LIMIT", "CheckpointSeen", "ExitCode", "Fault", "FaultKind", "KeySource", "VerifyReport"]

FAULTS_LIMIT: Final = 200
"""So many faults are kept; the rest are counted."""


class ExitCode(IntEnum):
    """The verdict, as a process exit code."""

    SOUND = 0
    BROKEN = 1
    UNUSABLE = 2  # the input can't be judged: not an export, no readable key, no readable old checkpoint


class FaultKind(StrEnum):
    """What is wrong."""

    CHANGED = "changed"  # an entry's content is not what its hash was made from
    DAMAGED = "damaged"  # a line that can't be read as what it should be
    MISSING = "missing"  # an entry that was there is not
    MOVED = "moved"  # an entry is at another place than it had
    ADDED = "added"  # an entry is there that was not
    CHAIN = "chain"  # an entry does not continue its writer's chain
    LABEL = "label"  # content and order are proven right; the hash or index written beside the entry is wrong
    DIFFERS = "differs"  # the content up to a size is not what a checkpoint was signed over
    SIGNATURE = "signature"  # no trusted key vouches for a checkpoint
    ORIGIN = "origin"  # a checkpoint of another log
    UNSEALED = "unsealed"  # no checkpoint at all: nothing proves anything
    SHRANK = "shrank"  # fewer entries than the old checkpoint covers
    REWRITTEN = "rewritten"  # the old checkpoint was signed over other content
    UNUSABLE = "unusable"  # the input can't be judged


class KeySource(StrEnum):
    """Why the keys were trusted."""

    GIVEN = "given"  # by whoever runs the verifier
    PINNED = "pinned"  # they signed the old checkpoint
    EXPORT = "export"  # by nobody: the export itself named them


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `until` (exclusive) makes `index` the start of a range. `line` counts from 1."""

    kind: FaultKind
    say: str
    index: int | None = None
    until: int | None = None
    writer: str | None = None
    seq: int | None = None
    size: int | None = None
    line: int | None = None

    @property
    def where(self) -> str:
        """The place, in words; empty when the fault is about the whole."""
        parts = []
        if self.index is not None and self.until is not None and self.until != self.index + 1:
            parts.append(f"entries {self.index} to {self.until - 1}")
        elif self.index is not None:
            parts.append(f"entry {self.index}")
        if self.writer is not None and self.seq is not None:
            parts.append(f"writer {self.writer} number {self.seq}")
        if self.size is not None:
            parts.append(f"checkpoint of size {self.size}")
        if self.line is not None:
            parts.append(f"line {self.line}")
        return ", ".join(parts)

    def to_document(self) -> dict[str, Any]:
        """The fault as JSON members; absent ones left out."""
        document: dict[str, Any] = {"kind": self.kind.value, "say": self.say}
        for name in ("index", "until", "writer", "seq", "size", "line"):
            value = getattr(self, name)
            if value is not None:
                document[name] = value
        return document


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """A checkpoint that was checked: whether its signature and its root hold, and how many trusted keys vouch for it."""

    size: int
    trusted: bool
    matches: bool
    vouched_by: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of one verification."""

    origin: str | None
    entries: int
    sealed: int
    """How many entries the newest trusted, matching checkpoint covers."""
    writers: int
    key_source: KeySource | None
    checkpoints: tuple[CheckpointSeen, ...] = ()
    since: int | None = None
    """The size of the old checkpoint that was given."""
    faults: tuple[Fault, ...] = ()
    more_faults: int = 0
    newest: str | None = field(default=None, repr=False)
    """The note of the newest trusted, matching checkpoint: what to keep for the next time."""

    @property
    def exit_code(self) -> ExitCode:
        """0 sound, 1 broken, 2 the input can't be judged."""
        if any(fault.kind is FaultKind.UNUSABLE for fault in self.faults):
            return ExitCode.UNUSABLE
        return ExitCode.BROKEN if self.faults else ExitCode.SOUND

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.exit_code is ExitCode.SOUND

    @property
    def unsealed(self) -> int:
        """Entries after the newest checkpoint: in a tree, not yet signed for. Not a fault."""
        return self.entries - self.sealed

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know even when nothing is wrong."""
        out = []
        if self.key_source is KeySource.EXPORT:
            out.append(
                "THE KEY WAS TAKEN FROM THE EXPORT ITSELF. This shows that the export agrees with itself, not who made it. "
                "Give the log's key (--key), or an old checkpoint that you kept (--since)."
            )
        if self.unsealed and not self.faults:
            out.append(
                f"the last {self.unsealed} entries are not sealed yet, so nothing proves them. "
                "That is usual for about the last second; if it is more, ask for a newer checkpoint."
            )
        return tuple(out)

    def lines(self) -> tuple[str, ...]:
        """The report for a person, warnings first, verdict last."""
        out = [f"WARNING: {text}" for text in self.warnings]
        out.append(f"log {self.origin or '(unknown)'}: {self.entries} entries of {self.writers} writers")
        good = sum(1 for seen in self.checkpoints if seen.trusted and seen.matches)
        out.append(f"checkpoints: {good} of {len(self.checkpoints)} hold; {self.sealed} entries sealed, {self.unsealed} not yet sealed")
        if self.since is not None and not any(f.kind in (FaultKind.SHRANK, FaultKind.REWRITTEN) for f in self.faults):
            if self.exit_code is ExitCode.SOUND:
                out.append(f"since the old checkpoint of size {self.since} the log only grew")
        out += [f"{fault.kind.value.upper()}: {fault.where + ': ' if fault.where else ''}{fault.say}" for fault in self.faults]
        if self.more_faults:
            out.append(f"... and {self.more_faults} more")
        out.append({ExitCode.SOUND: "SOUND", ExitCode.BROKEN: "BROKEN", ExitCode.UNUSABLE: "CANNOT BE JUDGED"}[self.exit_code])
        return tuple(out)

    def to_json(self) -> bytes:
        """The report for a program."""
        return orjson.dumps(
            {
                "ok": self.ok,
                "exit_code": int(self.exit_code),
                "origin": self.origin,
                "entries": self.entries,
                "sealed": self.sealed,
                "unsealed": self.unsealed,
                "writers": self.writers,
                "key_source": None if self.key_source is None else self.key_source.value,
                "since": self.since,
                "checkpoints": [
                    {"size": c.size, "trusted": c.trusted, "matches": c.matches, "vouched_by": c.vouched_by} for c in self.checkpoints
                ],
                "warnings": list(self.warnings),
                "faults": [fault.to_document() for fault in self.faults],
                "more_faults": self.more_faults,
            },
            option=orjson.OPT_INDENT_2,
        )
