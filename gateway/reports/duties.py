"""Duties: work that the law or a program's rule gives to one party, and no sender. Each is a Task on that party's own shelf.

The duty to report is personal and direct (R16): each party that knows of a minor has its own, and none learns what another decided.
A duty stays open, and is repeated by its clock, until a named human answers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import bindparam, select

from gateway import vocabulary as v
from gateway.clock import instant, to_minute
from gateway.delivery.ledger import announce
from gateway.disclosure.versions import Changed, put_version
from gateway.disclosure.views import coded, owner_reference
from gateway.identity import ShelfId, ThreadId, shelf_party
from gateway.parties.model import Address, ClockRule, Policy
from gateway.shelves.copies import Copy, close_older, written
from gateway.storage import tables
from gateway.storage.statements import Query, insert, update
from gateway.transfers import clocks
from gateway.transfers.work import Work

__all__ = ["Duty", "Kind", "add", "answering", "find", "finish", "move", "of_thread", "remind"]

Json = dict[str, Any]
_INSERT: Final = insert(tables.duties)
_MOVE: Final = update(tables.duties, where=("id",), set=("kind", "address", "state", "version"))
_INSERT_REVIEW: Final = insert(tables.reviews)
_d = tables.duties.c
_BY_ID: Final = Query(select(*tables.duties.columns).where(_d.id == bindparam("id")))
_OF_THREAD: Final = Query(select(*tables.duties.columns).where(_d.thread == bindparam("thread"), _d.shelf == bindparam("shelf")))
_MS: Final = timedelta(milliseconds=1)


class Kind(StrEnum):
    """The kinds of duty: `task-code`, and `business-status` while it is open."""

    REPORT = "report-due"  # nobody decides about it
    DECIDE = "report-decision"  # a named human decides
    AGE = "age-check"
    REVIEW = "emergency-review"
    TELL = "tell-her"
    DEMAND = "demand-review"
    GUARDIAN = "guardian-review"


@dataclass(frozen=True, slots=True)
class Duty:
    """A duty as it stands; what it says lies in its Task alone, sealed."""

    id: str
    thread: ThreadId
    shelf: ShelfId
    kind: str
    address: str | None
    patient: str | None
    transfer: str | None
    key: str
    state: str
    version: int
    made: int

    @property
    def priority(self) -> str:
        """Somebody may be in danger."""
        return "stat"

    @property
    def open(self) -> bool:
        """Whether nobody has answered it."""
        return self.state == "open"


async def find(work: Work, id_: str) -> Duty | None:
    """By the id of its Task."""
    rows = await work.parts.database.facts(_BY_ID, {"id": id_})
    return Duty(*rows[0]) if rows else None


async def of_thread(work: Work, thread: ThreadId, shelf: ShelfId) -> list[Duty]:
    """What one shelf has to do about one person, with what this plan adds."""
    rows = [] if thread in work.new_threads else await work.parts.database.facts(_OF_THREAD, {"thread": thread, "shelf": shelf})
    known = {row[0]: Duty(*row) for row in rows}
    known.update({duty.id: duty for duty in work.duties if duty.thread == thread and duty.shelf == shelf})
    return list(known.values())


def answering(policy: Policy, shelf: ShelfId) -> Address | None:
    """Who answers for the desk of a shelf: of its roles the one that its manifest names, else the last."""
    party = policy.parties[shelf_party(shelf)]
    manifest = policy.manifests.get(party.id)
    roles = [address for address in party.addresses if address.shelf == shelf and address.role is not None]
    named = [address for address in roles if manifest is not None and address.id in manifest.owners]
    return next(iter(named or roles[-1:]), None)


async def add(
    work: Work,
    kind: Kind,
    thread: ThreadId,
    shelf: ShelfId,
    *,
    address: str | None,
    patient: str | None = None,
    transfer: str | None = None,
    inputs: Sequence[Json] = (),
    outputs: Sequence[Json] = (),
    reason: Json | None = None,
    named_key: bool = False,
) -> Duty:
    """Open a duty and put its Task on the shelf. With a `named_key` what it says can be destroyed by itself."""
    id_ = work.parts.new_id()
    duty = Duty(id_, thread, shelf, kind.value, address, patient, transfer, id_ if named_key else "", "open", 1, work.at)
    work.duties.append(duty)
    work.ws.add(_INSERT, *(duty.id, thread, shelf, duty.kind, address, patient, transfer, duty.key, duty.state, duty.version, duty.made))
    _arm(work, duty)
    task: Json = {
        "resourceType": "Task",
        "id": duty.id,
        "meta": {"security": [{"system": v.V3_CONFIDENTIALITY, "code": "R"}]},
        "intent": "order",
        "priority": duty.priority,
        "code": coded(v.TASK_CODE, duty.kind),
        "authoredOn": instant(to_minute(work.at)),
        **({"for": {"reference": f"Patient/{patient}"}} if patient is not None else {}),
        **({"statusReason": reason} if reason is not None else {}),
        **({"input": list(inputs)} if inputs else {}),
        **({"output": list(outputs)} if outputs else {}),
    }
    await _put(work, duty, task)
    return duty


async def move(work: Work, duty: Duty, *, kind: Kind | None = None, address: str | None = None, outputs: Sequence[Json] = ()) -> Duty:
    """Change an open duty: what it is, who has it, what is added to its Task."""
    before = await _task(work, duty)
    after = replace(duty, kind=kind.value if kind else duty.kind, address=address or duty.address, version=_next(work, duty))
    work.ws.add(_MOVE, after.kind, after.address, after.state, after.version, after.id)
    work.duties = [*(d for d in work.duties if d.id != duty.id), after]
    if kind is not None:
        await _disarm(work, duty)
        _arm(work, after)
    task = before.resource()
    task["code"] = coded(v.TASK_CODE, after.kind)
    if outputs:
        task["output"] = [*task.get("output", ()), *outputs]
    await _put(work, after, task)
    return after


async def finish(
    work: Work,
    duty: Duty,
    *,
    outputs: Sequence[Json] = (),
    reason: Json | None = None,
    extensions: Sequence[Json] = (),
    answered: bool = False,
) -> Duty:
    """Close a duty. What was said under a key of its own goes with the answer. `answered`: by an act on its Task; its shelf knows."""
    before = await _task(work, duty)
    after = replace(duty, state="done", version=_next(work, duty), key="")
    work.ws.add(_MOVE, after.kind, after.address, after.state, after.version, after.id)
    work.duties = [*(d for d in work.duties if d.id != duty.id), after]
    await _disarm(work, duty)
    task = before.resource()
    if duty.key:
        task.pop("input", None)
        close_older(work.ws, before)
    if outputs:
        task["output"] = [*task.get("output", ()), *outputs]
    if reason is not None:
        task["statusReason"] = reason
    if extensions:
        task["extension"] = list(extensions)
    await _put(work, after, task, actor=duty.shelf if answered else None)
    return after


async def remind(work: Work, duty: Duty, rule: ClockRule) -> bool:
    """Its clock ran out and nobody has answered: a human is told, and told again. False when it was answered."""
    if not duty.open:
        return False
    party = shelf_party(duty.shelf)
    work.ws.add(_INSERT_REVIEW, work.parts.new_id(), party, f"clock-{rule.then}", duty.id, rule.id, "open", work.at)
    said = {"type": coded(v.TASK_OUTPUT, "reminder"), "valueDateTime": instant(to_minute(work.at))}
    superior = answering(work.policy, duty.shelf) if rule.then == "escalate" else None
    after = await move(work, duty, address=superior.id if superior is not None else None, outputs=[said])
    _arm(work, after)
    return True


def _arm(work: Work, duty: Duty) -> None:
    region = work.policy.parties[shelf_party(duty.shelf)].region
    for rule in work.policy.clocks:
        if rule.state == duty.kind and rule.region in ("", region) and region not in rule.except_regions:
            work.ws.add(clocks.INSERT_TIMER, work.parts.new_id(), duty.id, rule.id, work.at + rule.due // _MS, "armed", None)


async def _disarm(work: Work, duty: Duty) -> None:
    for id_, *_ in await work.parts.database.facts(clocks.ARMED, {"transfer": duty.id}):
        if id_ != work.fired:
            work.ws.add(clocks.FINISH_TIMER, "cancelled", None, id_)


def _next(work: Work, duty: Duty) -> int:
    """The version of its Task that this plan writes: one, however often the plan changes it."""
    return duty.version if written(work.ws, duty.shelf, "Task", duty.id) is not None else duty.version + 1


async def _task(work: Work, duty: Duty) -> Copy:
    held = written(work.ws, duty.shelf, "Task", duty.id) or await work.parts.release.held(duty.shelf, "Task", duty.id)
    if held is None:
        raise AssertionError("a duty has a Task for as long as it is open")
    return held


async def _put(work: Work, duty: Duty, task: Mapping[str, Any], *, actor: ShelfId | None = None) -> None:
    """Its Task as it now stands, and the news of it: to its own shelf too, whoever caused it, unless that shelf has just answered it."""
    resource = {**task, "status": "requested" if duty.open else "completed"}
    if duty.kind == Kind.DEMAND and duty.open:
        resource["status"] = "on-hold"
    resource["businessStatus"] = coded(v.BUSINESS_STATUS, duty.kind if duty.open else "closed")
    if duty.address is not None:
        resource["owner"] = owner_reference(work.policy.addresses[duty.address])
    changed = Changed()
    key = await work.key(duty.thread, duty.shelf, duty.key)
    put_version(work.ws, changed, work.parts.keyring, key, resource, duty.shelf, duty.thread, duty.version, work.at)
    work.deliveries += announce(*(work.ws, work.policy, duty, changed), actor=actor, at=work.at, new_id=work.parts.new_id, kind="notice")
