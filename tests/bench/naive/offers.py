"""POST of a transaction: parse to models, check, decide, filter, and write it all in one ORM session."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.bundle import Bundle
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway import vocabulary as v
from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.audit.explanation import Explanation
from gateway.clock import instant, to_minute
from gateway.decision.coalition import check_coalition_consent
from gateway.decision.decide import Ask, Denial, Permit, decide
from gateway.decision.explain import told
from gateway.decision.grants import Grant, compile_grants
from gateway.decision.record import explanation_of
from gateway.disclosure import views
from gateway.disclosure.minimize import Release, Source, classes_in, minimize
from gateway.disclosure.release import line_of, onward, row_view
from gateway.identity import Caller, ShelfId, StatusView, ThreadId, TransferId
from gateway.oauth.scopes import ActionScope, Interaction
from gateway.parties.model import Address
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.transfers.asking import coding, needs_in
from gateway.transfers.clocks import due_at, rules_for
from gateway.transfers.model import Attempt, State, Transfer, seen_by_sender
from gateway.transfers.routing import addressee, check_route, service_of
from tests.bench.naive import rows
from tests.bench.naive.checks import references
from tests.bench.naive.ledger import release_row
from tests.bench.naive.security import require
from tests.bench.naive.setup import NONCE, Setup, place

__all__ = ["Stored", "accept_offer", "answered"]

Json = dict[str, Any]
Stored = tuple[int, str, str, int]
"""(status, type, id, version) of one entry."""

_SCOPES: dict[str, tuple[ActionScope, ...]] = {
    "Patient": (ActionScope.TRANSFER_OFFER, ActionScope.CONSENT_RECORD, ActionScope.CONSENT_RECORD_OUTWARD),
    "Consent": (ActionScope.CONSENT_RECORD, ActionScope.CONSENT_RECORD_OUTWARD),
    "ServiceRequest": (ActionScope.TRANSFER_OFFER,),
    "Task": (ActionScope.TRANSFER_OFFER,),
}
_SUBJECT = {"ServiceRequest": "subject", "Task": "for", "Consent": "patient"}


@dataclass(slots=True)
class _Offer:
    """One request on its way through."""

    setup: Setup
    caller: Caller
    session: AsyncSession
    correlation: str
    at: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    thread: ThreadId = field(default_factory=lambda: ThreadId(secrets.token_hex(16)))
    keys: dict[str, tuple[str, AESGCM]] = field(default_factory=dict)
    wrapped: list[rows.Key] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)
    why: Explanation | None = None
    resources: list[Json] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


async def answered(setup: Setup, caller: Caller, request_id: str, digest: bytes) -> list[Stored] | None:
    """The answer this request had before. Raises Problem(CONFLICT) when its id was used for another."""
    async with setup.write() as session:
        found = await session.get(rows.Request, (caller.shelf, request_id))
    if found is None:
        return None
    if found.digest != digest:
        finding = Finding(IssueCode.DUPLICATE, "This request id was used for another request.", refusal=Refusal.DUPLICATE)
        raise Problem(ProblemType.CONFLICT, finding)
    return [(status, type_, id_, version) for status, type_, id_, version in json.loads(found.answer)]


async def accept_offer(
    setup: Setup, caller: Caller, bundle: Bundle, payload: Json, request_id: str | None, digest: bytes, correlation: str
) -> list[Stored]:
    """All entries, or none of them. Raises Problem; then nothing was stored."""
    async with setup.writing(), setup.write() as session:
        offer = _Offer(setup, caller, session, correlation)
        _read(offer, bundle, payload)
        _check(offer)
        _resolve(offer)
        session.add(rows.Thread(id=offer.thread, epoch=0, opened=offer.at))
        for resource, path in zip(offer.resources, offer.paths, strict=True):
            if resource["resourceType"] == "Consent":
                _take_consent(offer, resource, path)
        for resource, path in zip(offer.resources, offer.paths, strict=True):
            if resource["resourceType"] == "Task":
                _open_transfer(offer, resource, path)
            else:
                _put(offer, resource, caller.shelf, offer.at)
        stored: list[Stored] = [(201, r["resourceType"], r["id"], 1) for r in offer.resources]
        await _commit(offer, stored, request_id, digest)
        return stored


def _read(offer: _Offer, bundle: Bundle, payload: Json) -> None:
    for i, entry in enumerate(bundle.entry or ()):
        if entry.resource is None or entry.request is None or entry.request.method != "POST":
            finding = Finding(IssueCode.NOT_SUPPORTED, "Use POST with a type and give the resource.", f"Bundle.entry[{i}].request")
            raise Problem(ProblemType.UNPROCESSABLE, finding)
        offer.paths.append(f"Bundle.entry[{i}].resource")
    offer.resources = [entry["resource"] for entry in payload["entry"]]  # just found valid; dumping the models again would cost more
    urls = [entry.get("fullUrl") for entry in payload["entry"]]
    names: dict[str, str] = {}
    for resource, url in zip(offer.resources, urls, strict=True):
        resource["id"] = secrets.token_hex(16)
        if url:
            names[url] = f"{resource['resourceType']}/{resource['id']}"
    for resource in offer.resources:
        for holder in references(resource):
            holder["reference"] = names.get(holder["reference"], holder["reference"])


def _check(offer: _Offer) -> None:
    setup, caller = offer.setup, offer.caller
    for resource in offer.resources:
        require(caller, Interaction.CREATE, resource["resourceType"], *_SCOPES.get(resource["resourceType"], ()))
    for resource, path in zip(offer.resources, offer.paths, strict=True):
        if resource["resourceType"] == "Task":
            check_route(resource, caller, setup.policy, offer.at, path)
    findings: list[Finding] = []
    for resource, path in zip(offer.resources, offer.paths, strict=True):
        given = {name: value for name, value in resource.items() if name != "id"}
        findings += setup.gate.admit(given, path).findings
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)


def _resolve(offer: _Offer) -> None:
    own = {f"{r['resourceType']}/{r['id']}" for r in offer.resources}
    findings = []
    for resource, path in zip(offer.resources, offer.paths, strict=True):
        for holder in references(resource):
            type_, _, id_ = holder["reference"].partition("/")
            if holder["reference"] not in own and not offer.setup.directory.knows(offer.caller.party, type_, id_, offer.at):
                findings.append(Finding(IssueCode.NOT_FOUND, "This reference names nothing in this request or in the directory.", path))
        subject = resource.get(_SUBJECT.get(resource["resourceType"], ""))
        if resource["resourceType"] != "Patient" and not str((subject or {}).get("reference")).startswith("Patient/"):
            findings.append(Finding(IssueCode.REQUIRED, "Name the person by a reference to a Patient in this request.", path))
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)


def _take_consent(offer: _Offer, resource: Json, path: str) -> None:
    setup, caller = offer.setup, offer.caller
    kind = setup.policy.parties[caller.party].kind
    findings = check_coalition_consent(resource, caller_kind=kind, caller_party=caller.party, policy=setup.policy, base=path)
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)
    grants, _ = compile_grants(
        resource,
        consent_id=resource["id"],
        version=1,
        thread=offer.thread,
        recorder=caller.shelf,
        policy=setup.policy,
        at=offer.at,
        new_id=lambda: secrets.token_hex(16),
    )
    for grant in grants:
        offer.grants.append(grant)
        rule = {"classes": sorted(grant.classes), "purposes": sorted(grant.purposes), "rule": grant.rule.to_json() if grant.rule else None}
        offer.session.add(
            rows.Grant(
                id=grant.id,
                thread=grant.thread,
                consent=grant.consent_id,
                consent_version=grant.consent_version,
                recorder=grant.recorder,
                receiver=grant.receiver_party,
                unit=grant.receiver_unit,
                scope=grant.scope,
                state=grant.state.value,
                starts=grant.starts,
                ends=grant.ends,
                rule=json.dumps(rule),
            )
        )


def _open_transfer(offer: _Offer, task: Json, path: str) -> None:
    setup, caller = offer.setup, offer.caller
    policy = setup.policy
    address = addressee(task, policy, path)
    request = next(r for r in offer.resources if task["focus"]["reference"].endswith(r["id"]))
    patient = next(r for r in offer.resources if r["resourceType"] == "Patient")
    service = policy.services[service_of(request, policy, path)]
    source = Source(patient, request, task)
    ask = Ask(
        sender=policy.parties[caller.party],
        sender_unit=caller.unit,
        receiver=policy.parties[address.party],
        receiver_unit=address.unit,
        receiver_role=address.role,
        service=service,
        purposes=caller.purposes,
        at=offer.at,
        grants=tuple(offer.grants),
        present=classes_in(source, setup.plan),
        state=State.OFFERED.value,
        needs=needs_in(task),
    )
    permit = decide(ask, policy)
    if isinstance(permit, Denial):
        refusal = permit.refusal
        raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, told(refusal), f"{path}.owner", refusal))
    transfer = _transfer(offer, address, permit, request, task)
    offer.why = why = explanation_of(ask, permit, policy, party=caller.party)
    release = minimize(source, permit, setup.plan, thread=offer.thread, shelf=ShelfId(address.shelf), needs=service.needs)
    _release(offer, transfer, address, release, permit)
    _facts(offer, transfer)
    offer.audit.append(_released(offer, transfer, permit, release, why))
    offer.session.add(release_row(offer.at, caller, transfer, permit, release, offer.grants, policy.version))
    view = row_view(policy, transfer, permit.row)
    seen, line = seen_by_sender(transfer.state, view), line_of(policy, transfer)
    shown = views.sender_task(task, transfer, seen, line, number=task["id"], row=permit.row, full=view is StatusView.FULL)
    _put(offer, shown, caller.shelf, offer.at)


def _transfer(offer: _Offer, address: Address, permit: Permit, request: Json, task: Json) -> Transfer:
    task_id, request_id, patient, consent, provenance, own = (secrets.token_hex(16) for _ in range(6))
    return Transfer(
        id=TransferId(own),
        thread=offer.thread,
        version=1,
        state=State.OFFERED,
        responsible=offer.caller.party,
        sender_shelf=offer.caller.shelf,
        sender_task=task["id"],
        sender_request=request["id"],
        service=coding(request.get("code"), v.SERVICE) or "",
        priority=request.get("priority") or "routine",
        purposes=offer.caller.purposes,
        opened=offer.at,
        closed=None,
        attempt=Attempt(
            number=1,
            party=address.party,
            shelf=ShelfId(address.shelf),
            address=address.id,
            task=task_id,
            request=request_id,
            patient=patient,
            consent=consent,
            provenance=provenance,
            row=permit.row.id,
            agreement=permit.agreement.id,
            basis=permit.basis.id,
            offered=offer.at,
        ),
    )


def _release(offer: _Offer, transfer: Transfer, address: Address, release: Release, permit: Permit) -> None:
    """The receiver's copies, and the delivery that tells its system."""
    policy, attempt, sender = offer.setup.policy, transfer.attempt, offer.caller.party
    allowed = onward(policy, policy.parties[attempt.party], offer.grants, offer.at)
    copies = [
        views.patient_copy(release, attempt.patient),
        views.receiver_request(release, transfer, address, sender),
        views.receiver_task(release.inputs, views.receiver_meta(release), transfer, address, sender, permit.ends),
        views.provenance_copy(transfer, sender),
        views.consent_copy(attempt.consent, attempt.patient, allowed, offer.at),
    ]
    for copy in copies:
        _put(offer, copy, attempt.shelf, to_minute(offer.at), until=permit.ends)
    endpoint = policy.endpoints.get(attempt.shelf)
    if endpoint is not None:
        offer.session.add(
            rows.Delivery(
                id=secrets.token_hex(16),
                shelf=attempt.shelf,
                endpoint=endpoint.id,
                lane=f"{endpoint.id}|{transfer.id}",
                place=transfer.version,
                kind="copies",
                thread=offer.thread,
                transfer=transfer.id,
                parts=json.dumps([[copy["resourceType"], copy["id"], 1] for copy in copies]),
                priority=transfer.priority,
                state="queued",
                due=offer.at,
                tries=0,
                fence=0,
                made=offer.at,
            )
        )


