"""Who is registered and who is cut off, in the database: what the command line writes and every server process follows.

Three epochs count changes: `registrations` (clients, keys, addresses, standings), `configuration` (files to be read anew) and
`revocations` (tokens taken back). A change counts its epoch up in its own transaction, under that row's lock, so that numbers become
visible in the order in which they were given: whoever has seen an epoch has seen everything up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, select

from gateway.parties.registration import ClientKey, Registered, Registrations, Standing
from gateway.problems import Problem
from gateway.storage import tables
from gateway.storage.statements import Op, Query, delete_older, insert, update
from gateway.storage.writer import Database, StorageError, Writer
from gateway.storage.writeset import WriteSet

__all__ = [
    "COUNT_UP",
    "DELETE_REGISTRATION",
    "END_KEY",
    "PUT_KEY",
    "PUT_REGISTRATION",
    "PUT_STANDING",
    "Epoch",
    "StoredRevocations",
    "TallyBook",
    "UseRow",
    "WorkerRow",
    "client_uses",
    "forget_workers",
    "read_epochs",
    "read_registrations",
    "report_worker",
    "revoked_since",
    "set_policy_epoch",
    "workers",
]


class Epoch(StrEnum):
    """Rows of `epochs`."""

    POLICY = "policy"  # a hash: the policy under which write sets commit
    REGISTRATIONS = "registrations"
    CONFIGURATION = "configuration"
    REVOCATIONS = "revocations"


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A server process, as it last said."""

    id: str
    seen: int
    registrations: int
    configuration: int
    policy: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class UseRow:
    """How often a client authenticated with one key, and failed to. `kid` is "" where no key of its was named."""

    client: str
    kid: str
    used: int
    uses: int
    failed: int
    failures: int


def _put(table: Any, key: tuple[str, ...]) -> Op:
    """Insert a row, or replace the one with its key."""
    plain = insert(table)
    rest = ", ".join(f'"{c}" = excluded."{c}"' for c in plain.columns if c not in key)
    tail = f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {rest}"
    return Op(f"put {table.name}", 2, plain.columns, plain.sqlite + tail, plain.postgres + tail)


COUNT_UP: Final = Op(
    name="count up epochs",
    phase=0,
    columns=("name",),
    sqlite="INSERT INTO epochs VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = epochs.value + 1",
    postgres="INSERT INTO epochs SELECT DISTINCT v.name, 1 FROM unnest($1::text[]) AS v(name)"
    " ORDER BY 1 ON CONFLICT (name) DO UPDATE SET value = epochs.value + 1",
)
"""A row given is ``(epoch,)``. Several in one transaction may count as one: what matters is that the number is new."""

