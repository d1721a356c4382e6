"""What the two application roles may do on PostgreSQL: the second wall for reads.

The reading role sees the rows of one shelf, the one in `app.shelf` for this transaction. The writing role may insert and close
copies and reads no body. Neither owns a table; the audit log can't be changed or cut by either. `gateway migrate` runs these statements
each time, and leaves their digest in the database: a server whose own statements differ does not start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from gateway.storage import tables
from gateway.storage.reads import ROUTINES

__all__ = ["keys_grants", "main_digest", "main_grants"]

_ROLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_REMOVABLE: Final = frozenset({"assertions", "requests", "registrations", "revoked_tokens", "workers"})
_APPEND_ONLY: Final = frozenset({"audit_entries", "audit_leaves", "audit_writers", "audit_checkpoints", "decisions"})
_OWNERS: Final = frozenset({"installed"})


def main_grants(reader: str, writer: str) -> Iterator[str]:
    """The statements for the main database, safe to repeat. Role names come from settings and must be plain."""
    for role in (reader, writer):
        if _ROLE.fullmatch(role) is None:
            raise ValueError("a role name is lower-case letters, digits and _")
    visible = ", ".join(f'"{c.name}"' for c in tables.copies.columns if c.name != "sealed")
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, {reader}, {writer}"
    yield "ALTER TABLE copies ENABLE ROW LEVEL SECURITY"
    yield "DROP POLICY IF EXISTS one_shelf ON copies"
    yield f"CREATE POLICY one_shelf ON copies FOR SELECT TO {reader} USING (shelf = current_setting('app.shelf', true))"
    yield "DROP POLICY IF EXISTS writing ON copies"
    yield f"CREATE POLICY writing ON copies TO {writer} USING (true) WITH CHECK (true)"
    yield f"GRANT SELECT ON copies TO {reader}"
    for read in ROUTINES:
        yield f"DROP FUNCTION IF EXISTS {read.routine}"
        yield read.shelf_routine()
        yield f"REVOKE ALL ON FUNCTION {read.routine} FROM PUBLIC"
        yield f"GRANT EXECUTE ON FUNCTION {read.routine} TO {reader}"
    yield f"GRANT SELECT ({visible}), INSERT, UPDATE (current, final, readable_until) ON copies TO {writer}"
    for table in tables.metadata.sorted_tables:
        if table.name == "copies" or table.name in _OWNERS:
            continue
        changing = "" if table.name in _APPEND_ONLY else ", UPDATE"
        removing = ", DELETE" if table.name in _REMOVABLE else ""
        yield f"GRANT SELECT, INSERT{changing}{removing} ON {table.name} TO {writer}"
    yield f"GRANT SELECT ON alembic_version, {', '.join(sorted(_OWNERS))} TO {writer}"


def main_digest(reader: str, writer: str) -> str:
    """What stands for those statements, routines and policies among them: kept in the database that they were run on."""
    return hashlib.sha256("\n".join(main_grants(reader, writer)).encode()).hexdigest()


def keys_grants(writer: str) -> Iterator[str]:
    """The statements for the key store: keys can be destroyed, tombstones can't."""
    if _ROLE.fullmatch(writer) is None:
        raise ValueError("a role name is lower-case letters, digits and _")
    yield "REVOKE ALL ON keys, tombstones FROM PUBLIC"
    yield f"GRANT SELECT, INSERT, DELETE ON keys TO {writer}"
    yield f"GRANT SELECT, INSERT ON tombstones TO {writer}"
    yield f"GRANT SELECT ON alembic_version TO {writer}"
