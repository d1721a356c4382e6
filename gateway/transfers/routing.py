"""Whom a Task is addressed to, and whether an agreement joins the two: decided before any person is looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway import vocabulary as v
from gateway.decision.agreement import NotJoined, find_agreement
from gateway.decision.explain import told
from gateway.decision.plan import index_of
from gateway.identity import Caller
from gateway.parties.model import Address, Policy
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.reports.societies import societies
from gateway.reports.stating import REPORT, code_of
from gateway.shelves.copies import reference_id
from gateway.transfers.asking import coding

__all__ = ["addressee", "check_route", "crisis_line", "given_back", "service_of"]

Json = dict[str, Any]


def check_route(task: Json, caller: Caller, policy: Policy, at: int, path: str) -> Address:
    """The receiver of a new Task. Raises Problem: mixed-unit-address, a bare organization, outside-agreement."""
    name = (reference_id(task.get("owner")) or "").lower()
    if name in policy.mixed_units or name.rpartition(".")[2] in policy.mixed_units:
        say = "A mixed unit is never an address. Send to the member organization, by a role or team from the directory."
        finding = Finding(IssueCode.BUSINESS_RULE, say, f"{path}.owner", Refusal.MIXED_UNIT_ADDRESS)
        raise Problem(ProblemType.UNPROCESSABLE, finding, *_members(task, caller, policy, at))
    address = addressee(task, policy, path)
    joined = find_agreement(index_of(policy).agreements, policy.parties[caller.party], policy.parties[address.party], at)
    if isinstance(joined, NotJoined):
        finding = Finding(IssueCode.FORBIDDEN, told(joined.refusal), f"{path}.owner", joined.refusal)
        raise Problem(ProblemType.FORBIDDEN, finding, grounds=(("target", address.party), ("gate", "agreement")))
    if address.party in policy.suspended:
        say = "This party can't be reached through the hub at present. Call its line, or offer to another."
        finding = Finding(IssueCode.FORBIDDEN, say, f"{path}.owner", Refusal.OUTSIDE_AGREEMENT)
        raise Problem(ProblemType.FORBIDDEN, finding, grounds=(("target", address.party), ("gate", "suspended")))
    return address


def _members(task: Json, caller: Caller, policy: Policy, at: int) -> list[Finding]:
    """Whom to send to instead of a mixed unit: for a report the societies, one that she chose first. From configuration alone."""
    if code_of(task) != REPORT:
        return []
    inputs = task.get("input") if isinstance(task.get("input"), list) else []
    chosen = frozenset(coding(item.get("valueCodeableConcept"), v.CULTURAL) or "" for item in inputs or () if isinstance(item, dict))
    found = societies(policy, policy.parties[caller.party], at, chosen)
    return [Finding(IssueCode.INFORMATIONAL, f"Send to {party.name} ({party.routes[0].first}).") for party in found]


def given_back(task: Json, path: str) -> list[Finding]:
    """What only a receiver writes, in a Task that is new. An offer belongs to the owner of a service (R11), never to who asks for it."""
    found = []
    for i, item in enumerate(task.get("output") or ()):
        if coding(item.get("type"), v.TASK_OUTPUT) == "offer":
            say = "Only the owner of a service may offer it, or state an amount or a time. Ask for the service alone."
            found.append(Finding(IssueCode.BUSINESS_RULE, say, f"{path}.output[{i}]", Refusal.NOT_OWNER_OF_OFFER))
        else:
            found.append(Finding(IssueCode.BUSINESS_RULE, "What a receiver gives back is written by the receiver.", f"{path}.output[{i}]"))
    return found


def crisis_line(resources: Iterable[Json], policy: Policy) -> Finding | None:
    """The line that always answers, for a request that asks for somebody at once: it is in every refusal of one (R6).

    Looks at a Task's priority and owner as sent; the line comes from configuration. None when it is not such a request.
    """
    for task in resources:
        address = policy.addresses.get(reference_id(task.get("owner")) or "")
        if task.get("resourceType") == "Task" and task.get("priority") == "stat" and address is not None:
            for route in policy.parties[address.party].routes:
                say = f"Somebody answers now: {route.line_name}, {route.last_resort_line}. Calling is always allowed."
                return Finding(IssueCode.INFORMATIONAL, say)
    return None


def addressee(task: Json, policy: Policy, path: str) -> Address:
    """The role or team that a Task names (R7). Raises Problem(UNPROCESSABLE): the same for one that does not exist."""
    owner = task.get("owner")
    address = policy.addresses.get(reference_id(owner) or "")
    if address is None or not isinstance(owner, dict) or owner["reference"] != f"{address.kind.value}/{address.id}":
        say = "Address a role or a team of the receiver from the directory (PractitionerRole or HealthcareService)."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{path}.owner"))
    return address


def service_of(request: Json, policy: Policy, path: str) -> str:
    """The service that a ServiceRequest asks for. Raises Problem(UNPROCESSABLE, unknown-code)."""
    code = coding(request.get("code"), v.SERVICE)
    if code is None or code not in policy.services:
        say = "The ServiceRequest must ask for a service of the coalition by its code."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.CODE_INVALID, say, path, Refusal.UNKNOWN_CODE))
    return code