def _facts(offer: _Offer, transfer: Transfer) -> None:
    attempt, session, policy = transfer.attempt, offer.session, offer.setup.policy
    session.add(
        rows.Transfer(
            id=transfer.id,
            thread=transfer.thread,
            version=1,
            state=transfer.state.value,
            responsible=transfer.responsible,
            attempt=attempt.number,
            sender_shelf=transfer.sender_shelf,
            sender_task=transfer.sender_task,
            sender_request=transfer.sender_request,
            service=transfer.service,
            priority=transfer.priority,
            purposes=" ".join(sorted(transfer.purposes)),
            opened=transfer.opened,
        )
    )
    session.add(
        rows.Attempt(
            transfer=transfer.id,
            number=attempt.number,
            shelf=attempt.shelf,
            address=attempt.address,
            task=attempt.task,
            request=attempt.request,
            patient=attempt.patient,
            consent=attempt.consent,
            provenance=attempt.provenance,
            row=attempt.row,
            agreement=attempt.agreement,
            basis=attempt.basis,
            offered=attempt.offered,
        )
    )
    zone = ZoneInfo(policy.timezones[policy.parties[attempt.party].region])
    for rule in rules_for(policy.clocks, transfer, policy.parties[attempt.party].region):
        due = due_at(rule, transfer, offer.at, zone)
        session.add(rows.Timer(id=secrets.token_hex(16), transfer=transfer.id, clock=rule.id, due=due, state="armed"))


