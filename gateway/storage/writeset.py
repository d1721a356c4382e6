"""A write set: everything one act changes, with the guards under which it was decided.

Decisions are taken on a snapshot; the writer checks that what they rested on still holds and commits effect, ledger, timers
and audit together, or nothing (`no audit, no effect`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.audit.entry import AuditEntry
from gateway.audit.explanation import Explanation
from gateway.storage.sealing import NewKey, Slot
from gateway.storage.statements import Op, Row

__all__ = ["Committed", "Head", "Snapshot", "Stale", "WriteSet", "judge"]

Head = tuple[str, str, str]
"""(shelf, type, id) of a copy."""


@dataclass(slots=True)
class WriteSet:
    """Rows by operation, and guards. Built by one use case, committed once."""

    audit: list[AuditEntry] = field(default_factory=list)
    why: list[tuple[int, Explanation]] = field(default_factory=list)  # position in `audit` of the entry that it explains
    rows: dict[Op, list[Row]] = field(default_factory=dict)
    copies: dict[Head, tuple[Row, dict[str, Any]]] = field(default_factory=dict)  # one new version of each copy, and what it says
    keys: list[NewKey] = field(default_factory=list)
    destroys: list[Slot] = field(default_factory=list)  # keys to destroy: recorded with the commit, done after it, found again at a start
    shares: dict[str, int] = field(default_factory=dict)  # thread -> epoch relied on (a release)
    owns: dict[str, int] = field(default_factory=dict)  # thread -> epoch moved on from (a withdrawal, a stop)
    transfers: dict[str, int] = field(default_factory=dict)  # transfer -> version moved on from
    heads: dict[Head, int] = field(default_factory=dict)  # copy -> version replaced
    request: tuple[str, str] | None = None  # (shelf, request id) that must be new
    fences: dict[str, int] = field(default_factory=dict)  # delivery -> fence held
    assertion: tuple[str, str] | None = None  # (issuer, jti) that must be new
    policy: int | None = None  # policy epoch decided under
    puts_policy: bool = False  # whether it puts another policy epoch in force

    def explain(self, why: Explanation) -> None:
        """Why something was decided: kept beside the audit entry that is added next, or the last one when none is."""
        if all(known.digest != why.digest for _, known in self.why):
            self.why.append((len(self.audit), why))

    def explained(self) -> Iterator[tuple[AuditEntry, list[Explanation]]]:
        """The audit entries in order, each with what explains it; its digest is in the entry."""
        last = len(self.audit) - 1
        for position, entry in enumerate(self.audit):
            found = [why for at, why in self.why if min(at, last) == position]
            if found:
                digests = tuple((f"decision.{number}", why.digest) for number, why in enumerate(found))
                entry = replace(entry, detail=(*entry.detail, *digests))
            yield entry, found

    def add(self, op: Op, *row: Any) -> None:
        """One row for `op`."""
        self.rows.setdefault(op, []).append(row)


@dataclass(frozen=True, slots=True)
class Committed:
    """Durable."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A guard no longer holds: decide again. `guard` names its kind."""

    guard: str


@dataclass(slots=True)
class Snapshot:
    """What the database says, under lock, of everything a batch's guards name."""

    threads: dict[str, int] = field(default_factory=dict)
    transfers: dict[str, int] = field(default_factory=dict)
    heads: dict[Head, int] = field(default_factory=dict)
    requests: set[tuple[str, str]] = field(default_factory=set)
    assertions: set[tuple[str, str]] = field(default_factory=set)
    fences: dict[str, int] = field(default_factory=dict)
    policy: int | None = None


def judge(members: Sequence[WriteSet], seen: Snapshot) -> list[Stale | None]:
    """Which members may commit together, in order; one that another member of the batch overtook is stale. Moves `seen` on."""
    return [_judge(member, seen) for member in members]


def _judge(ws: WriteSet, seen: Snapshot) -> Stale | None:
    if ws.policy is not None and ws.policy != seen.policy:
        return Stale("policy")
    if ws.request is not None and ws.request in seen.requests:
        return Stale("request")
    if ws.assertion is not None and ws.assertion in seen.assertions:
        return Stale("assertion")
    for thread, epoch in (*ws.shares.items(), *ws.owns.items()):
        if seen.threads.get(thread) != epoch:
            return Stale("thread")
    for transfer, version in ws.transfers.items():
        if seen.transfers.get(transfer) != version:
            return Stale("transfer")
    for head, version in ws.heads.items():
        if seen.heads.get(head) != version:
            return Stale("copy")
    for delivery, fence in ws.fences.items():
        if seen.fences.get(delivery) != fence:
            return Stale("fence")
    if ws.request is not None:
        seen.requests.add(ws.request)
    if ws.assertion is not None:
        seen.assertions.add(ws.assertion)
    for thread in ws.owns:
        seen.threads[thread] += 1
    for transfer in ws.transfers:
        seen.transfers[transfer] += 1
    for head in ws.heads:
        seen.heads[head] += 1
    for delivery in ws.fences:
        seen.fences[delivery] += 1
    return None
