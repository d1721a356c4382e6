"""The one exit: the only code that holds two shelves. Values in, rows of a write set out.

It renders the views of a transfer and adds a new version only on shelves whose view changed. A view marked final is never
rendered again. New content needs a decision taken now; without one a view keeps the content it has and only its status moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.clock import to_minute
from gateway.decision.decide import Permit
from gateway.decision.grants import Grant
from gateway.disclosure import views
from gateway.disclosure.minimize import Part, Plan, Release, Source, forward, minimize
from gateway.identity import ShelfId, StatusView, ThreadId, shelf_party
from gateway.parties.model import MatrixRow, Party, Policy
from gateway.shelves.copies import KEEP_READABLE, Copy, content, put_copy
from gateway.shelves.shelf import Shelves
from gateway.storage.sealing import DataKey, KeyDestroyed, Keyring
from gateway.storage.writeset import WriteSet
from gateway.transfers.model import Transfer, seen_by_sender

__all__ = ["Changed", "Known", "ReleaseStep", "Written", "line_of", "onward", "row_view"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A version put on a shelf."""

    type: str
    id: str
    version: int


@dataclass(frozen=True, slots=True)
class Known:
    """The hub's copies about a person that a receiver's shelf has already."""

    patient: Copy | None = None
    consent: Copy | None = None


@dataclass(slots=True)
class Changed:
    """What one use case wrote where: what there is to tell each shelf's system."""

    shelves: dict[ShelfId, list[Written]] = field(default_factory=dict)

    def note(self, shelf: ShelfId, type_: str, id_: str, version: int) -> None:
        """Remember one new version."""
        self.shelves.setdefault(shelf, []).append(Written(type_, id_, version))


def line_of(policy: Policy, transfer: Transfer) -> views.Line:
    """The line that always answers for this service (R6)."""
    party = policy.parties[transfer.attempt.party]
    route = next((r for r in party.routes if r.service == transfer.service), party.routes[0])
    return views.Line(route.line_name, route.last_resort_line)


def row_view(policy: Policy, transfer: Transfer, row: MatrixRow) -> StatusView:
    """How much of the course this sender is shown: its own view, or the row's where that is narrower."""
    sender = policy.parties[shelf_party(transfer.sender_shelf)]
    return StatusView.MINIMAL if StatusView.MINIMAL in (sender.view_of(transfer.sender_shelf), row.status_view) else StatusView.FULL


def onward(policy: Policy, receiver: Party, grants: Sequence[Grant], at: int) -> list[Grant]:
    """The grants a receiver may know of: those that name it, and those that its own rows can use onward."""
    usable = {
        (row.receiver_kind, row.scope) for row in policy.rows if row.sender_kind == receiver.kind and row.region in ("", receiver.region)
    }
    if receiver.status_view is StatusView.MINIMAL:
        usable = set()  # a party with the minimal view learns of no other receiver
    return [
        grant
        for grant in grants
        if grant.state == "active"
        and (grant.ends is None or grant.ends > at)
        and (grant.receiver_party == receiver.id or (policy.parties[grant.receiver_party].kind, grant.scope) in usable)
    ]


