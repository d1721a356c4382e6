"""FHIR REST on a party's own shelf, and the directory. Handlers are plain Starlette functions that return bytes.

Every request goes the same way: token, scopes, device, address, FHIR rules, admission, use case; `gateway.app` shows the list.
A refusal after authentication is committed to the audit log before it is answered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.edge import Edge, Seen
from gateway.api.errors import FHIR_JSON
from gateway.api.nowhere import AnyMethod, unsupported
from gateway.api.reading import accepts_json, apply_patch, bundle_entries, claimed_entries, if_match, if_none_exist, read_body, request_id
from gateway.api.searching import PERSON, SEARCHABLE, check_caller, read_search
from gateway.audit.entry import AuditAction
from gateway.clock import instant
from gateway.decision.withdrawal import is_withdrawal
from gateway.fhir.capability import Interaction as Does
from gateway.fhir.capability import SearchParam, SearchParamType, TypeCapability
from gateway.fhir.parse import parse_json
from gateway.fhir.validate import validate
from gateway.oauth.scopes import ActionScope, Interaction
from gateway.parties.search import SEARCH as DIRECTORY_SEARCH
from gateway.problems import Finding, IssueCode, Problem, ProblemType
from gateway.shelves.copies import Copy
from gateway.transfers.intake import Entry, not_found
from gateway.transfers.routing import crisis_line
from gateway.transfers.service import Answer, RequestKey

__all__ = ["DIRECTORY", "SHELF", "TABLE", "fhir_routes"]

Json = dict[str, Any]

_ALL: Final = (Does.CREATE, Does.READ, Does.VREAD, Does.UPDATE, Does.SEARCH)
_INTERACTIONS: Final[Mapping[str, tuple[Does, ...]]] = {
    "Patient": _ALL,
    "Consent": _ALL,
    "ServiceRequest": _ALL,
    "Task": (*_ALL, Does.PATCH),
    "Communication": (Does.CREATE, Does.READ, Does.VREAD, Does.SEARCH),
    "Provenance": (Does.READ, Does.VREAD, Does.SEARCH),
}
SHELF: Final = frozenset(_INTERACTIONS)
DIRECTORY: Final = frozenset({"Organization", "HealthcareService", "PractitionerRole", "Endpoint"})
TABLE: Final[Mapping[str, TypeCapability]] = {
    **{
        type_: TypeCapability(
            does, SEARCHABLE[type_], conditional_create=Does.CREATE in does and "identifier" in {p.name for p in SEARCHABLE[type_]}
        )
        for type_, does in _INTERACTIONS.items()
    },
    **{
        type_: TypeCapability(
            (Does.READ, Does.SEARCH),
            tuple(SearchParam(p.name, SearchParamType(p.kind.value)) for p in DIRECTORY_SEARCH[type_].values()),
        )
        for type_ in sorted(DIRECTORY)
    },
}
"""What is routed and what the capability statement says: one table."""

_REASON: Final = {200: "OK", 201: "Created", 202: "Accepted"}
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_PATCH_TYPES: Final = frozenset({"application/json-patch+json"})
Handler = Callable[[Request, Seen], Awaitable[Response]]


def fhir_routes(edge: Edge, capability: bytes, base: str, *, even: float = 0.0) -> list[Route]:
    """The routes under `/fhir`. `capability` is the statement's bytes, `base` the FHIR base URL for links, `even` the seconds before which
    nothing that takes a consent back is answered."""
    api = _Fhir(edge, base, even)

    async def metadata(request: Request) -> Response:
        return Response(capability, headers={"Cache-Control": "public, max-age=300"}, media_type=FHIR_JSON)

    item, version = "/fhir/{type:str}/{id:str}", "/fhir/{type:str}/{id:str}/_history/{version:str}"
    return [
        Route("/fhir/metadata", metadata, methods=["GET"]),
        Route("/fhir", edge.handler(api.transaction), methods=["POST"]),
        Route("/fhir/", edge.handler(api.transaction), methods=["POST"]),
        Route("/fhir/{type:str}/_search", edge.handler(api.search), methods=["POST"]),
        Route("/fhir/{type:str}", edge.handler(api.search), methods=["GET"]),
        Route("/fhir/{type:str}", edge.handler(api.create), methods=["POST"]),
        Route(item, edge.handler(api.read), methods=["GET"]),
        Route(item, edge.handler(api.update), methods=["PUT"]),
        Route(item, edge.handler(api.patch), methods=["PATCH"]),
        Route(version, edge.handler(api.read), methods=["GET"]),
        Route("/fhir/{rest:path}", AnyMethod(edge.handler(api.unsupported))),
        Route("/fhir", AnyMethod(edge.handler(api.unsupported))),
    ]


class _Fhir:
    def __init__(self, edge: Edge, base: str, even: float) -> None:
        self._edge = edge
        self._base = base
        self._even = even

    # -- reading -------------------------------------------------------------------------------------------------------------

    async def read(self, request: Request, seen: Seen) -> Response:
        """read and vread. An id that is not on the caller's shelf is an id that does not exist."""
        accepts_json(request)
        type_, id_ = request.path_params["type"], request.path_params["id"]
        asked = request.path_params.get("version")
        edge, caller = self._edge, seen.caller
        if type_ in DIRECTORY and asked is None:
            edge.require(seen, Interaction.READ, type_, ActionScope.DIRECTORY_READ)
            found = edge.directory().read(caller.party, type_, id_, seen.at)
            if found is None:
                raise not_found()
            return _json(orjson.dumps(found), 200, seen)
        edge.require(seen, Interaction.READ, type_, *edge.readers(type_))
        if type_ not in SHELF or (asked is not None and _VERSION.fullmatch(asked) is None):
            raise not_found()
        copy = await edge.parts.shelves.of(caller).read(type_, id_, int(asked) if asked is not None else None)
        if copy is None or not edge.holds(seen, copy):
            raise not_found()
        await edge.record(seen, AuditAction.READ, type_, copy.id, copy.version)
        return _copy(copy, 200, seen)

    async def search(self, request: Request, seen: Seen) -> Response:
        """search-type on the own shelf, or in the directory. Person parameters only in POST `_search`."""
        accepts_json(request)
        type_ = request.path_params["type"]
        params = list(request.query_params.multi_items())
        if request.method == "POST":
            params += await self._edge.form(request)
        edge, caller = self._edge, seen.caller
        if type_ in DIRECTORY:
            edge.require(seen, Interaction.SEARCH, type_, ActionScope.DIRECTORY_READ)
            resources = edge.directory().search(caller.party, type_, params, seen.at)
            bodies = [(str(r["id"]), orjson.dumps(r)) for r in resources]
            return self._bundle(type_, bodies, len(bodies), [], seen)
        allowed = edge.may(seen, Interaction.SEARCH, type_, *edge.readers(type_))
        check_caller(caller, type_, params, can_search=allowed and type_ in SHELF)
        edge.require_device(seen)
        if type_ == PERSON and any(not name.startswith("_") for name in request.query_params):
            say = "Send what names a person in the body of POST _search, never in an address."
            raise Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.SECURITY, say))
        criteria, count, offset = read_search(type_, params)
        queue = edge.queue(seen)
        if queue is not None:
            criteria = replace(criteria, owners=tuple(sorted(queue)) or ("",))
        page = await edge.parts.shelves.of(caller).search(type_, criteria, count=count, offset=offset)
        await edge.record(seen, AuditAction.SEARCH, type_, None, None, found=len(page.copies))
        more = 0 < count < page.total - offset
        kept = [(name, value) for name, value in params if name not in ("_offset", "_count", "_format")]
        following = [*kept, ("_offset", str(offset + count)), ("_count", str(count))] if more and type_ != PERSON else []
        return self._bundle(type_, [(c.id, c.body) for c in page.copies], page.total, following, seen)

    def _bundle(
        self, type_: str, bodies: list[tuple[str, bytes]], total: int, following: Iterable[tuple[str, str]], seen: Seen
    ) -> Response:
        """A searchset; the bodies are the final bytes of each copy. The next link asks the same search: ids and codes, never a person's."""
        entries = [
            {"fullUrl": f"{self._base}/{type_}/{id_}", "resource": orjson.Fragment(body), "search": {"mode": "match"}}
            for id_, body in bodies
        ]
        bundle: Json = {"resourceType": "Bundle", "type": "searchset", "total": total}
        link = urlencode(list(following))
        if link:
            bundle["link"] = [{"relation": "next", "url": f"{self._base}/{type_}?{link}"}]
        if entries:
            bundle["entry"] = entries
        return _json(orjson.dumps(bundle), 200, seen)

    # -- writing -------------------------------------------------------------------------------------------------------------

    async def transaction(self, request: Request, seen: Seen) -> Response:
        """All entries or none (R4 http.html#transaction)."""
        body = await read_body(request)

        def read() -> list[Entry]:
            return bundle_entries(parse_json(body))

        bundle = parse_json(body)
        if bundle.get("resourceType") != "Bundle":
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.INVALID, "Send a Bundle here.", "Bundle"))
        answer = await self._write(request, seen, body, bundle, read)
        entries = []
        copies = await self._stored(answer, seen)
        for stored, copy in zip(answer.stored, copies, strict=True):
            response = {
                "status": f"{stored.status} {_REASON[stored.status]}",
                "location": f"{stored.type}/{stored.id}/_history/{stored.version}",
                "etag": f'W/"{stored.version}"',
                "lastModified": instant(copy.updated) if copy else None,
            }
            entry: Json = {"fullUrl": f"{self._base}/{stored.type}/{stored.id}", "response": {k: x for k, x in response.items() if x}}
            if copy is not None and (stored.type == "Task" or "representation" in request.headers.get("prefer", "")):
                entry["resource"] = orjson.Fragment(copy.body)  # a Task always: the line is in the first answer to every offer
            entries.append(entry)
        made = orjson.dumps({"resourceType": "Bundle", "type": "transaction-response", "entry": entries})
        return _json(made, 200, seen)

    async def create(self, request: Request, seen: Seen) -> Response:
        """create (R4 http.html#create), conditional by `If-None-Exist` within the own shelf."""
        type_ = request.path_params["type"]
        self._may_write(seen, "POST", type_)
        body = await read_body(request)
        exists = if_none_exist(request.headers.get("if-none-exist"), type_)

        def read() -> list[Entry]:
            return [Entry("POST", parse_json(body), type_, if_none_exist=exists)]

        return await self._one(request, seen, body, type_, read)

    async def update(self, request: Request, seen: Seen) -> Response:
        """update (R4 http.html#update) of what is on the own shelf; an unknown id is not created."""
        type_, id_ = request.path_params["type"], request.path_params["id"]
        self._may_write(seen, "PUT", type_)
        body = await read_body(request)
        match = if_match(request.headers.get("if-match"))

        def read() -> list[Entry]:
            return [Entry("PUT", parse_json(body), type_, id=id_, if_match=match)]

        return await self._one(request, seen, body, type_, read)

    async def patch(self, request: Request, seen: Seen) -> Response:
        """patch of a Task by JSON Patch: the way to act on a transfer."""
        type_, id_ = request.path_params["type"], request.path_params["id"]
        if Does.PATCH not in _INTERACTIONS.get(type_, ()):
            raise unsupported()
        self._edge.require_write(seen, "PATCH", type_)
        body = await read_body(request, _PATCH_TYPES)
        match = if_match(request.headers.get("if-match"))
        key = self._key(request, body)
        # read first: a version read after the look for a repeat may be the one that the repeat has made
        copy = await self._edge.parts.shelves.of(seen.caller).read(type_, id_)
        if await self._edge.referrals.answered(seen.caller, key) is None:
            if copy is None or not self._edge.holds(seen, copy):
                raise not_found()
            patched = orjson.dumps(apply_patch(body, copy.resource()))
            expected = match if match is not None else copy.version
        else:
            patched, expected = b"{}", 0

        def read() -> list[Entry]:
            return [Entry("PUT", parse_json(patched), type_, id=id_, if_match=expected)]

        return await self._one(request, seen, body, type_, read, admitted=False)

    def _may_write(self, seen: Seen, method: str, type_: str) -> None:
        """Before a byte of the body is looked at. Raises Problem: NOT_FOUND for what is not routed, FORBIDDEN."""
        if type_ not in SHELF:
            raise unsupported()
        self._edge.require_write(seen, method, type_)

    async def unsupported(self, request: Request, seen: Seen) -> Response:
        """Whatever is not routed."""
        raise unsupported()

    async def _one(
        self, request: Request, seen: Seen, body: bytes, type_: str, read: Callable[[], list[Entry]], *, admitted: bool = True
    ) -> Response:
        entry = read()[0]
        if admitted and entry.resource.get("resourceType") != type_:
            say = "The resource's type must be the one in the address."
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.INVALID, say, f"{type_}.resourceType"))
        if entry.method == "PUT" and admitted and entry.resource.get("id") != entry.id:
            raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.INVALID, "The id must be the one in the address.", f"{type_}.id"))
        answer = await self._write(request, seen, body, None, read)
        [copy] = await self._stored(answer, seen)
        stored = answer.stored[0]
        if copy is None or "return=minimal" in request.headers.get("prefer", ""):
            response = _json(b"", stored.status, seen)
        else:
            response = _copy(copy, stored.status, seen)
        response.headers["Location"] = f"{self._base}/{stored.type}/{stored.id}/_history/{stored.version}"
        response.headers["ETag"] = f'W/"{stored.version}"'
        return response

    async def _write(self, request: Request, seen: Seen, body: bytes, bundle: Json | None, read: Callable[[], list[Entry]]) -> Answer:
        """Scopes, device, addresses, FHIR rules, admission (all findings of these two together), then the use case."""
        accepts_json(request)
        edge = self._edge
        first = read() if bundle is None else []
        asked = [(entry.method, entry.resource) for entry in first] if bundle is None else list(claimed_entries(bundle))
        try:
            for method, resource in asked:
                if resource.get("resourceType") in SHELF:
                    edge.require_write(seen, method, resource["resourceType"], resource)
            key = self._key(request, body)
            repeated = await edge.referrals.answered(seen.caller, key)
            if repeated is not None:
                return repeated
            if bundle is not None:
                faults = validate(bundle)
                if faults:
                    raise Problem(ProblemType.UNPROCESSABLE, *faults)
                first = bundle_entries(bundle)
            edge.check(seen, first, validated=bundle is not None)

            def entries() -> list[Entry]:
                nonlocal first
                ready = first or edge.admitted(read())
                first = []
                return ready

            writing = edge.referrals.write(seen.caller, entries, key, seen.correlation)
            consents = [(method, resource) for method, resource in asked if resource.get("resourceType") == "Consent"]
            if not any(method == "PUT" or is_withdrawal(resource) for method, resource in consents):
                return await writing
            # how long it takes to find what rested on a consent says how much did: nobody is answered sooner than this
            answer, _ = await asyncio.gather(writing, asyncio.sleep(self._even))
            return answer
        except Problem as problem:
            line = crisis_line((resource for method, resource in asked if method == "POST"), edge.parts.policy())
            if line is None:
                raise
            raise problem.also(line) from None

    def _key(self, request: Request, body: bytes) -> RequestKey | None:
        id_ = request_id(request)
        if id_ is None:
            return None
        path = f"{request.method} {request.url.path}\n".encode()
        return RequestKey(id_, self._edge.parts.keyring.digest(path + body))

    async def _stored(self, answer: Answer, seen: Seen) -> list[Copy | None]:
        shelf = self._edge.parts.shelves.of(seen.caller)
        made = answer.bodies
        return [made.get((s.type, s.id, s.version)) or await shelf.read(s.type, s.id, s.version) for s in answer.stored]


def _copy(copy: Copy, status: int, seen: Seen) -> Response:
    response = _json(copy.body, status, seen)
    response.headers["ETag"] = f'W/"{copy.version}"'
    return response


def _json(body: bytes, status: int, seen: Seen) -> Response:
    headers = {"X-Correlation-ID": seen.correlation, "Cache-Control": "no-store"}
    return Response(body, status, headers, FHIR_JSON if body else None)
