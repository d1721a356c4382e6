"""What a new Task says it is, and on which law a named person rests it. Pure.

A transfer rests on consent. A report, a danger told at once and a demand do not: each names the human who makes it, and its law is a row of
the matrix whose basis needs no consent. Nothing here looks at any person but at what the Task and its Patient say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway import vocabulary as v
from gateway.oauth.scopes import ActionScope
from gateway.parties.model import MatrixRow, Party, Policy
from gateway.problems import Finding, IssueCode, Refusal
from gateway.transfers.asking import coding
from gateway.transfers.model import State

__all__ = ["DEMAND", "EMERGENCY", "REPORT", "SCOPE_OF", "Stated", "basis_for", "code_of", "faults", "reporter", "stated_basis", "worker_in"]

Json = dict[str, Any]
REPORT: Final = "report"
EMERGENCY: Final = "emergency"
DEMAND: Final = "demand"
SCOPE_OF: Final[Mapping[str | None, ActionScope]] = {
    REPORT: ActionScope.REPORT_SEND,
    EMERGENCY: ActionScope.EMERGENCY_REQUEST,
}
"""The action scope that a new Task of a code needs, where that is not `transfer.offer`."""

_OWN: Final[Mapping[str, frozenset[str]]] = {
    # Task.input code -> the Tasks it may stand in; free text and claims nowhere else
    "report-ground": frozenset({REPORT}),
    "report-basis": frozenset({REPORT}),
    "whereabouts": frozenset({REPORT}),
    "form-number": frozenset({DEMAND}),
    "call-back-line": frozenset({DEMAND}),
}
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    REPORT: ("report-ground", "report-basis"),
    DEMAND: ("form-number", "call-back-line", "basis"),
}


@dataclass(frozen=True, slots=True)
class Stated:
    """How a new Task is opened: its code, the basis that was stated or follows from her age band, the state it begins in."""

    code: str | None
    basis: str | None
    state: State


def code_of(task: Json) -> str | None:
    """The Task's code in the coalition's system."""
    return coding(task.get("code"), v.TASK_CODE)


def stated_basis(task: Json) -> str | None:
    """The legal basis that a named person stated in the Task."""
    for item in task.get("input") or ():
        if coding(item.get("type"), v.TASK_INPUT) == "basis":
            return coding(item.get("valueCodeableConcept"), v.BASIS)
    return None


def worker_in(task: Json) -> str | None:
    """The human who makes it."""
    for extension in task.get("extension") or ():
        if extension.get("url") == v.EXT_ACTING_WORKER and isinstance(extension.get("valueString"), str):
            name: str = extension["valueString"]
            return name
    return None


def faults(task: Json, path: str) -> list[Finding]:
    """What is missing or out of place in a new Task, by what it says it is. Looks at shape alone."""
    code = code_of(task) or ""
    kinds = [coding(item.get("type"), v.TASK_INPUT) for item in task.get("input") or ()]
    found = []
    for i, kind in enumerate(kinds):
        if kind is not None and code not in _OWN.get(kind, {code}):
            say = "This belongs in a report or a demand, and nowhere else. Leave it out."
            found.append(Finding(IssueCode.BUSINESS_RULE, say, f"{path}.input[{i}]", Refusal.NARRATIVE_NOT_ALLOWED))
    for kind in _NEEDED.get(code, ()):
        if kind not in kinds:
            say = "A report says its ground and its basis; a demand its authority, the number of its form and a line to call back."
            found.append(Finding(IssueCode.REQUIRED, say, f"{path}.input"))
            break
    name = worker_in(task)
    if code in (REPORT, EMERGENCY) and (name is None or len(name.split()) != 1):
        say = "A named human makes this: give the acting-worker extension, a first name alone. Say the last name by telephone."
        found.append(Finding(IssueCode.REQUIRED, say, f"{path}.extension"))
    if code == EMERGENCY and coding(task.get("statusReason"), v.EMERGENCY_REASON) is None:
        found.append(Finding(IssueCode.REQUIRED, "Give the coded reason in statusReason.", f"{path}.statusReason"))
    return found


def basis_for(policy: Policy, sender: Party, receiver: Party, service: str, band: str | None) -> str | None:
    """The basis of the first row that needs no consent and is for her age band.

    None where the band tells none, or where more than one law may fit since her age is not known: then a named human states one.
    """
    fitting: list[MatrixRow] = []
    for row in policy.rows:
        ours = (row.sender_kind, row.receiver_kind) == (sender.kind, receiver.kind) and service in row.services
        free = row.scope is None and row.basis in policy.bases and not policy.bases[row.basis].needs_consent
        if ours and free and row.region in ("", sender.region) and (row.age_bands is None or band in row.age_bands):
            fitting.append(row)
    if not fitting:
        return None
    bands = {row.age_bands for row in fitting}
    return fitting[0].basis if len(bands) == 1 else None


def reporter(policy: Policy, sender: Party, role: str, name: str) -> Json:
    """Who reports, for the society to call back: first name, role, the party's line. The last name is said by telephone."""
    line = next((route.last_resort_line for route in sender.routes), None)
    title = policy.displays.get("role", {}).get(role, role)
    said = ", ".join(part for part in (name, title, line) if part)
    return {"type": {"coding": [{"system": v.TASK_INPUT, "code": "reporter"}]}, "valueString": said[:160]}
