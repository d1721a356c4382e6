"""Firing durable timers: the backup chain moves on, or a human is called. A timer due while the hub was down fires once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from sqlalchemy import bindparam, select

from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.clock import millis
from gateway.identity import PartyId, ThreadId, TransferId, shelf_party
from gateway.parties.model import ClockRule, Policy
from gateway.reports.duties import find as find_duty
from gateway.reports.duties import remind
from gateway.storage import tables
from gateway.storage.sealing import KeyDestroyed
from gateway.storage.statements import Query, insert
from gateway.storage.writeset import Committed
from gateway.transfers.checking import find_check, pass_on
from gateway.transfers.clocks import FINISH_TIMER, INSERT_TIMER
from gateway.transfers.model import MOVES, Mover, State, Transfer
from gateway.transfers.moving import commit_move, hub_move
from gateway.transfers.work import Parts, Work

__all__ = ["Timers"]

_t = tables.timers.c
_DUE: Final = Query(
    select(_t.id, _t.transfer, _t.clock, _t.due)
    .where(_t.state == "armed", _t.due <= bindparam("now", type_=_t.due.type))
    .order_by(_t.due)
    .limit(50)
)
_INSERT_REVIEW: Final = insert(tables.reviews)


class Timers:
    """Looks for due timers and fires each in its own transaction."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def fire_due(self) -> None:
        """Fire what is due now."""
        now = millis(self._parts.clock.now())
        for id_, transfer, clock, due in await self._parts.database.facts(_DUE, {"now": now}):
            await self._fire(id_, TransferId(transfer), clock, due)

    async def _fire(self, id_: str, transfer_id: TransferId, clock: str, due: int) -> None:
        for _ in range(3):
            work = Work.begin(self._parts, None, id_)
            work.fired = id_
            transfer = await self._parts.facts.transfer(transfer_id)
            check = None if transfer is not None else await find_check(work, transfer_id)
            duty = None if transfer is not None or check is not None else await find_duty(work, transfer_id)
            rule = next((r for r in work.policy.clocks if r.id == clock), None)
            work.ws.add(FINISH_TIMER, "fired", work.at, id_)
            if rule is not None and transfer is not None:
                try:
                    await self._act(work, transfer, rule)
                except KeyDestroyed:  # closed while this was planned: what is planned now sees it
                    continue
                work.ws.audit.append(_fired(work, transfer.thread, transfer.id, transfer.attempt.party, rule, due))
            elif rule is not None and check is not None:
                party = await pass_on(work, check)
                if party is not None:
                    work.ws.add(_INSERT_REVIEW, work.parts.new_id(), party, f"clock-{rule.then}", check.id, rule.id, "open", work.at)
                    work.ws.audit.append(_fired(work, check.thread, check.id, party, rule, due))
            elif rule is not None and duty is not None and await remind(work, duty, rule):
                work.ws.audit.append(_fired(work, duty.thread, duty.id, shelf_party(duty.shelf), rule, due))
            if isinstance(await self._parts.writer.commit(work.ws), Committed):
                self._parts.wake(work.deliveries)
                return

    async def _act(self, work: Work, transfer: Transfer, rule: ClockRule) -> None:
        moved: Transfer | None = None
        if rule.then == "phone":  # again and again, until the society's number or the call is entered
            returned = replace(transfer.attempt.returned, reminded=work.at)
            moved = replace(transfer, version=transfer.version + 1, attempt=replace(transfer.attempt, returned=returned))
            reporter = shelf_party(transfer.sender_shelf)
            for kind in ("phone-the-society", "phone-the-society-supervisor"):
                work.ws.add(_INSERT_REVIEW, work.parts.new_id(), reporter, kind, transfer.id, rule.id, "open", work.at)
            again = work.at + rule.due // timedelta(milliseconds=1)
            work.ws.add(INSERT_TIMER, work.parts.new_id(), transfer.id, rule.id, again, "armed", None)
        elif rule.then in ("backup", "line"):
            backup = _next_backup(work.policy, transfer) if rule.then == "backup" else None
            target = State.BACKUP_OFFERED if backup else State.LINE_GIVEN
            if Mover.HUB in MOVES.get((transfer.state, target), frozenset()):
                moved = hub_move(transfer, target)
                if backup:
                    moved = replace(moved, attempt=replace(moved.attempt, address=backup))
        if moved is not None:
            await commit_move(work, transfer, moved)
        if moved is None or moved.state is State.LINE_GIVEN:
            # guarded like a move, so that it is never raised for a transfer that has just been answered
            work.ws.transfers.setdefault(transfer.id, transfer.version)
            fallback = transfer.attempt.party if transfer.ending is not None else shelf_party(transfer.sender_shelf)
            party = transfer.responsible if transfer.responsible in work.policy.parties else fallback
            work.ws.add(_INSERT_REVIEW, work.parts.new_id(), party, f"clock-{rule.then}", transfer.id, rule.id, "open", work.at)
            if moved is None:
                await commit_move(work, transfer, replace(transfer, version=transfer.version + 1))


def _next_backup(policy: Policy, transfer: Transfer) -> str | None:
    """The address after the present one in the receiver's chain for this service."""
    party = policy.parties[transfer.attempt.party]
    here = policy.addresses[transfer.attempt.address]
    route = next(
        (r for r in party.routes if r.service == transfer.service and r.unit in (None, here.unit)),
        next((r for r in party.routes if r.service == transfer.service), None),
    )
    if route is None:
        return None
    chain = [route.first, *(step.address for step in route.backups)]
    place = chain.index(here.id) if here.id in chain else -1
    return chain[place + 1] if place + 1 < len(chain) else None


def _fired(work: Work, thread: ThreadId, about: str, party: PartyId, rule: ClockRule, due: int) -> AuditEntry:
    return AuditEntry(
        at=work.time,
        action=AuditAction.TIMER,
        outcome=AuditOutcome.PERMIT,
        thread=thread,
        transfer=about,
        target_party=party,
        policy_version=work.policy.version,
        detail=(("clock", rule.id), ("then", rule.then), ("late.ms", str(max(0, work.at - due)))),
    )
