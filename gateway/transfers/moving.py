"""Moving a transfer: whoever moved it, and the author's edits. One way: facts, then every view rendered again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway import vocabulary as v
from gateway.decision.decide import Ask, Denial, Permit, decide
from gateway.decision.grants import Grant
from gateway.delivery.ledger import announce
from gateway.disclosure.release import Changed, row_view
from gateway.identity import ShelfId
from gateway.parties.model import Policy
from gateway.problems import Finding, IssueCode, Problem, ProblemType
from gateway.storage.sealing import DataKey
from gateway.transfers import clocks
from gateway.transfers.acts import illegal_move
from gateway.transfers.asking import ask_for, coding
from gateway.transfers.facts import move_attempt, move_transfer
from gateway.transfers.intake import Draft
from gateway.transfers.model import REPORTED, Mover, Seen, State, Transfer, sender_sees
from gateway.transfers.recording import record_release
from gateway.transfers.work import Work

__all__ = ["asked_now", "commit_move", "decide_now", "edit_thread", "hub_move", "seen_now", "usable"]


def hub_move(transfer: Transfer, target: State) -> Transfer:
    """A move of the hub's own: a receipt, a timer."""
    return replace(transfer, version=transfer.version + 1, state=target)


async def commit_move(
    work: Work, before: Transfer, after: Transfer, *, permit: Permit | None = None, fresh: DataKey | None = None
) -> Changed:
    """Add a transfer's new facts, views, timers and deliveries to the plan.

    With a `fresh` key the receiver's copies are narrowed to what `permit` lets it keep, and the versions before are closed.
    """
    parts, policy = work.parts, work.policy
    work.moved.add(after.id)
    move_transfer(work.ws, before, after)
    own = await work.key(after.thread, after.attempt.shelf)
    move_attempt(work.ws, after, own)
    if permit is None or fresh is None:
        permit = None
        if goes_on(policy, after):
            permit = usable(after, work.decide(asked_now(policy, after, await work.known_grants(after.thread), work.at), after.id))
    changed = Changed()
    release = await parts.release.render(
        *(work.ws, changed), plan=parts.plan(), transfer=after, permit=permit, at=work.at, edited=work.edited, own=own, fresh=fresh
    )
    if release is not None and permit is not None:
        record_release(work, after, permit, release)
    rows = await parts.database.facts(clocks.ARMED, {"transfer": after.id})
    armed = [clocks.Timer(*row) for row in rows if row[0] != work.fired]
    shows = not seen_now(policy, after).final  # an ended transfer's course goes on while its sender must not see the ending
    clocks.stop(work.ws, policy.clocks, armed, after, course=shows)
    if after.ending is not before.ending:
        clocks.arm(work.ws, policy, after, work.at, parts.new_id, state=after.stands)
    elif after.state is not before.state or after.attempt.address != before.attempt.address:
        clocks.arm(work.ws, policy, after, work.at, parts.new_id)
    actor = work.caller.shelf if work.caller else None
    recalled = after.attempt.shelf if after.attempt.shut else None
    work.deliveries += announce(work.ws, policy, after, changed, actor=actor, at=work.at, new_id=parts.new_id, recalled=recalled)
    return changed


async def edit_thread(work: Work, drafts: list[Draft], shelf: ShelfId) -> None:
    """The author changed content, or what was agreed: each transfer that this concerns is decided and rendered again.

    Raises Problem(CONFLICT) for a ServiceRequest whose Task is final in the author's view, whatever has become of it, and
    Problem(UNPROCESSABLE) for one that asks another party or for something else than its open transfer does. A Patient is the
    author's own to change; nothing of it flows any more where the view is final.
    """
    requests = {d.id: d for d in drafts if d.type == "ServiceRequest"}
    people = {d.thread for d in drafts if d.type == "Patient"}
    agreed = {d.thread for d in drafts if d.type == "Consent"}
    for thread in sorted({d.thread for d in drafts}):
        for transfer in await work.parts.facts.of_thread(thread):
            mine = transfer.sender_shelf == shelf
            asked = requests.get(transfer.sender_request) if mine else None
            if seen_now(work.policy, transfer).final:
                if asked is not None:
                    raise illegal_move(None, Mover.SENDER)
            elif transfer.id not in work.moved and mine and (asked is not None or thread in agreed or thread in people):
                priority = transfer.priority
                if asked is not None:
                    _must_ask_the_same(asked, transfer)
                    if asked.resource.get("priority") != _written_before(asked).get("priority"):
                        priority = asked.resource.get("priority") or "routine"
                await commit_move(work, transfer, replace(transfer, version=transfer.version + 1, priority=priority))


def _must_ask_the_same(asked: Draft, transfer: Transfer) -> None:
    """A new performer or service is a new transfer: cancel, and send anew.

    The performer is held against what the author itself wrote before: to whom the receiver's own backups have it now is not told.
    """
    at = asked.entry.at
    findings = []
    say = "This request is with its receiver. To ask somebody else, or for something else, cancel it and send another."
    if asked.resource.get("performer") != _written_before(asked).get("performer"):
        findings.append(Finding(IssueCode.BUSINESS_RULE, say, f"{at}.performer"))
    if coding(asked.resource.get("code"), v.SERVICE) != transfer.service:
        findings.append(Finding(IssueCode.BUSINESS_RULE, say, f"{at}.code"))
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)


def _written_before(draft: Draft) -> dict[str, Any]:
    return draft.before.resource() if draft.before is not None else {}


def decide_now(policy: Policy, transfer: Transfer, grants: list[Grant], at: int) -> Permit | None:
    """The decision taken now. None keeps the content a receiver has and lets nothing new through: an accepted transfer goes on.

    Nothing new goes either once the sender's view is final, nor once the transfer is over.
    """
    return usable(transfer, decide(asked_now(policy, transfer, grants, at), policy)) if goes_on(policy, transfer) else None


def goes_on(policy: Policy, transfer: Transfer) -> bool:
    """Whether anything new of the sender's may still go. A report is the record of what was said: more is said by another."""
    return transfer.closed is None and transfer.state not in REPORTED and not seen_now(policy, transfer).final


def asked_now(policy: Policy, transfer: Transfer, grants: Sequence[Grant], at: int) -> Ask:
    """The question of a transfer under way: whatever class its sender may have said, under the register as it stands."""
    return ask_for(policy, transfer, list(grants), frozenset(policy.classes), frozenset(), at)


def usable(transfer: Transfer, answer: Permit | Denial) -> Permit | None:
    """A permit by the row under which the transfer was offered; by another one it would be another transfer."""
    return answer if isinstance(answer, Permit) and answer.row.id == transfer.attempt.row else None


def seen_now(policy: Policy, transfer: Transfer) -> Seen:
    """What its sender is shown of a transfer."""
    row = next(r for r in policy.rows if r.id == transfer.attempt.row)
    return sender_sees(transfer, row_view(policy, transfer, row))
