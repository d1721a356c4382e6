"""The edge of every FHIR route: who calls, may she, is it well formed; and the one error path, audited.

The order of checks is the order of answers: token, scope, device, address and agreement, shape. Everything here is decided
without looking at any person.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.errors import STATUS, answer, unexpected
from gateway.api.limits import Limits
from gateway.api.reading import read_body
from gateway.api.shown import Showing
from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome
from gateway.clock import instant, millis
from gateway.decision.withdrawal import is_withdrawal
from gateway.fhir.validate import validate
from gateway.identity import Caller
from gateway.oauth.callers import Callers
from gateway.oauth.devices import DeviceRule
from gateway.oauth.scopes import ActionScope, Interaction, allows, has_action
from gateway.parties.directory import Directory
from gateway.parties.ingest import Gate
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.reports.stating import SCOPE_OF, code_of, faults
from gateway.shelves.copies import Copy, reference_id
from gateway.storage.writer import StorageError, unavailable, uncertain
from gateway.storage.writeset import WriteSet
from gateway.transfers.intake import Entry
from gateway.transfers.routing import check_route, given_back
from gateway.transfers.service import Referrals
from gateway.transfers.work import Parts

__all__ = ["WRITES", "Edge", "Seen"]

Json = dict[str, Any]
log = structlog.get_logger("gateway.api")

_OFFER, _ACCEPT = ActionScope.TRANSFER_OFFER, ActionScope.TRANSFER_ACCEPT
_RECORD, _OUTWARD = ActionScope.CONSENT_RECORD, ActionScope.CONSENT_RECORD_OUTWARD
_REPORT: Final = ActionScope.REPORT_SEND
_DUTIES: Final = (_REPORT, ActionScope.REPORT_ACKNOWLEDGE, ActionScope.EMERGENCY_REVIEW)
_WITHDRAW: Final = (ActionScope.CONSENT_WITHDRAW, ActionScope.OWN_WITHDRAW)
READS: Final = (ActionScope.TRANSFER_READ, ActionScope.TRANSFER_READ_OWN)
WRITES: Final[Mapping[tuple[str, str], tuple[ActionScope, ...]]] = {
    ("POST", "Patient"): (_OFFER, _RECORD, _OUTWARD, _REPORT),
    ("PUT", "Patient"): (_OFFER, _ACCEPT, _RECORD, _OUTWARD),
    ("POST", "Consent"): (_RECORD, _OUTWARD),
    ("PUT", "Consent"): (_RECORD, _OUTWARD),
    ("POST", "ServiceRequest"): (_OFFER, _REPORT),
    ("PUT", "ServiceRequest"): (_OFFER,),
    ("POST", "Task"): (_OFFER,),
    ("PUT", "Task"): (_OFFER, _ACCEPT, *_DUTIES),
    ("PATCH", "Task"): (_OFFER, _ACCEPT, *_DUTIES),
    ("POST", "Communication"): (ActionScope.MESSAGE_SEND,),
}
"""The action scopes of which a write needs one, beside the SMART scope of its FHIR interaction."""


@dataclass(slots=True)
class Seen:
    """One request, once its caller is known."""

    caller: Caller
    correlation: str
    at: int


class Edge:
    """Built once; shared by all FHIR routes."""

    def __init__(
        self,
        *,
        callers: Callers,
        showing: Showing,
        limits: Limits,
        device: DeviceRule,
        gate: Callable[[], Gate],
        directory: Callable[[], Directory],
        referrals: Referrals,
        parts: Parts,
    ) -> None:
        self._callers = callers
        self._showing = showing
        self._limits = limits
        self._device = device
        self._gate = gate
        self.directory = directory
        self.referrals = referrals
        self.parts = parts

    def handler(self, serve: Callable[[Request, Seen], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler: authenticate before, map every problem after."""

        async def endpoint(request: Request) -> Response:
            correlation = secrets.token_hex(16)
            seen: Seen | None = None
            try:
                shown = partial(self._showing.of, request)
                caller = await self._callers.authenticate(_authorization(request), shown)
                self._limits.call(caller.client_id)
                seen = Seen(caller, correlation, millis(self.parts.clock.now()))
                return await serve(request, seen)
            except Problem as problem:
                return await self._refuse(problem, seen, request, correlation)
            except StorageError:  # a read of the hub's own; after a write it may be the one that makes up the answer
                return answer(unavailable() if request.method in ("GET", "HEAD") else uncertain(), correlation)
            except Exception as error:  # the outermost edge: the type is logged, never the text
                log.error("unexpected", kind=type(error).__name__, correlation=correlation)
                return unexpected(correlation)

        return endpoint

    async def _refuse(self, problem: Problem, seen: Seen | None, request: Request, correlation: str) -> Response:
        if seen is None and problem.type is ProblemType.UNAUTHENTICATED:
            self._limits.failed(request.scope)
        if seen is not None and problem.type is not ProblemType.UNAVAILABLE:
            refusals = [f.refusal for f in problem.findings if f.refusal is not None]
            status = str(STATUS[problem.type])
            entry = self.entry(
                seen,
                AuditAction.REFUSE,
                outcome=AuditOutcome.DENY,
                refusal=refusals[0].value if refusals else None,
                detail=(("method", request.method), ("status", status), ("problem", problem.type.value), *problem.grounds),
                target=dict(problem.grounds).get("target"),
            )
            try:
                await self.parts.writer.commit(WriteSet(audit=[entry], why=[(0, problem.why)] if problem.why is not None else []))
            except Problem as lost:
                return answer(lost, correlation)
        return answer(problem, correlation)

    def entry(
        self,
        seen: Seen,
        action: AuditAction,
        *,
        outcome: AuditOutcome = AuditOutcome.PERMIT,
        refusal: str | None = None,
        resource: tuple[str, str | None, int | None] | None = None,
        target: str | None = None,
        detail: tuple[tuple[str, str], ...] = (),
    ) -> AuditEntry:
        """An audit entry about this request. `resource` only when it was found on the caller's own shelf."""
        caller = seen.caller
        type_, id_, version = resource or (None, None, None)
        return AuditEntry(
            at=instant(seen.at),
            action=action,
            outcome=outcome,
            actor_party=caller.party,
            actor_shelf=caller.shelf,
            actor_role=caller.role,
            client_id=caller.client_id,
            token_jti=caller.token_id,
            resource_type=type_,
            resource_id=id_,
            version=str(version) if version is not None else None,
            target_party=target,
            policy_version=self.parts.policy().version,
            refusal=refusal,
            correlation_id=seen.correlation,
            detail=detail,
        )

    async def record(
        self, seen: Seen, action: AuditAction, type_: str, id_: str | None, version: int | None, *, found: int | None = None
    ) -> None:
        """Commit the audit entry of a read before it is answered. Raises Problem(UNAVAILABLE): no audit, no effect."""
        detail = (("found", str(found)),) if found is not None else ()
        entry = self.entry(seen, action, resource=(type_, id_, version), detail=detail)
        await self.parts.writer.commit(WriteSet(audit=[entry]))

    def may(self, seen: Seen, interaction: Interaction, type_: str, *any_of: ActionScope) -> bool:
        """Whether the caller has the SMART scope of an interaction and one of these action scopes."""
        scopes = seen.caller.scopes
        return allows(scopes, interaction, type_) and any(has_action(scopes, action) for action in any_of)

    def require(self, seen: Seen, interaction: Interaction, type_: str, *any_of: ActionScope) -> None:
        """Scope, then device. Raises Problem(FORBIDDEN)."""
        if not self.may(seen, interaction, type_, *any_of):
            say = "Your client has no scope for this."
            raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, refusal=Refusal.SCOPE_MISSING))
        self.require_device(seen)

    def readers(self, type_: str) -> tuple[ActionScope, ...]:
        """The action scopes of which reading a shelf needs one. A reviewer reads of a shelf the Tasks that its role has to review."""
        return (*READS, ActionScope.EMERGENCY_REVIEW) if type_ == "Task" else READS

    def queue(self, seen: Seen) -> frozenset[str] | None:
        """The addresses whose Tasks are all that this caller may read of its shelf; None for a caller who reads all of it."""
        caller = seen.caller
        if any(has_action(caller.scopes, scope) for scope in READS):
            return None
        addresses = self.parts.policy().parties[caller.party].addresses
        return frozenset(address.id for address in addresses if address.shelf == caller.shelf and address.role == caller.role)

    def holds(self, seen: Seen, copy: Copy) -> bool:
        """Whether a copy on the caller's shelf is there for this caller."""
        queue = self.queue(seen)
        return queue is None or reference_id(copy.resource().get("owner")) in queue

    def require_device(self, seen: Seen) -> None:
        """Asked once the scope is there (R18). Raises Problem(FORBIDDEN, device-not-allowed)."""
        finding = self._device.problem(seen.caller)
        if finding is not None:
            raise Problem(ProblemType.FORBIDDEN, finding)

    def require_write(self, seen: Seen, method: str, type_: str, resource: Json | None = None) -> None:
        """The scopes of a write; those for a new Consent or Task depend on what it says. Raises Problem(FORBIDDEN, scope-missing)."""
        interaction = Interaction.CREATE if method == "POST" else Interaction.UPDATE
        needed = WRITES.get((method, type_), ())
        if (method, type_) == ("POST", "Consent"):
            needed = (*needed, *_WITHDRAW) if resource is None else _WITHDRAW if is_withdrawal(resource) else needed
        elif (method, type_) == ("POST", "Task"):
            special = SCOPE_OF.get(code_of(resource)) if resource is not None else None
            needed = (*needed, *SCOPE_OF.values()) if resource is None else needed if special is None else (special,)
        self.require(seen, interaction, type_, *needed)

    def check(self, seen: Seen, entries: list[Entry], *, validated: bool) -> None:
        """All that is decided before any person is looked at. Raises Problem; nothing is stored then."""
        if not validated:
            faults = [finding for entry in entries for finding in validate(entry.resource, base=entry.at)]
            if faults:
                raise Problem(ProblemType.UNPROCESSABLE, *faults)
        for entry in entries:
            if entry.method == "POST" and entry.resource["resourceType"] == "Task":
                check_route(entry.resource, seen.caller, self.parts.policy(), seen.at, entry.at)
        self.admitted(entries)

    def admitted(self, entries: list[Entry]) -> list[Entry]:
        """The entries without what nothing depends on. Raises Problem(UNPROCESSABLE) listing everything that may not be sent."""
        gate = self._gate()
        findings: list[Finding] = []
        for entry in entries:
            if entry.resource["resourceType"] == "Task" and entry.method == "PUT":
                continue  # an act: only what a move may carry is read from it
            findings += gate.admit(entry.resource, entry.at).findings
            if entry.resource["resourceType"] == "Task":
                findings += given_back(entry.resource, entry.at)
                findings += faults(entry.resource, entry.at)
        if findings:
            raise Problem(ProblemType.UNPROCESSABLE, *findings)
        return entries

    async def form(self, request: Request) -> list[tuple[str, str]]:
        """Parameters of POST `_search`."""
        body = await read_body(request, frozenset({"application/x-www-form-urlencoded"}))
        try:
            return parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
        except ValueError:
            say = "Send at most 50 parameters, percent-encoded."
            raise Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.STRUCTURE, say)) from None


def _authorization(request: Request) -> str | None:
    """The one ``Authorization`` header. Two of them are none: whatever stands before the hub may have looked at the other one."""
    given = request.headers.getlist("authorization")
    return given[0] if len(given) == 1 else None
