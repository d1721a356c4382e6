"""The naive build as a FastAPI application: the same requests, written the way most teams would write them first."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import FastAPI, Header, Query, Request, Response
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome
from sqlalchemy import func, or_, select

from gateway.api.errors import FHIR_JSON, STATUS
from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.clock import instant
from gateway.fhir.outcomes import outcome
from gateway.identity import Caller
from gateway.oauth.scopes import ActionScope, Interaction
from gateway.problems import Finding, IssueCode, Problem, ProblemType
from gateway.settings import Settings
from gateway.storage import tables
from tests.bench.naive import rows
from tests.bench.naive.checks import parse_bundle
from tests.bench.naive.offers import accept_offer, answered
from tests.bench.naive.security import CallerHere, SetupHere, require
from tests.bench.naive.setup import NONCE, Setup, open_setup, place

__all__ = ["create_naive_app"]

Json = dict[str, Any]
_READ = (ActionScope.TRANSFER_READ, ActionScope.TRANSFER_READ_OWN)
_c = tables.copies.c


def create_naive_app(settings: Settings) -> FastAPI:
    """Routes, the error handler, and what opens and closes with the application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_setup(settings) as setup:
            app.state.setup = setup
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_exception_handler(Problem, _refuse)
    app.get("/fhir/metadata")(_metadata)
    app.post("/fhir")(_transaction)
    app.get("/fhir/{type_}/{id_}")(_read)
    app.get("/fhir/{type_}")(_search)
    return app


async def _metadata() -> Json:
    return {"resourceType": "CapabilityStatement"}


async def _transaction(
    request: Request, setup: SetupHere, caller: CallerHere, x_request_id: Annotated[str | None, Header(max_length=64)] = None
) -> Response:
    request.state.caller = caller
    body = await request.body()
    digest = setup.digest("/fhir", body)
    correlation = secrets.token_hex(16)
    stored = await answered(setup, caller, x_request_id, digest) if x_request_id else None
    if stored is None:
        try:
            payload = json.loads(body)
        except ValueError:
            raise Problem(ProblemType.MALFORMED, Finding(IssueCode.STRUCTURE, "The body is not JSON.")) from None
        stored = await accept_offer(setup, caller, parse_bundle(payload), payload, x_request_id, digest, correlation)
    entries = []
    for status, type_, id_, version in stored:
        response = {"status": f"{status} Created", "location": f"{type_}/{id_}/_history/{version}", "etag": f'W/"{version}"'}
        entry: Json = {"fullUrl": f"{setup.settings.base_url}/fhir/{type_}/{id_}", "response": response}
        if type_ == "Task":
            entry["resource"] = await _find(setup, caller, type_, id_)
        entries.append(entry)
    made = Bundle(type="transaction-response", entry=entries)
    return Response(made.model_dump_json(), 200, {"X-Correlation-ID": correlation}, FHIR_JSON)


async def _read(type_: str, id_: str, request: Request, setup: SetupHere, caller: CallerHere) -> Response:
    request.state.caller = caller
    require(caller, Interaction.READ, type_, *_READ)
    resource = await _find(setup, caller, type_, id_)
    correlation = secrets.token_hex(16)
    await _record(setup, caller, correlation, AuditAction.READ, type_, id_, resource.meta.versionId)
    headers = {"ETag": f'W/"{resource.meta.versionId}"', "X-Correlation-ID": correlation, "Cache-Control": "no-store"}
    return Response(resource.model_dump_json(), 200, headers, FHIR_JSON)


