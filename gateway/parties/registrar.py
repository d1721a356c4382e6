"""What an operator does to registrations: add, replace keys, cut off, let in again. Used by the command line, beside a running hub.

Each act is checked whole against the configuration as it stands in the files now, then committed with its audit entry in one transaction;
a refusal is recorded too. Server processes follow within a second (`gateway.following`), and say so, so that an act can wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome, Chain
from gateway.clock import Clock, instant, millis
from gateway.identity import PartyId, ShelfId, shelf_party
from gateway.oauth.partner_keys import KeyProblem
from gateway.parties.errors import Mistakes
from gateway.parties.load import Loaded, load_files
from gateway.parties.registration import ClientKey, Registered, Registrations, Standing, overlay, public_members
from gateway.parties.registry import compile_registry
from gateway.parties.yaml_lines import Document, read
from gateway.settings import Settings
from gateway.storage.open import open_to_read
from gateway.storage.registrations import (
    COUNT_UP,
    END_KEY,
    PUT_KEY,
    PUT_REGISTRATION,
    PUT_STANDING,
    Epoch,
    WorkerRow,
    read_epochs,
    read_registrations,
    workers,
)
from gateway.storage.writer import Database, Writer
from gateway.storage.writeset import WriteSet

__all__ = ["Effect", "Refused", "Registrar", "described", "open_registrar", "read_keys"]

Json = dict[str, Any]
ALIVE_MS: Final = 15_000
"""A server process that has not given a sign of life for this long is not waited for."""

WAIT_SECONDS: Final = 5.0
_CODE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Refused(Exception):
    """Nothing was changed. The text says why, one reason a line."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Effect:
    """What became of an act: which server processes had taken it up after how long, and which had not."""

    seconds: float
    taken_up: tuple[str, ...]
    waiting: tuple[str, ...]
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class Registrar:
    """One operator's acts. `by`: a name for the audit log. `now`: real seconds."""

    settings: Settings
    loaded: Loaded
    database: Database
    writer: Writer
    registrations: Registrations
    by: str
    clock: Clock
    now: Callable[[], float]

    async def add(self, file: Path, *, replacing: bool = False) -> Effect:
        """Register the clients and addresses of a file (an absolute path) in the form of the registry. All or none. Raises Refused."""
        mistakes = Mistakes(file.parent)
        document, keys = self._document(file, mistakes)
        if not mistakes.found:
            compile_registry(document, self.loaded.members, self.loaded.book, mistakes)
            self._collisions(document, mistakes, replacing=replacing)
        if mistakes.found:
            await self._refuse("party-add", PartyId(""), [str(mistake) for mistake in sorted(set(mistakes.found))])
        at, ws, parties = self._at, WriteSet(), set()
        detail: list[tuple[str, str]] = []
        for number, entry in enumerate(document.data["clients"]):
            id_, party = entry["client-id"], entry["party"]
            bare = {name: value for name, value in entry.items() if name != "jwks"}
            ws.add(PUT_REGISTRATION, "client", id_, party, _json(bare), at)
            old = next((each.keys for each in self.registrations.clients if each.id == id_), ())
            new = {key["kid"]: key for key in keys.get(number, ())}
            for known in old:
                if known.kid not in new and known.counts(at):
                    ws.add(END_KEY, at, id_, known.kid)
            for kid, key in new.items():
                ws.add(PUT_KEY, id_, kid, _json(key), at, None)
            detail.append((f"client.{number}", id_))
            parties.add(party)
        for number, entry in enumerate(document.data["endpoints"]):
            party = shelf_party(ShelfId(entry["shelf"]))
            ws.add(PUT_REGISTRATION, "endpoint", entry["shelf"], party, _json(_absolute(entry, file)), at)
            detail.append((f"endpoint.{number}", entry["shelf"]))
            parties.add(party)
        for party in sorted(parties):
            ws.audit.append(self._entry("party-add", PartyId(party), *detail))
        return await self._commit(ws, Epoch.REGISTRATIONS, Epoch.CONFIGURATION)

    async def rotate_key(self, client: str, new: Sequence[Json], *, keep_seconds: int, drop_old: bool) -> Effect:
        """Add keys to a client; those it had count for `keep_seconds` more, or (`drop_old`) not from now on, and then neither does any
        access token it has. Without new keys only the newest of those it has is kept. Raises Refused."""
        known = next((each for each in self.registrations.clients if each.id == client), None)
        if known is None:
            inside = any(each == client for each in self.loaded.policy.clients)
            say = "it is registered in the registry file: change its keys there" if inside else "there is no such client"
            await self._refuse("key-rotate", PartyId(""), [say])
            raise AssertionError
        at, ws = self._at, WriteSet()
        living = [key for key in known.keys if key.counts(at)]
        reasons = ["its keys are at its own address: it rotates them there"] if "jwks-url" in known.entry else []
        if not new and not drop_old:
            reasons.append("give a new key, or drop the old ones")
        if {key["kid"] for key in new} & {key.kid for key in known.keys}:
            reasons.append("a key of this client has had that kid already: a new key has a new one")
        if len({key["kid"] for key in new}) != len(new):
            reasons.append("two keys have one kid")
        if reasons:
            await self._refuse("key-rotate", PartyId(known.party), reasons)
        old = living if new else sorted(living, key=lambda key: key.added)[:-1]
        ends = at if drop_old else at + keep_seconds * 1000
        for key in old:
            ws.add(END_KEY, min(ends, key.ends) if key.ends is not None else ends, client, key.kid)
        for jwk in new:
            ws.add(PUT_KEY, client, jwk["kid"], _json(jwk), at, None)
        if drop_old:
            before = self.registrations.standings.get(("client", client), Standing(False, 0))
            # half a second for the processes that have not heard of it yet; access tokens tell whole seconds
            ws.add(PUT_STANDING, "client", client, "disabled" if before.disabled else "enabled", ((at + 500) // 1000 + 1) * 1000, at)
        detail = (("client", client), ("added", str(len(new))), ("ended", str(len(old))), ("dropped", str(drop_old).lower()))
        ws.audit.append(self._entry("key-rotate", PartyId(known.party), *detail))
        return await self._commit(ws, Epoch.REGISTRATIONS)

    async def cut_off(self, party: str, client: str | None, *, disabled: bool) -> Effect:
        """Cut a party, or one client of it, off; or let it in again, with none of the access tokens from before. Raises Refused."""
        act = "party-disable" if disabled else "party-enable"
        policy = overlay(self.loaded, replace(self.registrations, standings={}), self._at).policy
        if PartyId(party) not in policy.parties:
            await self._refuse(act, PartyId(""), ["there is no such party"])
        if client is not None and all(each.id != client or each.party != party for each in policy.clients.values()):
            await self._refuse(act, PartyId(party), ["this party has no such client"])
        at, ws = self._at, WriteSet()
        kind, id_ = ("party", party) if client is None else ("client", client)
        before = self.registrations.standings.get((kind, id_), Standing(False, 0))
        ws.add(PUT_STANDING, kind, id_, "disabled" if disabled else "enabled", before.tokens_from if disabled else at, at)
        ws.audit.append(self._entry(act, PartyId(party), *((("client", client),) if client else ())))
        return await self._commit(ws, Epoch.REGISTRATIONS)

    async def reload(self) -> Effect:
        """Let every server process read the files anew. They have just been found valid here."""
        ws = WriteSet()
        ws.audit.append(self._entry("configuration-reload", PartyId("")))
        return await self._commit(ws, Epoch.CONFIGURATION)

    @property
    def _at(self) -> int:
        return int(self.now() * 1000)

    def _document(self, file: Path, mistakes: Mistakes) -> tuple[Document, Mapping[int, list[Json]]]:
        """The file in the form of a registry, and the usable keys of each client in it."""
        document = read(file, mistakes)
        if not isinstance(document.data, dict):
            mistakes.add(document.file, 1, "must be object")
            return document, {}
        document.data.setdefault("clients", [])
        document.data.setdefault("endpoints", [])
        keys: dict[int, list[Json]] = {}
        clients = document.data["clients"]
        for number, client in enumerate(clients if isinstance(clients, list) else ()):
            jwks = client.get("jwks") if isinstance(client, dict) else None
            given = jwks.get("keys") if isinstance(jwks, dict) else None
            if not isinstance(given, list):
                continue
            keys[number] = []
            for index, jwk in enumerate(given):
                found = public_members(jwk)
                if isinstance(found, KeyProblem):
                    mistakes.add(
                        document.file, document.line(("clients", number, "jwks", "keys", index)), f"this key can't be used: {found}"
                    )
                else:
                    keys[number].append(found)
            client["jwks"] = {"keys": keys[number]}
        if not mistakes.found:
            self.loaded.check_registry(document, mistakes)
        return document, keys

    def _collisions(self, document: Document, mistakes: Mistakes, *, replacing: bool) -> None:
        policy = self.loaded.policy
        mine = {("client", each.id) for each in self.registrations.clients} | {
            ("endpoint", each.id) for each in self.registrations.endpoints
        }
        for kind, name, taken in (("client", "client-id", policy.clients), ("endpoint", "shelf", policy.endpoints)):
            for number, entry in enumerate(document.data[f"{kind}s"]):
                line = document.line((f"{kind}s", number, name))
                if entry[name] in taken:
                    mistakes.add(document.file, line, "is in the registry file already: change it there")
                elif (kind, entry[name]) in mine and not replacing:
                    mistakes.add(document.file, line, "is registered already: use --replace to change it")

    async def _refuse(self, act: str, party: PartyId, reasons: list[str]) -> None:
        entry = self._entry(act, party, ("reasons", str(len(reasons))))
        await self.writer.commit(WriteSet(audit=[replace(entry, outcome=AuditOutcome.DENY)]))
        raise Refused(*reasons)

    def _entry(self, act: str, party: PartyId, *detail: tuple[str, str]) -> AuditEntry:
        return AuditEntry(
            at=instant(millis(self.clock.now())),
            action=AuditAction.OPERATOR,
            outcome=AuditOutcome.PERMIT,
            actor_role="hub-operator",
            target_party=party or None,
            policy_version=self.loaded.policy.version,
            detail=(("act", act), ("by", _CODE.sub("-", self.by)[:64] or "unknown"), *detail),
        )

    async def _commit(self, ws: WriteSet, *epochs: Epoch) -> Effect:
        for epoch in epochs:
            ws.add(COUNT_UP, epoch.value)
        await self.writer.commit(ws)
        began = time.monotonic()
        there = await read_epochs(self.database)
        while True:
            alive = [row for row in await workers(self.database) if row.seen >= self._at - ALIVE_MS]
            late = [row for row in alive if not _has(row, there, epochs)]
            took = time.monotonic() - began
            if not late or took > WAIT_SECONDS:
                told = tuple(row.problem for row in alive if row.problem is not None and Epoch.CONFIGURATION in epochs)
                return Effect(took, tuple(row.id for row in alive if row not in late), tuple(row.id for row in late), told)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def open_registrar(settings: Settings, by: str, clock: Clock, now: Callable[[], float]) -> AsyncIterator[Registrar]:
    """Open beside a running hub. Raises ConfigurationError when the files are not valid, FileNotFoundError, WrongSchema, StorageError."""
    loaded = load_files(settings.config_root, registry=settings.registry, regions=settings.regions)
    database = await open_to_read(settings)
    try:
        writer = Writer(database, lambda: Chain(f"o-{secrets.token_hex(8)}"))
        await writer.start()
        try:
            yield Registrar(settings, loaded, database, writer, await read_registrations(database), by, clock, now)
        finally:
            await writer.stop()
    finally:
        await database.close()


def read_keys(file: Path) -> list[Json]:
    """The public keys of a JWK Set, or the one of a JWK. Raises Refused."""
    try:
        found = orjson.loads(file.read_bytes())
    except (OSError, ValueError):
        raise Refused("the key file can't be read as JSON") from None
    given = found.get("keys") if isinstance(found, dict) and "keys" in found else [found]
    keys = [public_members(jwk) for jwk in given] if isinstance(given, list) else [KeyProblem.NOT_A_KEY]
    reasons = [f"key {number}: {key}" for number, key in enumerate(keys, 1) if isinstance(key, KeyProblem)]
    if reasons or not keys:
        raise Refused(*(reasons or ["the key file holds no key"]))
    return [key for key in keys if not isinstance(key, KeyProblem)]


def _has(row: WorkerRow, there: Mapping[Epoch, int], epochs: Sequence[Epoch]) -> bool:
    taken = {Epoch.REGISTRATIONS: row.registrations, Epoch.CONFIGURATION: row.configuration}
    return all(taken[epoch] >= there[epoch] for epoch in epochs)


def _absolute(entry: Json, file: Path) -> Json:
    """Where the hub's own key for an address lies is said from the file that names it."""
    auth = entry.get("auth")
    if not isinstance(auth, dict) or "key-file" not in auth:
        return entry
    return {**entry, "auth": {**auth, "key-file": str(file.parent / auth["key-file"])}}


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def described(registrar: Registrar) -> list[Registered]:
    """Every client that may call, from the file and from the database, as registrations."""
    policy, at = registrar.loaded.policy, int(registrar.now() * 1000)
    stored = [replace(each, keys=tuple(key for key in each.keys if key.counts(at))) for each in registrar.registrations.clients]
    names = {each.id for each in stored}
    in_file = []
    for client in policy.clients.values():
        if client.id not in names:
            raw = client.jwks.get("keys", []) if client.jwks is not None else []
            keys = tuple(ClientKey(str(jwk["kid"]), jwk, 0) for jwk in raw) if isinstance(raw, list) else ()
            entry = {"unit": client.unit, "role": client.role, "scopes": sorted(client.scopes), "jwks-url": client.jwks_url, "file": True}
            in_file.append(Registered(client.id, client.party, {k: v for k, v in entry.items() if v is not None}, 0, keys))
    return sorted([*stored, *in_file], key=lambda each: (each.party, each.id))
