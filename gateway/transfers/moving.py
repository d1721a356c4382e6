"""Moving a transfer: a party's act, the hub's own moves, and the author's edits. One way: facts, then every view rendered again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway import vocabulary as v
from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.decision.decide import Permit, decide
from gateway.decision.grants import Grant
from gateway.delivery.ledger import announce
from gateway.disclosure.release import Changed, row_view
from gateway.identity import Caller, ShelfId, shelf_party
from gateway.oauth.scopes import ActionScope, has_action
from gateway.parties.model import Policy
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.transfers import clocks
from gateway.transfers.acts import Act, apply_act, illegal_move, read_act
from gateway.transfers.asking import ask_for, coding
from gateway.transfers.facts import move_attempt, move_transfer
from gateway.transfers.intake import Draft
from gateway.transfers.model import Mover, Seen, State, Transfer, seen_by_receiver, seen_by_sender, viewed_as
from gateway.transfers.recording import released
from gateway.transfers.work import Stored, Work

__all__ = ["act_on_task", "commit_move", "decide_now", "edit_thread", "hub_move"]


async def act_on_task(work: Work, index: int, draft: Draft, caller: Caller) -> None:
    """A write to a Task that exists: an act by the receiver, or by the sender on its own view. Raises Problem."""
    before = draft.before
    if before is None:
        raise AssertionError("an update has a version before it")
    facts = work.parts.facts
    received = await facts.received(caller.shelf, draft.id)
    transfer = received or await facts.sent(caller.shelf, draft.id)
    if transfer is None or before.final:
        raise illegal_move(None, Mover.SENDER)
    mover = Mover.RECEIVER if received is not None else Mover.SENDER
    viewed = _viewed(work, transfer, mover)
    act = read_act(before.resource(), draft.resource, transfer, mover, draft.entry.at, work.policy.codes)
    _check_scopes(work, caller, act, mover, transfer, draft.entry.at)
    if act.target is None and act.returned == transfer.attempt.returned:
        work.stored[index] = Stored(200, "Task", draft.id, before.version)  # nothing asked, nothing written
        return
    after = apply_act(transfer, act, mover, viewed, work.at)
    changed = await commit_move(work, transfer, after)
    work.ws.audit.append(_acted(work, caller, transfer, after))
    written = [w.version for w in changed.shelves.get(caller.shelf, ()) if w.type == "Task" and w.id == draft.id]
    work.stored[index] = Stored(200, "Task", draft.id, written[0] if written else before.version)


def hub_move(transfer: Transfer, target: State) -> Transfer:
    """A move of the hub's own: a receipt, a timer."""
    return replace(transfer, version=transfer.version + 1, state=target)


async def commit_move(work: Work, before: Transfer, after: Transfer) -> Changed:
    """Add a transfer's new facts, views, timers and deliveries to the plan."""
    parts, policy = work.parts, work.policy
    work.moved.add(after.id)
    move_transfer(work.ws, before, after)
    move_attempt(work.ws, after, await work.key(after.thread, after.attempt.shelf))
    permit = decide_now(policy, after, await work.known_grants(after.thread), work.at)
    changed = Changed()
    release = await parts.release.render(work.ws, changed, plan=parts.plan(), transfer=after, permit=permit, at=work.at, edited=work.edited)
    if release is not None and permit is not None:
        work.ws.audit.append(released(work, after, permit, release))
    rows = await parts.database.facts(clocks.ARMED, {"transfer": after.id})
    armed = [clocks.Timer(*row) for row in rows if row[0] != work.fired]
    clocks.stop(work.ws, policy.clocks, armed, after)
    if after.state is not before.state or after.attempt.address != before.attempt.address:
        clocks.arm(work.ws, policy, after, work.at, parts.new_id)
    actor = work.caller.shelf if work.caller else None
    work.deliveries += announce(work.ws, policy, after, changed, actor=actor, at=work.at, new_id=parts.new_id)
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
            if _sender_sees(work.policy, transfer).final:
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
    if transfer.closed is not None or _sender_sees(policy, transfer).final:
        return None
    answer = decide(ask_for(policy, transfer, grants, frozenset(policy.classes), frozenset(), at), policy)
    return answer if isinstance(answer, Permit) and answer.row.id == transfer.attempt.row else None


def _viewed(work: Work, transfer: Transfer, mover: Mover) -> State:
    return viewed_as(seen_by_receiver(transfer.state) if mover is Mover.RECEIVER else _sender_sees(work.policy, transfer))


def _sender_sees(policy: Policy, transfer: Transfer) -> Seen:
    row = next(r for r in policy.rows if r.id == transfer.attempt.row)
    return seen_by_sender(transfer.state, row_view(policy, transfer, row))


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


def _acted(work: Work, caller: Caller, before: Transfer, after: Transfer) -> AuditEntry:
    given = (("decision", after.attempt.returned.decision),) if after.attempt.returned.decision else ()
    return AuditEntry(
        at=work.time,
        action=AuditAction.ACT,
        outcome=AuditOutcome.PERMIT,
        actor_party=caller.party,
        actor_shelf=caller.shelf,
        actor_role=caller.role,
        client_id=caller.client_id,
        thread=after.thread,
        transfer=after.id,
        attempt=str(after.attempt.number),
        target_party=shelf_party(after.sender_shelf),
        policy_version=work.policy.version,
        correlation_id=work.correlation,
        detail=(("from", before.state.value), ("to", after.state.value), *given),
    )
