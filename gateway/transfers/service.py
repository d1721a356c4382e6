"""The use cases of a party's write. Plan on a snapshot, commit with guards, decide again when overtaken.

A refusal is raised before anything is committed; the API's one error path commits its audit entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, select

from gateway.audit.entry import AuditAction
from gateway.decision.coalition import check_coalition_consent
from gateway.decision.grants import GrantState, compile_grants, compile_recorded
from gateway.decision.rules import CompiledConsent
from gateway.decision.withdrawal import is_withdrawal, left_of
from gateway.identity import Caller
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.reports.opening import follow_people
from gateway.shelves.copies import Copy, reference_id
from gateway.storage import tables
from gateway.storage.sealing import KeyDestroyed
from gateway.storage.statements import Query, insert
from gateway.storage.writer import unavailable
from gateway.storage.writeset import Stale
from gateway.transfers.acting import act_on_task
from gateway.transfers.facts import add_grant, add_thread, supersede_grants
from gateway.transfers.intake import Draft, Entry, prepare
from gateway.transfers.messages import take_message
from gateway.transfers.moving import edit_thread
from gateway.transfers.opening import open_transfer
from gateway.transfers.withdrawing import concerned, withdraw
from gateway.transfers.work import Parts, Stored, Work
from gateway.vocabulary import EXT_AGE_BAND

__all__ = ["Answer", "Referrals", "RequestKey"]

Json = dict[str, Any]
TRIES: Final = 3
TRIES_TO_LOOSEN: Final = 20
"""What ends sharing is not turned away because much is going on about her: each try finds more of it done."""
INSERT_REQUEST: Final = insert(tables.requests)
INSERT_REVIEW: Final = insert(tables.reviews)
_ANSWERED: Final = Query(
    select(tables.requests.c.digest, tables.requests.c.answer).where(
        tables.requests.c.shelf == bindparam("shelf"), tables.requests.c.request == bindparam("request")
    )
)
_ORDER: Final = {"Patient": 0, "Consent": 1, "ServiceRequest": 2, "Task": 3, "Communication": 4}
"""A consent comes before what rests on it, whatever the order in the request."""


_NOT_THEIRS: Final = frozenset({Refusal.GIVER_NOT_VALID, Refusal.PURPOSE_MISMATCH})
"""Refusals about who may, not about how it is written: 403."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """`X-Request-ID` and the keyed digest of the request it came with."""

    id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request, entry by entry. A repeat gives an equal answer with `repeated` set."""

    stored: tuple[Stored, ...]
    bodies: Mapping[tuple[str, str, int], Copy] = field(default_factory=dict)  # as far as at hand; the shelf has all
    repeated: bool = False


