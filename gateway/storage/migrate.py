"""Bringing a database to the newest schema: `gateway migrate`, and at start on SQLite. Never run by the application's roles."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

__all__ = ["HEAD", "migrate_postgres", "migrate_sqlite"]

HEAD: Final = "0001"
"""The newest revision (a test holds it against the scripts)."""


def migrate_sqlite(database: Path, keys: Path) -> None:
    """Create or upgrade the two files. Costs nothing when they are current."""
    if _is_current(database) and keys.exists():
        return
    from sqlalchemy import create_engine

    from gateway.storage.tables import keys_metadata

    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        _upgrade(connection)
    engine.dispose()
    engine = create_engine(f"sqlite:///{keys}")
    keys_metadata.create_all(engine)
    engine.dispose()


async def migrate_postgres(owner_url: str, keys_owner_url: str, *, reader: str, writer: str) -> None:
    """Create or upgrade both databases as their owner, and give the two application roles exactly what they need."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    from gateway.storage.roles import keys_grants, main_grants
    from gateway.storage.tables import keys_metadata

    engine = create_async_engine(_asyncpg(owner_url))
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade)
        for statement in main_grants(reader, writer):
            await connection.execute(text(statement))
    await engine.dispose()
    engine = create_async_engine(_asyncpg(keys_owner_url))
    async with engine.begin() as connection:
        await connection.run_sync(keys_metadata.create_all)
        for statement in keys_grants(writer):
            await connection.execute(text(statement))
    await engine.dispose()


def _upgrade(connection: object) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_current(database: Path) -> bool:
    if not database.exists():
        return False
    connection = sqlite3.connect(database)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return False
    finally:
        connection.close()
    return row is not None and row[0] == HEAD


def _asyncpg(url: str) -> str:
    return "postgresql+asyncpg://" + url.partition("://")[2]