PUT_REGISTRATION: Final = _put(tables.registrations, ("kind", "id"))
PUT_KEY: Final = _put(tables.registration_keys, ("client", "kid"))
PUT_STANDING: Final = _put(tables.standings, ("kind", "id"))
END_KEY: Final = update(tables.registration_keys, where=("client", "kid"), set=("ends",))
DELETE_REGISTRATION: Final = Op(
    name="delete registrations",
    phase=1,
    columns=("kind", "id"),
    sqlite="DELETE FROM registrations WHERE kind = ? AND id = ?",
    postgres="DELETE FROM registrations r USING unnest($1::text[], $2::text[]) AS v(kind, id) WHERE r.kind = v.kind AND r.id = v.id",
)
_PUT_WORKER: Final = _put(tables.workers, ("id",))
_FORGET_WORKERS: Final = delete_older(tables.workers, "seen")
_FORGET_WORKER: Final = Op(
    name="delete a worker",
    phase=4,
    columns=("id",),
    sqlite="DELETE FROM workers WHERE id = ?",
    postgres="DELETE FROM workers w USING unnest($1::text[]) AS v(id) WHERE w.id = v.id",
)
_SET_POLICY: Final = Op(
    name="set the policy epoch",
    phase=1,
    columns=("value", "seen"),
    sqlite="INSERT INTO epochs SELECT 'policy', v.value FROM (SELECT ? AS value, ? AS seen) v WHERE v.seen ="
    " (SELECT coalesce(sum(value), 0) FROM epochs WHERE name IN ('registrations', 'configuration'))"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    postgres="INSERT INTO epochs SELECT 'policy', v.value FROM unnest($1::bigint[], $2::bigint[]) AS v(value, seen) WHERE v.seen ="
    " (SELECT coalesce(sum(e.value), 0) FROM epochs e WHERE e.name IN ('registrations', 'configuration')) LIMIT 1"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
)
_REVOKE: Final = Op(
    name="insert revoked_tokens",
    phase=2,
    columns=("token", "expires"),
    sqlite="INSERT INTO revoked_tokens SELECT ?, ?, value FROM epochs WHERE name = 'revocations' ON CONFLICT DO NOTHING",
    postgres="INSERT INTO revoked_tokens SELECT v.token, v.expires, e.value FROM unnest($1::text[], $2::bigint[]) AS v(token, expires),"
    " epochs e WHERE e.name = 'revocations' ON CONFLICT DO NOTHING",
)
_TALLY_TAIL: Final = (
    " ON CONFLICT (client, kid) DO UPDATE SET"
    " used = CASE WHEN excluded.used > client_uses.used THEN excluded.used ELSE client_uses.used END,"
    " uses = client_uses.uses + excluded.uses, failed = CASE WHEN excluded.failed > client_uses.failed THEN excluded.failed"
    " ELSE client_uses.failed END, failures = client_uses.failures + excluded.failures"
)
_plain_tally: Final = insert(tables.client_uses)
_TALLY: Final = Op("tally client_uses", 2, _plain_tally.columns, _plain_tally.sqlite + _TALLY_TAIL, _plain_tally.postgres + _TALLY_TAIL)

_r, _k, _s, _v = tables.registrations.c, tables.registration_keys.c, tables.standings.c, tables.revoked_tokens.c
_EPOCHS: Final = Query(select(tables.epochs.c.name, tables.epochs.c.value))
_REGISTRATIONS: Final = Query(select(_r.kind, _r.id, _r.party, _r.entry, _r.changed).order_by(_r.kind, _r.id))
_KEYS: Final = Query(select(_k.client, _k.kid, _k.jwk, _k.added, _k.ends).order_by(_k.client, _k.added, _k.kid))
_STANDINGS: Final = Query(select(_s.kind, _s.id, _s.state, _s.tokens_from, _s.changed).order_by(_s.kind, _s.id))
_REVOKED: Final = Query(select(_v.token, _v.expires).where(_v.number > bindparam("number", type_=_v.number.type)))
_USES: Final = Query(select(*tables.client_uses.columns))
_WORKERS: Final = Query(select(*tables.workers.columns).order_by(tables.workers.c.id))


async def read_epochs(database: Database) -> dict[Epoch, int]:
    """All of them; one that was never counted is 0. Raises StorageError."""
    found: dict[str, int] = dict(await database.facts(_EPOCHS, {}))
    return {epoch: int(found.get(epoch.value, 0)) for epoch in Epoch}


async def read_registrations(database: Database) -> Registrations:
    """Everything registered, and who is cut off. Raises StorageError."""
    rows = await database.facts(_REGISTRATIONS, {})
    keys: dict[str, list[ClientKey]] = {}
    for client, kid, jwk, added, ends in await database.facts(_KEYS, {}):
        keys.setdefault(client, []).append(ClientKey(kid, orjson.loads(jwk), added, ends))
    standings = {
        (kind, id_): Standing(state == "disabled", since, at) for kind, id_, state, since, at in await database.facts(_STANDINGS, {})
    }
    made = {
        kind: tuple(
            Registered(id_, party, orjson.loads(entry), changed, tuple(keys.get(id_, ())))
            for k, id_, party, entry, changed in rows
            if k == kind
        )
        for kind in ("client", "endpoint")
    }
    return Registrations(made["client"], made["endpoint"], standings)


