"""Bringing a database to the newest schema: `gateway migrate`, and at start on SQLite. Never run by the application's roles."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.storage.revisions import HUB, KEYS, SCRIPTS, Schema

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["migrate_postgres", "migrate_sqlite", "revision_of", "upgrade"]

_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(7163001)"
"""Two `gateway migrate` at once: the second waits, and finds nothing to do."""


def migrate_sqlite(database: Path, keys: Path) -> None:
    """Create or upgrade the two files. Costs nothing when they are current. Raises WrongSchema when one is ahead of this version."""
    for path, schema in ((database, HUB), (keys, KEYS)):
        if not schema.is_current(revision_of(path)):
            _upgrade_file(path, schema)


async def migrate_postgres(owner_url: str, keys_owner_url: str, *, reader: str, writer: str) -> None:
    """Create or upgrade both databases as their owner, and give the two application roles exactly what they need.

    Raises WrongSchema when one is ahead of this version.
    """
    from gateway.storage.roles import keys_grants, main_digest, main_grants

    remember = f"INSERT INTO installed VALUES ('access', '{main_digest(reader, writer)}')"
    remember += " ON CONFLICT (name) DO UPDATE SET digest = excluded.digest"
    await _upgrade_database(owner_url, HUB, [*main_grants(reader, writer), remember])
    await _upgrade_database(keys_owner_url, KEYS, list(keys_grants(writer)))


def upgrade(connection: Connection, schema: Schema, to: str = "head") -> None:
    """Bring what `connection` leads to to a revision, in the connection's own transaction."""
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext

    schema.is_current(MigrationContext.configure(connection).get_current_revision())
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("version_locations", str(schema.folder))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _upgrade_file(path: Path, schema: Schema) -> None:
    from sqlalchemy import create_engine, event

    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def plain(driver: sqlite3.Connection, _: object) -> None:
        driver.isolation_level = None  # the driver begins no transaction of its own, least of all one without the tables' changes

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")

    with engine.begin() as connection:
        upgrade(connection, schema)
    engine.dispose()


async def _upgrade_database(url: str, schema: Schema, then: Sequence[str]) -> None:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine("postgresql+asyncpg://" + url.partition("://")[2])
    try:
        async with engine.begin() as connection:
            await connection.execute(text(_ONE_AT_A_TIME))
            await connection.run_sync(upgrade, schema)
            for statement in then:
                await connection.execute(text(statement))
    finally:
        await engine.dispose()


def revision_of(path: Path) -> str | None:
    """The revision of a SQLite file; None when it has none."""
    if not path.exists():
        return None
    connection = sqlite3.connect(path)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:  # no such table
        return None
    finally:
        connection.close()
    return None if row is None else str(row[0])
