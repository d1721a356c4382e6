"""Opening a transfer: a sender's Task is put to one receiver, if all five gates open."""

from __future__ import annotations

from typing import Any, Final

from gateway import vocabulary as v
from gateway.decision.decide import Ask, Denial, Permit, Said, decide
from gateway.delivery.ledger import announce
from gateway.disclosure.minimize import Source, age_band_of, classes_in, yes_in
from gateway.disclosure.release import Changed, Known, line_of, row_view
from gateway.disclosure.views import sender_task
from gateway.identity import Caller, ShelfId, StatusView, TransferId
from gateway.parties.model import Address
from gateway.problems import Finding, IssueCode, Problem, ProblemType
from gateway.shelves.copies import reference_id, written
from gateway.transfers import clocks
from gateway.transfers.asking import coding, grounds_of, needs_in, refused
from gateway.transfers.facts import add_attempt, add_transfer
from gateway.transfers.intake import Draft
from gateway.transfers.model import Attempt, State, Transfer, seen_by_sender
from gateway.transfers.recording import released
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
    source = Source(draft.patient, request, task)
    ask = Ask(
        sender=policy.parties[caller.party],
        sender_unit=caller.unit,
        receiver=policy.parties[address.party],
        receiver_unit=address.unit,
        receiver_role=address.role,
        service=service,
        purposes=caller.purposes,
        at=work.at,
        grants=tuple(grants),
        present=classes_in(source, parts.plan()),
        state=State.OFFERED.value,
        needs=needs_in(task),
        said=Said(age_band_of(source, parts.plan(), work.at), yes_in(source, parts.plan())),
    )
    permit = decide(ask, policy)
    if isinstance(permit, Denial):
        raise refused(permit.refusal, f"{at}.owner", grounds_of(ask, permit))
    known = work.known.get((draft.thread, ShelfId(address.shelf)))
    if known is None:
        known = Known() if draft.new_thread else await parts.release.known(draft.thread, address.shelf)
    key = await work.key(draft.thread, address.shelf)
    transfer = _transfer(work, draft, caller, address, permit, request, known)
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
    work.ws.audit.append(released(work, transfer, permit, release))
    view = row_view(policy, transfer, permit.row)
    seen = seen_by_sender(transfer.state, view)
    shown = sender_task(task, transfer, seen, line_of(policy, transfer), number=draft.id, row=permit.row, full=view is StatusView.FULL)
    own = await work.key(draft.thread, caller.shelf)
    work.put(own, shown, caller.shelf, draft.thread, 1)
    work.stored[index] = Stored(201, "Task", draft.id, 1)


def _transfer(work: Work, draft: Draft, caller: Caller, address: Address, permit: Permit, request: Json, known: Known) -> Transfer:
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
        state=State.OFFERED,
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
