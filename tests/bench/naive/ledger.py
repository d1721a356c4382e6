"""The row of the disclosure ledger: what was released, on what ground, under which consents."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

from gateway.decision.decide import Permit
from gateway.decision.grants import Grant
from gateway.disclosure.minimize import Release
from gateway.identity import Caller
from gateway.transfers.model import Transfer
from tests.bench.naive import rows

__all__ = ["release_row"]


def release_row(
    at: int, caller: Caller, transfer: Transfer, permit: Permit, release: Release, grants: Sequence[Grant], policy: str
) -> rows.Release:
    """One release."""
    known = {grant.id: grant for grant in grants}
    return rows.Release(
        id=secrets.token_hex(16),
        thread=transfer.thread,
        transfer=transfer.id,
        attempt=1,
        at=at,
        party=caller.party,
        source=transfer.sender_shelf,
        target=transfer.attempt.shelf,
        service=transfer.service,
        row=permit.row.id,
        basis=permit.basis.id,
        agreement=permit.agreement.id,
        purpose=permit.purpose,
        consents=json.dumps([[known[id_].consent_id, known[id_].consent_version, known[id_].scope] for id_ in permit.grants]),
        classes=" ".join(release.classes),
        policy=policy,
        waits=False,
    )
