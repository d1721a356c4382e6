"""A party's act on a Task: on a transfer under way, on one that was ended, or on the hub's question to the worker who leads."""

from __future__ import annotations

from gateway.audit.entry import AuditAction
from gateway.identity import Caller, shelf_party
from gateway.oauth.scopes import ActionScope, has_action
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.reports.acting import act_on_duty, act_on_report
from gateway.reports.opening import after_accept
from gateway.shelves.copies import written
from gateway.transfers.acts import Act, acted_after, apply_act, illegal_move, read_act, read_answer
from gateway.transfers.checking import act_on_check, ask_to_check
from gateway.transfers.ending import End, end_transfers, ended
from gateway.transfers.intake import Draft
from gateway.transfers.model import REPORTED, Mover, State, Transfer, legal_moves, seen_by_receiver, viewed_as
from gateway.transfers.moving import commit_move, seen_now
from gateway.transfers.work import Stored, Work

__all__ = ["act_on_task"]


async def act_on_task(work: Work, index: int, draft: Draft, caller: Caller) -> None:
    """A write to a Task that exists: an act by the receiver, or by the sender on its own view. Raises Problem."""
    before = draft.before
    if before is None:
        raise AssertionError("an update has a version before it")
    facts = work.parts.facts
    received = await facts.received(caller.shelf, draft.id)
    transfer = received or await facts.sent(caller.shelf, draft.id)
    if transfer is None and (await act_on_check(work, index, draft, caller) or await act_on_duty(work, index, draft, caller)):
        return
    if transfer is None or before.final:
        raise illegal_move(None, Mover.SENDER)
    mover = Mover.RECEIVER if received is not None else Mover.SENDER
    if transfer.state in REPORTED:
        await act_on_report(work, index, draft, caller, transfer, mover)
        return
    if transfer.ending is not None and mover is Mover.RECEIVER:
        await _answer_ending(work, index, draft, caller, transfer)
        return
    viewed = _viewed(work, transfer, mover)
    act = read_act(before.resource(), draft.resource, transfer, mover, draft.entry.at, work.policy.codes)
    _check_scopes(work, caller, act, mover, transfer, draft.entry.at)
    if act.target is None and act.returned == transfer.attempt.returned:
        work.stored[index] = Stored(200, "Task", draft.id, before.version)  # nothing asked, nothing written
        return
    if transfer.ending is not None:
        # its own view does not show that it is over: the same answer as if it were not, and no second stop
        if act.target not in legal_moves(viewed, mover):
            raise illegal_move(viewed, mover)
        work.stored[index] = Stored(200, "Task", draft.id, before.version)
        return
    after = apply_act(transfer, act, mover, viewed, work.at)
    if act.target is State.STOPPED:
        after = ended(after, State.STOPPED, work.at, seen=mover is Mover.RECEIVER)
        await end_transfers(work, transfer.thread, [End(transfer, after)])
        await ask_to_check(work, transfer.thread, State.STOPPED)
        _acted(work, transfer, after)
        work.stored[index] = _stored(work, caller, draft, before.version)
        return
    changed = await commit_move(work, transfer, after)
    if after.attempt.accepted is not None and transfer.attempt.accepted is None:
        await after_accept(work, after)
    _acted(work, transfer, after)
    written = [w.version for w in changed.shelves.get(caller.shelf, ()) if w.type == "Task" and w.id == draft.id]
    work.stored[index] = Stored(200, "Task", draft.id, written[0] if written else before.version)


async def _answer_ending(work: Work, index: int, draft: Draft, caller: Caller, transfer: Transfer) -> None:
    """A human at the receiver has seen that it is over (`acknowledged`), and has dealt with it (`closed`)."""
    before = draft.before
    if before is None:
        raise AssertionError("an update has a version before it")
    if not has_action(caller.scopes, ActionScope.TRANSFER_ACCEPT):
        say = "Your client has no scope for this act."
        raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, draft.entry.at, Refusal.SCOPE_MISSING))
    answer = read_answer(before.resource(), draft.resource, draft.entry.at)
    if answer is not None:
        after = acted_after(transfer, answer, work.at)
        await commit_move(work, transfer, after)
        _acted(work, transfer, after)
    work.stored[index] = _stored(work, caller, draft, before.version)


def _stored(work: Work, caller: Caller, draft: Draft, version: int) -> Stored:
    """The version of the caller's own Task that this plan writes, or the one it had."""
    pending = written(work.ws, caller.shelf, "Task", draft.id)
    return Stored(200, "Task", draft.id, pending.version if pending is not None else version)


def _viewed(work: Work, transfer: Transfer, mover: Mover) -> State:
    return viewed_as(seen_by_receiver(transfer.stands) if mover is Mover.RECEIVER else seen_now(work.policy, transfer))


def _check_scopes(work: Work, caller: Caller, act: Act, mover: Mover, transfer: Transfer, at: str) -> None:
    wanted = [ActionScope.TRANSFER_ACCEPT if mover is Mover.RECEIVER else ActionScope.TRANSFER_OFFER]
    if act.gives_decision:
        wanted.append(ActionScope.DECISION_WRITE)
    if act.gives_offer:
        wanted.append(ActionScope.OFFER_WRITE)
    if not all(has_action(caller.scopes, scope) for scope in wanted):
        say = "Your client has no scope for this act."
        raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, at, Refusal.SCOPE_MISSING))
    if act.gives_offer and caller.party not in work.policy.services[transfer.service].owners:
        say = "Only the owner of a service may offer it, or state an amount or a time."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.BUSINESS_RULE, say, f"{at}.output", Refusal.NOT_OWNER_OF_OFFER))


def _acted(work: Work, before: Transfer, after: Transfer) -> None:
    given = (("decision", after.attempt.returned.decision),) if after.attempt.returned.decision else ()
    work.record(
        AuditAction.ACT,
        thread=after.thread,
        transfer=after.id,
        attempt=str(after.attempt.number),
        target_party=shelf_party(after.sender_shelf),
        detail=(("from", before.stands.value), ("to", after.stands.value), *given),
    )
