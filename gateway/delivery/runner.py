"""The embedded runner: finds due deliveries, claims each under a fence, decides again, sends, writes the receipt.

The ledger is the truth: the runner holds nothing that a crash could lose. A sweep finds whatever a lost wake-up missed; a claim
whose lease ran out is taken again, and the partner sees the same idempotency key.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from sqlalchemy import Text, and_, bindparam, exists, func, or_, select

from gateway.adapter_api import DeliveryFailure, NeedsPerson, OutboundAdapter, Transport, TryAgain
from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.audit.explanation import Explanation
from gateway.clock import instant, millis
from gateway.decision.decide import Permit, decide
from gateway.decision.record import explanation_of
from gateway.delivery.ledger import INSERT_SEND, MOVE_DELIVERY
from gateway.delivery.schedule import retry_after
from gateway.delivery.texts import Texts
from gateway.identity import ShelfId, ThreadId, TransferId, shelf_party
from gateway.parties.model import Endpoint
from gateway.problems import Problem, Refusal
from gateway.storage import tables
from gateway.storage.sealing import KeyDestroyed
from gateway.storage.statements import Query, insert, update
from gateway.storage.writer import StorageError
from gateway.storage.writeset import Committed, WriteSet
from gateway.transfers.messages import may_follow_up
from gateway.transfers.model import State
from gateway.transfers.moving import asked_now, commit_move, hub_move
from gateway.transfers.work import Parts, Work

__all__ = ["Delivery", "EmbeddedRunner", "Sender"]

log = structlog.get_logger("gateway.delivery")

LEASE_MS: Final = 30_000
IN_FLIGHT: Final = 32
IN_FLIGHT_EACH: Final = 4
"""Sends under way to one endpoint: a partner that is slow or dark leaves room for every other."""

SEND_SECONDS: Final = 15.0
"""A whole send, however it drips; well inside the lease."""

LOOK: Final = 100
"""Deliveries found in one look."""

HOLD_MS: Final = 10_000
"""A delivery to a party that is cut off is looked at again after this long."""

SUSPENDED: Final = "party-suspended"

FINISH_SEND: Final = update(tables.sends, where=("delivery", "fence"), set=("ended", "outcome"))

_OUTCOMES: Final = {"delivered": AuditOutcome.PERMIT, "cancelled": AuditOutcome.DENY, "held": AuditOutcome.DENY}
_d = tables.deliveries.c
_earlier = tables.deliveries.alias("earlier")
_FULL: Final = bindparam("full", type_=Text())
_DUE: Final = Query(
    select(*tables.deliveries.columns)
    .where(
        or_(
            and_(_d.state == "queued", _d.due <= bindparam("now", type_=_d.due.type)),
            and_(_d.state == "sending", _d.lease < bindparam("real", type_=_d.due.type)),
        ),
        # an endpoint with as much under way as it may have is not looked at: a long queue for it hides nobody else's
        func.replace(_FULL, "|" + _d.endpoint + "|", "") == _FULL,
        ~exists().where(
            _earlier.c.lane == _d.lane, _earlier.c.place < _d.place, or_(_earlier.c.state == "queued", _earlier.c.state == "sending")
        ),
    )
    .order_by(_d.due)
    .limit(LOOK)
)
_SENT: Final = Query(
    select(_d.id).where(_d.lane == bindparam("lane"), _d.kind == "copies", or_(_d.tries > 0, _d.state == "delivered")).limit(1)
)
INSERT_REVIEW: Final = insert(tables.reviews)
_COLUMNS: Final = tuple(tables.deliveries.columns.keys())


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of the ledger."""

    id: str
    shelf: ShelfId
    endpoint: str
    lane: str
    place: int
    kind: str
    thread: ThreadId
    transfer: str | None
    parts: str
    priority: str
    state: str
    due: int
    tries: int
    fence: int
    lease: int | None
    reason: str | None
    made: int
    ended: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a delivery may go, decided on an epoch of its thread: `reason` says why not."""

    epoch: int
    reason: str | None
    permit: Permit | None = None
    why: Explanation | None = None


class Sender:
    """One delivery, from claim to receipt."""

    def __init__(
        self,
        parts: Parts,
        adapter_for: Callable[[Endpoint], OutboundAdapter],
        transport_for: Callable[[Endpoint], Transport],
        texts: Texts,
        *,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._parts = parts
        self._adapter_for = adapter_for
        self._transport_for = transport_for
        self._texts = texts
        self._lease_ms = lease_ms

    async def due(self, full: Collection[str] = ()) -> list[Delivery]:
        """Deliveries that may be claimed now: due, first in their lane, or left behind by a dead worker. `full`: endpoints left out."""
        params = {"now": millis(self._parts.clock.now()), "real": _real(), "full": "".join(f"|{endpoint}|" for endpoint in full)}
        return [Delivery(*row) for row in await self._parts.database.facts(_DUE, params)]

    async def send(self, found: Delivery) -> None:
        """Claim, decide again, hand over, record. A claim that somebody else won is left to them."""
        if shelf_party(found.shelf) in self._parts.policy().suspended:
            await self._hold(found)
            return
        verdict = await self._held_back(found)
        claimed = await self._claim(found, verdict)
        if claimed is None:
            return
        now = millis(self._parts.clock.now())
        try:
            if claimed.kind == "text":
                outcome = await self._texts.send(claimed.id, claimed.thread, claimed.shelf, claimed.parts)
            else:
                outcome = await self._send_copies(claimed, verdict.permit)
        except TryAgain as failure:
            delay = retry_after(claimed.priority, claimed.tries, failure.retry_after)
            await self._finish(claimed, "queued", failure.reason, due=now + delay, why=verdict.why)
        except NeedsPerson as failure:
            delay = retry_after(claimed.priority, claimed.tries, None)
            await self._finish(claimed, "queued", failure.reason, due=now + delay, why=verdict.why)
        except DeliveryFailure as failure:
            await self._finish(claimed, "dead", failure.reason, why=verdict.why)
        else:
            await self._finish(claimed, *outcome, why=verdict.why)

    async def _hold(self, found: Delivery) -> None:
        """Its party is cut off: leave it queued, with its place and its tries, and look again. People are told by the clocks that run."""
        work = Work.begin(self._parts, None, found.id)
        work.ws.fences[found.id] = found.fence
        row = ("queued", work.at + HOLD_MS, found.tries, found.fence + 1, None, SUSPENDED, None, found.id)
        work.ws.add(MOVE_DELIVERY, *row)
        if found.reason != SUSPENDED:
            work.ws.audit.append(_delivered(work, found, "held", SUSPENDED))
        await self._parts.writer.commit(work.ws)

    async def _held_back(self, found: Delivery) -> Verdict:
        """Decide again whether it may go, on how its person's thread stands: a withdrawal in between makes the claim fail."""
        parts, policy = self._parts, self._parts.policy()
        epoch = await parts.facts.epoch(found.thread)
        at = millis(parts.clock.now())
        if found.kind == "text":
            may = may_follow_up(await parts.facts.grants(found.thread), shelf_party(found.shelf), at)
            return Verdict(epoch, None if may else Refusal.NO_CONSENT.value)
        endpoint = policy.endpoints.get(found.shelf)
        if endpoint is None:
            return Verdict(epoch, "no-endpoint")
        if found.kind == "recall":
            return Verdict(epoch, await self._cannot_recall(found, endpoint))
        transfer = await parts.facts.transfer(TransferId(found.transfer or ""))
        if found.kind == "notice":
            return Verdict(epoch, None)
        if transfer is None:
            return Verdict(epoch, "no-endpoint")
        if found.shelf != transfer.attempt.shelf:
            return Verdict(epoch, None)
        if transfer.attempt.shut:
            return Verdict(epoch, "withdrawn")
        if transfer.attempt.accepted is not None:
            return Verdict(epoch, None)
        grants = await parts.facts.grants(transfer.thread)
        asked = asked_now(policy, transfer, grants, at)
        answer = decide(asked, policy)
        why = explanation_of(asked, answer, policy, party=None, transfer=transfer.id)
        return Verdict(epoch, None, answer, why) if isinstance(answer, Permit) else Verdict(epoch, answer.refusal.value, why=why)

    async def _cannot_recall(self, found: Delivery, endpoint: Endpoint) -> str | None:
        """Why there is nothing to recall, or nobody to take it: then a person must ask for it."""
        if not await self._parts.database.facts(_SENT, {"lane": found.lane}):
            return "nothing-sent"
        manifest = self._parts.policy().manifests.get(shelf_party(found.shelf))
        own = manifest is not None and manifest.module is not None
        if own and manifest is not None and manifest.capabilities.get("recall") not in ("full", "partial"):
            return "recall-by-hand"
        return None

    async def _claim(self, found: Delivery, verdict: Verdict) -> Delivery | None:
        """Take it, or take it out of the queue without an attempt. None when it is not ours to send."""
        fence, real = found.fence + 1, _real()
        ws = WriteSet(fences={found.id: found.fence}, shares={found.thread: verdict.epoch})
        if verdict.reason is not None:
            work = Work.begin(self._parts, None, found.id)
            work.ws.fences, work.ws.shares = ws.fences, ws.shares
            at = work.at
            work.ws.add(MOVE_DELIVERY, "cancelled", found.due, found.tries, fence, None, verdict.reason, at, found.id)
            if verdict.why is not None:
                work.ws.explain(verdict.why)
            work.ws.audit.append(_delivered(work, found, "cancelled", verdict.reason))
            if verdict.reason == "recall-by-hand":
                row = (self._parts.new_id(), shelf_party(found.shelf), "recall-by-hand", found.transfer, "capability", "open", at)
                work.ws.add(INSERT_REVIEW, *row)
            if found.kind == "text":
                await self._texts.settle(work, found.thread, found.shelf, found.parts, went=False)
            await self._parts.writer.commit(work.ws)
            return None
        ws.add(MOVE_DELIVERY, "sending", found.due, found.tries + 1, fence, real + self._lease_ms, None, None, found.id)
        ws.add(INSERT_SEND, found.id, fence, real, None, None)
        if not isinstance(await self._parts.writer.commit(ws), Committed):
            return None
        fields: Mapping[str, Any] = {name: getattr(found, name) for name in _COLUMNS}
        return Delivery(**{**fields, "state": "sending", "tries": found.tries + 1, "fence": fence, "lease": real + self._lease_ms})

    async def _send_copies(self, claimed: Delivery, permit: Permit | None) -> tuple[str, str | None]:
        """Hand copies to the partner's system. Raises the adapter's three kinds of failure."""
        endpoint = self._parts.policy().endpoints.get(claimed.shelf)
        if endpoint is None:
            return "cancelled", "no-endpoint"
        named = [(str(t), str(i), int(v)) for t, i, v in orjson.loads(claimed.parts)]
        release = await self._parts.release.parcel(
            *(permit, claimed.thread, claimed.shelf, named), version=claimed.place, key=claimed.id, recall=claimed.kind == "recall"
        )
        if not release.parts:
            return "cancelled", "closed"
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._adapter_for(endpoint).deliver(release, self._transport_for(endpoint))
        except TimeoutError:
            raise TryAgain("too-slow") from None
        return "delivered", None

    async def _finish(
        self, claimed: Delivery, state: str, reason: str | None = None, *, due: int | None = None, why: Explanation | None = None
    ) -> None:
        """Write the receipt (or why not) under the fence; a receipt for an offer also moves the transfer to `delivered`."""
        for _ in range(5):
            work = Work.begin(self._parts, None, claimed.id)
            ended = None if state == "queued" else work.at
            lease: int | None = None
            work.ws.fences[claimed.id] = claimed.fence
            work.ws.add(
                MOVE_DELIVERY,
                *(state, due if due is not None else claimed.due, claimed.tries, claimed.fence + 1, lease, reason, ended, claimed.id),
            )
            work.ws.add(FINISH_SEND, _real(), reason or state, claimed.id, claimed.fence)
            if why is not None:
                work.ws.explain(why)
            work.ws.audit.append(_delivered(work, claimed, state, reason))
            if claimed.kind == "text" and ended is not None:
                await self._texts.settle(work, claimed.thread, claimed.shelf, claimed.parts, went=state == "delivered")
            elif state == "delivered" and claimed.transfer is not None:
                transfer = await self._parts.facts.transfer(TransferId(claimed.transfer))
                if transfer is not None and transfer.stands is State.OFFERED and transfer.attempt.shelf == claimed.shelf:
                    try:
                        await commit_move(work, transfer, hub_move(transfer, State.DELIVERED))
                    except KeyDestroyed:  # closed while this was planned: what is planned now sees it
                        continue
            result = await self._parts.writer.commit(work.ws)
            if isinstance(result, Committed):
                self._parts.wake(work.deliveries)
                return
            if result.guard == "fence":
                return  # another worker took over after our lease; its receipt counts


