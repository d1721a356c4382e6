"""Audit entries of what crosses from one shelf to another."""

from __future__ import annotations

from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.decision.decide import Permit
from gateway.disclosure.minimize import Release
from gateway.transfers.model import Transfer
from gateway.transfers.work import Work

__all__ = ["released"]


def released(work: Work, transfer: Transfer, permit: Permit, release: Release) -> AuditEntry:
    """Content put on the receiver's shelf: on what ground, under which consents, which classes (R26); never the content."""
    caller = work.caller
    return AuditEntry(
        at=work.time,
        action=AuditAction.RELEASE,
        outcome=AuditOutcome.PERMIT,
        actor_party=caller.party if caller else None,
        actor_shelf=caller.shelf if caller else None,
        actor_role=caller.role if caller else None,
        client_id=caller.client_id if caller else None,
        thread=transfer.thread,
        transfer=transfer.id,
        attempt=str(transfer.attempt.number),
        target_party=transfer.attempt.party,
        target_shelf=transfer.attempt.shelf,
        basis=permit.basis.id,
        consents=permit.grants,
        agreement=permit.agreement.id,
        policy_version=work.policy.version,
        classes=release.classes,
        correlation_id=work.correlation,
        detail=(("row", permit.row.id), ("service", transfer.service)),
    )
