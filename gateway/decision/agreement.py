"""The first gate: are these two parties joined by an agreement, now, for these regions?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.decision.explain import Note
from gateway.identity import PartyId
from gateway.parties.model import Agreement, Party
from gateway.problems import Refusal

__all__ = ["AgreementIndex", "NotJoined", "find_agreement", "index_agreements"]

AgreementIndex = Mapping[tuple[PartyId, PartyId], tuple[Agreement, ...]]


@dataclass(frozen=True, slots=True)
class NotJoined:
    """Why no agreement covers the pair."""

    refusal: Refusal
    note: Note


def index_agreements(agreements: Iterable[Agreement]) -> AgreementIndex:
    """Agreements by ordered pair of parties, in the order of the configuration."""
    found: dict[tuple[PartyId, PartyId], tuple[Agreement, ...]] = {}
    for agreement in agreements:
        for sender in agreement.parties:
            for receiver in agreement.parties:
                found[(sender, receiver)] = (*found.get((sender, receiver), ()), agreement)
    return found


def find_agreement(index: AgreementIndex, sender: Party, receiver: Party, at: int) -> Agreement | NotJoined:
    """The agreement under which `sender` may disclose to `receiver`. Its start is included, its end is not.

    An agreement that joins the parties but not their regions is `not-your-region`; everything else is `outside-agreement`.
    """
    note = Note.NO_AGREEMENT
    for agreement in index.get((sender.id, receiver.id), ()):
        if not (agreement.starts <= at and (agreement.ends is None or at < agreement.ends)):
            note = Note.AGREEMENT_NOT_IN_FORCE if note is Note.NO_AGREEMENT else note
        elif sender.region in agreement.regions and receiver.region in agreement.regions:
            return agreement
        else:
            note = Note.REGION_NOT_COVERED
    return NotJoined(Refusal.NOT_YOUR_REGION if note is Note.REGION_NOT_COVERED else Refusal.OUTSIDE_AGREEMENT, note)