def _put(offer: _Offer, resource: Json, shelf: str, at: int, *, until: int | None = None) -> None:
    """One version of one resource: through its model, as every answer goes, then sealed."""
    type_, id_ = resource["resourceType"], resource["id"]
    resource["meta"] = {**resource.get("meta", {}), "versionId": "1", "lastUpdated": instant(at)}
    body = get_fhir_model_class(type_).model_validate(resource).model_dump_json().encode()
    nonce = secrets.token_bytes(NONCE)
    of = "" if shelf == offer.caller.shelf else "person" if type_ in ("Patient", "Consent") else "transfer"
    name, key = _key(offer, shelf, of)
    offer.session.add(
        rows.Copy(
            shelf=shelf,
            type=type_,
            id=id_,
            version=1,
            current=True,
            final=False,
            thread=offer.thread,
            status=resource.get("status"),
            business=coding(resource.get("businessStatus"), v.BUSINESS_STATUS),
            owner=_tail(resource.get("owner")),
            patient=_tail(resource.get("subject") or resource.get("for") or resource.get("patient")),
            target=_tail(resource.get("focus")),
            identifiers=" ".join(offer.setup.token(shelf, i["system"], i["value"]) for i in resource.get("identifier", ())) or None,
            updated=at,
            readable_until=until,
            sealed=bytes((len(name),)) + name.encode() + nonce + key.encrypt(nonce, body, place(shelf, type_, id_, 1)),
        )
    )