class ReleaseStep:
    """Holds source and target while it renders; nothing it reads of one is kept for the other but a Release."""

    def __init__(self, shelves: Shelves, keyring: Keyring, policy: Callable[[], Policy]) -> None:
        self._shelves = shelves
        self._keyring = keyring
        self._policy = policy

    async def known(self, thread: ThreadId, shelf: ShelfId) -> Known:
        """What the receiver has already of this person's thread."""
        reading = self._shelves.reading_shelf(shelf)
        patients = await reading.in_thread(thread, "Patient")
        consents = [c for c in await reading.in_thread(thread, "Consent") if c.resource()["meta"].get("tag")]
        return Known(patients[0] if patients else None, consents[0] if consents else None)

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
        known: Known,
        at: int,
    ) -> Release:
        """Put a new transfer on the receiver's shelf: the smallest Patient, ServiceRequest, Task and Consent that its task needs.

        Until a named human accepts, the copies can be read no longer than the consent they rest on lasts.
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
            resources.insert(0, views.patient_copy(release, attempt.patient))
        else:
            _keep_readable(ws, known.patient, permit.ends)
        for resource in resources:
            self._put(ws, changed, key, resource, attempt.shelf, transfer.thread, 1, at, until=permit.ends)
        consent = views.consent_copy(attempt.consent, attempt.patient, allowed, at)
        if known.consent is None:
            self._put(ws, changed, key, consent, attempt.shelf, transfer.thread, 1, at, until=permit.ends)
        else:
            until = _longer(known.consent.readable_until, permit.ends)
            if not self._put_if_changed(ws, changed, key, known.consent, consent, transfer.thread, at, until=until):
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
    ) -> Release | None:
        """Render both sides of a transfer again; write what differs. Returns the release if it brought the receiver content anew.

        `permit` is the decision taken now, None when it would deny: then nothing new of the sender's goes. `edited` holds the
        author's resources that this same write set changes. Raises nothing; a closed copy stays closed.
        """
        policy, attempt = self._policy(), transfer.attempt
        row = next(r for r in policy.rows if r.id == attempt.row)
        theirs, mine = self._shelves.reading_shelf(transfer.sender_shelf), self._shelves.reading_shelf(attempt.shelf)
        authored = {
            type_: await theirs.read(type_, id_)
            for type_, id_ in (("Task", transfer.sender_task), ("ServiceRequest", transfer.sender_request))
        }
        task, request = authored["Task"], authored["ServiceRequest"]
        if task is None or request is None:
            return None
        sender_key = await self._keyring.get(transfer.thread, transfer.sender_shelf)
        await self._render_sender(ws, changed, transfer, task, row, sender_key, at, edited or {})
        release: Release | None = None
        if permit is not None:
            source = await self._source(transfer, task, request, edited or {})
            needs = policy.services[transfer.service].needs
            release = minimize(source, permit, plan, thread=transfer.thread, shelf=attempt.shelf, needs=needs) if source else None
        try:
            key = await self._keyring.get(transfer.thread, attempt.shelf)
        except KeyDestroyed:
            return None
        owner, sender = policy.addresses[attempt.address], shelf_party(transfer.sender_shelf)
        held_task, held_request = await mine.read("Task", attempt.task), await mine.read("ServiceRequest", attempt.request)
        if held_task is None or held_request is None:
            return None
        before = held_task.resource()
        inputs = release.inputs if release else before.get("input", ())
        meta = views.receiver_meta(release) if release else content(before).get("meta", {})
        ends = permit.ends if permit else None
        after = views.receiver_task(inputs, meta, transfer, owner, sender, ends)
        if not release and "restriction" in before:
            after["restriction"] = before["restriction"]
        until = held_task.readable_until if attempt.accepted is None else None
        self._put_if_changed(ws, changed, key, held_task, after, transfer.thread, at, until=until)
        asked, had = held_request.resource(), held_request.resource()
        if release is not None:
            asked = views.receiver_request(release, transfer, owner, sender)
        else:
            asked["status"] = views.request_status(transfer.state)
        self._put_if_changed(ws, changed, key, held_request, asked, transfer.thread, at, until=until)
        held = await mine.read("Patient", attempt.patient)
        if held_task.readable_until is not None and attempt.accepted is not None:
            for type_, id_ in (
                ("ServiceRequest", attempt.request),
                ("Patient", attempt.patient),
                ("Consent", attempt.consent),
                ("Provenance", attempt.provenance),
            ):
                ws.add(KEEP_READABLE, None, attempt.shelf, type_, id_, True)
        anew = release is not None and (list(release.inputs) != before.get("input", []) or asked.get("reasonCode") != had.get("reasonCode"))
        if release is not None and held is not None and held.resource().get("meta", {}).get("tag"):  # its owner has not changed it
            person = views.patient_with(release, _said(ws, held))
            anew |= self._put_if_changed(ws, changed, key, held, person, transfer.thread, at, until=_longer(held.readable_until, until))
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
        seen = seen_by_sender(transfer.state, view)
        authored = edited.get(("Task", held.id)) or held.resource()
        line = line_of(policy, transfer)
        full = view is StatusView.FULL
        after = views.sender_task(authored, transfer, seen, line, number=held.id, row=row, full=full)
        wrote = self._put_if_changed(ws, changed, key, held, after, transfer.thread, at, final=seen.final)
        if wrote and views.shows_card(transfer, seen, full=full):
            shelf = self._shelves.reading_shelf(transfer.sender_shelf)
            card = views.card_id(transfer.id, transfer.sender_shelf)
            if await shelf.read("Communication", card) is None:
                patient = authored["for"]["reference"].rpartition("/")[2]
                made = views.contact_card(transfer, policy.addresses[transfer.attempt.address], patient, line, at)
                self._put(ws, changed, key, made, transfer.sender_shelf, transfer.thread, 1, at, final=True)

    async def _source(self, transfer: Transfer, task: Copy, request: Copy, edited: dict[tuple[str, str], Json]) -> Source | None:
        authored = edited.get(("Task", task.id)) or task.resource()
        patient_id = authored["for"]["reference"].rpartition("/")[2]
        patient = edited.get(("Patient", patient_id))
        if patient is None:
            copy = await self._shelves.reading_shelf(transfer.sender_shelf).read("Patient", patient_id)
            if copy is None:
                return None
            patient = copy.resource()
        return Source(patient, edited.get(("ServiceRequest", request.id)) or request.resource(), authored)

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
    ) -> bool:
        if content(_said(ws, held)) == content(after):
            return False
        self._put(ws, changed, key, after, held.shelf, thread, held.version + 1, at, final=final, until=until)
        return True

    def _put(
        self,
        ws: WriteSet,
        changed: Changed,
        key: DataKey,
        resource: Json,
        shelf: ShelfId,
        thread: ThreadId,
        version: int,
        at: int,
        *,
        final: bool = False,
        until: int | None = None,
    ) -> None:
        put_copy(
            *(ws, self._keyring, key, resource),
            shelf=shelf,
            thread=thread,
            version=version,
            at=to_minute(at),
            final=final,
            readable_until=until,
        )
        changed.note(shelf, resource["resourceType"], resource["id"], version)

    async def parcel(
        self, permit: Permit | None, thread: ThreadId, shelf: ShelfId, parts: Sequence[tuple[str, str, int]], *, version: int, key: str
    ) -> Release:
        """What an adapter sends: the named versions as they lie on the receiver's shelf, those still readable there."""
        reading = self._shelves.reading_shelf(shelf)
        bodies: list[Part] = []
        for type_, id_, written in parts:
            copy = await reading.read(type_, id_, written)
            if copy is not None:
                bodies.append(Part(type_, id_, written, copy.body))
        return forward(permit, bodies, thread=thread, shelf=shelf, version=version, key=key)

    async def message(self, thread: ThreadId, shelf: ShelfId, id_: str) -> tuple[Copy, Json] | None:
        """A message to the person and her Patient as the sending party has it now; None when either is gone."""
        reading = self._shelves.reading_shelf(shelf)
        copy = await reading.read("Communication", id_)
        patients = await reading.in_thread(thread, "Patient")
        return (copy, patients[0].resource()) if copy is not None and patients else None


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
