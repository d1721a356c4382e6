"""The second gate: is the legal basis known, switched on, and one that this kind of party may use?

Law is data: each basis has its authority, who may invoke it, whether counsel has confirmed it, and a switch. Nothing here reads
`verification`; a basis that counsel has not confirmed is one that configuration keeps off or turns on knowingly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.decision.explain import Note
from gateway.parties.model import Basis

__all__ = ["BasisOff", "usable_basis"]


@dataclass(frozen=True, slots=True)
class BasisOff:
    """Why a basis cannot carry this disclosure."""

    note: Note


def usable_basis(bases: Mapping[str, Basis], basis: str, sender_kind: str) -> Basis | BasisOff:
    """The basis, when a party of this kind may use it now. One that nobody is listed for is nobody's."""
    found = bases.get(basis)
    if found is None:
        return BasisOff(Note.BASIS_UNKNOWN)
    if not found.enabled:
        return BasisOff(Note.BASIS_OFF)
    if sender_kind not in found.invoked_by:
        return BasisOff(Note.BASIS_NOT_THEIRS)
    return found
