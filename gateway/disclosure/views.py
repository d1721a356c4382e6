"""Views: how the facts of a transfer look on one shelf. Pure; what it is given is all it can show.

Every function returns a whole resource without `meta.versionId` and `meta.lastUpdated`, so that a view can be compared with
what lies on the shelf and written only when it changed. Times that the other side produced are cut to the minute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway import vocabulary as v
from gateway.clock import instant, to_minute
from gateway.decision.grants import Grant
from gateway.disclosure.minimize import OBLIGATIONS, Release
from gateway.parties.model import Address, MatrixRow
from gateway.transfers.model import REPORTED, Attempt, Seen, State, Transfer, seen_by_receiver

__all__ = [
    "MANAGED",
    "Line",
    "card_id",
    "consent_copy",
    "contact_card",
    "patient_copy",
    "patient_with",
    "pid_of",
    "provenance_copy",
    "receiver_meta",
    "receiver_request",
    "receiver_task",
    "request_status",
    "sender_task",
    "shows_card",
]

Json = dict[str, Any]

MANAGED: Final = ("status", "businessStatus", "statusReason", "output", "identifier", "lastModified", "meta")
"""Elements of a sender's Task that the hub writes: whatever an author sends in them is replaced."""

_SILENT: Final = frozenset({"on-hold", "closed"})
"""What a full view shows of these states is the code alone: nothing that comes back meanwhile makes a new version of it."""

_SUBSETTED: Final = {"system": v.V3_OBSERVATION_VALUE, "code": "SUBSETTED"}
_OBLIGATIONS: Final = tuple({"system": v.V3_ACT_CODE, "code": code} for code in OBLIGATIONS)
_TRANSFER: Final = {"coding": [{"system": v.TASK_CODE, "code": "transfer"}]}
_REPORT: Final = {"coding": [{"system": v.TASK_CODE, "code": "report"}]}


@dataclass(frozen=True, slots=True)
class Line:
    """The line that always answers, shown with every offer (R6)."""

    name: str
    phone: str


def reference(type_: str, id_: str) -> Json:
    """A relative reference; never a display."""
    return {"reference": f"{type_}/{id_}"}


def party_reference(party: str) -> Json:
    """A directory reference to an organization."""
    return reference("Organization", party)


def owner_reference(address: Address) -> Json:
    """A directory reference to the role or team addressed (R7)."""
    return reference(address.kind.value, address.id)


def coded(system: str, code: str) -> Json:
    """A CodeableConcept of one coding."""
    return {"coding": [{"system": system, "code": code}]}


def pid_of(secret_seed: str, shelf: str) -> str:
    """The pairwise person number on one shelf: unlinkable to any other shelf's without the seed, which never leaves the hub."""
    return hashlib.sha256(f"pid|{secret_seed}|{shelf}".encode()).hexdigest()[:32]


def card_id(transfer: str, shelf: str) -> str:
    """The id of the contact card on the sender's shelf: made once for a transfer, from its secret id."""
    return hashlib.sha256(f"card|{transfer}|{shelf}".encode()).hexdigest()[:32]


def receiver_meta(release: Release) -> Json:
    """The label of a released copy: always SUBSETTED, so that the tag says nothing about a person."""
    security: list[Json] = [{"system": v.V3_CONFIDENTIALITY, "code": release.confidentiality}]
    security += [{"system": v.V3_ACT_CODE, "code": code} for code in release.sensitivity]
    security += [{"system": v.V3_ACT_CODE, "code": code} for code in release.obligations]
    return {"security": security, "tag": [_SUBSETTED]}


def _hub_meta() -> Json:
    return {"security": [{"system": v.V3_CONFIDENTIALITY, "code": "R"}, *_OBLIGATIONS], "tag": [_SUBSETTED]}


def patient_copy(release: Release, id_: str) -> Json:
    """The person, as far as this receiver may know her."""
    resource: Json = {
        "resourceType": "Patient",
        "id": id_,
        "meta": receiver_meta(release),
        "identifier": [{"system": v.PID, "value": pid_of(release.thread, release.shelf)}],
    }
    resource.update({element: list(values) for element, values in release.patient.items()})
    return resource


def patient_with(release: Release, held: Json) -> Json:
    """The receiver's Patient with what this release says of her; what another transfer brought stays, under the higher label."""
    fresh = patient_copy(release, held["id"])
    urls = {extension["url"] for extension in fresh.get("extension", ())}
    kept = [extension for extension in held.get("extension", ()) if extension["url"] not in urls]
    merged = {**held, **fresh}
    if kept or urls:
        merged["extension"] = [*kept, *fresh.get("extension", ())]
    merged["meta"] = {**fresh["meta"], "security": _joined(held["meta"].get("security", ()), fresh["meta"]["security"])}
    return merged


