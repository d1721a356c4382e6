"""Ending a transfer from outside its course: her stop, or a withdrawal. What it leaves on the shelves, in the queue and with whom.

The receiver that has not met her is left with closed shells; one that has keeps what it acts on, and nothing more flows either way. What
waits to be sent is cancelled in the same write set, and what is on its way, or was sent, is recalled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import bindparam, or_, select

from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.decision.decide import Permit
from gateway.delivery.ledger import MOVE_DELIVERY, announce
from gateway.disclosure.minimize import Release
from gateway.disclosure.release import Changed
from gateway.identity import ShelfId, ThreadId
from gateway.storage import tables
from gateway.storage.statements import Query
from gateway.transfers.messages import may_follow_up, unsent
from gateway.transfers.model import State, Transfer
from gateway.transfers.moving import asked_now, commit_move, usable
from gateway.transfers.work import Work

__all__ = ["End", "end_transfers", "ended"]

_d = tables.deliveries.c
_WAITING: Final = Query(
    select(_d.id, _d.shelf, _d.kind, _d.transfer, _d.parts, _d.fence, _d.due, _d.tries, _d.state).where(
        or_(_d.state == "queued", _d.state == "sending"), _d.thread == bindparam("thread")
    )
)


@dataclass(frozen=True, slots=True)
class End:
    """A transfer before and after."""

    before: Transfer
    after: Transfer


def ended(transfer: Transfer, ending: State, at: int, *, seen: bool = False) -> Transfer:
    """The transfer with nothing flowing any more. Its course goes on behind the ending where a sender must not see that; a human at the
    receiver must see it (`seen`: one has), and until then the receiver is responsible. One that was over already keeps its state."""
    attempt = replace(transfer.attempt, recalled=transfer.attempt.recalled or at)
    if transfer.closed is not None:
        return replace(transfer, version=transfer.version + 1, attempt=attempt)
    attempt = replace(attempt, ended=at, seen=at if seen else None)
    responsible = "none" if seen else attempt.party
    return replace(transfer, version=transfer.version + 1, ending=ending, responsible=responsible, closed=at, attempt=attempt)


async def end_transfers(work: Work, thread: ThreadId, ends: Sequence[End], narrowed: Sequence[Transfer] = ()) -> None:
    """Commit the ends and the narrowings, and bring what several transfers share into line with them."""
    await work.own(thread)
    standing = {t.id: t for t in await work.parts.facts.of_thread(thread)}
    for end in ends:
        standing[end.after.id] = end.after
        await commit_move(work, end.before, end.after)
        work.ws.audit.append(_recalled(work, end.after))
    for transfer in narrowed:
        standing[transfer.id] = after = replace(transfer, version=transfer.version + 1)
        permit = _permit(work, after)
        fresh = None if after.attempt.introduced else work.new_key(thread, after.attempt.shelf, work.parts.new_id())
        await commit_move(work, transfer, after, permit=permit, fresh=fresh)
    everything = list(standing.values())
    shared: dict[tuple[ShelfId, str], list[Transfer]] = {}
    for transfer in everything:
        shared.setdefault((transfer.attempt.shelf, transfer.attempt.patient), []).append(transfer)
    for (shelf, _), group in shared.items():
        await _settle_person(work, group, writes=any(t.sender_shelf == shelf and t.closed is None for t in everything))
    await _cancel(work, thread, [end.after for end in ends], narrowed)


async def _settle_person(work: Work, group: Sequence[Transfer], *, writes: bool) -> None:
    """`writes`: the receiver itself has a transfer about her under way."""
    parts, first = work.parts, group[0]
    live = [t for t in group if t.attempt.recalled is None]
    releases: list[tuple[Release, int | None]] | None = []
    if writes or any(t.attempt.introduced is not None for t in group):
        releases = None
    for transfer in live:
        permit = _permit(work, transfer)
        release = await parts.release.narrowed(parts.plan(), transfer, permit) if permit is not None and releases is not None else None
        if release is None or permit is None or releases is None:
            releases = None
            break
        releases.append((release, permit.ends if transfer.attempt.accepted is None else None))
    changed, shelf = Changed(), first.attempt.shelf
    await parts.release.closing.settle_person(
        work.ws,
        changed,
        receiver=work.policy.parties[first.attempt.party],
        transfer=first,
        releases=releases,
        grants=work.grants.get(first.thread) or await work.known_grants(first.thread),
        own=await work.key(first.thread, shelf),
        fresh=lambda: work.new_key(first.thread, shelf, parts.new_id()),
        at=work.at,
    )
    actor = work.caller.shelf if work.caller else None
    lane = next((t for t in group if t.id in work.moved), first)
    work.deliveries += announce(
        work.ws, work.policy, lane, changed, actor=actor, at=work.at, new_id=parts.new_id, recalled=shelf if releases == [] else None
    )


def _permit(work: Work, transfer: Transfer) -> Permit | None:
    """What the register permits now, whatever the sender may still see of the transfer."""
    grants = work.grants.get(transfer.thread, [])
    return usable(transfer, work.decide(asked_now(work.policy, transfer, grants, work.at), transfer.id))


async def _cancel(work: Work, thread: ThreadId, over: Sequence[Transfer], narrowed: Sequence[Transfer]) -> None:
    """Take what waits out of the queue, guarded by its fence: whoever claims it first has it on its way, and it is recalled instead."""
    stopped = {(t.id, t.attempt.shelf) for t in (*over, *narrowed)}
    grants = work.grants.get(thread) or await work.known_grants(thread)
    for id_, shelf, kind, transfer, parts, fence, due, tries, state in await work.parts.database.facts(_WAITING, {"thread": thread}):
        text = kind == "text" and not may_follow_up(grants, shelf.partition("/")[0], work.at)
        if not text and not (kind == "copies" and (transfer, shelf) in stopped):
            continue
        if state == "queued":  # one that is on its way comes back to be decided again, and goes nowhere
            work.ws.fences[id_] = fence
            work.ws.add(MOVE_DELIVERY, "cancelled", due, tries, fence + 1, None, "withdrawn", work.at, id_)
            if text:
                await unsent(work, thread, shelf, parts)


def _recalled(work: Work, transfer: Transfer) -> AuditEntry:
    """For the receiver's privacy officer and the accounting; it names nobody who asked for it."""
    return AuditEntry(
        at=work.time,
        action=AuditAction.RECALL,
        outcome=AuditOutcome.PERMIT,
        thread=transfer.thread,
        transfer=transfer.id,
        attempt=str(transfer.attempt.number),
        target_party=transfer.attempt.party,
        target_shelf=transfer.attempt.shelf,
        policy_version=work.policy.version,
        detail=(("left", "shells" if transfer.attempt.shut else "kept"), ("cause", transfer.stands.value)),
    )