def _key(offer: _Offer, shelf: str, of: str) -> tuple[str, AESGCM]:
    """The party's own key, or the one of the person or of the transfer that a release puts on another's shelf; with its name."""
    held = offer.keys.get(f"{shelf}|{of}")
    if held is None:
        secret, nonce, name = secrets.token_bytes(32), secrets.token_bytes(NONCE), secrets.token_hex(16) if of else ""
        slot = f"{shelf}|{name}" if name else shelf
        wrapped = nonce + offer.setup.wrap.encrypt(nonce, secret, f"{offer.thread}|{slot}".encode())
        offer.wrapped.append(rows.Key(thread=offer.thread, shelf=slot, wrapped=wrapped))
        offer.session.add(rows.DataKey(thread=offer.thread, slot=slot, made=0))
        held = offer.keys[f"{shelf}|{of}"] = (name, AESGCM(secret))
    return held


async def _commit(offer: _Offer, stored: Sequence[Stored], request_id: str | None, digest: bytes) -> None:
    """Keys first, then everything they seal; only under the policy that decided."""
    setup, caller, session = offer.setup, offer.caller, offer.session
    epoch = await session.scalar(select(rows.Epoch.__table__.c.value).where(rows.Epoch.__table__.c.name == "policy"))
    if epoch != setup.policy.epoch:
        raise Problem(ProblemType.UNAVAILABLE, Finding(IssueCode.TRANSIENT, "The configuration changed. Send the same request again."))
    if request_id is not None:
        session.add(rows.Request(shelf=caller.shelf, request=request_id, digest=digest, answer=json.dumps(stored), made=offer.at))
    entry = AuditEntry(
        at=instant(offer.at),
        action=AuditAction.CREATE,
        outcome=AuditOutcome.PERMIT,
        actor_party=caller.party,
        actor_shelf=caller.shelf,
        actor_role=caller.role,
        client_id=caller.client_id,
        token_jti=caller.token_id,
        policy_version=setup.policy.version,
        correlation_id=offer.correlation,
        detail=tuple((f"wrote.{i}", f"{type_}/{id_}/{version}") for i, (_, type_, id_, version) in enumerate(stored)),
    )
    async with setup.keystore() as keystore:
        keystore.add_all(offer.wrapped)
        await keystore.commit()
    try:
        await setup.commit(session, *offer.audit, entry, why=offer.why)
    except IntegrityError:
        raise Problem(ProblemType.UNAVAILABLE, Finding(IssueCode.TRANSIENT, "Send the same request again.")) from None


def _released(offer: _Offer, transfer: Transfer, permit: Permit, release: Release, why: Explanation) -> AuditEntry:
    caller = offer.caller
    return AuditEntry(
        at=instant(offer.at),
        action=AuditAction.RELEASE,
        outcome=AuditOutcome.PERMIT,
        actor_party=caller.party,
        actor_shelf=caller.shelf,
        actor_role=caller.role,
        client_id=caller.client_id,
        thread=transfer.thread,
        transfer=transfer.id,
        attempt="1",
        target_party=transfer.attempt.party,
        target_shelf=transfer.attempt.shelf,
        basis=permit.basis.id,
        consents=permit.grants,
        agreement=permit.agreement.id,
        policy_version=offer.setup.policy.version,
        classes=release.classes,
        correlation_id=offer.correlation,
        detail=(("row", permit.row.id), ("service", transfer.service), ("decision.0", why.digest)),
    )


def _tail(reference: Any) -> str | None:
    return reference["reference"].rpartition("/")[2] if isinstance(reference, dict) else None