def _joined(one: Sequence[Json], other: Sequence[Json]) -> list[Json]:
    """Both sets of labels, with the high-water mark of confidentiality first."""
    levels = [label["code"] for label in (*one, *other) if label["system"] == v.V3_CONFIDENTIALITY]
    top = {"system": v.V3_CONFIDENTIALITY, "code": max(levels, key=("N", "R", "V").index)}
    rest: list[Json] = []
    for label in (*one, *other):
        if label["system"] != v.V3_CONFIDENTIALITY and label not in rest:
            rest.append(label)
    return [top, *rest]


def receiver_request(release: Release, transfer: Transfer, receiver: Address, sender_party: str) -> Json:
    """The hub-made ServiceRequest on the receiver's shelf (intent filler-order, no basedOn across shelves)."""
    attempt = transfer.attempt
    resource: Json = {
        "resourceType": "ServiceRequest",
        "id": attempt.request,
        "meta": receiver_meta(release),
        "identifier": [_number("PLAC", attempt.request)],
        "status": request_status(transfer.stands),
        "intent": "filler-order",
        "priority": transfer.priority,
        "code": coded(v.SERVICE, transfer.service),
        "subject": reference("Patient", attempt.patient),
        "authoredOn": instant(to_minute(attempt.offered)),
        "requester": party_reference(sender_party),
        "performer": [owner_reference(receiver)],
    }
    if "reasonCode" in release.request:
        resource["reasonCode"] = list(release.request["reasonCode"])
    return resource


def receiver_task(inputs: Sequence[Any], meta: Json, transfer: Transfer, owner: Address, sender_party: str, ends: int | None) -> Json:
    """The Task the receiver works on: the real state, what it was given, what it gave back, and its own worker's name."""
    attempt = transfer.attempt
    seen = seen_by_receiver(transfer.stands)
    resource: Json = {
        "resourceType": "Task",
        "id": attempt.task,
        "meta": meta,
        "identifier": [_number("FILL", attempt.task)],
        "status": seen.task_status,
        "businessStatus": coded(v.BUSINESS_STATUS, seen.code),
        "intent": "order",
        "priority": transfer.priority,
        "code": _REPORT if transfer.state in REPORTED else _TRANSFER,
        "focus": reference("ServiceRequest", attempt.request),
        "for": reference("Patient", attempt.patient),
        "authoredOn": instant(to_minute(attempt.offered)),
        "requester": party_reference(sender_party),
        "owner": owner_reference(owner),
    }
    extensions: list[Json] = []
    if attempt.returned.worker is not None:
        extensions.append({"url": v.EXT_ACTING_WORKER, "valueString": attempt.returned.worker})
    if attempt.recalled is not None:
        extensions.append({"url": v.EXT_SHARING_ENDED, "valueBoolean": True})
    if extensions:
        resource["extension"] = extensions
    if attempt.returned.reason is not None:
        resource["statusReason"] = coded(v.DECLINE_REASON, attempt.returned.reason)
    if ends is not None:
        resource["restriction"] = {"period": {"end": instant(to_minute(ends))}}
    if inputs:
        resource["input"] = list(inputs)
    output = [*_returned(attempt, own=True), *_reported(attempt)]
    if output:
        resource["output"] = output
    return resource


def sender_task(authored: Json, transfer: Transfer, seen: Seen, line: Line, *, number: str, row: MatrixRow, full: bool) -> Json:
    """The author's own Task with the hub's elements: the state as this sender may see it, the line, and what came back.

    A minimal view carries the first arrival time once taken over and nothing else of the receiver's. Coded decisions and
    redirects come back only where the matrix row says so.
    """
    resource = {name: value for name, value in authored.items() if name not in MANAGED}
    own = [each for each in authored.get("identifier", ()) if each.get("system") != v.NUMBER]  # the author's, by which it finds its Task
    resource["identifier"] = [*own, _number("PLAC", number)]
    resource["status"] = seen.task_status
    resource["businessStatus"] = coded(v.BUSINESS_STATUS, seen.code)
    output: list[Json] = [
        {"type": coded(v.TASK_OUTPUT, "last-resort-line"), "valueContactPoint": {"system": "phone", "value": line.phone, "rank": 1}}
    ]
    if transfer.state in REPORTED:
        output += _reported(transfer.attempt)
        if transfer.attempt.returned.reminded is not None:
            call = {"system": "phone", "value": line.phone, "rank": 1, "period": {"start": instant(transfer.attempt.returned.reminded)}}
            output.append({"type": coded(v.TASK_OUTPUT, "phone-the-society-now"), "valueContactPoint": call})
    elif full and seen.code not in _SILENT:
        output += _returned(transfer.attempt, own=False, decision=row.returns_decision)
        if transfer.attempt.returned.reason is not None and transfer.state.value.startswith(("declined", "redirect")):
            resource["statusReason"] = coded(v.DECLINE_REASON, transfer.attempt.returned.reason)
    elif not full and seen.final and transfer.attempt.returned.eta is not None:
        output.append({"type": coded(v.TASK_OUTPUT, "eta"), "valueDateTime": transfer.attempt.returned.eta})
    if shows_card(transfer, seen, full=full):
        card = reference("Communication", card_id(transfer.id, transfer.sender_shelf))
        output.append({"type": coded(v.TASK_OUTPUT, "contact-card"), "valueReference": card})
    resource["output"] = output
    return resource