async def set_policy_epoch(writer: Writer, policy_epoch: int, seen: int) -> None:
    """Put a policy in force for commits, if `registrations` and `configuration` still add up to what it was made from."""
    ws = WriteSet(puts_policy=True)
    ws.add(_SET_POLICY, policy_epoch, seen)
    await writer.commit(ws)


async def report_worker(writer: Writer, row: WorkerRow) -> None:
    """Say what this process has taken up."""
    ws = WriteSet()
    ws.add(_PUT_WORKER, row.id, row.seen, row.registrations, row.configuration, row.policy, row.problem)
    await writer.commit(ws)


async def forget_workers(writer: Writer, own: str, before: int) -> None:
    """Take this process off the list, and those not seen since `before`."""
    ws = WriteSet()
    ws.add(_FORGET_WORKER, own)
    ws.add(_FORGET_WORKERS, before)
    await writer.commit(ws)


async def workers(database: Database) -> list[WorkerRow]:
    """The server processes that have not said good-bye."""
    return [WorkerRow(*row) for row in await database.facts(_WORKERS, {})]


async def client_uses(database: Database) -> list[UseRow]:
    """How clients have authenticated."""
    return [UseRow(*row) for row in await database.facts(_USES, {})]


async def revoked_since(database: Database, number: int) -> list[tuple[str, int]]:
    """(token id, expiry) of the tokens taken back after that epoch."""
    return [(token, expires) for token, expires in await database.facts(_REVOKED, {"number": number})]


class StoredRevocations:
    """The durable half of `gateway.oauth.revocation.RevocationStore`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def revoke(self, token_id: str, expires: int) -> None:
        """Write one down (`expires`: milliseconds). Raises Problem(UNAVAILABLE)."""
        ws = WriteSet()
        ws.add(COUNT_UP, Epoch.REVOCATIONS.value)
        ws.add(_REVOKE, token_id, expires)
        await self._writer.commit(ws)


class TallyBook:
    """Counts how clients authenticate, in memory, and writes the sums down now and then. A crash loses the sums of a few seconds.

    Holds a line for each registered client and key at most: names that nobody registered are not counted here.
    """

    def __init__(self, writer: Writer, now: Callable[[], float]) -> None:
        """`now`: real seconds."""
        self._writer = writer
        self._now = now
        self._lines: dict[tuple[str, str], list[int]] = {}

    def used(self, client: str, kid: str) -> None:
        """A client was authenticated with this key."""
        line = self._lines.setdefault((client, kid), [0, 0, 0, 0])
        line[0], line[1] = int(self._now() * 1000), line[1] + 1

    def failed(self, client: str, kid: str) -> None:
        """Somebody named this client, and a key of its or "", and was not authenticated."""
        line = self._lines.setdefault((client, kid), [0, 0, 0, 0])
        line[2], line[3] = int(self._now() * 1000), line[3] + 1

    async def write(self) -> None:
        """Add the sums to what is stored. What can't be written now is kept for the next time."""
        lines, self._lines = self._lines, {}
        if not lines:
            return
        ws = WriteSet()
        for (client, kid), line in lines.items():
            ws.add(_TALLY, client, kid, *line)
        try:
            await self._writer.commit(ws)
        except (Problem, StorageError):
            for name, (used, uses, failed, failures) in lines.items():
                now = self._lines.setdefault(name, [0, 0, 0, 0])
                self._lines[name] = [max(now[0], used), now[1] + uses, max(now[2], failed), now[3] + failures]


def totals(rows: list[UseRow]) -> Mapping[str, UseRow]:
    """One line a client."""
    summed: dict[str, UseRow] = {}
    for row in rows:
        old = summed.get(row.client, UseRow(row.client, "", 0, 0, 0, 0))
        summed[row.client] = UseRow(
            row.client, "", max(old.used, row.used), old.uses + row.uses, max(old.failed, row.failed), old.failures + row.failures
        )
    return summed
