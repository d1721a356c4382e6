"""The facts of transfers, grants and threads as rows: read by key, written through a write set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, select

from gateway.decision.grants import Grant, GrantState
from gateway.decision.rules import CompiledConsent
from gateway.decision.withdrawal import Term
from gateway.identity import PartyId, ShelfId, ThreadId, TransferId, shelf_party
from gateway.storage import tables
from gateway.storage.sealing import DataKey, KeyDestroyed, Keyring, place
from gateway.storage.statements import Query, Row, insert, update
from gateway.storage.writer import Database
from gateway.storage.writeset import WriteSet
from gateway.transfers.model import Attempt, Returned, State, Transfer

__all__ = [
    "INSERT_THREAD",
    "Facts",
    "add_attempt",
    "add_grant",
    "add_thread",
    "add_transfer",
    "add_withdrawal",
    "close_grants",
    "move_attempt",
    "move_transfer",
    "supersede_grants",
]

INSERT_THREAD: Final = insert(tables.threads)
INSERT_GRANT: Final = insert(tables.grants)
MOVE_GRANT: Final = update(tables.grants, where=("id",), set=("state",))
INSERT_WITHDRAWAL: Final = insert(tables.withdrawals)
INSERT_TRANSFER: Final = insert(tables.transfers)
INSERT_ATTEMPT: Final = insert(tables.attempts)
MOVE_TRANSFER: Final = update(
    tables.transfers, where=("id",), set=("version", "state", "responsible", "attempt", "priority", "closed", "ending")
)
_MOVED: Final = ("address", "acknowledged", "accepted", "introduced", "ended", "returned", "recalled", "seen")
MOVE_ATTEMPT: Final = update(tables.attempts, where=("transfer", "number"), set=_MOVED)

_t, _a, _g = tables.transfers.c, tables.attempts.c, tables.grants.c
_JOINED: Final = select(*tables.transfers.columns, *tables.attempts.columns).where(_a.transfer == _t.id, _a.number == _t.attempt)
_BY_ID: Final = Query(_JOINED.where(_t.id == bindparam("id")))
_BY_SENDER_TASK: Final = Query(_JOINED.where(_t.sender_shelf == bindparam("shelf"), _t.sender_task == bindparam("task")))
_BY_RECEIVER_TASK: Final = Query(_JOINED.where(_a.shelf == bindparam("shelf"), _a.task == bindparam("task")))
_BY_SENDER_REQUEST: Final = Query(_JOINED.where(_t.sender_shelf == bindparam("shelf"), _t.sender_request == bindparam("request")))
_OF_THREAD: Final = Query(_JOINED.where(_t.thread == bindparam("thread")).order_by(_t.opened, _t.id))
_GRANTS: Final = Query(select(*tables.grants.columns).where(_g.thread == bindparam("thread")))
_WITHDRAWALS: Final = Query(
    select(tables.withdrawals.c.made, tables.withdrawals.c.terms).where(tables.withdrawals.c.thread == bindparam("thread"))
)
_EPOCH: Final = Query(select(tables.threads.c.epoch).where(tables.threads.c.id == bindparam("thread")))


class Facts:
    """Reads facts. Bodies never come this way; what a receiver gave back is opened with its own key."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def transfer(self, id_: TransferId) -> Transfer | None:
        """By its own id."""
        return await self._one(_BY_ID, id=id_)

    async def sent(self, shelf: ShelfId, task: str) -> Transfer | None:
        """The transfer that a sender's Task stands for."""
        return await self._one(_BY_SENDER_TASK, shelf=shelf, task=task)

    async def received(self, shelf: ShelfId, task: str) -> Transfer | None:
        """The transfer that a receiver's Task stands for, while that receiver's attempt is the current one."""
        return await self._one(_BY_RECEIVER_TASK, shelf=shelf, task=task)

    async def asked(self, shelf: ShelfId, request: str) -> list[Transfer]:
        """The transfers that a sender's ServiceRequest started."""
        return await self._all(_BY_SENDER_REQUEST, shelf=shelf, request=request)

    async def of_thread(self, thread: ThreadId) -> list[Transfer]:
        """Every transfer of one person's thread."""
        return await self._all(_OF_THREAD, thread=thread)

    async def grants(self, thread: ThreadId) -> list[Grant]:
        """The consent register for one thread."""
        return [_grant(row) for row in await self._database.facts(_GRANTS, {"thread": thread})]

    async def epoch(self, thread: ThreadId) -> int:
        """The thread's epoch: moved on by every withdrawal and every new grant."""
        rows = await self._database.facts(_EPOCH, {"thread": thread})
        return int(rows[0][0])

    async def withdrawals(self, thread: ThreadId) -> list[tuple[int, tuple[Term, ...]]]:
        """What she took back, each with its time."""
        rows = await self._database.facts(_WITHDRAWALS, {"thread": thread})
        return [(made, tuple(Term.from_json(raw) for raw in orjson.loads(terms))) for made, terms in rows]

    async def _one(self, query: Query, **params: Any) -> Transfer | None:
        found = await self._all(query, **params)
        return found[0] if found else None

    async def _all(self, query: Query, **params: Any) -> list[Transfer]:
        return [await self._transfer(row) for row in await self._database.facts(query, params)]

    async def _transfer(self, row: Row) -> Transfer:
        width = len(tables.transfers.columns)
        head = dict(zip(tables.transfers.columns.keys(), row[:width], strict=True))
        tail = dict(zip(tables.attempts.columns.keys(), row[width:], strict=True))
        thread, shelf = ThreadId(head["thread"]), ShelfId(tail["shelf"])
        returned = Returned()
        if tail["returned"] is not None:
            try:
                key = await self._keyring.get(thread, shelf)
                returned = _returned(key.open(tail["returned"], place("attempts", shelf, "returned", head["id"], tail["number"])))
            except KeyDestroyed:
                returned = Returned()
        attempt = Attempt(
            party=shelf_party(shelf),
            shelf=shelf,
            returned=returned,
            **{name: tail[name] for name in tail if name not in ("transfer", "shelf", "returned")},
        )
        return Transfer(
            id=TransferId(head["id"]),
            thread=thread,
            version=head["version"],
            state=State(head["state"]),
            responsible=head["responsible"],
            sender_shelf=ShelfId(head["sender_shelf"]),
            sender_task=head["sender_task"],
            sender_request=head["sender_request"],
            service=head["service"],
            priority=head["priority"],
            purposes=frozenset(head["purposes"].split()),
            opened=head["opened"],
            closed=head["closed"],
            attempt=attempt,
            ending=State(head["ending"]) if head["ending"] is not None else None,
        )


