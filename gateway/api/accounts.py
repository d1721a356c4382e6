"""What was decided and what was disclosed, for those who may ask: a party's privacy officer, its workers, the survivor herself."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import vocabulary as v
from gateway.api.edge import Edge, Seen
from gateway.api.errors import FHIR_JSON
from gateway.audit.entry import AuditAction
from gateway.audit.explaining import Explained, entry_id, find, of_correlation, of_party
from gateway.clock import instant, when
from gateway.contact.windows import safe_contacts
from gateway.decision.record import narrowed, sentences
from gateway.disclosure.accounting import SHOW, Asker, Viewer, entry_of, releases_of, rendered, show_row, told_to
from gateway.fhir.capability import Operation
from gateway.identity import ThreadId
from gateway.oauth.scopes import ActionScope, Interaction, has_action
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.storage import tables
from gateway.storage.statements import Query
from gateway.storage.writeset import WriteSet
from gateway.transfers.intake import not_found

__all__ = ["OF_PATIENT", "OF_SYSTEM", "account_routes"]

Json = dict[str, Any]
_c = tables.copies.c
_THREADS: Final = Query(select(_c.thread).where(_c.shelf == bindparam("shelf"), _c.type == "Patient", _c.id == bindparam("id"), _c.current))
_EVERYBODY: Final = Query(select(_c.thread).where(_c.shelf == bindparam("shelf"), _c.type == "Patient", _c.current).distinct())
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_MOST: Final = 200
_DEFINITION: Final = v.BASE + "OperationDefinition/"
OF_PATIENT: Final = (Operation("accounting", _DEFINITION + "accounting", "The releases of one's own Patient that one may be told of."),)
OF_SYSTEM: Final = (Operation("decisions", _DEFINITION + "decisions", "What the party's own requests were answered, and why."),)
_OFFICER, _OWN = ActionScope.AUDIT_READ_OWN_PARTY, ActionScope.OWN_DISCLOSURES


def account_routes(edge: Edge, base: str) -> list[Route]:
    """Before the routes of FHIR's own interactions: an operation's name is no resource type."""
    api = _Accounts(edge, base)
    of_patient = "/fhir/Patient/{id:str}/$accounting"
    return [
        Route("/fhir/$decisions", edge.handler(api.decisions), methods=["GET"]),
        Route(of_patient, edge.handler(api.accounting), methods=["GET"]),
        Route(of_patient + "/{entry:str}/$show", edge.handler(api.show), methods=["POST"]),
    ]


class _Accounts:
    def __init__(self, edge: Edge, base: str) -> None:
        self._edge = edge
        self._base = base

    async def decisions(self, request: Request, seen: Seen) -> Response:
        """What the party's own requests were answered and why; of others' refused requests that named it, only that there were."""
        edge, caller = self._edge, seen.caller
        edge.require(seen, Interaction.SEARCH, "AuditEvent", _OFFICER)
        params = dict(request.query_params)
        if len(params) != len(request.query_params.multi_items()) or not params.keys() <= {"entry", "correlation", "before", "_count"}:
            raise _unknown("Ask with entry, correlation, before and _count, each at most once.")
        count, before = params.get("_count", "50"), params.get("before", "9999")
        if not count.isdigit() or not 0 < int(count) <= _MOST or (before != "9999" and _AT.fullmatch(before) is None):
            raise _unknown(f"_count is at most {_MOST}; before is an instant in UTC with milliseconds.")
        database = edge.parts.database
        if "entry" in params:
            asked = entry_id(params["entry"])
            found = (await find(database, asked) or ()) if asked is not None else ()
        elif "correlation" in params:
            found = await of_correlation(database, params["correlation"][:64])
        else:
            found = await of_party(database, caller.party, before=before, count=int(count))
        theirs = [each for each in found if each.party == caller.party or _names(each, caller.party)]
        await edge.record(seen, AuditAction.SEARCH, "AuditEvent", None, None, found=len(theirs))
        parameters = [_decision(each, caller.party) for each in theirs]
        return self._answer({"resourceType": "Parameters", **({"parameter": parameters} if parameters else {})}, seen)

    async def accounting(self, request: Request, seen: Seen) -> Response:
        """The releases of one person that this caller may be told of."""
        viewer, threads = await self._asked(request, seen)
        releases = await releases_of(self._edge.parts.database, threads)
        bundle = rendered(viewer, request.path_params["id"], releases, self._base)
        await self._edge.record(seen, AuditAction.SEARCH, "AuditEvent", None, None, found=len(bundle.get("entry", ())))
        return self._answer(bundle, seen)

    async def show(self, request: Request, seen: Seen) -> Response:
        """A privacy officer of the party whose data it was says that she may be shown a release that waited."""
        edge = self._edge
        edge.require(seen, Interaction.SEARCH, "AuditEvent", _OFFICER)
        viewer, threads = await self._asked(request, seen)
        found = [
            each
            for each in told_to(viewer, await releases_of(edge.parts.database, threads))
            if entry_of(viewer, each) == request.path_params["entry"] and each.waits and each.source.partition("/")[0] == viewer.party.id
        ]
        if viewer.asker is not Asker.OFFICER or not found:
            raise not_found()
        [each] = found
        detail = (("release", each.id), ("shown-to", "survivor"))
        ws = WriteSet(audit=[edge.entry(seen, AuditAction.REVIEW, detail=detail)])
        if not each.cleared:
            ws.add(SHOW, *show_row(edge.parts.new_id(), viewer, each, seen.caller.role, seen.at))
        await edge.parts.writer.commit(ws)
        return Response(status_code=204, headers={"X-Correlation-ID": seen.correlation, "Cache-Control": "no-store"})

    async def _asked(self, request: Request, seen: Seen) -> tuple[Viewer, list[ThreadId]]:
        """Who asks, and about which threads. Raises Problem: FORBIDDEN, NOT_FOUND for a Patient that is not the caller's own."""
        edge, caller, id_ = self._edge, seen.caller, request.path_params["id"]
        edge.require(seen, Interaction.SEARCH, "AuditEvent", _OFFICER, _OWN, ActionScope.TRANSFER_READ)
        party = edge.parts.policy().parties[caller.party]
        asker = Asker.WORKER
        if has_action(caller.scopes, _OWN):
            asker = Asker.SURVIVOR
        elif has_action(caller.scopes, _OFFICER):
            asker = Asker.OFFICER
        viewer = Viewer(asker, party, caller.shelf)
        shelves = party.shelves if asker is Asker.OFFICER else (caller.shelf,)
        found = [row for shelf in shelves for row in await self._facts(_THREADS, shelf, id_)]
        if not found:
            raise not_found()
        if asker is Asker.SURVIVOR:
            await self._safe(seen, id_)
            found = await edge.parts.database.facts(
                _EVERYBODY, {"shelf": caller.shelf}
            )  # her shelf is hers alone: every thread there is her
        return viewer, sorted({ThreadId(row[0]) for row in found})

    async def _facts(self, query: Query, shelf: str, id_: str) -> list[tuple[Any, ...]]:
        return await self._edge.parts.database.facts(query, {"shelf": shelf, "id": id_}) if _ID.fullmatch(id_) else []

    async def _safe(self, seen: Seen, id_: str) -> None:
        """R13: on her own client only while her contact is safe, verified lately, and on a phone nobody else watches."""
        copy = await self._edge.parts.shelves.of(seen.caller).read("Patient", id_)
        contacts = safe_contacts(copy.resource()) if copy is not None else ()
        if not any(contact.state == "safe" and contact.usable(when(seen.at)) for contact in contacts):
            say = "Ask your worker to show you this in person."
            raise Problem(ProblemType.CONFLICT, Finding(IssueCode.BUSINESS_RULE, say, refusal=Refusal.UNSAFE_CHANNEL))

    def _answer(self, resource: Json, seen: Seen) -> Response:
        headers = {"X-Correlation-ID": seen.correlation, "Cache-Control": "no-store"}
        return Response(orjson.dumps(resource), 200, headers, FHIR_JSON)


