"""The question put to `decide`, for a transfer that is being opened or is under way. Pure."""

from __future__ import annotations

from typing import Any, Final

from gateway import vocabulary as v
from gateway.audit.explanation import Explanation
from gateway.decision.decide import Ask, Denial
from gateway.decision.explain import told
from gateway.decision.grants import Grant
from gateway.identity import shelf_party
from gateway.parties.model import Policy
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.transfers.model import REACHED, Transfer

__all__ = ["ask_for", "coding", "grounds_of", "needs_in", "refused"]

Json = dict[str, Any]
_UNPROCESSABLE: Final = frozenset({Refusal.MINIMUM_EXCEEDED, Refusal.CHARGES_NOT_LAID})


def ask_for(policy: Policy, transfer: Transfer, grants: list[Grant], present: frozenset[str], needs: frozenset[str], at: int) -> Ask:
    """The question of a transfer that is under way, asked again now."""
    address = policy.addresses[transfer.attempt.address]
    sender = policy.parties[shelf_party(transfer.sender_shelf)]
    unit = transfer.sender_shelf.partition("/")[2] or None
    basis = policy.bases.get(transfer.attempt.basis)
    return Ask(
        sender=sender,
        sender_unit=unit,
        receiver=policy.parties[address.party],
        receiver_unit=address.unit,
        receiver_role=address.role,
        service=policy.services[transfer.service],
        purposes=transfer.purposes,
        at=at,
        grants=tuple(grants),
        present=present,
        state=transfer.state.value,
        reached=REACHED[transfer.state],
        needs=needs,
        basis=None if basis is None or basis.needs_consent else basis.id,
        since=transfer.attempt.offered,
    )


def refused(refusal: Refusal, at: str, grounds: tuple[tuple[str, str], ...] = (), why: Explanation | None = None) -> Problem:
    """403 (422 when nothing sent may go, or the request says that it is too early), with the sentence that is the same for every person.

    `grounds` go to the audit entry of the refusal: the gate, what it found, whom the request named. `why` is kept beside it.
    """
    family = ProblemType.UNPROCESSABLE if refusal in _UNPROCESSABLE else ProblemType.FORBIDDEN
    return Problem(family, Finding(IssueCode.FORBIDDEN, told(refusal), at, refusal), grounds=grounds, why=why)


def grounds_of(ask: Ask, denial: Denial) -> tuple[tuple[str, str], ...]:
    """Why a decision denied, as codes for the audit log (R26): who asked whom for what, each gate and what it found."""
    steps = tuple((f"gate.{i}", f"{step.gate}:{step.note}{'|' + step.about if step.about else ''}") for i, step in enumerate(denial.trace))
    return (("target", ask.receiver.id), ("service", ask.service.id), ("gate", denial.gate.value), *steps)


def needs_in(task: Json) -> frozenset[str]:
    """The need codes in a Task's input."""
    found = (coding(item.get("valueCodeableConcept"), v.NEED) for item in task.get("input") or ())
    return frozenset(code for code in found if code is not None)


def coding(concept: Any, system: str) -> str | None:
    """The code that a CodeableConcept has in one system. Total: it is also asked which scope a write needs, before that is valid R4."""
    codings = concept.get("coding") if isinstance(concept, dict) else None
    for item in codings if isinstance(codings, list) else ():
        if isinstance(item, dict) and item.get("system") == system and isinstance(item.get("code"), str):
            code: str = item["code"]
            return code
    return None