def add_thread(ws: WriteSet, thread: ThreadId, at: int) -> None:
    """A new person's thread."""
    ws.add(INSERT_THREAD, thread, 0, at)


def add_grant(ws: WriteSet, grant: Grant) -> None:
    """A grant into the register."""
    rule = {"classes": sorted(grant.classes), "purposes": sorted(grant.purposes), "rule": grant.rule.to_json() if grant.rule else None}
    ws.add(
        INSERT_GRANT,
        *(grant.id, grant.thread, grant.consent_id, grant.consent_version, grant.recorder, grant.receiver_party, grant.receiver_unit),
        *(grant.scope, grant.state.value, grant.starts, grant.ends, orjson.dumps(rule).decode()),
    )


def supersede_grants(ws: WriteSet, grants: Sequence[Grant]) -> None:
    """A newer version of their Consent takes their place."""
    close_grants(ws, grants, GrantState.SUPERSEDED)


def close_grants(ws: WriteSet, grants: Sequence[Grant], state: GrantState) -> None:
    """They give nothing any more."""
    for grant in grants:
        ws.add(MOVE_GRANT, state.value, grant.id)


def add_withdrawal(ws: WriteSet, id_: str, thread: ThreadId, shelf: ShelfId, terms: Sequence[Term], at: int) -> None:
    """What she took back, for consents given before it that are still to come."""
    ws.add(INSERT_WITHDRAWAL, id_, thread, shelf, orjson.dumps([term.to_json() for term in terms]).decode(), at)


def _grant(row: Row) -> Grant:
    id_, thread, consent, version, recorder, receiver, unit, scope, state, starts, ends, rule = row
    raw = orjson.loads(rule)
    return Grant(
        id=id_,
        thread=ThreadId(thread),
        consent_id=consent,
        consent_version=version,
        recorder=ShelfId(recorder),
        receiver_party=PartyId(receiver),
        receiver_unit=unit,
        scope=scope,
        classes=frozenset(raw["classes"]),
        purposes=frozenset(raw["purposes"]),
        starts=starts,
        ends=ends,
        state=GrantState(state),
        rule=CompiledConsent.from_json(raw["rule"]) if raw["rule"] else None,
    )


def add_transfer(ws: WriteSet, t: Transfer) -> None:
    """A new transfer."""
    ws.add(
        INSERT_TRANSFER,
        *(t.id, t.thread, t.version, t.state.value, t.responsible, t.attempt.number, t.sender_shelf, t.sender_task, t.sender_request),
        *(t.service, t.priority, " ".join(sorted(t.purposes)), t.opened, t.closed, t.ending),
    )


def add_attempt(ws: WriteSet, t: Transfer, key: DataKey | None = None) -> None:
    """The transfer's current attempt, new."""
    a = t.attempt
    ws.add(
        INSERT_ATTEMPT,
        *(t.id, a.number, a.shelf, a.address, a.task, a.request, a.patient, a.consent, a.provenance, a.row, a.agreement, a.basis),
        *(a.offered, a.acknowledged, a.accepted, a.introduced, a.ended, _sealed(t, key), a.recalled, a.seen),
    )


def move_transfer(ws: WriteSet, before: Transfer, after: Transfer) -> None:
    """The transfer after a move, guarded by the version it was decided on."""
    ws.transfers[before.id] = before.version
    ending = after.ending.value if after.ending is not None else None
    ws.add(
        MOVE_TRANSFER,
        *(after.version, after.state.value, after.responsible, after.attempt.number, after.priority, after.closed, ending, after.id),
    )


def move_attempt(ws: WriteSet, after: Transfer, key: DataKey) -> None:
    """The current attempt after a move."""
    a = after.attempt
    ws.add(
        MOVE_ATTEMPT,
        *(a.address, a.acknowledged, a.accepted, a.introduced, a.ended, _sealed(after, key), a.recalled, a.seen, after.id, a.number),
    )


def _sealed(t: Transfer, key: DataKey | None) -> bytes | None:
    a, r = t.attempt, t.attempt.returned
    if key is None or r == Returned():
        return None
    said = {"worker": r.worker, "eta": r.eta, "decision": r.decision, "offers": r.offers, "reason": r.reason, "redirects": r.redirects}
    body = orjson.dumps({**said, "reference": r.reference, "phoned": r.phoned, "reminded": r.reminded})
    return key.seal(body, place("attempts", a.shelf, "returned", t.id, a.number))


def _returned(body: bytes) -> Returned:
    raw = orjson.loads(body)
    given = (raw["worker"], raw["eta"], raw["decision"], tuple(raw["offers"]), raw["reason"], tuple(raw["redirects"]))
    return Returned(*given, raw.get("reference"), raw.get("phoned"), raw.get("reminded"))