class Referrals:
    """Every write a party can make. One instance a process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def write(self, caller: Caller, entries: Callable[[], list[Entry]], key: RequestKey | None, correlation: str) -> Answer:
        """All entries, or none of them. `entries` gives them anew for each try. Raises Problem; then nothing was stored.

        Ask `answered` before: here only a request that was overtaken by its own repeat is looked for.
        """
        for again in range(TRIES_TO_LOOSEN):
            repeated = await self.answered(caller, key) if again else None
            if repeated is not None:
                return repeated
            work = Work.begin(self._parts, caller, correlation)
            try:
                await self._plan(work, caller, entries())
            except KeyDestroyed:  # closed while this was planned: what is planned now sees it
                continue
            except Problem:
                repeated = await self.answered(caller, key)
                if repeated is None:
                    raise
                return repeated  # it was refused for what its own repeat has just done
            answer = Answer(tuple(work.stored[index] for index in sorted(work.stored)), work.bodies)
            self._record(work, caller, answer, key)
            result = await self._parts.writer.commit(work.ws)
            if isinstance(result, Stale):
                if again + 1 >= TRIES and not work.loosens:
                    break
                continue
            self._parts.keyring.forget(work.ws.destroys)
            for thread, shelf, data_key in work.fresh:
                self._parts.keyring.remember(thread, shelf, data_key)
            self._parts.wake(work.deliveries)
            return answer
        raise unavailable()

    async def _plan(self, work: Work, caller: Caller, entries: list[Entry]) -> None:
        parts = self._parts
        drafts = await prepare(
            caller, entries, parts.shelves.of(caller), lambda type_, id_: parts.in_directory(caller, type_, id_), parts.new_id
        )
        for draft in drafts:
            if draft.type == "Patient" and draft.new_thread:
                add_thread(work.ws, draft.thread, work.at)
                work.new_threads.add(draft.thread)
                work.grants[draft.thread] = []
        requests = {draft.id: draft for draft in drafts if draft.type == "ServiceRequest"}
        edits = [d for d in drafts if d.type == "Consent" or (d.before is not None and d.type in ("Patient", "ServiceRequest"))]
        work.edited = {(d.type, d.id): d.resource for d in edits}
        for index, draft in sorted(enumerate(drafts), key=lambda item: _ORDER[item[1].type]):
            if draft.found is not None:
                work.stored[index] = Stored(200, draft.type, draft.found.id, draft.found.version)
            elif draft.type == "Task" and draft.before is not None:
                await act_on_task(work, index, draft, caller)
            elif draft.type == "Task":
                await open_transfer(work, index, draft, caller, await self._focus(caller, draft, requests))
            elif draft.type == "Communication":
                await take_message(work, index, draft, caller)
            else:
                held = draft.type == "Consent" and not await self._take_consent(work, draft, caller)
                await self._store(work, index, draft, caller, 202 if held else 201)
        for thread, (gone, reduced, was) in work.loosened.items():
            await concerned(work, thread, gone, reduced, was=was)
        edits = [d for d in edits if not (d.type == "Consent" and d.before is None and is_withdrawal(d.resource))]
        if edits:
            await edit_thread(work, edits, caller.shelf)
        await follow_people(work)

    async def _store(self, work: Work, index: int, draft: Draft, caller: Caller, created: int = 201) -> None:
        before = draft.before
        if before is not None and before.closed:
            say = "This copy was closed: what it held is no longer shared. Write a new one."
            raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, draft.entry.at))
        if before is not None and draft.type != "Patient" and before.resource().get("meta", {}).get("tag"):
            say = "This is a copy that the hub made for you. Its author edits it; you answer by the Task."
            raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, draft.entry.at))
        key = await work.key(draft.thread, caller.shelf, before.key if before is not None else "")
        version = before.version + 1 if before is not None else 1
        draft.resource.pop("meta", None)
        work.put(key, draft.resource, caller.shelf, draft.thread, version)
        work.stored[index] = Stored(created if before is None else 200, draft.type, draft.id, version)

    async def _take_consent(self, work: Work, draft: Draft, caller: Caller) -> bool:
        """Compile a Consent into the register, or take the record of a withdrawal. False when a human looks at that first.

        One that is not understood gives no grant and waits for a human; one that was given before a withdrawal gives what is left.
        """
        withdrawal = is_withdrawal(draft.resource)
        if draft.before is not None and (withdrawal or is_withdrawal(draft.before.resource())):
            say = "The record of a withdrawal stays as it was made. Record another, or a new consent."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.BUSINESS_RULE, say, f"{draft.entry.at}.policyRule"))
        kind = work.policy.parties[caller.party].kind
        compiled = compile_recorded(draft.resource, work.policy, caller.party)
        findings = check_coalition_consent(
            draft.resource,
            caller_kind=kind,
            caller_party=caller.party,
            policy=work.policy,
            age_band=_age_band(draft.patient),
            base=draft.entry.at,
            compiled=compiled,
        )
        if findings:
            permission = {finding.refusal for finding in findings} <= _NOT_THEIRS
            raise Problem(ProblemType.FORBIDDEN if permission else ProblemType.UNPROCESSABLE, *findings)
        if withdrawal and isinstance(compiled, CompiledConsent):
            work.loosens = True
            return await withdraw(work, draft, caller, compiled)
        version = draft.before.version + 1 if draft.before is not None else 1
        grants, rejected = compile_grants(
            draft.resource,
            consent_id=draft.id,
            version=version,
            thread=draft.thread,
            recorder=caller.shelf,
            policy=work.policy,
            at=work.at,
            new_id=self._parts.new_id,
            compiled=compiled,
        )
        known = await work.known_grants(draft.thread)
        await work.own(draft.thread)  # a withdrawal decided on how the thread stands now must see these grants
        if not draft.new_thread and isinstance(compiled, CompiledConsent):
            for made, terms in await self._parts.facts.withdrawals(draft.thread):
                if compiled.given is None or compiled.given <= made:
                    grants = [left for left in (left_of(grant, terms) for grant in grants) if left is not None]
        if draft.before is not None:
            old = [g for g in known if g.consent_id == draft.id and g.state is GrantState.ACTIVE]
            supersede_grants(work.ws, old)
            kept = {(g.scope, g.receiver_party) for g in grants}
            gone = [g for g in old if (g.scope, g.receiver_party) not in kept]
            reduced = [g for g in old if (g.scope, g.receiver_party) in kept]
            before = work.loosened.setdefault(draft.thread, ([], [], list(known)))
            work.loosens = True
            before[0].extend(gone)
            before[1].extend(reduced)
            known = [replace(g, state=GrantState.SUPERSEDED) if g in old else g for g in known]
        for grant in grants:
            add_grant(work.ws, grant)
        work.grants[draft.thread] = [*known, *grants]
        for why in rejected:
            row = (self._parts.new_id(), caller.party, "consent-not-understood", draft.id, why.reason.value, "open", work.at)
            work.ws.add(INSERT_REVIEW, *row)
        return True

    async def _focus(self, caller: Caller, draft: Draft, requests: Mapping[str, Draft]) -> Json:
        """The ServiceRequest a new Task is about: the author's own, and about the same person."""
        id_ = reference_id(draft.resource.get("focus")) or ""
        inside = requests.get(id_)
        copy = None if inside is not None else await self._parts.shelves.of(caller).read("ServiceRequest", id_)
        thread = inside.thread if inside is not None else copy.thread if copy is not None else None
        asked = inside.resource if inside is not None else copy.resource() if copy is not None else {}
        if thread != draft.thread or asked.get("intent") == "filler-order":
            say = "The Task must focus on a ServiceRequest that you wrote about the same person."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{draft.entry.at}.focus"))
        return asked

    def _record(self, work: Work, caller: Caller, answer: Answer, key: RequestKey | None) -> None:
        if key is not None:
            work.ws.request = (caller.shelf, key.id)
            body = orjson.dumps([[s.status, s.type, s.id, s.version] for s in answer.stored]).decode()
            work.ws.add(INSERT_REQUEST, caller.shelf, key.id, key.digest, body, work.at)
        work.record(
            AuditAction.CREATE if answer.stored[0].status == 201 else AuditAction.UPDATE,
            token_jti=caller.token_id,
            detail=tuple((f"wrote.{i}", f"{s.type}/{s.id}/{s.version}") for i, s in enumerate(answer.stored)),
        )

    async def answered(self, caller: Caller, key: RequestKey | None) -> Answer | None:
        """The answer that this request already had, if it is a repeat. Raises Problem(CONFLICT, duplicate) for another body."""
        if key is None:
            return None
        found = await self._parts.database.facts(_ANSWERED, {"shelf": caller.shelf, "request": key.id})
        if not found:
            return None
        digest, body = found[0]
        if digest != key.digest:
            say = "This request id was used for another request. Use a new one for each, and repeat it only to retry."
            raise Problem(ProblemType.CONFLICT, Finding(IssueCode.DUPLICATE, say, refusal=Refusal.DUPLICATE))
        return Answer(tuple(Stored(*item) for item in orjson.loads(body)), repeated=True)


def _age_band(patient: Json) -> str | None:
    for extension in patient.get("extension") or ():
        if extension.get("url") == EXT_AGE_BAND and isinstance(extension.get("valueCode"), str):
            code: str = extension["valueCode"]
            return code
    return None
