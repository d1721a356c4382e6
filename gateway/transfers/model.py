"""The transfer as facts, and the one table of its moves. Pure.

A transfer is put to one receiver at a time (an attempt). Parties never store its status: they ask for a *move*, which is looked up
here, and each sees its own view of the result. Every state has a responsible party (DESIGN: no transfer without a next owner).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.identity import PartyId, ShelfId, StatusView, ThreadId, TransferId

__all__ = [
    "FULL_FINAL",
    "MOVES",
    "REACHED",
    "REPORTED",
    "TASK_STATUS",
    "Attempt",
    "Mover",
    "Responsible",
    "Returned",
    "Seen",
    "State",
    "Transfer",
    "legal_moves",
    "responsible_in",
    "seen_by_receiver",
    "seen_by_sender",
    "sender_sees",
    "viewed_as",
]


class State(StrEnum):
    """The state of a transfer: the local `business-status` codes."""

    OFFERED = "offered"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    BACKUP_OFFERED = "backup-offered"
    ACCEPTED = "accepted"
    EN_ROUTE = "en-route"
    INTRODUCED = "introduced"
    HANDED_OVER = "handed-over"
    LINE_GIVEN = "line-given"
    DECLINED_NO_CAPACITY = "declined-no-capacity"
    DECLINED_NOT_ELIGIBLE = "declined-not-eligible"
    DECLINED_OUT_OF_AREA = "declined-out-of-area"
    REDIRECT_SUGGESTED = "redirect-suggested"
    PAUSED = "paused-by-survivor"
    UNREACHABLE = "unreachable"
    UNSAFE = "unsafe-to-contact"
    STOPPED = "stopped-by-survivor"
    WITHDRAWN = "consent-withdrawn"
    HELD = "held-for-review"
    DELIVERY_FAILED = "delivery-failed"
    EXPIRED = "expired"
    REPORT_SENT = "report-sent"  # a report to a society: a record of what was said, beside a telephone call
    REPORT_ACKNOWLEDGED = "report-acknowledged"


class Mover(StrEnum):
    """Who may ask for a move."""

    RECEIVER = "receiver"
    SENDER = "sender"
    HUB = "hub"  # a timer, a delivery result


class Responsible(StrEnum):
    """Whose next step it is. NONE only when the survivor ended it."""

    SENDER = "sender"
    RECEIVER = "receiver"
    NONE = "none"


TASK_STATUS: Final[Mapping[str, str]] = {
    # State or viewed code -> Task.status (R4 task-status, required binding)
    State.OFFERED: "requested",
    State.DELIVERED: "received",
    State.ACKNOWLEDGED: "received",
    State.BACKUP_OFFERED: "requested",
    State.ACCEPTED: "accepted",
    State.EN_ROUTE: "accepted",
    State.INTRODUCED: "in-progress",
    State.HANDED_OVER: "completed",
    State.LINE_GIVEN: "on-hold",
    State.DECLINED_NO_CAPACITY: "rejected",
    State.DECLINED_NOT_ELIGIBLE: "rejected",
    State.DECLINED_OUT_OF_AREA: "rejected",
    State.REDIRECT_SUGGESTED: "rejected",
    State.PAUSED: "on-hold",
    State.UNREACHABLE: "on-hold",
    State.UNSAFE: "on-hold",
    State.STOPPED: "cancelled",
    State.WITHDRAWN: "cancelled",
    State.HELD: "on-hold",
    State.DELIVERY_FAILED: "requested",
    State.EXPIRED: "failed",
    State.REPORT_SENT: "in-progress",
    State.REPORT_ACKNOWLEDGED: "completed",
    "taken-over": "accepted",
    "not-taken": "on-hold",
    "on-hold": "on-hold",
    "closed": "cancelled",
}

_WAITING: Final = (State.OFFERED, State.DELIVERED, State.ACKNOWLEDGED, State.BACKUP_OFFERED, State.LINE_GIVEN, State.DELIVERY_FAILED)
_MET: Final = (State.ACCEPTED, State.EN_ROUTE, State.INTRODUCED)
_HELD: Final = (State.PAUSED, State.UNREACHABLE, State.UNSAFE)
_DECLINES: Final = (State.DECLINED_NO_CAPACITY, State.DECLINED_NOT_ELIGIBLE, State.DECLINED_OUT_OF_AREA, State.REDIRECT_SUGGESTED)


def _table() -> Mapping[tuple[State, State], frozenset[Mover]]:
    moves: dict[tuple[State, State], set[Mover]] = {}

    def allow(mover: Mover, sources: tuple[State, ...], *targets: State) -> None:
        for source in sources:
            for target in targets:
                if source is not target:
                    moves.setdefault((source, target), set()).add(mover)

    allow(Mover.RECEIVER, (State.OFFERED, State.DELIVERED, State.BACKUP_OFFERED, State.DELIVERY_FAILED), State.ACKNOWLEDGED)
    allow(Mover.RECEIVER, _WAITING, State.ACCEPTED, *_DECLINES)
    allow(Mover.RECEIVER, (State.ACCEPTED,), State.EN_ROUTE)
    allow(Mover.RECEIVER, (State.ACCEPTED, State.EN_ROUTE), State.INTRODUCED)
    allow(Mover.RECEIVER, (State.INTRODUCED,), State.HANDED_OVER)
    allow(Mover.RECEIVER, _MET, *_HELD)  # held by a named human, who has accepted: never by nobody
    allow(Mover.RECEIVER, _HELD, State.ACCEPTED, *_HELD)
    allow(Mover.RECEIVER, (*_WAITING, *_MET, *_HELD), State.STOPPED)
    allow(Mover.RECEIVER, _DECLINES, State.ACCEPTED)  # not taken may still become taken over (R5)
    allow(Mover.RECEIVER, (State.REPORT_SENT,), State.REPORT_ACKNOWLEDGED)  # and nothing else: it can't be stopped or taken back
    allow(Mover.SENDER, (*_WAITING, *_DECLINES, State.EXPIRED, *_MET, *_HELD, State.HELD), State.STOPPED)
    allow(Mover.HUB, (State.OFFERED,), State.DELIVERED)
    allow(Mover.HUB, (State.OFFERED, State.BACKUP_OFFERED), State.DELIVERY_FAILED)
    chain = (State.OFFERED, State.DELIVERED, State.ACKNOWLEDGED, State.BACKUP_OFFERED, State.DELIVERY_FAILED)
    allow(Mover.HUB, chain, State.BACKUP_OFFERED, State.LINE_GIVEN, State.EXPIRED)
    moves.setdefault((State.BACKUP_OFFERED, State.BACKUP_OFFERED), set()).add(Mover.HUB)
    allow(Mover.HUB, (*_WAITING, *_MET, *_HELD), State.WITHDRAWN, State.STOPPED)
    return {pair: frozenset(movers) for pair, movers in moves.items()}


MOVES: Final = _table()
"""(from, to) -> who may ask."""

REACHED: Final[Mapping[State, frozenset[str]]] = {
    state: frozenset(
        {"offered"}
        | ({"accepted"} if state in (*_MET, State.HANDED_OVER) else set())
        | ({"introduced"} if state in (State.INTRODUCED, State.HANDED_OVER) else set())
        | ({"handed-over"} if state is State.HANDED_OVER else set())
    )
    for state in State
}
"""Milestones a transfer in this state has passed, for classes that are released only from one of them on."""

_RESPONSIBLE: Final[Mapping[State, Responsible]] = {
    **dict.fromkeys(State, Responsible.SENDER),
    **dict.fromkeys((*_MET, State.HANDED_OVER, *_HELD, State.REPORT_ACKNOWLEDGED), Responsible.RECEIVER),
    **dict.fromkeys((State.STOPPED, State.WITHDRAWN), Responsible.NONE),
}


def responsible_in(state: State) -> Responsible:
    """Who is responsible: the sender until a named human accepts, then the receiver."""
    return _RESPONSIBLE[state]


def viewed_as(seen: Seen) -> State:
    """The state whose moves stand for what a viewer is shown: the real one may be any that looks the same, so it can't be asked."""
    return _VIEWED.get(seen.code) or State(seen.code)


