"""Before a server uses a PostgreSQL database: is it the schema, and are these the rights and routines, that this version expects?"""

from __future__ import annotations

from typing import Final

import asyncpg

from gateway.storage.connections import Connection, connect
from gateway.storage.revisions import HUB, KEYS, WrongSchema
from gateway.storage.roles import main_digest

__all__ = ["check_postgres"]

_NOT_THERE: Final = (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError)


async def check_postgres(writer_url: str, reader_url: str, keys_url: str) -> None:
    """Raises WrongSchema unless `gateway migrate` of this version was run on both databases, for these roles. Raises LOST."""
    keys = await connect(keys_url, "gateway-check")
    try:
        KEYS.require(await _told(keys, "SELECT version_num FROM alembic_version"))
    finally:
        await keys.close()
    reader = await connect(reader_url, "gateway-check")
    try:
        reading = await _told(reader, "SELECT current_user::text")
    finally:
        await reader.close()
    writer = await connect(writer_url, "gateway-check")
    try:
        HUB.require(await _told(writer, "SELECT version_num FROM alembic_version"))
        writing = await _told(writer, "SELECT current_user::text")
        found = await _told(writer, "SELECT digest FROM installed WHERE name = 'access'")
    finally:
        await writer.close()
    if reading is None or writing is None or found != main_digest(reading, writing):
        raise WrongSchema(
            "What the two roles may do in the hub's database, or the routines there, are not this version's: run `gateway migrate` with"
            " this version and these roles."
        )


async def _told(db: Connection, query: str) -> str | None:
    try:
        told: str | None = await db.fetchval(query)
    except _NOT_THERE:
        return None
    return told
