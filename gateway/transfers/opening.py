"""Opening a transfer: a sender's Task is put to one receiver, if all five gates open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from gateway import vocabulary as v
from gateway.decision.decide import Ask, Denial, Permit, Said
from gateway.decision.grants import Grant, GrantState
from gateway.delivery.ledger import announce
from gateway.disclosure.closing import onward
from gateway.disclosure.minimize import Source, age_band_of, classes_in, yes_in
from gateway.disclosure.release import Changed, Known, line_of, row_view
from gateway.disclosure.views import sender_task
from gateway.identity import Caller, ShelfId, StatusView, TransferId
from gateway.parties.model import Address
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.reports.demands import take_demand
from gateway.reports.opening import after_offer, stated
from gateway.reports.stating import DEMAND
from gateway.shelves.copies import reference_id, written
from gateway.storage.sealing import DataKey
from gateway.transfers import clocks
from gateway.transfers.asking import coding, grounds_of, needs_in, refused
from gateway.transfers.facts import add_attempt, add_transfer
from gateway.transfers.intake import Draft
from gateway.transfers.model import Attempt, State, Transfer, sender_sees
from gateway.transfers.recording import record_release
from gateway.transfers.routing import addressee, service_of
from gateway.transfers.work import Stored, Work

__all__ = ["higher", "open_transfer"]

Json = dict[str, Any]
_URGENCY: Final = ("routine", "urgent", "asap", "stat")


async def open_transfer(work: Work, index: int, draft: Draft, caller: Caller, request: Json) -> None:
    """Add a new transfer to the plan. Raises Problem when a gate stays shut; the refusal says no more than its caller may know."""
    policy, parts = work.policy, work.parts
    task, at = draft.resource, draft.entry.at
    address = addressee(task, policy, at)
    _must_perform(address, request, at)
    service = policy.services[service_of(request, policy, f"{at}.focus")]
    grants = await work.known_grants(draft.thread)
    if v.CLOSED in draft.patient.get("meta", {}).get("tag", ()):
        raise refused(Refusal.CONSENT_WITHDRAWN, f"{at}.for", (("target", address.party), ("gate", "consent")))
    receiver, band = policy.parties[address.party], age_band_of(Source(draft.patient, request, task), parts.plan(), work.at)
    said = stated(work, draft, caller, receiver, service.id, band)
    source = Source(draft.patient, request, task)
    ask = Ask(
        sender=policy.parties[caller.party],
        sender_unit=caller.unit,
        receiver=receiver,
        receiver_unit=address.unit,
        receiver_role=address.role,
        service=service,
        purposes=caller.purposes,
        at=work.at,
        grants=tuple(grants),
        present=classes_in(source, parts.plan()),
        state=said.state.value,
        basis=said.basis,
        needs=needs_in(task),
        said=Said(band, yes_in(source, parts.plan())),
        recalled=await _recalled(work, draft, caller, grants),
    )
    permit = work.decide(ask)
    if isinstance(permit, Denial) and permit.refusal is Refusal.HUMAN_REVIEW_REQUIRED and said.code == DEMAND:
        await take_demand(work, index, draft, caller, address)
        return
    if isinstance(permit, Denial):
        [*_, (_, why)] = work.ws.why
        raise refused(permit.refusal, f"{at}.owner", grounds_of(ask, permit), why)
    known = work.known.get((draft.thread, ShelfId(address.shelf)))
    if known is None:
        known = Known() if draft.new_thread else await parts.release.known(draft.thread, address.shelf)
    transfer = _transfer(work, draft, caller, address, permit, request, known, said.state)
    attempt = transfer.attempt
    if not draft.new_thread:
        await work.own(draft.thread)  # a withdrawal decided on how the thread stands now must see this transfer
    key = work.new_key(draft.thread, attempt.shelf, attempt.task)
    hers = await _her_key(work, transfer, known)
    changed = Changed()
    release = parts.release.open(
        work.ws,
        changed,
        plan=parts.plan(),
        source=source,
        permit=permit,
        transfer=transfer,
        grants=grants,
        key=key,
        hers=hers,
        known=known,
        at=work.at,
    )
    work.known[draft.thread, transfer.attempt.shelf] = Known(
        written(work.ws, transfer.attempt.shelf, "Patient", transfer.attempt.patient) or known.patient,
        written(work.ws, transfer.attempt.shelf, "Consent", transfer.attempt.consent) or known.consent,
    )
    add_transfer(work.ws, transfer)
    add_attempt(work.ws, transfer)
    clocks.arm(work.ws, policy, transfer, work.at, parts.new_id)
    work.deliveries += announce(work.ws, policy, transfer, changed, actor=caller.shelf, at=work.at, new_id=parts.new_id)
    record_release(work, transfer, permit, release)
    view = row_view(policy, transfer, permit.row)
    seen = sender_sees(transfer, view)
    shown = sender_task(task, transfer, seen, line_of(policy, transfer), number=draft.id, row=permit.row, full=view is StatusView.FULL)
    own = await work.key(draft.thread, caller.shelf)
    work.put(own, shown, caller.shelf, draft.thread, 1)
    work.stored[index] = Stored(201, "Task", draft.id, 1)
    await after_offer(work, draft, transfer, said, band)


async def _recalled(work: Work, draft: Draft, caller: Caller, grants: list[Grant]) -> frozenset[str]:
    """The withdrawn grants whose withdrawal this sender was told of: those its copy of the consents named, once it received a recall."""
    gone = [grant for grant in grants if grant.state is GrantState.WITHDRAWN]
    if not gone or not any(
        t.attempt.shelf == caller.shelf and t.attempt.recalled is not None for t in await work.parts.facts.of_thread(draft.thread)
    ):
        return frozenset()
    standing = [replace(grant, state=GrantState.ACTIVE, ends=None) for grant in gone]
    return frozenset(grant.id for grant in onward(work.policy, work.policy.parties[caller.party], standing, work.at))


async def _her_key(work: Work, transfer: Transfer, known: Known) -> DataKey:
    """The key of the person on the receiver's shelf: that of the copies it has, or a new one."""
    attempt = transfer.attempt
    named = (known.consent.key if known.consent else "") or (known.patient.key if known.patient else "")
    if named:
        return await work.key(transfer.thread, attempt.shelf, named)
    return work.new_key(transfer.thread, attempt.shelf, attempt.consent)


