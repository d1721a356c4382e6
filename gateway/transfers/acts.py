"""A party's write to a Task, read as an act and looked up in the table of moves. Pure.

Nobody stores a status: what a PATCH or PUT says is compared with the caller's own view; the difference is the move it asks for
and what it gives back with it. Whatever else it would change is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway import vocabulary as v
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.transfers.model import MOVES, Mover, Responsible, Returned, State, Transfer, legal_moves, responsible_in

__all__ = ["Act", "acted_after", "apply_act", "illegal_move", "read_act", "read_answer"]

Json = dict[str, Any]

_ACTED: Final = ("status", "businessStatus", "statusReason", "output", "extension", "meta", "lastModified", "executionPeriod", "identifier")
_FROM_STATUS: Final[Mapping[str, State]] = {
    "received": State.ACKNOWLEDGED,
    "accepted": State.ACCEPTED,
    "in-progress": State.INTRODUCED,
    "completed": State.HANDED_OVER,
    "cancelled": State.STOPPED,
}
"""For a client that moves Task.status alone."""


_ANSWERS: Final = ("acknowledged", "closed")


@dataclass(frozen=True, slots=True)
class Act:
    """What a party asks of a transfer: a move (or None to add to what it gave back), and what it gives back."""

    target: State | None
    returned: Returned
    gives_decision: bool
    gives_offer: bool


def read_act(before: Json, proposed: Json, transfer: Transfer, mover: Mover, at: str, codes: Mapping[str, frozenset[str]]) -> Act:
    """The act that turns the caller's view `before` into `proposed`. Raises Problem(UNPROCESSABLE) naming what can't be changed.

    What a receiver gave back is not read from a sender's view, which may show less of it.
    """
    findings = [
        Finding(
            IssueCode.BUSINESS_RULE, "Only status, businessStatus, statusReason and output of this Task can be changed.", f"{at}.{name}"
        )
        for name in sorted(before.keys() | proposed.keys())
        if name not in _ACTED and before.get(name) != proposed.get(name)
    ]
    target: State | None = None
    business, was = _code(proposed.get("businessStatus"), v.BUSINESS_STATUS), _code(before.get("businessStatus"), v.BUSINESS_STATUS)
    if business is None and proposed.get("businessStatus") is not None:
        findings.append(_unknown(f"{at}.businessStatus"))
    if business is not None and business != was:
        try:
            target = State(business)
        except ValueError:
            findings.append(_unknown(f"{at}.businessStatus"))
    elif proposed.get("status") != before.get("status"):
        target = _FROM_STATUS.get(str(proposed.get("status")))
        if target is None:
            say = "Say what happened in businessStatus; this status alone does not tell."
            findings.append(Finding(IssueCode.BUSINESS_RULE, say, f"{at}.status"))
    if mover is Mover.SENDER:
        say = "What a receiver gives back is written by the receiver."
        for name in ("output", "statusReason", "extension"):
            if proposed.get(name) != before.get(name):
                findings.append(Finding(IssueCode.BUSINESS_RULE, say, f"{at}.{name}"))
        if findings:
            raise Problem(ProblemType.UNPROCESSABLE, *findings)
        return Act(target, transfer.attempt.returned, gives_decision=False, gives_offer=False)
    returned = _returned(proposed, transfer.attempt.returned, at, codes, findings)
    if target is State.ACCEPTED and returned.worker is None:
        say = "A transfer is accepted by a named human: give the acting-worker extension. The name stays on your own shelf."
        findings.append(Finding(IssueCode.REQUIRED, say, f"{at}.extension"))
    if target is not None and target.value.startswith("declined") and returned.reason is None:
        findings.append(Finding(IssueCode.REQUIRED, "Give the coded reason in statusReason.", f"{at}.statusReason"))
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)
    old = transfer.attempt.returned
    return Act(target, returned, gives_decision=returned.decision != old.decision, gives_offer=returned.offers != old.offers)


def apply_act(transfer: Transfer, act: Act, mover: Mover, viewed: State, at: int) -> Transfer:
    """The transfer after the act. Raises Problem(CONFLICT) computed from the caller's own view, never from what it can't see."""
    target = act.target or transfer.state
    if act.target is not None:
        shown = act.target in legal_moves(viewed, mover)
        if not shown or mover not in MOVES.get((transfer.state, act.target), frozenset()):
            raise illegal_move(viewed, mover)
    if target is State.STOPPED:
        return transfer  # `ended` says what that leaves
    attempt = transfer.attempt
    first = act.target is not None
    attempt = replace(
        attempt,
        returned=act.returned,
        acknowledged=attempt.acknowledged or (at if target in (State.ACKNOWLEDGED, State.ACCEPTED) and first else None),
        accepted=attempt.accepted or (at if target is State.ACCEPTED else None),
        introduced=attempt.introduced or (at if target is State.INTRODUCED else None),
        ended=at if target is State.HANDED_OVER else attempt.ended,
    )
    owner = responsible_in(target)
    responsible = {
        Responsible.SENDER: transfer.sender_shelf.partition("/")[0],
        Responsible.RECEIVER: attempt.party,
        Responsible.NONE: "none",
    }[owner]
    closed = at if target is State.HANDED_OVER else transfer.closed
    return replace(transfer, version=transfer.version + 1, state=target, responsible=responsible, closed=closed, attempt=attempt)


def read_answer(before: Json, proposed: Json, at: str) -> str | None:
    """What a receiver says of a Task that is over: `acknowledged`, `closed`, or nothing. Raises Problem for anything else."""
    changed = [name for name in sorted(before.keys() | proposed.keys()) if before.get(name) != proposed.get(name) and name != "meta"]
    if not changed:
        return None
    said = _code(proposed.get("businessStatus"), v.BUSINESS_STATUS) if "businessStatus" in changed else None
    said = said or {"received": "acknowledged", "completed": "closed"}.get(str(proposed.get("status")))
    if said not in _ANSWERS or not {"businessStatus", "status"}.issuperset(changed):
        say = f"This is over, and nothing flows any more. Possible from what you see: {', '.join(_ANSWERS)}."
        raise Problem(ProblemType.CONFLICT, Finding(IssueCode.CONFLICT, say, "Task.businessStatus", Refusal.ILLEGAL_MOVE))
    return said


def acted_after(transfer: Transfer, answer: str, at: int) -> Transfer:
    """An ended transfer once a human at its receiver has said so. To say it again changes nothing but the version."""
    attempt = transfer.attempt
    state, responsible = transfer.state, transfer.responsible
    if answer == "closed":
        attempt, responsible = replace(attempt, seen=attempt.seen or at), "none"
    elif Mover.RECEIVER in MOVES.get((state, State.ACKNOWLEDGED), frozenset()):
        state, attempt = State.ACKNOWLEDGED, replace(attempt, acknowledged=attempt.acknowledged or at)
    return replace(transfer, version=transfer.version + 1, state=state, responsible=responsible, attempt=attempt)


def illegal_move(viewed: State | None, mover: Mover) -> Problem:
    """409: the moves legal in the caller's own view; none at all once that view is final."""
    moves = ", ".join(legal_moves(viewed, mover)) if viewed is not None else ""
    say = f"This move is not possible now. Possible from what you see: {moves}." if moves else "This Task can no longer be changed."
    return Problem(ProblemType.CONFLICT, Finding(IssueCode.CONFLICT, say, "Task.businessStatus", Refusal.ILLEGAL_MOVE))