class EmbeddedRunner:
    """Runs the ledger inside the server process: no broker, no second process."""

    def __init__(self, sender: Sender, timers: Callable[[], Awaitable[None]], *, sweep: float) -> None:
        """`sweep`: seconds between looks at the ledger when nobody calls."""
        self._sender = sender
        self._timers = timers
        self._sweep = sweep
        self._called = asyncio.Event()
        self._busy: dict[str, str] = {}  # delivery -> endpoint
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    def wake(self, ids: Sequence[str]) -> None:
        """Look now: something was committed that is due."""
        if ids:
            self._called.set()

    async def start(self) -> None:
        """Begin."""
        self._loop = asyncio.create_task(self._run(), name="delivery")

    async def stop(self) -> None:
        """Let what is being sent finish for a moment; whatever does not is found again from the ledger."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        for task in self._tasks:
            task.cancel()

    async def _run(self) -> None:
        while True:
            self._called.clear()
            try:
                await self._timers()
                full = self._full()
                found = await self._sender.due(full)
                for delivery in found:
                    if delivery.id not in self._busy and len(self._busy) < IN_FLIGHT and delivery.endpoint not in self._full():
                        self._start(delivery)
                if len(found) == LOOK and self._full() - full:
                    self._called.set()  # what one endpoint filled the look with may hide others' deliveries
            except Exception as error:  # the supervisor's edge: the ledger is looked at again, whatever the trouble was
                log.error("ledger-unavailable", kind=type(error).__name__)
            # not wait_for: Python 3.11's loses a cancellation that comes together with the call, and stopping would never end
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sweep):
                    await self._called.wait()

    def _full(self) -> set[str]:
        """The endpoints to which as much is under way as may be."""
        return {endpoint for endpoint, sends in Counter(self._busy.values()).items() if sends >= IN_FLIGHT_EACH}

    def _start(self, delivery: Delivery) -> None:
        self._busy[delivery.id] = delivery.endpoint
        task = asyncio.create_task(self._one(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, delivery: Delivery) -> None:
        try:
            await self._sender.send(delivery)
        except (Problem, StorageError) as error:
            log.warning("delivery-left", delivery=delivery.id, kind=type(error).__name__)
        except Exception as error:  # one delivery's trouble must not stop the ledger; its lease runs out and it is tried again
            log.error("delivery-failed", delivery=delivery.id, kind=type(error).__name__)
        finally:
            self._busy.pop(delivery.id, None)
            self._called.set()


def _real() -> int:
    return time.time_ns() // 1_000_000


def _delivered(work: Work, claimed: Delivery, state: str, reason: str | None) -> AuditEntry:
    return AuditEntry(
        at=instant(work.at),
        action=AuditAction.DELIVER,
        outcome=_OUTCOMES.get(state, AuditOutcome.ERROR),
        thread=claimed.thread,
        transfer=claimed.transfer,
        target_party=shelf_party(claimed.shelf),
        target_shelf=claimed.shelf,
        policy_version=work.policy.version,
        correlation_id=claimed.id,
        detail=(("state", state), ("try", str(claimed.tries)), *((("reason", reason),) if reason else ())),
    )