def _transfer(
    work: Work, draft: Draft, caller: Caller, address: Address, permit: Permit, request: Json, known: Known, state: State
) -> Transfer:
    new_id = work.parts.new_id
    attempt = Attempt(
        number=1,
        party=address.party,
        shelf=ShelfId(address.shelf),
        address=address.id,
        task=new_id(),
        request=new_id(),
        patient=known.patient.id if known.patient is not None else new_id(),
        consent=known.consent.id if known.consent is not None else new_id(),
        provenance=new_id(),
        row=permit.row.id,
        agreement=permit.agreement.id,
        basis=permit.basis.id,
        offered=work.at,
    )
    return Transfer(
        id=TransferId(new_id()),
        thread=draft.thread,
        version=1,
        state=state,
        responsible=caller.party,
        sender_shelf=caller.shelf,
        sender_task=draft.id,
        sender_request=str(request["id"]),
        service=coding(request.get("code"), v.SERVICE) or "",
        priority=higher(request.get("priority"), draft.resource.get("priority")),
        purposes=caller.purposes,
        opened=work.at,
        closed=None,
        attempt=attempt,
    )


def higher(*priorities: str | None) -> str:
    """The most urgent of what was said; routine where nothing was. A transfer is never slower than its sender asked anywhere."""
    return max((p for p in priorities if p in _URGENCY), key=_URGENCY.index, default="routine")


def _must_perform(address: Address, request: Json, at: str) -> None:
    if address.id not in {reference_id(performer) for performer in request.get("performer") or ()}:
        say = "The owner of the Task must be a performer of the ServiceRequest it focuses on."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.BUSINESS_RULE, say, f"{at}.owner"))
