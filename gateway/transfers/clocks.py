"""Timers of a transfer: which start when it enters a state, and which stop. Durable rows; firing is `gateway.delivery.timers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import bindparam, select

from gateway.clock import millis, when
from gateway.parties.model import ClockRule, Policy
from gateway.storage import tables
from gateway.storage.statements import Query, insert, update
from gateway.storage.writeset import WriteSet
from gateway.transfers.model import State, Transfer

__all__ = ["ARMED", "FINISH_TIMER", "INSERT_TIMER", "Timer", "arm", "due_at", "rules_for", "stop"]

INSERT_TIMER: Final = insert(tables.timers)
FINISH_TIMER: Final = update(tables.timers, where=("id",), set=("state", "fired"))
_t = tables.timers.c
ARMED: Final = Query(select(_t.id, _t.clock, _t.due).where(_t.transfer == bindparam("transfer"), _t.state == "armed"))


_FARTHEST_ETA: Final = timedelta(days=7)
"""An arrival time beyond this moves no deadline: nobody is left waiting for a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Timer:
    """An armed timer."""

    id: str
    clock: str
    due: int


def rules_for(clocks: Sequence[ClockRule], transfer: Transfer, region: str, state: State | None = None) -> list[ClockRule]:
    """The deadlines that start when this transfer enters its present state (or `state`), in the receiver's region.

    The course behind an ending has those of its backup chain alone.
    """
    entered = (state or transfer.state).value
    return [
        rule
        for rule in clocks
        if rule.state == entered
        and (state is not None or transfer.ending is None or rule.then == "backup")
        and rule.region in ("", region)
        and region not in rule.except_regions
        and (rule.services is None or transfer.service in rule.services)
        and (rule.priorities is None or transfer.priority in rule.priorities)
    ]


def arm(
    ws: WriteSet, policy: Policy, transfer: Transfer, at: int, new_id: Callable[[], str], state: State | None = None, of: str | None = None
) -> None:
    """Start the deadlines of the state just entered, measured from `at` in the receiver's local time.

    `of` is the id they are about, where that is not the transfer itself.
    """
    region = policy.parties[transfer.attempt.party].region
    zone = ZoneInfo(policy.timezones[region])
    for rule in rules_for(policy.clocks, transfer, region, state):
        ws.add(INSERT_TIMER, new_id(), of or transfer.id, rule.id, due_at(rule, transfer, at, zone), "armed", None)


def due_at(rule: ClockRule, transfer: Transfer, at: int, zone: tzinfo) -> int:
    """When a deadline that starts at `at` falls: after the arrival time where one is known and the rule says so; whole working
    days (Monday to Friday) keep their local time of day across a clock change. Never raises for an arrival time it can't read."""
    if rule.after_eta is not None and transfer.attempt.returned.eta is not None:
        try:
            eta = datetime.fromisoformat(transfer.attempt.returned.eta)
            if eta.tzinfo is not None and eta <= when(at) + _FARTHEST_ETA:
                return max(at, millis(eta + rule.after_eta))
        except (ValueError, OverflowError):
            pass  # no arrival time: the deadline without one holds
    if not rule.business_days:
        return at + rule.due // timedelta(milliseconds=1)
    local, left = when(at).astimezone(zone), rule.due.days
    while left > 0:
        local += timedelta(days=1)
        left -= local.weekday() < 5
    return millis(local)


def stop(ws: WriteSet, clocks: Sequence[ClockRule], armed: Sequence[Timer], transfer: Transfer, *, course: bool = True) -> None:
    """Stop the deadlines that the transfer has left or answered; the others run on.

    Of one that was ended there run on that a human there sees it, and the backup chain while the `course` behind it shows to somebody.
    """
    rules = {rule.id: rule for rule in clocks}
    returned = transfer.attempt.returned
    answers = {"decision": returned.decision, "eta": returned.eta, "offer": returned.offers}
    reported = {"intake-reference": returned.reference, "phone-record": returned.phoned}
    given = {name for name, value in (*answers.items(), *reported.items()) if value}
    for timer in armed:
        rule = rules.get(timer.clock)
        if rule is None or rule.stopped_by & given or not _runs(rule, transfer, course):
            ws.add(FINISH_TIMER, "cancelled", None, timer.id)


def _runs(rule: ClockRule, transfer: Transfer, course: bool) -> bool:
    if transfer.ending is None:
        return transfer.state.value in rule.during
    if transfer.ending.value in rule.during:
        return transfer.attempt.seen is None
    return course and rule.then == "backup" and transfer.state.value in rule.during