def _returned(proposed: Json, old: Returned, at: str, codes: Mapping[str, frozenset[str]], findings: list[Finding]) -> Returned:
    eta, decision, offers, redirects = old.eta, None, [], []
    for i, item in enumerate(proposed.get("output") or ()):
        kind, path = _code(item.get("type"), v.TASK_OUTPUT), f"{at}.output[{i}]"
        if kind == "eta" and isinstance(item.get("valueDateTime"), str):
            eta = item["valueDateTime"]
        elif kind == "decision" and _known(item, v.DECISION, codes["decision"]):
            decision = _code(item["valueCodeableConcept"], v.DECISION)
        elif kind == "offer" and _known(item, v.OFFER, codes["offer"]):
            offers.append(str(_code(item["valueCodeableConcept"], v.OFFER)))
        elif kind == "redirect" and _known(item, v.SERVICE, codes["service"]):
            redirects.append(str(_code(item["valueCodeableConcept"], v.SERVICE)))
        elif kind not in ("last-resort-line", "contact-card"):
            findings.append(_unknown(path))
    reason = old.reason
    if proposed.get("statusReason") is not None:
        reason = _code(proposed["statusReason"], v.DECLINE_REASON)
        if reason not in codes["decline-reason"]:
            findings.append(_unknown(f"{at}.statusReason"))
    worker = old.worker
    for i, extension in enumerate(proposed.get("extension") or ()):
        value = extension.get("valueString")
        if extension.get("url") == v.EXT_ACTING_WORKER and isinstance(value, str) and len(value) <= 80:
            worker = value
        elif extension.get("url") != v.EXT_SHARING_ENDED:  # that one is the hub's own, and sent back with the rest
            findings.append(_unknown(f"{at}.extension[{i}]"))
    return replace(
        old, worker=worker, eta=eta, decision=decision or old.decision, offers=tuple(offers), reason=reason, redirects=tuple(redirects)
    )


def _known(item: Json, system: str, codes: frozenset[str]) -> bool:
    return _code(item.get("valueCodeableConcept"), system) in codes


def _unknown(path: str) -> Finding:
    return Finding(IssueCode.CODE_INVALID, "This code or extension is not known here.", path, Refusal.UNKNOWN_CODE)


def _code(concept: Any, system: str) -> str | None:
    if isinstance(concept, dict):
        for coding in concept.get("coding") or ():
            if coding.get("system") == system and isinstance(coding.get("code"), str):
                code: str = coding["code"]
                return code
    return None
