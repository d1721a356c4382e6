"""No server runs on a database that is not at its own version's schema, rights and routines; it says what to do instead."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.settings import Settings
from gateway.storage.migrate import migrate_postgres
from gateway.storage.open import open_database, open_to_read
from gateway.storage.reads import READ
from gateway.storage.revisions import WrongSchema
from gateway.testing.postgres import PostgresServer, Role
from tests.integration.conftest import postgres_settings
from tests.integration.durability.hub import ROOT, HubFiles
from tests.integration.world import settings_for

Change = Callable[[str], None]
"""Runs a statement on the hub's database, as one who may do anything."""


@pytest.fixture
def names(postgres_server: PostgresServer, migrated: tuple[str, str], tmp_path: Path) -> tuple[Settings, str, str]:
    """A hub's settings on PostgreSQL, and the names of its two databases."""
    urls = postgres_settings(postgres_server, migrated)
    hub, keys = (urlsplit(urls[name]).path[1:] for name in ("database_url", "keys_url"))
    return settings_for(tmp_path, **urls), hub, keys


@pytest.fixture(params=["sqlite", "postgres"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Settings, Change]:
    """A hub's settings and a way to change its database behind its back."""
    if request.param == "postgres":
        settings, name, _ = request.getfixturevalue("names")
        server: PostgresServer = request.getfixturevalue("postgres_server")
        return settings, lambda statement: print(server.execute(statement, name))
    settings = settings_for(tmp_path)
    assert asyncio.run(starts(settings)) is None

    def change(statement: str) -> None:
        assert settings.sqlite_path is not None
        with sqlite3.connect(settings.sqlite_path) as connection:
            connection.execute(statement)
        connection.close()

    return settings, change


async def starts(settings: Settings) -> WrongSchema | None:
    """Open and close; what was wrong with the schema."""
    try:
        opened = await open_database(settings, bytes(32), 1)
    except WrongSchema as wrong:
        return wrong
    await opened.database.close()
    return None


def test_a_database_of_a_newer_version_is_not_opened(hub: tuple[Settings, Change]) -> None:
    settings, change = hub
    assert asyncio.run(starts(settings)) is None
    change("UPDATE alembic_version SET version_num = '9999'")

    assert "newer version" in str(asyncio.run(starts(settings)))
    with pytest.raises(WrongSchema, match="newer version"):
        asyncio.run(open_to_read(settings))


def test_the_key_store_is_checked_too(names: tuple[Settings, str, str], postgres_server: PostgresServer) -> None:
    settings, _, keys = names
    postgres_server.execute("UPDATE alembic_version SET version_num = '0000'", keys)
    assert "The schema of the key store" in str(asyncio.run(starts(settings)))
    postgres_server.execute("DELETE FROM alembic_version", keys)
    assert "The key store has no schema yet: run `gateway migrate`" in str(asyncio.run(starts(settings)))


def test_a_server_waits_for_the_owner_to_migrate(names: tuple[Settings, str, str], postgres_server: PostgresServer) -> None:
    settings, hub, _ = names
    postgres_server.execute("UPDATE alembic_version SET version_num = '0001'", hub)
    assert "is at an older schema: run `gateway migrate`" in str(asyncio.run(starts(settings)))
    postgres_server.execute("DROP TABLE alembic_version", hub)
    assert "has no schema yet: run `gateway migrate`" in str(asyncio.run(starts(settings)))


def test_routines_and_rights_of_another_version_stop_the_server_until_they_are_made_again(
    names: tuple[Settings, str, str], postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, hub, keys = names
    owners = [postgres_server.url(Role.OWNER, name) for name in (hub, keys)]
    assert asyncio.run(starts(settings)) is None
    changed = READ.shelf_routine().replace("#variable_conflict use_column", "#variable_conflict use_column\n-- changed")
    with monkeypatch.context() as next_version:
        next_version.setattr(READ, "shelf_routine", lambda: changed)
        assert "run `gateway migrate`" in str(asyncio.run(starts(settings)))
        asyncio.run(migrate_postgres(*owners, reader=Role.READER, writer=Role.WRITER))
        assert asyncio.run(starts(settings)) is None
    assert "run `gateway migrate`" in str(asyncio.run(starts(settings)))
    assert "-- changed" in postgres_server.execute("SELECT prosrc FROM pg_proc WHERE proname = 'shelf_read'", hub)


def test_rights_given_to_other_roles_stop_the_server(names: tuple[Settings, str, str], postgres_server: PostgresServer) -> None:
    settings, hub, keys = names
    owners = [postgres_server.url(Role.OWNER, name) for name in (hub, keys)]
    asyncio.run(migrate_postgres(*owners, reader=Role.WRITER, writer=Role.WRITER))
    assert "run `gateway migrate`" in str(asyncio.run(starts(settings)))


def test_the_command_says_so_and_leaves_the_database_as_it_is(tmp_path: Path) -> None:
    files = HubFiles.make(tmp_path / "hub", {})
    path = files.settings.sqlite_path
    assert path is not None
    command = [sys.executable, "-m", "gateway.cli"]

    def run(verb: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, verb], cwd=ROOT, env=files.environment, capture_output=True, text=True, timeout=30)

    assert run("migrate").returncode == 0
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for verb in ("serve", "migrate"):
        done = run(verb)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert "newer version" in done.stderr


async def test_nobody_migrates_under_a_running_server(tmp_path: Path) -> None:
    files = HubFiles.make(tmp_path / "hub", {})
    opened = await open_database(files.settings, bytes(32), 1)
    command = [sys.executable, "-m", "gateway.cli", "migrate"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=files.environment, stderr=subprocess.PIPE)
    _, told = await process.communicate()
    await opened.database.close()
    assert process.returncode == 1 and b"Another server process has this database" in told
