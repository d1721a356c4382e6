"""The question that `decide` answers."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.decision.grants import Grant
from gateway.parties.model import Party, Service

__all__ = ["Ask", "Said"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a sender says in the request itself, on which some rows depend: her age band, and the yes-or-no classes answered yes."""

    age_band: str | None = None
    yes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be decided. `grants` are all grants of the thread, of any receiver and in any state.

    `purposes` are the token's; `present` the classes the sender supplied; `needs` the need codes among them.
    `receiver_unit` and `receiver_role` are those of the address the transfer is offered to.
    `basis` is a legal basis that a named person stated: without one only rows that rest on consent are tried.
    `reached` are states the transfer has been in, for one that has left the straight course.
    `said` is None when a transfer that was already offered is decided again: it was looked at then, and `minimize` holds on to it.
    `since` is when it was offered, for a row whose copies live a while and no longer.
    `recalled` are ids of grants whose withdrawal the sender was itself told of.
    """

    sender: Party
    sender_unit: str | None
    receiver: Party
    receiver_unit: str | None
    receiver_role: str | None
    service: Service
    purposes: frozenset[str]
    at: int
    grants: tuple[Grant, ...]
    present: frozenset[str]
    state: str
    basis: str | None = None
    needs: frozenset[str] = frozenset()
    reached: frozenset[str] = frozenset()
    recalled: frozenset[str] = frozenset()
    said: Said | None = None
    since: int | None = None
