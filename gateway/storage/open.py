"""Opening the database that the settings name."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings import Settings
from gateway.storage.migrate import migrate_sqlite, revision_of
from gateway.storage.revisions import HUB
from gateway.storage.sealing import Keyring, KeyStore
from gateway.storage.writer import Database, StorageError

__all__ = ["Opened", "open_database", "open_to_read"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A database ready for use, and the keys to what it holds."""

    database: Database
    keyring: Keyring
    store: KeyStore


async def open_database(settings: Settings, secret: bytes, policy_epoch: int) -> Opened:
    """Open (SQLite: create or upgrade first) and note the policy in force. Raises AlreadyRunning, WrongSchema, StorageError."""
    path = settings.sqlite_path
    store: KeyStore
    database: Database
    if path is not None:
        from gateway.storage.sqlite import FileLock, SqliteDatabase, SqliteKeys, connect

        path.parent.mkdir(parents=True, exist_ok=True)
        keys_path = path.with_suffix(".keys.db")
        lock = FileLock(path)
        try:
            migrate_sqlite(path, keys_path)
            store = keys = SqliteKeys(keys_path)
            database = SqliteDatabase(path, keys, lock)
        except BaseException:
            lock.release()
            raise
        connection = connect(path)
        connection.execute(
            "INSERT INTO epochs VALUES ('policy', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (policy_epoch,)
        )
        connection.close()
    else:
        from gateway.storage.checks import check_postgres
        from gateway.storage.postgres import PostgresDatabase, PostgresKeys

        if settings.database_reader_url is None or settings.keys_url is None:
            raise StorageError("urls")
        await check_postgres(settings.database_url, settings.database_reader_url, settings.keys_url)
        pg_keys = await PostgresKeys.open(settings.keys_url)
        store = pg_keys
        database = await PostgresDatabase.open(settings.database_url, settings.database_reader_url, pg_keys)
        await database.set_epoch("policy", policy_epoch)
    return Opened(database, Keyring(secret, store), store)


async def open_to_read(settings: Settings) -> Database:
    """Open beside a running hub, for an export. Raises FileNotFoundError when there is no such SQLite file, WrongSchema."""
    path = settings.sqlite_path
    if path is not None:
        from gateway.storage.sqlite import SqliteDatabase, SqliteKeys

        if not path.exists():
            raise FileNotFoundError(2, "no database", str(path))
        HUB.require(revision_of(path))
        return SqliteDatabase(path, SqliteKeys(path.with_suffix(".keys.db")), None)
    from gateway.storage.checks import check_postgres
    from gateway.storage.postgres import PostgresDatabase, PostgresKeys

    if settings.database_reader_url is None or settings.keys_url is None:
        raise StorageError("urls")
    await check_postgres(settings.database_url, settings.database_reader_url, settings.keys_url)
    return await PostgresDatabase.open(settings.database_url, settings.database_reader_url, await PostgresKeys.open(settings.keys_url))
