"""What follows from a new Task, or from somebody taking over: who has to report, who reviews, who tells her."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway import vocabulary as v
from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.decision.grants import GrantState
from gateway.disclosure.minimize import Source, age_band_of
from gateway.disclosure.views import coded, reference
from gateway.identity import Caller, ShelfId, ThreadId, shelf_party
from gateway.oauth.scopes import ActionScope
from gateway.parties.model import Party, Policy
from gateway.problems import Finding, IssueCode, Problem, ProblemType
from gateway.reports.ages import Standing, standing_of
from gateway.reports.duties import Duty, Kind, add, answering, finish, move, of_thread
from gateway.reports.societies import reports_to, societies
from gateway.reports.stating import DEMAND, EMERGENCY, REPORT, Stated, basis_for, code_of, reporter, stated_basis, worker_in
from gateway.shelves.copies import written
from gateway.transfers.asking import coding
from gateway.transfers.intake import Draft
from gateway.transfers.model import REPORTED, State, Transfer
from gateway.transfers.work import Work

__all__ = ["after_accept", "after_offer", "follow_people", "settle_age", "stated"]

Json = dict[str, Any]
_REPORTING: Final = (Kind.REPORT, Kind.DECIDE)
_GUARDIAN: Final = "guardian-unsafe"


def stated(work: Work, draft: Draft, caller: Caller, receiver: Party, service: str, band: str | None) -> Stated:
    """What a new Task is, and on which law it rests. Adds who reports to a report. Raises Problem(UNPROCESSABLE)."""
    task, policy = draft.resource, work.policy
    code, basis = code_of(task), stated_basis(task)
    sender = policy.parties[caller.party]
    if basis is None and code in (REPORT, EMERGENCY):
        basis = basis_for(policy, sender, receiver, service, band)
        if basis is None and standing_of(policy, band, sender.age_line) is Standing.UNKNOWN:
            say = "Her age is not known: state the basis. Whoever suspects that she is under 16 reports as for one who is."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{draft.entry.at}.input"))
    if code == REPORT:
        task.setdefault("input", []).append(reporter(policy, sender, caller.role, worker_in(task) or ""))
    return Stated(code, basis, State.REPORT_SENT if code == REPORT else State.OFFERED)


async def after_offer(work: Work, draft: Draft, transfer: Transfer, said: Stated, band: str | None) -> None:
    """What a new transfer, report or emergency disclosure gives its sender, and its receiver, to do."""
    shelf = transfer.sender_shelf
    patient = draft.resource["for"]["reference"].rpartition("/")[2]
    if said.code == REPORT:
        for duty in await of_thread(work, transfer.thread, shelf):
            if duty.open and duty.kind in _REPORTING:
                await finish(work, duty, outputs=[_decided("report")], extensions=draft.resource.get("extension", ()))
    elif said.code == EMERGENCY:
        await _review_and_tell(work, draft.resource, transfer, patient)
    elif said.code != DEMAND:
        await _open(work, transfer.thread, shelf, band, patient, transfer, cultural=_cultural(draft.resource), address=None)
        await _guardian(work, draft.resource, transfer, band)


async def after_accept(work: Work, transfer: Transfer) -> None:
    """Whoever accepted knows of her: the duty is its own (R16), whatever anybody else did."""
    attempt = transfer.attempt
    holding = work.parts.release.held
    held = written(work.ws, attempt.shelf, "Patient", attempt.patient) or await holding(attempt.shelf, "Patient", attempt.patient)
    task = written(work.ws, attempt.shelf, "Task", attempt.task) or await holding(attempt.shelf, "Task", attempt.task)
    if held is None or task is None:
        return
    band = _band(work, held.resource())
    cultural = _cultural(task.resource())
    await _open(work, transfer.thread, attempt.shelf, band, attempt.patient, transfer, cultural=cultural, address=attempt.address)


async def follow_people(work: Work) -> None:
    """An age became known: whoever has it on its shelf now has the duty that goes with it, also one that had decided not to report."""
    for (shelf, type_, id_), (row, resource) in list(work.ws.copies.items()):
        thread = ThreadId(row[6])
        if type_ != "Patient" or thread in work.new_threads or row[3] == 1:
            continue
        holder = ShelfId(shelf)
        duties = await of_thread(work, thread, holder)
        about = [duty for duty in duties if duty.kind in (*_REPORTING, Kind.AGE)]
        party = work.policy.parties[shelf_party(holder)]
        standing = standing_of(work.policy, _band(work, resource), party.age_line)
        if not about:
            knows = await _knows_by(work, thread, holder) if standing is not None else None
            if knows is not None:
                await _open(work, thread, holder, _band(work, resource), id_, knows, cultural=frozenset(), address=None)
            continue
        await settle_age(work, about, standing, thread, holder, id_)


async def _knows_by(work: Work, thread: ThreadId, shelf: ShelfId) -> Transfer | None:
    """The transfer by which a shelf knows of her: it sent it, or a human there took it over."""
    for transfer in await work.parts.facts.of_thread(thread):
        took = transfer.attempt.shelf == shelf and transfer.attempt.accepted is not None
        if transfer.state not in REPORTED and (transfer.sender_shelf == shelf or took):
            return transfer
    return None


async def settle_age(work: Work, about: Sequence[Duty], standing: Standing | None, thread: ThreadId, shelf: ShelfId, patient: str) -> None:
    """Bring what one party has to do into line with what it now knows of her age."""
    waiting = [duty for duty in about if duty.open]
    if standing is Standing.MANDATORY:
        if any(duty.kind == Kind.REPORT for duty in about):
            return
        decides = next((duty for duty in waiting if duty.kind == Kind.DECIDE), None)
        if decides is not None:
            await move(work, decides, kind=Kind.REPORT)
        elif True not in [await _reported(work, duty) for duty in about if duty.kind == Kind.DECIDE]:
            address = next((duty.address for duty in about), None)
            await add(work, Kind.REPORT, thread, shelf, address=address, patient=patient, outputs=await _societies(work, thread, shelf, ()))
    elif standing is None:
        for duty in waiting:
            if duty.kind == Kind.DECIDE:
                await finish(work, duty, reason=coded(v.REPORT_REASON, "adult"), outputs=[_decided("not-now")])


async def _reported(work: Work, duty: Duty) -> bool:
    held = await work.parts.release.held(duty.shelf, "Task", duty.id)
    said = [coding(item.get("valueCodeableConcept"), v.REPORT_DECISION) for item in (held.resource() if held else {}).get("output", ())]
    return "report" in said or "reported-by-phone" in said


async def _open(
    work: Work,
    thread: ThreadId,
    shelf: ShelfId,
    band: str | None,
    patient: str,
    transfer: Transfer,
    *,
    cultural: frozenset[str],
    address: str | None,
) -> None:
    party = work.policy.parties[shelf_party(shelf)]
    standing = standing_of(work.policy, band, party.age_line)
    if standing is None or not _may_report(work.policy, party):
        return
    if any(duty.kind in (*_REPORTING, Kind.AGE) for duty in await of_thread(work, thread, shelf)):
        return
    if address is None:
        address = next((each.id for each in party.addresses if each.shelf == shelf), None)
    kind = Kind.REPORT if standing is Standing.MANDATORY else Kind.DECIDE
    lines = await _societies(work, thread, shelf, cultural)
    await add(work, kind, thread, shelf, address=address, patient=patient, transfer=transfer.id, outputs=lines)
    if standing is Standing.UNKNOWN:
        await add(work, Kind.AGE, thread, shelf, address=address, patient=patient, transfer=transfer.id)


async def _guardian(work: Work, task: Json, transfer: Transfer, band: str | None) -> None:
    """A program's rule: under an age with a guardian's permission. Where that may be unsafe its manager decides; crisis help goes on."""
    receiver = work.policy.parties[transfer.attempt.party]
    flags = {coding(item.get("valueCodeableConcept"), v.SAFETY_FLAG) for item in task.get("input") or ()}
    young = standing_of(work.policy, band, receiver.permission_under) is Standing.MANDATORY
    if transfer.service in receiver.permission_services and young and _GUARDIAN in flags:
        attempt = transfer.attempt
        manager = answering(work.policy, attempt.shelf)
        address = manager.id if manager is not None else attempt.address
        await add(work, Kind.GUARDIAN, transfer.thread, attempt.shelf, address=address, patient=attempt.patient, transfer=transfer.id)


async def _review_and_tell(work: Work, task: Json, transfer: Transfer, patient: str) -> None:
    """After a danger was told: the privacy officer reviews it, and she is told when it is safe (R25)."""
    shelf, caller = transfer.sender_shelf, work.caller
    party = work.policy.parties[shelf_party(shelf)]
    reviewer = next((a for a in party.addresses if a.shelf == shelf and a.role == "privacy-officer"), answering(work.policy, shelf))
    worker = next((a for a in party.addresses if a.shelf == shelf), None)
    reason = task["statusReason"]
    named = {"type": coded(v.TASK_INPUT, "reporter"), "valueString": worker_in(task) or ""}
    for kind, who in ((Kind.REVIEW, reviewer), (Kind.TELL, worker)):
        address = who.id if who is not None else None
        told = {"reason": reason, "inputs": [named]} if kind is Kind.REVIEW else {}
        await add(work, kind, transfer.thread, shelf, address=address, patient=patient, transfer=transfer.id, **told)
    work.ws.audit.append(
        AuditEntry(
            at=work.time,
            action=AuditAction.ACT,
            outcome=AuditOutcome.PERMIT,
            actor_party=party.id,
            actor_shelf=shelf,
            actor_role=caller.role if caller is not None else None,
            client_id=caller.client_id if caller is not None else None,
            thread=transfer.thread,
            transfer=transfer.id,
            target_party=transfer.attempt.party,
            target_shelf=transfer.attempt.shelf,
            basis=transfer.attempt.basis,
            policy_version=work.policy.version,
            correlation_id=work.correlation,
            detail=(("emergency", coding(reason, v.EMERGENCY_REASON) or ""),),
        )
    )


async def _societies(work: Work, thread: ThreadId, shelf: ShelfId, cultural: frozenset[str] | tuple[()]) -> list[Json]:
    """The societies that take a report from this party, with their lines; one that she chose by her own agreement or need comes first.

    Only of agreements that this shelf itself recorded: those of others are not its to know.
    """
    grants = await work.known_grants(thread)
    chosen = {g.scope for g in grants if g.recorder == shelf and g.state is GrantState.ACTIVE} | set(cultural)
    return [
        output
        for party in societies(work.policy, work.policy.parties[shelf_party(shelf)], work.at, frozenset(chosen))
        for route in [next(r for r in party.routes if r.service in reports_to(work.policy, party))]
        for output in (
            {
                "type": coded(v.TASK_OUTPUT, "society"),
                "valueReference": reference(work.policy.addresses[route.first].kind.value, route.first),
            },
            {"type": coded(v.TASK_OUTPUT, "society-line"), "valueContactPoint": {"system": "phone", "value": route.last_resort_line}},
        )
    ]


def _may_report(policy: Policy, party: Party) -> bool:
    kind = policy.kinds.get(party.kind)
    return kind is not None and any(ActionScope.REPORT_SEND in scopes for scopes in kind.scopes_of.values())


def _band(work: Work, patient: Json) -> str | None:
    return age_band_of(Source(patient, {}, {}), work.parts.plan(), work.at)


def _cultural(task: Json) -> frozenset[str]:
    found = (coding(item.get("valueCodeableConcept"), v.CULTURAL) for item in task.get("input") or ())
    return frozenset(code for code in found if code is not None)


def _decided(code: str) -> Json:
    return {"type": coded(v.TASK_OUTPUT, "report-decision"), "valueCodeableConcept": coded(v.REPORT_DECISION, code)}
