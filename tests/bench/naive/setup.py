"""What the naive build is made of: engines, sessions, keys, policy. One instance a process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from gateway.audit.entry import AuditAction, AuditEntry, Chain
from gateway.audit.explanation import Explanation
from gateway.disclosure.minimize import Plan, compile_plan
from gateway.oauth.devices import DeviceRule
from gateway.oauth.keys import SigningKeys
from gateway.oauth.metadata import OAuthUrls
from gateway.parties.directory import Directory
from gateway.parties.ingest import Gate
from gateway.parties.load import load_policy
from gateway.parties.model import Policy
from gateway.settings import Settings
from gateway.storage.migrate import migrate_sqlite
from tests.bench.naive.rows import AuditRow, AuditWriter, Decision

__all__ = ["Setup", "open_setup", "place"]

NONCE: Final = 12


def place(shelf: str, type_: str, id_: str, version: int) -> bytes:
    """What a sealed body is bound to: the same as in the product."""
    return f"copies|{shelf}|{type_}|{id_}|{version}".encode()


@dataclass(slots=True)
class Setup:
    """The parts that a request uses."""

    settings: Settings
    policy: Policy
    gate: Gate
    plan: Plan
    directory: Directory
    device: DeviceRule
    keys: SigningKeys
    issuer: str
    audience: str
    write: async_sessionmaker[AsyncSession]
    read: async_sessionmaker[AsyncSession]
    keystore: async_sessionmaker[AsyncSession]
    wrap: AESGCM
    index: bytes
    one_writer: bool
    chain: Chain = field(default_factory=lambda: Chain(f"n-{secrets.token_hex(8)}"))
    chain_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    write_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def writing(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """SQLite takes one writer at a time; waiting here is kinder than its busy loop."""
        return self.write_lock if self.one_writer else contextlib.nullcontext()

    @contextlib.asynccontextmanager
    async def shelf_session(self, shelf: str) -> AsyncIterator[AsyncSession]:
        """A reading session that row-level security holds to one shelf."""
        async with self.read() as session, session.begin():
            if not self.one_writer:
                await session.execute(text("SELECT set_config('app.shelf', :shelf, true)"), {"shelf": shelf})
            yield session

    async def commit(self, session: AsyncSession, *entries: AuditEntry, why: Explanation | None = None) -> None:
        """Add the audit entries to the chain and commit. The chain moves on only with what is committed, so its lock is held till then."""
        await session.flush()
        async with self.chain_lock:
            mark = self.chain.mark()
            try:
                for entry in entries:
                    sealed = self.chain.append(entry)
                    if sealed.seq == 1:
                        session.add(AuditWriter(writer=sealed.writer, started=entry.at))
                    row = AuditRow(
                        writer=sealed.writer,
                        seq=sealed.seq,
                        at=entry.at,
                        party=entry.actor_party,
                        prev=sealed.prev,
                        hash=sealed.hash,
                        body=sealed.body,
                    )
                    session.add(row)
                    if why is not None and entry.action is AuditAction.RELEASE:
                        told = {"correlation": entry.correlation_id, "party": why.party, "target": why.target}
                        place = {"writer": sealed.writer, "seq": sealed.seq, "number": 0, "at": entry.at}
                        session.add(Decision(**place, **told, denied=why.denied, text=why.text))
                await session.commit()
            except BaseException:
                self.chain.rewind(mark)
                raise

    def token(self, shelf: str, system: str, value: str) -> str:
        """The keyed hash of a searchable identifier."""
        return hmac.digest(self.index, f"{shelf}\x00{system}\x00{value}".encode(), "sha256").hex()[:32]

    def digest(self, path: str, body: bytes) -> bytes:
        """The keyed digest of a request."""
        return hmac.digest(self.index, hashlib.sha256(f"POST {path}\n".encode() + body).digest(), "sha256")


@contextlib.asynccontextmanager
async def open_setup(settings: Settings) -> AsyncIterator[Setup]:
    """Open, and close at the end."""
    policy = load_policy(settings.config_root, registry=settings.registry, regions=settings.regions)
    writer, reader, keystore = _engines(settings)
    secret = settings.secret_key.read_bytes()
    urls = OAuthUrls.under(settings.base_url)
    setup = Setup(
        settings=settings,
        policy=policy,
        gate=Gate.of(policy),
        plan=compile_plan(policy.classes),
        directory=Directory.of(policy),
        device=DeviceRule(lambda: policy.device_refusals),
        keys=SigningKeys.load(settings.signing_keys),
        issuer=urls.issuer,
        audience=f"{settings.base_url}/fhir",
        write=async_sessionmaker(writer, expire_on_commit=False),
        read=async_sessionmaker(reader, expire_on_commit=False),
        keystore=async_sessionmaker(keystore, expire_on_commit=False),
        wrap=AESGCM(hmac.digest(secret, b"wrap", "sha256")),
        index=hmac.digest(secret, b"index", "sha256"),
        one_writer=settings.sqlite_path is not None,
    )
    async with setup.write() as session:
        statement = "INSERT INTO epochs VALUES ('policy', :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        await session.execute(text(statement), {"value": policy.epoch})
        await session.commit()
    try:
        yield setup
    finally:
        for engine in {id(e): e for e in (writer, reader, keystore)}.values():
            await engine.dispose()


def _engines(settings: Settings) -> tuple[AsyncEngine, AsyncEngine, AsyncEngine]:
    path = settings.sqlite_path
    if path is None:
        urls = (settings.database_url, settings.database_reader_url or "", settings.keys_url or "")
        writer, reader, keystore = (
            create_async_engine("postgresql+asyncpg://" + url.partition("://")[2], pool_size=10, max_overflow=10) for url in urls
        )
        return writer, reader, keystore
    keys_path = path.with_suffix(".keys.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    migrate_sqlite(path, keys_path)
    main, keys = (create_async_engine(f"sqlite+aiosqlite:///{file}", pool_size=10, max_overflow=10) for file in (path, keys_path))
    for engine in (main, keys):
        event.listen(engine.sync_engine, "connect", _durable)
    return main, main, keys


def _durable(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
