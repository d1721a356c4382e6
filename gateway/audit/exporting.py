"""Reading the audit log out of the database for `gateway audit export`. The hub need not be stopped."""

from __future__ import annotations

from pathlib import Path

from gateway.audit.checkpoint import Signer
from gateway.audit.export import ExportHeader, write_export
from gateway.audit.verify import verify_export
from gateway.settings import Settings
from gateway.storage.audit_store import StoredAudit
from gateway.storage.open import open_to_read

__all__ = ["export_log"]


async def export_log(settings: Settings, file: Path) -> int:
    """Write the export to `file`. Returns the number of entries. Checkpoints are read before the entries they cover."""
    signer = Signer.from_pem(settings.audit_origin, settings.audit_key.read_bytes())
    database = await open_to_read(settings)
    try:
        store = StoredAudit(database, None)
        notes = await store.notes()
        with file.open("wb") as sink:
            await write_export(sink, ExportHeader(settings.audit_origin, (signer.verifier,)), notes, store.entries())
    finally:
        await database.close()
    with file.open("rb") as source:
        return verify_export(iter(source)).entries
