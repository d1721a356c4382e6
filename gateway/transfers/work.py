"""What the use cases work with: the hub's parts, and one plan in the making."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.clock import Clock, instant, millis
from gateway.decision.decide import Ask, Denial, Permit, decide
from gateway.decision.grants import Grant
from gateway.decision.record import explanation_of
from gateway.disclosure.minimize import Plan
from gateway.disclosure.release import Known, ReleaseStep
from gateway.identity import Caller, ShelfId, StatusView, ThreadId, TransferId
from gateway.parties.model import Policy
from gateway.shelves.copies import Copy, put_copy
from gateway.shelves.shelf import Shelves
from gateway.storage.sealing import DataKey, KeyDestroyed, Keyring, key_slot
from gateway.storage.writer import Database, Writer
from gateway.storage.writeset import WriteSet
from gateway.transfers.facts import Facts

__all__ = ["Parts", "Stored", "Work"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the hub that a use case calls. Built once in `gateway.app`."""

    policy: Callable[[], Policy]
    plan: Callable[[], Plan]
    database: Database
    writer: Writer
    shelves: Shelves
    keyring: Keyring
    facts: Facts
    release: ReleaseStep
    clock: Clock
    new_id: Callable[[], str]
    in_directory: Callable[[Caller, str, str], bool]
    wake: Callable[[Sequence[str]], None]  # deliveries that are due now


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of one entry: the HTTP status of its interaction, and the version written (or found)."""

    status: int
    type: str
    id: str
    version: int


class About(TypedDict, total=False):
    """What an audit entry tells beside who acted, when and under which policy; as `AuditEntry`."""

    token_jti: str
    resource_type: str
    resource_id: str
    thread: str
    transfer: str | None
    attempt: str
    target_party: str
    target_shelf: str
    basis: str | None
    consents: tuple[str, ...]
    agreement: str
    classes: tuple[str, ...]
    detail: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Work:
    """One plan: decided on a snapshot, committed once."""

    parts: Parts
    policy: Policy
    at: int
    ws: WriteSet
    caller: Caller | None  # None: the hub itself, on a receipt or a timer
    correlation: str
    keys: dict[tuple[str, str], DataKey] = field(default_factory=dict)
    fresh: list[tuple[ThreadId, ShelfId, DataKey]] = field(default_factory=list)
    grants: dict[ThreadId, list[Grant]] = field(default_factory=dict)
    new_threads: set[ThreadId] = field(default_factory=set)
    epochs: dict[ThreadId, int] = field(default_factory=dict)
    stored: dict[int, Stored] = field(default_factory=dict)
    deliveries: list[str] = field(default_factory=list)
    bodies: dict[tuple[str, str, int], Copy] = field(default_factory=dict)
    edited: dict[tuple[str, str], Json] = field(default_factory=dict)  # the author's resources that this plan changes
    moved: set[TransferId] = field(default_factory=set)
    loosens: bool = False  # whether it takes something back
    loosened: dict[ThreadId, tuple[list[Grant], list[Grant], list[Grant]]] = field(default_factory=dict)  # gone, reduced, all before
    asked: set[ThreadId] = field(default_factory=set)  # about whom this plan asks the lead worker already
    duties: list[Any] = field(default_factory=list)  # what this plan gives parties to do (`gateway.reports.duties.Duty`)
    fired: str | None = None  # the timer that this plan is about
    known: dict[tuple[ThreadId, ShelfId], Known] = field(default_factory=dict)  # what this plan has put on a receiver's shelf

    @classmethod
    def begin(cls, parts: Parts, caller: Caller | None, correlation: str) -> Work:
        """An empty plan under the policy and at the time of now."""
        policy = parts.policy()
        return cls(parts, policy, millis(parts.clock.now()), WriteSet(policy=policy.epoch), caller, correlation)

    @property
    def time(self) -> str:
        """The plan's time as an instant."""
        return instant(self.at)

    def record(self, action: AuditAction, **about: Unpack[About]) -> None:
        """Add the audit entry of something that this plan's caller, or the hub itself, is permitted to do."""
        who = self.caller
        self.ws.audit.append(
            AuditEntry(
                at=self.time,
                action=action,
                outcome=AuditOutcome.PERMIT,
                actor_party=who.party if who is not None else None,
                actor_shelf=who.shelf if who is not None else None,
                actor_role=who.role if who is not None else None,
                client_id=who.client_id if who is not None else None,
                policy_version=self.policy.version,
                correlation_id=self.correlation,
                **about,
            )
        )

    def decide(self, ask: Ask, transfer: TransferId | None = None) -> Permit | Denial:
        """Decide, and keep why beside the audit entry that this plan adds next.

        With a `transfer` that is under way, why is for the hub alone unless its sender asked and is shown its whole course.
        """
        answer = decide(ask, self.policy)
        own = self.caller is not None and self.caller.party == ask.sender.id
        shown = transfer is None or ask.sender.view_of(ask.sender.shelf_of(ask.sender_unit)) is StatusView.FULL
        self.ws.explain(explanation_of(ask, answer, self.policy, party=ask.sender.id if own and shown else None, transfer=transfer))
        return answer

    async def key(self, thread: ThreadId, shelf: ShelfId, name: str = "") -> DataKey:
        """The data key of what a party wrote itself, or the one named; made now when this thread has none of the kind on that shelf."""
        slot = key_slot(shelf, name)
        held = self.keys.get((thread, slot))
        if held is not None:
            return held
        try:
            if thread in self.new_threads:
                raise KeyDestroyed
            key = await self.parts.keyring.get(thread, shelf, name)
        except KeyDestroyed:
            key = self.new_key(thread, shelf, name)
            if not name:
                await self.own(thread)  # two first keys for one copy must not be made side by side
        self.keys[thread, slot] = key
        return key

    def new_key(self, thread: ThreadId, shelf: ShelfId, name: str) -> DataKey:
        """A key of a name that was never used, for what a release puts on a shelf."""
        key, row = self.parts.keyring.make(thread, shelf, name)
        self.ws.keys.append(row)
        self.fresh.append((thread, shelf, key))
        self.keys[thread, key_slot(shelf, name)] = key
        return key

    def put(self, key: DataKey, resource: Json, shelf: ShelfId, thread: ThreadId, version: int) -> None:
        """Add a version that its own author wrote, at the plan's time."""
        body = put_copy(self.ws, self.parts.keyring, key, resource, shelf=shelf, thread=thread, version=version, at=self.at)
        type_, id_ = resource["resourceType"], resource["id"]
        self.bodies[type_, id_, version] = Copy(shelf, type_, id_, version, thread, self.at, False, None, body)

    async def known_grants(self, thread: ThreadId) -> list[Grant]:
        """The register for a thread, with what this plan adds; relied on, so that a withdrawal in between makes the plan stale."""
        held = self.grants.get(thread)
        if held is None:
            await self.share(thread)
            held = self.grants[thread] = await self.parts.facts.grants(thread)
        return held

    async def share(self, thread: ThreadId) -> None:
        """Rely on the thread standing as it is."""
        if thread not in self.new_threads and thread not in self.epochs:
            self.epochs[thread] = self.ws.shares[thread] = await self.parts.facts.epoch(thread)

    async def own(self, thread: ThreadId) -> None:
        """Move the thread on: no plan made on how it stands now may commit after this one."""
        if thread not in self.new_threads:
            await self.share(thread)
            self.ws.owns[thread] = self.epochs[thread]
