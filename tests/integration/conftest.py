"""Every test that takes `world` or `database` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from gateway.storage.migrate import migrate_postgres
from gateway.testing.postgres import PostgresServer, Role, create_roles
from tests.integration.checks import assert_views
from tests.integration.world import World, open_world, settings_for


@pytest.fixture(scope="session")
def migrated(postgres_server: PostgresServer) -> tuple[str, str]:
    """Template databases at the newest schema: one for the hub, one for its keys."""
    names = ("hub_template", "keys_template")
    if names[0] in postgres_server.execute("SELECT datname FROM pg_database").split():
        return names  # another folder's tests use this fixture too, and came first
    for name in names:
        postgres_server.create_database(name)
        create_roles(postgres_server, name)
    hub, keys = (postgres_server.url(Role.OWNER, name) for name in names)
    asyncio.run(migrate_postgres(hub, keys, reader=Role.READER, writer=Role.WRITER))
    return names


def postgres_settings(server: PostgresServer, templates: tuple[str, str]) -> dict[str, str]:
    """Settings for fresh databases of one test's own."""
    number = secrets.token_hex(6)
    hub, keys = f"hub_{number}", f"keys_{number}"
    for name, template in zip((hub, keys), templates, strict=True):
        server.create_database(name, owner=Role.OWNER, template=template)
        create_roles(server, name)
    return {
        "database_url": server.url(Role.WRITER, hub),
        "database_reader_url": server.url(Role.READER, hub),
        "keys_url": server.url(Role.WRITER, keys),
    }


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The settings that name an empty database; nothing for SQLite, whose file lies in the test's own folder."""
    if request.param == "sqlite":
        yield {}
    else:
        yield postgres_settings(request.getfixturevalue("postgres_server"), request.getfixturevalue("migrated"))


@pytest.fixture
async def world(tmp_path: Path, database: dict[str, str]) -> AsyncIterator[World]:
    """A hub with four parties."""
    async with open_world(settings_for(tmp_path, **database)) as opened:
        yield opened


@pytest.fixture
async def checked(world: World) -> World:
    """A hub whose views are compared with its facts after each write that a party makes."""
    world.after = assert_views
    return world


@pytest.fixture
def loud(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Everything that any library logs is printed, so that it can be searched. Afterwards nothing prints where this test was heard."""
    root, own = logging.getLogger(), logging.getLogger("httpx")
    before, level, quiet = list(root.handlers), root.level, own.level
    structlog.reset_defaults()
    logging.basicConfig(level=logging.DEBUG, force=True)
    own.setLevel(logging.WARNING)  # the test's own client
    yield capsys
    root.handlers[:] = before
    root.setLevel(level)
    own.setLevel(quiet)