def legal_moves(viewed: State, mover: Mover) -> tuple[State, ...]:
    """The moves `mover` may ask for from a state, in the table's order."""
    return tuple(target for (source, target), movers in MOVES.items() if source is viewed and mover in movers)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one viewer is shown of a state. `final`: this view is never rendered again."""

    code: str
    final: bool = False

    @property
    def task_status(self) -> str:
        """Task.status for this view."""
        return TASK_STATUS[self.code]


_MINIMAL: Final[Mapping[State, str]] = {
    **dict.fromkeys(
        (State.OFFERED, State.DELIVERED, State.BACKUP_OFFERED, State.HELD, State.DELIVERY_FAILED),
        "offered",
    ),
    State.ACKNOWLEDGED: "acknowledged",
    **dict.fromkeys((*_MET, State.HANDED_OVER, *_HELD, State.STOPPED, State.WITHDRAWN), "taken-over"),
    **dict.fromkeys((State.LINE_GIVEN, *_DECLINES, State.EXPIRED), "not-taken"),
    **{state: state.value for state in (State.REPORT_SENT, State.REPORT_ACKNOWLEDGED)},
}
_FULL: Final[Mapping[State, str]] = {
    **{state: state.value for state in State},
    **dict.fromkeys((*_HELD, State.HELD), "on-hold"),
    **dict.fromkeys((State.STOPPED, State.WITHDRAWN), "closed"),
}
_VIEWED: Final[Mapping[str, State]] = {
    "taken-over": State.HANDED_OVER,
    "not-taken": State.LINE_GIVEN,
    "on-hold": State.PAUSED,
    "closed": State.STOPPED,
}
FULL_FINAL: Final = frozenset({State.HANDED_OVER, State.REPORT_ACKNOWLEDGED})
REPORTED: Final = frozenset({State.REPORT_SENT, State.REPORT_ACKNOWLEDGED})


def seen_by_sender(state: State, view: StatusView) -> Seen:
    """R5: a sender with the minimal view sees offered, acknowledged, then taken-over (final) or not-taken."""
    if view is StatusView.MINIMAL:
        code = _MINIMAL[state]
        return Seen(code, final=code == "taken-over" or state is State.REPORT_ACKNOWLEDGED)
    return Seen(_FULL[state], final=state in FULL_FINAL)


def sender_sees(transfer: Transfer, view: StatusView) -> Seen:
    """What this sender is shown of a transfer. With the minimal view an ending shows as the course does, which moves only when a human
    at the receiver acts; it is `taken-over` once one has dealt with the ending."""
    if view is StatusView.MINIMAL and transfer.ending is not None:
        done = transfer.attempt.accepted is not None or transfer.attempt.seen is not None
        return Seen("taken-over", final=True) if done else seen_by_sender(transfer.state, view)
    return seen_by_sender(transfer.stands, view)


def seen_by_receiver(state: State) -> Seen:
    """The receiver works on the real state; that its own system received the copy is no news to it."""
    return Seen((State.OFFERED if state is State.DELIVERED else state).value)


@dataclass(frozen=True, slots=True)
class Returned:
    """What the receiver gave back: codes and times, and the accepting human's name, which stays on its own shelf."""

    worker: str | None = None
    eta: str | None = None  # dateTime as given
    decision: str | None = None
    offers: tuple[str, ...] = ()
    reason: str | None = None  # decline reason code
    redirects: tuple[str, ...] = ()  # service codes
    reference: str | None = None  # the society's own number for a report
    phoned: str | None = None  # dateTime of the call that a reporter made
    reminded: int | None = None  # when a reporter was last told to phone


