"""What she takes back: a withdrawal through any party that knows her, and a consent made narrower by its recorder (R15).

One way for both: the grants that are gone or reduced, the transfers that rested on them, then each shelf's person, the queue, and the
worker who is asked to check with her. All of it is one write set under the thread's lock, so that nothing of it can be overtaken. Whoever
took the withdrawal is answered "recorded", whatever there was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.audit.entry import AuditAction
from gateway.decision.decide import Permit, decide
from gateway.decision.grants import Grant, GrantState
from gateway.decision.rules import CompiledConsent
from gateway.decision.withdrawal import DEPUTIES, left_of, taken_back
from gateway.identity import Caller, StatusView, ThreadId, shelf_party
from gateway.parties.model import MatrixRow, Policy
from gateway.problems import Problem, ProblemType
from gateway.storage import tables
from gateway.storage.statements import insert
from gateway.transfers.checking import ask_to_check
from gateway.transfers.ending import End, end_transfers, ended
from gateway.transfers.facts import add_grant, add_withdrawal, close_grants
from gateway.transfers.intake import Draft
from gateway.transfers.model import State, Transfer
from gateway.transfers.moving import asked_now, usable
from gateway.transfers.work import Work

__all__ = ["concerned", "withdraw"]

INSERT_REVIEW: Final = insert(tables.reviews)


async def withdraw(work: Work, draft: Draft, caller: Caller, compiled: CompiledConsent) -> bool:
    """Take back what the record names, from everybody. False when a human looks first: a guardian's or substitute's withdrawal.

    Raises Problem(UNPROCESSABLE) when the record can't be understood; a withdrawal is never half done.
    """
    terms, findings = taken_back(compiled, work.policy, draft.entry.at)
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)
    thread = draft.thread
    if compiled.giver in DEPUTIES:
        work.ws.add(INSERT_REVIEW, work.parts.new_id(), caller.party, "withdrawal-held", draft.id, "giver", "open", work.at)
        await ask_to_check(work, thread, State.HELD)
        return False
    await work.own(thread)
    known = await work.known_grants(thread)
    gone: list[Grant] = []
    reduced: list[Grant] = []
    after: list[Grant] = []
    for grant in known:
        left = left_of(grant, terms) if grant.state is GrantState.ACTIVE else grant
        if left is None:
            gone.append(grant)
            after.append(replace(grant, state=GrantState.WITHDRAWN))
        elif left is not grant:
            reduced.append(grant)
            after += (replace(grant, state=GrantState.SUPERSEDED), replace(left, id=work.parts.new_id()))
            add_grant(work.ws, after[-1])
        else:
            after.append(grant)
    close_grants(work.ws, gone, GrantState.WITHDRAWN)
    close_grants(work.ws, reduced, GrantState.SUPERSEDED)
    add_withdrawal(work.ws, draft.id, thread, caller.shelf, terms, work.at)
    work.grants[thread] = after
    await _show_recorders(work, gone, reduced, after)
    await concerned(work, thread, gone, reduced, was=known)
    _recorded(work, draft, [scope for term in terms for scope in sorted(term.scopes or {"all"})])
    return True


async def concerned(work: Work, thread: ThreadId, gone: Sequence[Grant], reduced: Sequence[Grant], *, was: Sequence[Grant]) -> None:
    """End or narrow every transfer that rested on grants which are gone or reduced; `was` is the register before."""
    ends: list[End] = []
    narrowed: list[Transfer] = []
    now = work.grants[thread]
    for transfer in await work.parts.facts.of_thread(thread):
        row = next(r for r in work.policy.rows if r.id == transfer.attempt.row)
        if transfer.attempt.recalled is not None or transfer.id in work.moved or not _needs_consent(row, work.policy):
            continue  # a report or an emergency disclosure rests on no consent: nothing that she takes back touches it
        before = stands(work.policy, transfer, was, work.at)
        after = usable(transfer, work.decide(asked_now(work.policy, transfer, now, work.at), transfer.id))
        if after is None and (_rests(transfer, row, gone) or (before is not None and _rests(transfer, row, reduced))):
            ends.append(End(transfer, ended(transfer, State.WITHDRAWN, work.at)))
        elif before is not None and after is not None and _less(before, after):
            narrowed.append(transfer)
    if ends or narrowed or gone or reduced:
        await end_transfers(work, thread, ends, narrowed)
    if gone:
        await ask_to_check(work, thread, State.WITHDRAWN)


def stands(policy: Policy, transfer: Transfer, grants: Sequence[Grant], at: int) -> Permit | None:
    """What the register permits of a transfer, whatever its state and whoever may see more of it."""
    return usable(transfer, decide(asked_now(policy, transfer, grants, at), policy))


def _needs_consent(row: MatrixRow, policy: Policy) -> bool:
    return row.scope is not None and policy.bases[row.basis].needs_consent


def _rests(transfer: Transfer, row: MatrixRow, grants: Sequence[Grant]) -> bool:
    return any(grant.scope == row.scope and grant.receiver_party == transfer.attempt.party for grant in grants)


def _less(before: Permit, after: Permit) -> bool:
    """Whether something that could flow no longer does, or not as long."""
    sooner = after.ends is not None and (before.ends is None or after.ends < before.ends)
    return sooner or not before.classes.keys() <= after.classes.keys()


async def _show_recorders(work: Work, gone: Sequence[Grant], reduced: Sequence[Grant], after: Sequence[Grant]) -> None:
    """The recorder's own Consent turns inactive, or loses the class, where its recorder may know; never for a minimal view."""
    live = {(grant.recorder, grant.consent_id) for grant in after if grant.state is GrantState.ACTIVE}
    for grant in (*gone, *reduced):
        if work.policy.parties[shelf_party(grant.recorder)].view_of(grant.recorder) is StatusView.MINIMAL:
            continue
        classes: frozenset[str] | None = None
        if (grant.recorder, grant.consent_id) in live:
            kept = [g.classes for g in after if g.consent_id == grant.consent_id and g.state is GrantState.ACTIVE]
            classes = grant.classes.difference(*kept)
        await work.parts.release.closing.retire(work.ws, grant.recorder, grant.consent_id, classes, work.at)


def _recorded(work: Work, draft: Draft, scopes: Sequence[str]) -> None:
    """Who took it and what was named: not what there was, which is nobody's to read here."""
    work.record(
        AuditAction.WITHDRAW,
        resource_type="Consent",
        resource_id=draft.id,
        thread=draft.thread,
        detail=tuple((f"scope.{i}", scope) for i, scope in enumerate(scopes)),
    )