async def _search(
    type_: str,
    request: Request,
    setup: SetupHere,
    caller: CallerHere,
    status: str | None = None,
    count: Annotated[int, Query(alias="_count", ge=0, le=100)] = 20,
    offset: Annotated[int, Query(alias="_offset", ge=0)] = 0,
    sort: Annotated[str, Query(alias="_sort", pattern="^-?_lastUpdated$")] = "_lastUpdated",
) -> Response:
    request.state.caller = caller
    require(caller, Interaction.SEARCH, type_, *_READ)
    conditions = [
        _c.shelf == caller.shelf,
        _c.type == type_,
        _c.current,
        or_(_c.readable_until.is_(None), _c.readable_until > time.time_ns() // 1_000_000),
    ]
    if status is not None:
        conditions.append(_c.status == status)
    order = (_c.updated.desc(), _c.id) if sort.startswith("-") else (_c.updated, _c.id)
    async with setup.shelf_session(caller.shelf) as session:
        total = await session.scalar(select(func.count()).select_from(rows.Copy).where(*conditions))
        found = (await session.scalars(select(rows.Copy).where(*conditions).order_by(*order).limit(count).offset(offset))).all()
    correlation = secrets.token_hex(16)
    entries = []
    for row in found:
        resource = await _open(setup, row)
        if resource is not None:
            url = f"{setup.settings.base_url}/fhir/{type_}/{row.id}"
            entries.append({"fullUrl": url, "resource": resource, "search": {"mode": "match"}})
    await _record(setup, caller, correlation, AuditAction.SEARCH, type_, None, None, found=len(entries))
    made = Bundle(type="searchset", total=total, entry=entries or None)
    return Response(made.model_dump_json(), 200, {"X-Correlation-ID": correlation, "Cache-Control": "no-store"}, FHIR_JSON)


async def _find(setup: Setup, caller: Caller, type_: str, id_: str) -> Any:
    """A resource on the caller's shelf, as its model. Raises Problem(NOT_FOUND)."""
    now = time.time_ns() // 1_000_000
    async with setup.shelf_session(caller.shelf) as session:
        row = await session.scalar(
            select(rows.Copy).where(
                _c.shelf == caller.shelf,
                _c.type == type_,
                _c.id == id_,
                _c.current,
                or_(_c.readable_until.is_(None), _c.readable_until > now),
            )
        )
    resource = await _open(setup, row) if row is not None else None
    if resource is None:
        raise Problem(ProblemType.NOT_FOUND, Finding(IssueCode.NOT_FOUND, "There is no such resource."))
    return resource


async def _open(setup: Setup, row: rows.Copy) -> Any:
    """The model of a sealed row; None when its key was destroyed."""
    async with setup.keystore() as session:
        start = 1 + row.sealed[0]  # a body begins with the name of its key
        named, sealed = row.sealed[1:start].decode(), row.sealed[start:]
        slot = f"{row.shelf}|{named}" if named else row.shelf
        key = await session.get(rows.Key, (row.thread, slot))
    if key is None:
        return None
    try:
        secret = setup.wrap.decrypt(key.wrapped[:NONCE], key.wrapped[NONCE:], f"{row.thread}|{slot}".encode())
        body = AESGCM(secret).decrypt(sealed[:NONCE], sealed[NONCE:], place(row.shelf, row.type, row.id, row.version))
    except InvalidTag:
        return None
    return get_fhir_model_class(row.type).model_validate_json(body)


async def _record(
    setup: Setup,
    caller: Caller,
    correlation: str,
    action: AuditAction,
    type_: str | None,
    id_: str | None,
    version: str | None,
    *,
    found: int | None = None,
    refusal: str | None = None,
) -> None:
    """Commit one audit entry about this request."""
    entry = AuditEntry(
        at=instant(time.time_ns() // 1_000_000),
        action=action,
        outcome=AuditOutcome.DENY if action is AuditAction.REFUSE else AuditOutcome.PERMIT,
        actor_party=caller.party,
        actor_shelf=caller.shelf,
        actor_role=caller.role,
        client_id=caller.client_id,
        token_jti=caller.token_id,
        resource_type=type_,
        resource_id=id_,
        version=version,
        refusal=refusal,
        correlation_id=correlation,
        detail=(("found", str(found)),) if found is not None else (),
    )
    async with setup.writing(), setup.write() as session:
        await setup.commit(session, entry)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    correlation = secrets.token_hex(16)
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is not None and error.type is not ProblemType.UNAVAILABLE:
        refusals = [finding.refusal.value for finding in error.findings if finding.refusal is not None]
        refusal = refusals[0] if refusals else None
        await _record(request.app.state.setup, caller, correlation, AuditAction.REFUSE, None, None, None, refusal=refusal)
    model = OperationOutcome.model_validate(outcome(error.findings, correlation_id=correlation))
    return Response(model.model_dump_json(), STATUS[error.type], {"X-Correlation-ID": correlation, "Cache-Control": "no-store"}, FHIR_JSON)
