"""The schema that the revisions make is the one that the code expects, from the first revision on, with rows in it."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.storage import tables
from gateway.storage.migrate import migrate_sqlite, upgrade
from gateway.storage.revisions import HUB, KEYS, Schema, WrongSchema
from gateway.testing.postgres import PostgresServer, Role, create_roles

On: TypeAlias = "Callable[[Callable[[Connection], Any]], Any]"
"""Runs a function on one connection to an empty database, committed."""

WHAT = ((HUB, tables.metadata), (KEYS, tables.keys_metadata))


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], On]]:
    """Makes empty databases."""
    numbers = itertools.count()
    if request.param == "sqlite":

        def make() -> On:
            url = f"sqlite:///{tmp_path / f'{next(numbers)}.db'}"

            def run(job: Callable[[Connection], Any]) -> Any:
                engine = create_engine(url)
                try:
                    with engine.begin() as connection:
                        return job(connection)
                finally:
                    engine.dispose()

            return run

        yield make
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    made: list[str] = []

    def make_postgres() -> On:
        name = f"schema_{secrets.token_hex(4)}"
        server.create_database(name)
        create_roles(server, name)
        made.append(name)
        url = "postgresql+asyncpg://" + server.url(Role.OWNER, name).partition("://")[2]

        def run(job: Callable[[Connection], Any]) -> Any:
            async def go() -> Any:
                engine = create_async_engine(url)
                try:
                    async with engine.begin() as connection:
                        return await connection.run_sync(job)
                finally:
                    await engine.dispose()

            return asyncio.run(go())

        return run

    yield make_postgres
    for name in made:
        server.drop_database(name)


def shape(connection: Connection) -> set[tuple[Any, ...]]:
    """Every column, key, index and wall of a database as its own catalog tells it, in no order."""
    if connection.dialect.name == "sqlite":
        columns = (
            'SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk'
            " FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
        )
        others = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type <> 'table'"
    else:
        columns = (
            "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text, column_default::text, ''"
            " FROM information_schema.columns WHERE table_schema = 'public'"
        )
        others = (
            "SELECT indexname::text, tablename::text, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            " UNION SELECT conname::text, conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
        )
    found = [*connection.execute(text(columns)), *connection.execute(text(others))]
    return {tuple(row) for row in found if not any(str(part).startswith("alembic_version") for part in row[:2])}


@pytest.mark.parametrize(("schema", "metadata"), WHAT, ids=["hub", "keys"])
def test_the_revisions_make_the_tables_that_the_code_expects(empty: Callable[[], On], schema: Schema, metadata: MetaData) -> None:
    migrated, expected = empty(), empty()
    migrated(lambda connection: upgrade(connection, schema))
    expected(metadata.create_all)

    by_revisions, by_code = migrated(shape), expected(shape)

    assert by_revisions - by_code == set(), "the revisions make what gateway/storage/tables.py does not know"
    assert by_code - by_revisions == set(), "gateway/storage/tables.py needs a revision in gateway/storage/migrations"


@pytest.mark.parametrize(("schema", "metadata"), WHAT, ids=["hub", "keys"])
def test_rows_of_the_first_revision_are_there_at_the_newest(empty: Callable[[], On], schema: Schema, metadata: MetaData) -> None:
    on = empty()
    on(lambda connection: upgrade(connection, schema, "0001"))
    first = MetaData()
    on(first.reflect)
    old = [table for table in first.sorted_tables if table.name != "alembic_version"]
    rows = {table.name: {column.name: filling(column.type) for column in table.columns} for table in old}

    def fill(connection: Connection) -> None:
        for table in old:
            connection.execute(insert(table).values(rows[table.name]))

    on(fill)
    on(lambda connection: upgrade(connection, schema))

    def found(connection: Connection) -> dict[str, list[dict[str, Any]]]:
        now = MetaData()
        now.reflect(connection)
        return {name: [dict(row._mapping) for row in connection.execute(select(now.tables[name]))] for name in rows}

    for name, kept in on(found).items():
        assert len(kept) == 1
        assert rows[name].items() <= kept[0].items(), name


def filling(kind: Any) -> object:
    """A value for a column."""
    return {str: "x", int: 1, bool: True, bytes: b"x"}[kind.python_type]


def test_each_revision_follows_the_one_before_and_is_named_after_it() -> None:
    for schema in (HUB, KEYS):
        config = Config()
        config.set_main_option("script_location", str(schema.folder.parent))
        config.set_main_option("version_locations", str(schema.folder))
        config.set_main_option("path_separator", "newline")
        scripts = ScriptDirectory.from_config(config)
        line = [script.revision for script in scripts.walk_revisions()][::-1]
        assert line == [f"{number:04}" for number in range(1, len(line) + 1)]
        assert tuple(line) == schema.known
        assert scripts.get_heads() == [schema.head]


def test_a_schema_from_a_newer_version_is_left_alone(empty: Callable[[], On]) -> None:
    on = empty()

    def from_the_future(connection: Connection) -> None:
        upgrade(connection, HUB)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    on(from_the_future)
    before = on(shape)
    with pytest.raises(WrongSchema, match="newer version"):
        on(lambda connection: upgrade(connection, HUB))
    assert on(shape) == before


def test_a_first_start_that_was_cut_short_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, keys = tmp_path / "hub.db", tmp_path / "hub.keys.db"
    whole = command.upgrade

    def cut_short(config: Config, revision: str) -> None:
        whole(config, revision)
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(command, "upgrade", cut_short)
        with pytest.raises(KeyboardInterrupt):
            migrate_sqlite(hub, keys)
    engine = create_engine(f"sqlite:///{hub}")
    with engine.begin() as connection:
        assert shape(connection) == set()
    engine.dispose()

    migrate_sqlite(hub, keys)

    assert keys.exists()