@dataclass(frozen=True, slots=True)
class Attempt:
    """A transfer put to one receiver; the ids are those of its copies on the receiver's shelf."""

    number: int
    party: PartyId
    shelf: ShelfId
    address: str
    task: str
    request: str
    patient: str
    consent: str
    provenance: str
    row: str
    agreement: str
    basis: str
    offered: int
    acknowledged: int | None = None
    accepted: int | None = None
    introduced: int | None = None
    ended: int | None = None
    returned: Returned = field(default=Returned())
    recalled: int | None = None
    seen: int | None = None

    @property
    def shut(self) -> bool:
        """Whether the receiver is left with closed shells: it had not met her when the sharing ended (R15)."""
        return self.recalled is not None and self.introduced is None


@dataclass(frozen=True, slots=True)
class Transfer:
    """The truth of one referral."""

    id: TransferId
    thread: ThreadId
    version: int
    state: State
    responsible: str  # party id, or "none"
    sender_shelf: ShelfId
    sender_task: str
    sender_request: str
    service: str
    priority: str
    purposes: frozenset[str]
    opened: int
    closed: int | None
    attempt: Attempt
    ending: State | None = None

    @property
    def stands(self) -> State:
        """The real state. `state` is its course, which goes on behind an ending for a sender that must not see it."""
        return self.ending or self.state
