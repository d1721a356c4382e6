"""The one exit: the only code that holds two shelves. Values in, rows of a write set out.

It renders the views of a transfer and adds a new version only on shelves whose view changed. A view marked final is never
rendered again. New content needs a decision taken now; without one a view keeps the content it has and only its status moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.clock import to_minute
from gateway.decision.decide import Permit
from gateway.decision.grants import Grant
from gateway.disclosure import views
from gateway.disclosure.closing import ClosingStep, onward
from gateway.disclosure.minimize import Part, Plan, Release, Source, forward, minimize
from gateway.disclosure.shells import transfer_shells
from gateway.disclosure.versions import Changed, Written, is_hub_made, put_version
from gateway.identity import ShelfId, StatusView, ThreadId, shelf_party
from gateway.parties.model import MatrixRow, Policy
from gateway.shelves.copies import KEEP_READABLE, Copy, close_older, content, put_copy, reference_id
from gateway.shelves.shelf import Shelf, Shelves
from gateway.storage.sealing import DataKey, Keyring
from gateway.storage.writeset import WriteSet
from gateway.transfers.model import Seen, Transfer, sender_sees

__all__ = ["Changed", "Known", "ReleaseStep", "Written", "line_of", "onward", "row_view"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """The hub's copies about a person that a receiver's shelf has already."""

    patient: Copy | None = None
    consent: Copy | None = None


def line_of(policy: Policy, transfer: Transfer) -> views.Line:
    """The line that always answers for this service (R6)."""
    party = policy.parties[transfer.attempt.party]
    route = next((r for r in party.routes if r.service == transfer.service), party.routes[0])
    return views.Line(route.line_name, route.last_resort_line)


def row_view(policy: Policy, transfer: Transfer, row: MatrixRow) -> StatusView:
    """How much of the course this sender is shown: its own view, or the row's where that is narrower."""
    sender = policy.parties[shelf_party(transfer.sender_shelf)]
    return StatusView.MINIMAL if StatusView.MINIMAL in (sender.view_of(transfer.sender_shelf), row.status_view) else StatusView.FULL


