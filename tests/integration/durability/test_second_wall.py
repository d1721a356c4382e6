"""PostgreSQL's own wall behind the hub's: what its two roles can't do even if the hub's code asked them to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.clock import millis
from gateway.settings import Settings
from gateway.storage import tables
from gateway.testing.postgres import PostgresServer, Role
from tests.integration.conftest import postgres_settings
from tests.integration.world import NIGHT, night_offer, open_world, settings_for

AUDIT = ("audit_entries", "audit_leaves", "audit_writers", "audit_checkpoints")

REWRITING = (
    "UPDATE @table SET @column = @column",
    "DELETE FROM @table",
    "TRUNCATE @table",
    "DROP TABLE @table",
    "ALTER TABLE @table RENAME TO other",
    "INSERT INTO @table SELECT * FROM @table ON CONFLICT (@keys) DO UPDATE SET @column = EXCLUDED.@column",
    "CREATE RULE r AS ON INSERT TO @table DO INSTEAD NOTHING",
    "CREATE TRIGGER t BEFORE INSERT ON @table EXECUTE FUNCTION suppress_redundant_updates_trigger()",
)


@dataclass
class Wall:
    """The databases of a hub that has a transfer in them, and a session of each role that may connect."""

    reader: asyncpg.Connection
    writer: asyncpg.Connection
    keys: asyncpg.Connection
    admin: asyncpg.Connection


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, migrated: tuple[str, str]) -> list[str]:
    """The databases of a hub that has a transfer in them: the addresses of reader, writer, key store and superuser."""
    urls = postgres_settings(postgres_server, migrated)
    asyncio.run(_fill(settings_for(tmp_path_factory.mktemp("wall"), **urls)))
    name = urlsplit(urls["database_url"]).path[1:]
    return [urls["database_reader_url"], urls["database_url"], urls["keys_url"], postgres_server.url(database=name)]


async def _fill(settings: Settings) -> None:
    async with open_world(settings) as world:
        answer = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))
        assert answer.status_code == 200
        for _ in range(200):  # until the first checkpoint is signed, so that every table of the log has a row
            if await world.hub.audit.notes():
                return
            await asyncio.sleep(0.05)
    raise AssertionError("no checkpoint was signed")


@pytest.fixture
async def wall(filled: list[str]) -> AsyncIterator[Wall]:
    sessions = [await asyncpg.connect(url) for url in filled]
    yield Wall(*sessions)
    for session in sessions:
        await session.close()


async def test_the_reading_role_sees_the_rows_of_one_shelf_and_without_a_shelf_none(wall: Wall) -> None:
    shelves = [row[0] for row in await wall.admin.fetch("SELECT DISTINCT shelf FROM copies ORDER BY 1")]
    assert len(shelves) == 2
    query = "SELECT shelf FROM copies"

    assert await wall.reader.fetch(query) == []
    for shelf in shelves:
        async with wall.reader.transaction():
            await wall.reader.execute("SELECT set_config('app.shelf', $1, true)", shelf)
            assert {row[0] for row in await wall.reader.fetch(query)} == {shelf}
            assert await wall.reader.fetch("SELECT sealed FROM copies WHERE shelf <> $1", shelf) == []
        assert await wall.reader.fetch(query) == []  # the setting ended with its transaction
    for shelf in ("", "%", shelves[0].upper(), f"{shelves[0]}' OR true --", shelves[0] + " "):
        async with wall.reader.transaction():
            await wall.reader.execute("SELECT set_config('app.shelf', $1, true)", shelf)
            assert await wall.reader.fetch(query) == []
    with pytest.raises(asyncpg.PostgresError):
        await wall.reader.execute("SET row_security = off; SELECT shelf FROM copies")


@pytest.mark.parametrize("table", sorted(set(tables.metadata.tables) - {"copies"}))
async def test_the_reading_role_reads_shelves_and_nothing_else(wall: Wall, table: str) -> None:
    for statement in ("SELECT 1 FROM @table", "INSERT INTO @table DEFAULT VALUES", "DELETE FROM @table"):
        await refused(wall.reader, statement.replace("@table", table))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO copies DEFAULT VALUES",
        "UPDATE copies SET current = false",
        "UPDATE copies SET shelf = 'a/b'",
        "DELETE FROM copies",
        "TRUNCATE copies",
        "DROP POLICY one_shelf ON copies",
        "ALTER TABLE copies DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE mine (a int)",
        "SET ROLE gateway_owner",
        "SET ROLE gateway_writer",
        "SET SESSION AUTHORIZATION postgres",
    ],
)
async def test_the_reading_role_changes_nothing(wall: Wall, statement: str) -> None:
    await refused(wall.reader, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT sealed FROM copies",
        "SELECT * FROM copies",
        "SELECT copies FROM copies",
        "SELECT length(sealed) FROM copies",
        "SELECT 1 FROM copies WHERE sealed IS NOT NULL",
        "SELECT 1 FROM copies ORDER BY sealed",
        "UPDATE copies SET current = current RETURNING sealed",
        "UPDATE copies SET sealed = sealed",
        "UPDATE copies SET shelf = 'a/b'",
        "COPY copies TO STDOUT",
        "DELETE FROM copies",
        "TRUNCATE copies",
        "CREATE TABLE mine AS SELECT 1",
        "CREATE VIEW mine AS SELECT sealed FROM copies",
        "ALTER TABLE copies DISABLE ROW LEVEL SECURITY",
        "SET ROLE gateway_owner",
        "SET ROLE gateway_reader",
    ],
)
async def test_the_writing_role_never_reads_a_body(wall: Wall, statement: str) -> None:
    assert await wall.writer.fetchval("SELECT count(shelf) FROM copies") > 0
    await refused(wall.writer, statement)


@pytest.mark.parametrize("table", AUDIT)
@pytest.mark.parametrize("role", ["reader", "writer"])
async def test_neither_role_changes_or_cuts_the_audit_log(wall: Wall, role: str, table: str) -> None:
    assert await wall.admin.fetchval("SELECT count(*) FROM @table".replace("@table", table)) > 0
    column = next(iter(tables.metadata.tables[table].columns)).name
    keys = ", ".join(key.name for key in tables.metadata.tables[table].primary_key.columns)
    session: asyncpg.Connection = getattr(wall, role)
    for statement in REWRITING:
        await refused(session, statement.replace("@table", table).replace("@column", column).replace("@keys", keys))


async def test_neither_role_owns_anything_or_stands_above_the_wall(wall: Wall) -> None:
    roles = [Role.READER.value, Role.WRITER.value]
    found = await wall.admin.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = ANY($1)", roles
    )
    assert len(found) == 2 and not any(value for row in found for value in row[1:])
    owners = await wall.admin.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert [row[0] for row in owners] == [Role.OWNER.value]
    members = await wall.admin.fetch("SELECT 1 FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = ANY($1)", roles)
    assert members == []
    [walled] = await wall.admin.fetch("SELECT relrowsecurity FROM pg_class WHERE relname = 'copies'")
    assert walled[0]
    for session, role in ((wall.reader, Role.READER), (wall.writer, Role.WRITER)):
        assert await session.fetchval("SELECT current_user") == role.value


async def test_a_key_that_was_destroyed_leaves_a_tombstone_that_stays(wall: Wall) -> None:
    assert await wall.keys.fetchval("SELECT count(*) FROM keys") > 0
    for statement in ("UPDATE keys SET wrapped = ''", "DELETE FROM tombstones", "UPDATE tombstones SET destroyed = 0", "TRUNCATE keys"):
        await refused(wall.keys, statement)


async def refused(session: asyncpg.Connection, statement: str) -> None:
    """The statement is refused for want of a right, not for some other mistake in it."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await session.execute(statement)
