"""Audit entries of what crosses from one shelf to another."""

from __future__ import annotations

from typing import Final

import orjson

from gateway.audit.entry import AuditAction
from gateway.decision.decide import Permit
from gateway.disclosure.minimize import Release
from gateway.storage import tables
from gateway.storage.statements import insert
from gateway.transfers.model import Transfer
from gateway.transfers.work import Work

__all__ = ["record_release"]


_INSERT_RELEASE: Final = insert(tables.releases)


def record_release(work: Work, transfer: Transfer, permit: Permit, release: Release) -> None:
    """Content put on the receiver's shelf: on what ground, under which consents, which classes (R26); never the content.

    Twice: in the audit log, and in the ledger from which a person's disclosures are told. One that rests on no consent (a report, an
    emergency) waits there for a named human.
    """
    _released(work, transfer, permit, release)
    known = {g.id: g for g in work.grants.get(transfer.thread, ())}
    consents = [[known[id_].consent_id, known[id_].consent_version, known[id_].scope] for id_ in permit.grants if id_ in known]
    attempt = transfer.attempt
    work.ws.add(
        _INSERT_RELEASE,
        *(work.parts.new_id(), transfer.thread, transfer.id, attempt.number, work.at, work.caller.party if work.caller else None),
        *(transfer.sender_shelf, attempt.shelf, transfer.service, permit.row.id, permit.basis.id, permit.agreement.id, permit.purpose),
        *(orjson.dumps(consents).decode(), " ".join(release.classes), work.policy.version, not permit.basis.needs_consent),
    )


def _released(work: Work, transfer: Transfer, permit: Permit, release: Release) -> None:
    work.record(
        AuditAction.RELEASE,
        thread=transfer.thread,
        transfer=transfer.id,
        attempt=str(transfer.attempt.number),
        target_party=transfer.attempt.party,
        target_shelf=transfer.attempt.shelf,
        basis=permit.basis.id,
        consents=permit.grants,
        agreement=permit.agreement.id,
        classes=release.classes,
        detail=(("row", permit.row.id), ("service", transfer.service)),
    )
