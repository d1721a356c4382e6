"""Asking the lead worker to check with her: somebody ended something, and it may not have been she (R13).

The lead is who last accepted a transfer about her, of a kind of party that may record any consent of hers. What is asked is a Task of
its own on the lead's shelf: that something was stopped or withdrawn, and nothing of who said so, what, or what there was. A clock runs
until a human there answers; when it runs out, the Task goes to the last of that party's chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import bindparam, select

from gateway import vocabulary as v
from gateway.audit.entry import AuditAction
from gateway.clock import instant, to_minute
from gateway.delivery.ledger import announce
from gateway.disclosure.versions import Changed
from gateway.disclosure.views import coded, owner_reference
from gateway.identity import Caller, PartyId, ShelfId, ThreadId, shelf_party
from gateway.oauth.scopes import ActionScope, has_action
from gateway.parties.model import Policy
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.shelves.copies import put_copy
from gateway.storage import tables
from gateway.storage.statements import Query, insert, update
from gateway.transfers import clocks
from gateway.transfers.acts import read_answer
from gateway.transfers.intake import Draft
from gateway.transfers.model import State, Transfer
from gateway.transfers.work import Stored, Work

__all__ = ["Check", "act_on_check", "ask_to_check", "find_check", "pass_on"]

Json = dict[str, Any]
INSERT_CHECK: Final = insert(tables.checks)
MOVE_CHECK: Final = update(tables.checks, where=("id",), set=("address", "state", "version"))
_c = tables.checks.c
_BY_ID: Final = Query(select(*tables.checks.columns).where(_c.id == bindparam("id")))
_STATUS: Final = {"open": "requested", "seen": "received", "done": "completed"}


@dataclass(frozen=True, slots=True)
class Check:
    """A question to a lead worker, as it stands."""

    id: str
    thread: ThreadId
    shelf: ShelfId
    address: str
    service: str
    patient: str
    cause: str
    state: str
    version: int
    made: int

    @property
    def priority(self) -> str:
        """Somebody may be in danger."""
        return "stat"


async def find_check(work: Work, id_: str) -> Check | None:
    """By the id of its Task."""
    rows = await work.parts.database.facts(_BY_ID, {"id": id_})
    return Check(*rows[0]) if rows else None


async def ask_to_check(work: Work, thread: ThreadId, cause: State) -> None:
    """Ask the lead worker, once for a plan; nobody when none leads, or when it was her own unit that was told."""
    lead = _lead(work.policy, await work.parts.facts.of_thread(thread))
    if lead is None or thread in work.asked or (work.caller is not None and work.caller.shelf == lead.attempt.shelf):
        return
    work.asked.add(thread)
    attempt = lead.attempt
    check = Check(
        *(work.parts.new_id(), thread, attempt.shelf, attempt.address, lead.service, attempt.patient, cause.value, "open", 1, work.at)
    )
    work.ws.add(
        INSERT_CHECK,
        *(check.id, thread, check.shelf, check.address, check.service, check.patient, check.cause, check.state, 1, work.at),
    )
    clocks.arm(work.ws, work.policy, lead, work.at, work.parts.new_id, state=cause, of=check.id)
    await _put(work, check)


async def act_on_check(work: Work, index: int, draft: Draft, caller: Caller) -> bool:
    """The lead worker has seen it (`acknowledged`), or has checked (`closed`). False when the Task is no such question."""
    check, before = await find_check(work, draft.id), draft.before
    if check is None or check.shelf != caller.shelf or before is None:
        return False
    if not has_action(caller.scopes, ActionScope.TRANSFER_ACCEPT):
        say = "Your client has no scope for this act."
        raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, draft.entry.at, Refusal.SCOPE_MISSING))
    answer = read_answer(before.resource(), draft.resource, draft.entry.at)
    version = before.version
    if answer is not None and check.state != "done":
        after = replace(check, state="done" if answer == "closed" else "seen", version=version + 1)
        work.ws.add(MOVE_CHECK, after.address, after.state, after.version, after.id)
        for id_, *_ in await work.parts.database.facts(clocks.ARMED, {"transfer": check.id}):
            work.ws.add(clocks.FINISH_TIMER, "cancelled", None, id_)
        await _put(work, after)
        version = after.version
        _answered(work, after)
    work.stored[index] = Stored(200, "Task", draft.id, version)
    return True


async def pass_on(work: Work, check: Check) -> PartyId | None:
    """Nobody answered in time: give it to the last of the party's chain. The party whose manager is to be told, if it is still open."""
    if check.state != "open":
        return None
    party = work.policy.parties[shelf_party(check.shelf)]
    route = next((r for r in party.routes if r.service == check.service and r.backups), None)
    last = route.backups[-1].address if route is not None else check.address
    if last != check.address and work.policy.addresses[last].shelf == check.shelf:
        after = replace(check, address=last, version=check.version + 1)
        work.ws.add(MOVE_CHECK, after.address, after.state, after.version, after.id)
        await _put(work, after)
    return party.id


def _lead(policy: Policy, transfers: Sequence[Transfer]) -> Transfer | None:
    """The transfer whose receiver last accepted, among the kinds that may record any consent of hers."""
    leading = {kind.id for kind in policy.kinds.values() if any(ActionScope.CONSENT_RECORD in scopes for scopes in kind.scopes_of.values())}
    taken = [t for t in transfers if t.attempt.accepted is not None and policy.parties[t.attempt.party].kind in leading]
    return max(taken, key=lambda t: (t.attempt.accepted or 0, t.id), default=None)


async def _put(work: Work, check: Check) -> None:
    """Its Task on the lead's shelf, and the news of it."""
    task: Json = {
        "resourceType": "Task",
        "id": check.id,
        "meta": {"security": [{"system": v.V3_CONFIDENTIALITY, "code": "R"}]},
        "status": "on-hold" if check.cause == State.HELD and check.state == "open" else _STATUS[check.state],
        "businessStatus": coded(v.BUSINESS_STATUS, check.cause),
        "intent": "order",
        "priority": "stat",
        "code": coded(v.TASK_CODE, "check-with-her"),
        "for": {"reference": f"Patient/{check.patient}"},
        "authoredOn": instant(to_minute(check.made)),
        "owner": owner_reference(work.policy.addresses[check.address]),
    }
    key = await work.key(check.thread, check.shelf)
    put_copy(
        *(work.ws, work.parts.keyring, key, task), shelf=check.shelf, thread=check.thread, version=check.version, at=to_minute(work.at)
    )
    changed = Changed()
    changed.note(check.shelf, "Task", check.id, check.version)
    actor = work.caller.shelf if work.caller else None
    work.deliveries += announce(*(work.ws, work.policy, check, changed), actor=actor, at=work.at, new_id=work.parts.new_id, kind="notice")


def _answered(work: Work, check: Check) -> None:
    work.record(
        AuditAction.ACT,
        resource_type="Task",
        resource_id=check.id,
        thread=check.thread,
        detail=(("check", check.state), ("cause", check.cause)),
    )