def _names(each: Explained, party: str) -> bool:
    """Whether it is a request of another party that named this one, and was refused."""
    return each.target == party and each.party is not None and each.document["outcome"] == "deny"


def _decision(each: Explained, party: str) -> Json:
    """One decision as that party may read it."""
    said = narrowed(each.document, party)
    own = each.party == party
    parts: list[Json] = [
        {"name": "entry", "valueString": f"{each.entry.writer}/{each.entry.seq}"} if own else {"name": "addressed", "valueBoolean": True},
        {"name": "at", "valueInstant": instant(said["at"])},
        {"name": "from", "valueString": said["from"]},
        {"name": "to", "valueString": said["to"]},
        {"name": "service", "valueCode": said["service"]},
        {"name": "outcome", "valueCode": said["outcome"]},
    ]
    parts += [{"name": "refusal", "valueCode": said["refusal"]}, {"name": "told", "valueString": said["told"]}] if "refusal" in said else []
    parts += [{"name": "found", "part": [_code("gate", gate), {"name": "says", "valueString": text}]} for gate, text in sentences(said)]
    parts += [_code("class", name) for name in said.get("classes", ())]
    parts += [{"name": "withheld", "part": [_code("class", name), _code("why", why)]} for name, why in said.get("withheld", {}).items()]
    return {"name": "decision", "part": parts}


def _code(name: str, code: str) -> Json:
    return {"name": name, "valueCode": code}


def _unknown(say: str) -> Problem:
    return Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.NOT_SUPPORTED, say))
