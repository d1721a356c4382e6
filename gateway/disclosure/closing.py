"""Closing: what a withdrawal or a stop leaves on the shelves. It opens one shelf at a time, to close or narrow what lies there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.decision.grants import Grant
from gateway.disclosure import views
from gateway.disclosure.minimize import Release
from gateway.disclosure.shells import person_shells
from gateway.disclosure.versions import Changed, is_hub_made, put_version
from gateway.identity import ShelfId, StatusView, ThreadId
from gateway.parties.model import Party, Policy
from gateway.shelves.copies import close_older, content
from gateway.shelves.shelf import Shelves
from gateway.storage.sealing import DataKey, Keyring
from gateway.storage.writeset import WriteSet
from gateway.transfers.model import Transfer

__all__ = ["ClosingStep", "onward"]

Json = dict[str, Any]


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


class ClosingStep:
    """Closes and narrows what releases have put on shelves."""

    def __init__(self, shelves: Shelves, keyring: Keyring, policy: Callable[[], Policy]) -> None:
        self._shelves = shelves
        self._keyring = keyring
        self._policy = policy

    async def replace(
        self, ws: WriteSet, changed: Changed, shells: Sequence[Json], shelf: ShelfId, thread: ThreadId, own: DataKey | None, at: int
    ) -> None:
        """Put closed shells where copies are, whether or not these could still be read."""
        ever = self._shelves.reading_shelf(shelf, ever=True)
        for shell in shells:
            held = await ever.read(shell["resourceType"], shell["id"])
            if held is not None and held.key and not held.closed:  # without a name: the party's own, which nothing changes
                close_older(ws, held)
                key = own or await self._keyring.get(thread, shelf)
                put_version(ws, changed, self._keyring, key, shell, shelf, thread, held.version + 1, at)

    async def settle_person(
        self,
        ws: WriteSet,
        changed: Changed,
        *,
        receiver: Party,
        transfer: Transfer,
        releases: Sequence[tuple[Release, int | None]] | None,
        grants: Sequence[Grant],
        own: DataKey,
        fresh: Callable[[], DataKey],
        at: int,
    ) -> None:
        """Bring the Patient and the Consent that several transfers to one shelf share into line with what is left of these.

        `releases` is what each that still flows permits now, with its end; empty closes both, None leaves the Patient as it is: the
        receiver has met her, or writes about her itself. What is narrower than before takes the earlier versions with it.
        """
        attempt, thread = transfer.attempt, transfer.thread
        if releases is not None and not releases:
            await self.replace(ws, changed, person_shells(attempt.patient, attempt.consent), attempt.shelf, thread, own, at)
            return
        mine = self._shelves.reading_shelf(attempt.shelf)
        patient, consent = await mine.read("Patient", attempt.patient), await mine.read("Consent", attempt.consent)
        if consent is None or consent.closed:
            return
        allowed = views.consent_copy(consent.id, attempt.patient, onward(self._policy(), receiver, grants, at), at)
        agreed = allowed["provision"] != consent.resource().get("provision")
        person: Json | None = None
        if releases is not None and patient is not None and is_hub_made(patient):
            person = views.patient_copy(releases[0][0], patient.id)
            for release, _ in releases[1:]:
                person = views.patient_with(release, person)
            if content(person) == content(patient.resource()):
                person = None
        if releases is None or person is None:
            if agreed:
                key = await self._keyring.get(thread, attempt.shelf, consent.key)
                put_version(
                    *(ws, changed, self._keyring, key, allowed, attempt.shelf, thread, consent.version + 1, at),
                    until=consent.readable_until,
                )
            return
        key = fresh()
        ends = [end for _, end in releases]
        until = None if None in ends else max(end for end in ends if end is not None)
        for held, now in ((patient, person), (consent, allowed if agreed else consent.resource())):
            if held is not None:
                close_older(ws, held)
                put_version(ws, changed, self._keyring, key, now, attempt.shelf, thread, held.version + 1, at, until=until)

    async def retire(self, ws: WriteSet, shelf: ShelfId, consent: str, gone: frozenset[str] | None, at: int) -> None:
        """Show on its recorder's own Consent what was taken back: those classes, or (None) all of it.

        Only for a recorder that may know; what it wrote stays as an earlier version.
        """
        held = await self._shelves.reading_shelf(shelf).read("Consent", consent)
        if held is None or (held.shelf, held.type, held.id) in ws.copies:
            return
        after = held.resource()
        if gone is None:
            after["status"] = "inactive"
        else:
            for permit in after.get("provision", {}).get("provision", ()):
                kept = [coding for coding in permit.get("class", ()) if coding.get("code") not in gone]
                permit["class"] = kept or permit["class"]
        if content(after) != content(held.resource()):
            key = await self._keyring.get(held.thread, shelf, held.key)
            put_version(ws, Changed(), self._keyring, key, after, shelf, held.thread, held.version + 1, at)