class ReleaseStep:
    """Holds source and target while it renders; nothing it reads of one is kept for the other but a Release."""

    def __init__(self, shelves: Shelves, keyring: Keyring, policy: Callable[[], Policy]) -> None:
        self._shelves = shelves
        self._keyring = keyring
        self._policy = policy
        self.closing = ClosingStep(shelves, keyring, policy)

    async def known(self, thread: ThreadId, shelf: ShelfId) -> Known:
        """What the receiver has already of this person's thread."""
        reading = self._shelves.reading_shelf(shelf)
        patients = [p for p in await reading.in_thread(thread, "Patient") if not p.closed]
        consents = [c for c in await reading.in_thread(thread, "Consent") if c.resource()["meta"].get("tag") and not c.closed]
        return Known(patients[0] if patients else None, consents[0] if consents else None)

    async def held(self, shelf: ShelfId, type_: str, id_: str) -> Copy | None:
        """One copy as it lies on a shelf, for work that the hub keeps on that same shelf: nothing of it goes to another."""
        return await self._shelves.reading_shelf(shelf).read(type_, id_)

    def open(
        self,
        ws: WriteSet,
        changed: Changed,
        *,
        plan: Plan,
        source: Source,
        permit: Permit,
        transfer: Transfer,
        grants: Sequence[Grant],
        key: DataKey,
        hers: DataKey,
        known: Known,
        at: int,
    ) -> Release:
        """Put a new transfer on the receiver's shelf: the smallest Patient, ServiceRequest, Task and Consent that its task needs.

        Until a named human accepts, the copies can be read no longer than the consent they rest on lasts. `key` seals what is this
        transfer's alone, `hers` the Patient and the Consent, which another transfer may share: each can be closed without the other.
        """
        policy, attempt = self._policy(), transfer.attempt
        receiver = policy.addresses[attempt.address]
        sender = shelf_party(transfer.sender_shelf)
        release = minimize(source, permit, plan, thread=transfer.thread, shelf=attempt.shelf, needs=policy.services[transfer.service].needs)
        allowed = onward(policy, policy.parties[attempt.party], grants, at)
        resources = [
            views.receiver_request(release, transfer, receiver, sender),
            views.receiver_task(release.inputs, views.receiver_meta(release), transfer, receiver, sender, permit.ends),
            views.provenance_copy(transfer, sender),
        ]
        if known.patient is None:
            patient = views.patient_copy(release, attempt.patient)
            put_version(ws, changed, self._keyring, hers, patient, attempt.shelf, transfer.thread, 1, at, until=permit.ends)
        else:
            _keep_readable(ws, known.patient, permit.ends)
        for resource in resources:
            put_version(ws, changed, self._keyring, key, resource, attempt.shelf, transfer.thread, 1, at, until=permit.ends)
        consent = views.consent_copy(attempt.consent, attempt.patient, allowed, at)
        if known.consent is None:
            put_version(ws, changed, self._keyring, hers, consent, attempt.shelf, transfer.thread, 1, at, until=permit.ends)
        else:
            until = _longer(known.consent.readable_until, permit.ends)
            if not self._put_if_changed(ws, changed, hers, known.consent, consent, transfer.thread, at, until=until):
                _keep_readable(ws, known.consent, permit.ends)
        return release

    async def render(
        self,
        ws: WriteSet,
        changed: Changed,
        *,
        plan: Plan,
        transfer: Transfer,
        permit: Permit | None,
        at: int,
        edited: dict[tuple[str, str], Json] | None = None,
        own: DataKey | None = None,
        fresh: DataKey | None = None,
    ) -> Release | None:
        """Render both sides of a transfer again; write what differs. Returns the release if it brought the receiver content anew.

        `permit` is the decision taken now, None when it would deny: then nothing new of the sender's goes. `edited` holds the
        author's resources that this same write set changes. `own` is the receiver's own key, for shells; with a `fresh` key what
        the transfer brought so far can't be read again, and only what is permitted now is put there. A closed copy stays closed.
        """
        policy, attempt = self._policy(), transfer.attempt
        row = next(r for r in policy.rows if r.id == attempt.row)
        theirs, mine = self._shelves.reading_shelf(transfer.sender_shelf), self._shelves.reading_shelf(attempt.shelf)
        task = await theirs.read("Task", transfer.sender_task)
        if task is None:
            return None
        sender_key = await self._keyring.get(transfer.thread, transfer.sender_shelf)
        await self._render_sender(ws, changed, transfer, task, row, sender_key, at, edited or {})
        if attempt.shut:
            await self.closing.replace(ws, changed, transfer_shells(transfer), attempt.shelf, transfer.thread, own, at)
            return None
        release: Release | None = None
        if permit is not None:
            release = await (self.narrowed(plan, transfer, permit) if fresh else self.minimized(plan, transfer, permit, edited or {}))
        held_task, held_request = await mine.read("Task", attempt.task), await mine.read("ServiceRequest", attempt.request)
        if held_task is None or held_request is None:
            return None
        owner, sender = policy.addresses[attempt.address], shelf_party(transfer.sender_shelf)
        before = held_task.resource()
        inputs = release.inputs if release else before.get("input", ())
        meta = views.receiver_meta(release) if release else content(before).get("meta", {})
        ends = permit.ends if permit else None
        after = views.receiver_task(inputs, meta, transfer, owner, sender, ends)
        if not release and "restriction" in before:
            after["restriction"] = before["restriction"]
        asked, had = held_request.resource(), held_request.resource()
        if release is not None:
            asked = views.receiver_request(release, transfer, owner, sender)
        else:
            asked["status"] = views.request_status(transfer.stands)
        until = held_task.readable_until if attempt.accepted is None or row.life is not None else None
        if fresh is not None:
            provenance = await mine.read("Provenance", attempt.provenance)
            for held, now in ((held_task, after), (held_request, asked), *(((provenance, provenance.resource()),) if provenance else ())):
                close_older(ws, held)
                until = ends if attempt.accepted is None else None
                put_version(ws, changed, self._keyring, fresh, now, attempt.shelf, transfer.thread, held.version + 1, at, until=until)
            return None
        key = await self._keyring.get(transfer.thread, attempt.shelf, held_task.key)
        self._put_if_changed(ws, changed, key, held_task, after, transfer.thread, at, until=until)
        self._put_if_changed(ws, changed, key, held_request, asked, transfer.thread, at, until=until)
        patient = await mine.read("Patient", attempt.patient)
        if held_task.readable_until is not None and attempt.accepted is not None and row.life is None:
            for type_, id_ in (
                ("ServiceRequest", attempt.request),
                ("Patient", attempt.patient),
                ("Consent", attempt.consent),
                ("Provenance", attempt.provenance),
            ):
                ws.add(KEEP_READABLE, None, attempt.shelf, type_, id_, True)
        anew = release is not None and (list(release.inputs) != before.get("input", []) or asked.get("reasonCode") != had.get("reasonCode"))
        if release is not None and patient is not None and is_hub_made(patient):  # its owner has not changed it
            person = views.patient_with(release, _said(ws, patient))
            hers = await self._keyring.get(transfer.thread, attempt.shelf, patient.key)
            longer = _longer(patient.readable_until, until)
            anew |= self._put_if_changed(ws, changed, hers, patient, person, transfer.thread, at, until=longer)
        return release if anew else None

    async def _render_sender(
        self,
        ws: WriteSet,
        changed: Changed,
        transfer: Transfer,
        held: Copy,
        row: MatrixRow,
        key: DataKey,
        at: int,
        edited: dict[tuple[str, str], Json],
    ) -> None:
        if held.final:
            return
        policy = self._policy()
        view = row_view(policy, transfer, row)
        seen = sender_sees(transfer, view)
        authored = edited.get(("Task", held.id)) or held.resource()
        line = line_of(policy, transfer)
        full = view is StatusView.FULL
        if not full and seen.final and _business(held.resource()) == "offered":
            # by way of acknowledged, also when one act does both (DOMAIN 4c)
            step = views.sender_task(authored, transfer, Seen("acknowledged"), line, number=held.id, row=row, full=full)
            put_copy(
                ws,
                self._keyring,
                key,
                step,
                shelf=held.shelf,
                thread=transfer.thread,
                version=held.version + 1,
                at=to_minute(at),
                passing=True,
            )
            passed = 1
        else:
            passed = 0
        after = views.sender_task(authored, transfer, seen, line, number=held.id, row=row, full=full)
        wrote = self._put_if_changed(ws, changed, key, held, after, transfer.thread, at, final=seen.final, passed=passed)
        if wrote and views.shows_card(transfer, seen, full=full):
            shelf = self._shelves.reading_shelf(transfer.sender_shelf)
            card = views.card_id(transfer.id, transfer.sender_shelf)
            if await shelf.read("Communication", card) is None:
                patient = authored["for"]["reference"].rpartition("/")[2]
                made = views.contact_card(transfer, policy.addresses[transfer.attempt.address], patient, line, at)
                put_version(ws, changed, self._keyring, key, made, transfer.sender_shelf, transfer.thread, 1, at, final=True)

    async def minimized(self, plan: Plan, transfer: Transfer, permit: Permit, edited: Mapping[tuple[str, str], Json]) -> Release | None:
        """What the receiver may learn under a permit, of what the author has written now. None when the author has it no longer."""
        theirs = self._shelves.reading_shelf(transfer.sender_shelf)
        task = edited.get(("Task", transfer.sender_task)) or await _resource(theirs, "Task", transfer.sender_task)
        request = edited.get(("ServiceRequest", transfer.sender_request)) or await _resource(
            theirs, "ServiceRequest", transfer.sender_request
        )
        if task is None or request is None:
            return None
        id_ = reference_id(task["for"]) or ""
        patient = edited.get(("Patient", id_)) or await _resource(theirs, "Patient", id_)
        if patient is None:
            return None
        needs = self._policy().services[transfer.service].needs
        source = Source(patient, request, task)
        return minimize(source, permit, plan, thread=transfer.thread, shelf=transfer.attempt.shelf, needs=needs)

    async def narrowed(self, plan: Plan, transfer: Transfer, permit: Permit) -> Release | None:
        """What is left under a permit of what the receiver has: nothing that its author wrote since comes with it."""
        attempt = transfer.attempt
        mine = self._shelves.reading_shelf(attempt.shelf)
        held = [
            await _resource(mine, *of) for of in (("Patient", attempt.patient), ("ServiceRequest", attempt.request), ("Task", attempt.task))
        ]
        patient, request, task = held
        if patient is None or request is None or task is None:
            return None
        needs = self._policy().services[transfer.service].needs
        return minimize(Source(patient, request, task), permit, plan, thread=transfer.thread, shelf=attempt.shelf, needs=needs)

    def _put_if_changed(
        self,
        ws: WriteSet,
        changed: Changed,
        key: DataKey,
        held: Copy,
        after: Json,
        thread: ThreadId,
        at: int,
        *,
        final: bool = False,
        until: int | None = None,
        passed: int = 0,
    ) -> bool:
        if content(_said(ws, held)) == content(after):
            return False
        version = held.version + 1 + passed
        put_version(
            ws, changed, self._keyring, key, after, held.shelf, thread, version, at, final=final, until=until, replaces=held.version
        )
        return True

    async def parcel(
        self,
        permit: Permit | None,
        thread: ThreadId,
        shelf: ShelfId,
        parts: Sequence[tuple[str, str, int]],
        *,
        version: int,
        key: str,
        recall: bool = False,
    ) -> Release:
        """What an adapter sends: the named versions as they lie on the receiver's shelf, those still readable there."""
        reading = self._shelves.reading_shelf(shelf)
        bodies: list[Part] = []
        for type_, id_, written in parts:
            copy = await reading.read(type_, id_, written)
            if copy is not None and copy.version == written:
                bodies.append(Part(type_, id_, written, copy.body))
        return forward(permit, bodies, thread=thread, shelf=shelf, version=version, key=key, recall=recall)

    async def message(self, thread: ThreadId, shelf: ShelfId, id_: str) -> tuple[Copy, Json] | None:
        """A message to the person and her Patient as the sending party has it now; None when either is gone."""
        reading = self._shelves.reading_shelf(shelf)
        copy = await reading.read("Communication", id_)
        patients = [p for p in await reading.in_thread(thread, "Patient") if not p.closed]
        return (copy, patients[0].resource()) if copy is not None and patients else None


def _business(task: Json) -> str:
    return next((c["code"] for c in task.get("businessStatus", {}).get("coding", ())), "")


async def _resource(shelf: Shelf, type_: str, id_: str) -> Json | None:
    copy = await shelf.read(type_, id_)
    return None if copy is None else copy.resource()


def _said(ws: WriteSet, held: Copy) -> Json:
    """What a copy says once this write set is committed."""
    pending = ws.copies.get((held.shelf, held.type, held.id))
    return pending[1] if pending is not None else held.resource()


def _longer(one: int | None, other: int | None) -> int | None:
    """The later of two ends, None being no end."""
    return None if one is None or other is None else max(one, other)


def _keep_readable(ws: WriteSet, copy: Copy, until: int | None) -> None:
    """Let a copy that a new transfer shares be read as long as the longer of the two allows."""
    pending = ws.copies.get((copy.shelf, copy.type, copy.id))
    if pending is not None:
        *row, _, sealed = pending[0]
        ws.copies[copy.shelf, copy.type, copy.id] = ((*row, _longer(copy.readable_until, until), sealed), pending[1])
    elif copy.readable_until is not None:
        ws.add(KEEP_READABLE, _longer(copy.readable_until, until), copy.shelf, copy.type, copy.id, True)
