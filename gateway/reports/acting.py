"""A party's act on a report, or on what the law gives it to do: read from what a PATCH or PUT changes, and nothing else of the Task.

A report that must be made can't be put off (422 report-mandatory); it is open until the society's own number or the record of a call is
entered. What a named human decided stays on that party's shelf.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from gateway import vocabulary as v
from gateway.audit.entry import AuditAction
from gateway.disclosure.views import coded
from gateway.identity import Caller, ShelfId, shelf_party
from gateway.oauth.scopes import ActionScope, has_action
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.reports.ages import standing_of
from gateway.reports.duties import Duty, Kind, find, finish, of_thread
from gateway.reports.opening import settle_age
from gateway.reports.stating import worker_in
from gateway.shelves.copies import written
from gateway.transfers.acts import illegal_move
from gateway.transfers.asking import coding
from gateway.transfers.intake import Draft
from gateway.transfers.model import Mover, State, Transfer
from gateway.transfers.moving import commit_move
from gateway.transfers.work import Stored, Work

__all__ = ["act_on_duty", "act_on_report"]

Json = dict[str, Any]
_REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9./-]{0,31}")
_MAY_CHANGE: Final = frozenset({"status", "businessStatus", "statusReason", "output", "extension", "meta", "lastModified"})
_SCOPE: Final = {
    **dict.fromkeys((Kind.REPORT, Kind.DECIDE, Kind.AGE), ActionScope.REPORT_SEND),
    Kind.REVIEW: ActionScope.EMERGENCY_REVIEW,
    **dict.fromkeys((Kind.TELL, Kind.DEMAND, Kind.GUARDIAN), ActionScope.TRANSFER_ACCEPT),
}
_BY_ROLE: Final = frozenset({Kind.REVIEW, Kind.DEMAND, Kind.GUARDIAN})
"""Answered only by the role that has it."""
_REVIEWED: Final = frozenset({Kind.REVIEW, Kind.DEMAND, Kind.GUARDIAN})


@dataclass(frozen=True, slots=True)
class _Said:
    """What an act adds to a Task."""

    reference: str | None = None
    phoned: str | None = None
    decision: str | None = None
    reason: str | None = None
    band: str | None = None
    outcome: str | None = None
    closed: bool = False


async def act_on_report(work: Work, index: int, draft: Draft, caller: Caller, transfer: Transfer, mover: Mover) -> None:
    """The society gives its number (report-acknowledged); the reporter enters the call. Raises Problem."""
    before, at = draft.before, draft.entry.at
    if before is None:
        raise AssertionError("an update has a version before it")
    _require(caller, ActionScope.REPORT_ACKNOWLEDGE if mover is Mover.RECEIVER else ActionScope.REPORT_SEND, at)
    if transfer.state is not State.REPORT_SENT:
        raise illegal_move(None, mover)
    said = _read(work, before.resource(), draft.resource, at)
    returned = transfer.attempt.returned
    if mover is Mover.RECEIVER:
        target = coding(draft.resource.get("businessStatus"), v.BUSINESS_STATUS)
        if said.reference is None or target not in (State.REPORT_SENT, State.REPORT_ACKNOWLEDGED):
            say = "Acknowledge a report with your own number for it: output intake-reference, business status report-acknowledged."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{at}.output"))
        attempt = replace(transfer.attempt, returned=replace(returned, reference=said.reference), acknowledged=work.at, ended=work.at)
        after = replace(
            transfer,
            version=transfer.version + 1,
            state=State.REPORT_ACKNOWLEDGED,
            responsible=attempt.party,
            closed=work.at,
            attempt=attempt,
        )
    else:
        if said.phoned is None:
            say = "A report can't be changed or taken back. Enter the call that you made: output phone-record."
            raise Problem(ProblemType.CONFLICT, Finding(IssueCode.CONFLICT, say, "Task.businessStatus", Refusal.ILLEGAL_MOVE))
        attempt = replace(transfer.attempt, returned=replace(returned, phoned=said.phoned))
        after = replace(transfer, version=transfer.version + 1, attempt=attempt)
    await commit_move(work, transfer, after)
    _acted(work, draft, (("from", transfer.state.value), ("to", after.state.value)), after)
    pending = written(work.ws, caller.shelf, "Task", draft.id)
    work.stored[index] = Stored(200, "Task", draft.id, pending.version if pending is not None else before.version)


async def act_on_duty(work: Work, index: int, draft: Draft, caller: Caller) -> bool:
    """A named human answers what is hers to do. False when the Task is no such thing. Raises Problem."""
    duty, before = await find(work, draft.id), draft.before
    if duty is None or duty.shelf != caller.shelf or before is None:
        return False
    at, kind = draft.entry.at, Kind(duty.kind)
    _require(caller, _SCOPE[kind], at)
    role = work.policy.addresses[duty.address].role if duty.address is not None else None
    if kind in _BY_ROLE and role is not None and caller.role != role:
        raise _no_scope(at)
    if not duty.open:
        raise illegal_move(None, Mover.RECEIVER)
    said = _read(work, before.resource(), draft.resource, at)
    name = worker_in(draft.resource)
    if name is None:
        say = "A named human answers this: give the acting-worker extension. The name stays on your own shelf."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{at}.extension"))
    after = await _answer(work, duty, kind, said, [{"url": v.EXT_ACTING_WORKER, "valueString": name}], at)
    answer = said.decision or said.outcome or ("phoned" if said.phoned else "told")
    _acted(work, draft, (("duty", kind.value), ("answer", "age" if kind is Kind.AGE else answer)), None)
    work.stored[index] = Stored(200, "Task", draft.id, after.version)
    return True


async def _answer(work: Work, duty: Duty, kind: Kind, said: _Said, by: list[Json], at: str) -> Duty:
    if kind in (Kind.REPORT, Kind.DECIDE):
        if said.phoned is not None:
            outputs = [_output("phone-record", valueDateTime=said.phoned), _decision("reported-by-phone")]
            return await finish(work, duty, answered=True, outputs=outputs, extensions=by)
        if kind is Kind.REPORT:
            say = "This report must be made, and can't be put off. Telephone the society, and enter the call or send the report."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.BUSINESS_RULE, say, f"{at}.output", Refusal.REPORT_MANDATORY))
        if said.decision != "not-now" or said.reason is None:
            say = "Send a report, enter a call (phone-record), or decide not-now with a coded reason in statusReason."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{at}.output"))
        return await finish(
            work, duty, answered=True, outputs=[_decision("not-now")], reason=coded(v.REPORT_REASON, said.reason), extensions=by
        )
    if kind is Kind.AGE:
        if said.band is None:
            say = "Say what was found out: output age-band. Who suspects that she is under 16 says so by that band."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{at}.output"))
        after = await finish(
            work, duty, answered=True, outputs=[_output("age-band", valueCodeableConcept=coded(v.AGE_BAND, said.band))], extensions=by
        )
        party = work.policy.parties[shelf_party(duty.shelf)]
        about = [each for each in await of_thread(work, duty.thread, duty.shelf) if each.kind in (Kind.REPORT, Kind.DECIDE)]
        await settle_age(
            work, about, standing_of(work.policy, said.band, party.age_line), duty.thread, ShelfId(duty.shelf), duty.patient or ""
        )
        return after
    if kind in _REVIEWED:
        if said.outcome is None:
            say = "Say what came of it: output review-outcome."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{at}.output"))
        outputs = [_output("review-outcome", valueCodeableConcept=coded(v.CODE_SYSTEM + "review-outcome", said.outcome))]
        return await finish(work, duty, answered=True, outputs=outputs, extensions=by)
    if not said.closed:
        raise illegal_move(None, Mover.RECEIVER)
    return await finish(work, duty, answered=True, extensions=by)


def _read(work: Work, before: Json, proposed: Json, at: str) -> _Said:
    """What is new in a Task. Raises Problem(UNPROCESSABLE) for whatever else it would change."""
    say = "Only businessStatus, statusReason, output and the acting worker of this Task can be changed."
    findings = [
        Finding(IssueCode.BUSINESS_RULE, say, f"{at}.{name}")
        for name in sorted(before.keys() | proposed.keys())
        if name not in _MAY_CHANGE and before.get(name) != proposed.get(name)
    ]
    found: dict[str, str] = {}
    known, codes = list(before.get("output", ())), work.policy.codes
    for i, item in enumerate(proposed.get("output") or ()):
        if item in known:
            continue
        kind, path = coding(item.get("type"), v.TASK_OUTPUT), f"{at}.output[{i}]"
        value, concept = item.get("valueString"), item.get("valueCodeableConcept")
        if kind == "intake-reference" and isinstance(value, str) and _REFERENCE.fullmatch(value):
            found["reference"] = value
        elif kind == "phone-record" and _past(item.get("valueDateTime"), work.at):
            found["phoned"] = item["valueDateTime"]
        elif kind == "report-decision" and coding(concept, v.REPORT_DECISION) in codes["report-decision"]:
            found["decision"] = coding(concept, v.REPORT_DECISION) or ""
        elif kind == "age-band" and coding(concept, v.AGE_BAND) in codes["age-band"]:
            found["band"] = coding(concept, v.AGE_BAND) or ""
        elif kind == "review-outcome" and coding(concept, v.CODE_SYSTEM + "review-outcome") in codes["review-outcome"]:
            found["outcome"] = coding(concept, v.CODE_SYSTEM + "review-outcome") or ""
        else:
            findings.append(_unknown(path))
    reason = proposed.get("statusReason")
    if reason is not None and reason != before.get("statusReason"):
        if coding(reason, v.REPORT_REASON) not in codes["report-reason"]:
            findings.append(_unknown(f"{at}.statusReason"))
        found["reason"] = coding(reason, v.REPORT_REASON) or ""
    for i, extension in enumerate(proposed.get("extension") or ()):
        if extension.get("url") != v.EXT_ACTING_WORKER or len(str(extension.get("valueString"))) > 80:
            findings.append(_unknown(f"{at}.extension[{i}]"))
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)
    status = coding(proposed.get("businessStatus"), v.BUSINESS_STATUS)
    return _Said(**found, closed=status == "closed")


def _past(value: object, at: int) -> bool:
    """A time with its zone that is not ahead by more than clocks differ."""
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return False
    return when is not None and when.tzinfo is not None and when.timestamp() * 1000 <= at + 300_000


def _require(caller: Caller, scope: ActionScope, at: str) -> None:
    if not has_action(caller.scopes, scope):
        raise _no_scope(at)


def _no_scope(at: str) -> Problem:
    say = "Your client has no scope for this act."
    return Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, at, Refusal.SCOPE_MISSING))


def _output(kind: str, **value: Any) -> Json:
    return {"type": coded(v.TASK_OUTPUT, kind), **value}


def _decision(code: str) -> Json:
    return _output("report-decision", valueCodeableConcept=coded(v.REPORT_DECISION, code))


def _unknown(path: str) -> Finding:
    return Finding(IssueCode.CODE_INVALID, "This code or extension is not known here.", path, Refusal.UNKNOWN_CODE)


def _acted(work: Work, draft: Draft, detail: tuple[tuple[str, str], ...], transfer: Transfer | None) -> None:
    work.record(
        AuditAction.ACT,
        resource_type="Task",
        resource_id=draft.id,
        thread=draft.thread,
        transfer=transfer.id if transfer is not None else None,
        basis=transfer.attempt.basis if transfer is not None else None,
        detail=detail,
    )