def shows_card(transfer: Transfer, seen: Seen, *, full: bool) -> bool:
    """Whether this sender is given the contact card: a minimal view with everything that it is shown as taken over, whatever it was."""
    return transfer.attempt.accepted is not None if full else seen.final


def contact_card(transfer: Transfer, address: Address, patient: str, line: Line, at: int) -> Json:
    """A hub-made card from the directory: the role it was put to and its line; never a person's name (R7)."""
    phone = address.phone or line.phone
    return {
        "resourceType": "Communication",
        "id": card_id(transfer.id, transfer.sender_shelf),
        "meta": _hub_meta(),
        "status": "completed",
        "category": [coded(v.TASK_CODE, "contact-card")],
        "subject": reference("Patient", patient),
        "about": [reference("Task", transfer.sender_task)],
        "sent": instant(to_minute(at)),
        "sender": party_reference(transfer.attempt.party),
        "payload": [{"contentString": f"{address.name}: {phone}"}],
    }


def consent_copy(id_: str, patient: str, grants: Sequence[Grant], when: int) -> Json:
    """A hub-made Consent with only the grants that name the receiver and those its own rows can use onward."""
    permits = [_provision(grant) for grant in sorted(grants, key=lambda g: (g.scope, g.receiver_party, g.id))]
    return {
        "resourceType": "Consent",
        "id": id_,
        "meta": _hub_meta(),
        "status": "active",
        "scope": coded(v.CONSENT_SCOPE_STD, "patient-privacy"),
        "category": [coded(v.V3_ACT_CODE, "IDSCL")],
        "patient": reference("Patient", patient),
        "dateTime": instant(to_minute(when)),
        "policyRule": coded(v.V3_ACT_CODE, "OPTINR"),
        "provision": {"provision": permits} if permits else {"type": "deny"},
    }


def _provision(grant: Grant) -> Json:
    period = {"start": instant(grant.starts)}
    if grant.ends is not None:
        period["end"] = instant(grant.ends)
    return {
        "type": "permit",
        "period": period,
        "actor": [{"role": coded(v.V3_PARTICIPATION_TYPE, "IRCP"), "reference": party_reference(grant.receiver_party)}],
        "purpose": [{"system": v.purpose_system(purpose), "code": purpose} for purpose in sorted(grant.purposes)],
        "class": [{"system": v.DATA_CLASS, "code": name} for name in sorted(grant.classes)],
        "code": [coded(v.CONSENT_SCOPE, grant.scope)],
    }


def provenance_copy(transfer: Transfer, sender_party: str) -> Json:
    """Who sent this, for each released view; the sender's own Provenance never crosses."""
    attempt = transfer.attempt
    return {
        "resourceType": "Provenance",
        "id": attempt.provenance,
        "meta": _hub_meta(),
        "target": [reference("ServiceRequest", attempt.request), reference("Task", attempt.task), reference("Patient", attempt.patient)],
        "recorded": instant(to_minute(attempt.offered)),
        "agent": [{"type": coded(v.PROVENANCE_PARTICIPANT, "author"), "who": party_reference(sender_party)}],
    }


def _returned(attempt: Attempt, *, own: bool, decision: bool = True) -> list[Json]:
    given = attempt.returned
    output: list[Json] = []
    if given.eta is not None:
        output.append({"type": coded(v.TASK_OUTPUT, "eta"), "valueDateTime": given.eta})
    if given.decision is not None and decision:
        output.append({"type": coded(v.TASK_OUTPUT, "decision"), "valueCodeableConcept": coded(v.DECISION, given.decision)})
    if decision:
        output += [
            {"type": coded(v.TASK_OUTPUT, "redirect"), "valueCodeableConcept": coded(v.SERVICE, service)} for service in given.redirects
        ]
    if own:
        output += [{"type": coded(v.TASK_OUTPUT, "offer"), "valueCodeableConcept": coded(v.OFFER, offer)} for offer in given.offers]
    return output


def _reported(attempt: Attempt) -> list[Json]:
    """What closes a report: the society's own number, or the record of the call. Both of its sides see both."""
    given = attempt.returned
    output: list[Json] = []
    if given.reference is not None:
        output.append({"type": coded(v.TASK_OUTPUT, "intake-reference"), "valueString": given.reference})
    if given.phoned is not None:
        output.append({"type": coded(v.TASK_OUTPUT, "phone-record"), "valueDateTime": given.phoned})
    return output


def request_status(state: State) -> str:
    """ServiceRequest.status of a copy, from the state of its transfer."""
    if state in (State.HANDED_OVER, State.REPORT_ACKNOWLEDGED):
        return "completed"
    return "revoked" if state in (State.STOPPED, State.WITHDRAWN) else "active"


def _number(kind: str, id_: str) -> Json:
    """A placer or filler number of this shelf alone."""
    return {"type": coded(v.V2_0203, kind), "system": v.NUMBER, "value": id_[:12].upper()}
