"""From what a worker enters to FHIR: the resources of a referral, consents, a safe contact, a text, and the patch of an act.

Everything carries the test label. Nothing here knows the hub's code but its published code systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from gateway import vocabulary as v

__all__ = ["bundle", "consent", "message", "moved", "patch", "patient", "referral", "with_contact"]

Json = dict[str, Any]

_TEST: Final = {"security": [{"system": v.V3_ACT_REASON, "code": "HTEST"}]}
_CODED_INPUTS: Final[Mapping[str, tuple[str, str]]] = {
    # what the worker enters -> Task.input.type code, code system of the value
    "needs": ("need", v.NEED),
    "access": ("access", v.ACCESS),
    "cultural": ("cultural", v.CULTURAL),
    "safety-flags": ("safety-flag", v.SAFETY_FLAG),
}
_YES_NO: Final = ("scene-cleared", "support-person", "paperwork-waived", "charges-laid", "vpst-flag")
_ADDRESS_KINDS: Final = {"role": "PractitionerRole", "team": "HealthcareService"}


def concept(system: str, code: str) -> Json:
    """A CodeableConcept of one coding."""
    return {"coding": [{"system": system, "code": code}]}


def address(entered: str) -> Json:
    """``role vsdr.ht-cic``, ``team ...``, or a bare party id as a directory reference."""
    kind, _, name = entered.partition(" ")
    return {"reference": f"{_ADDRESS_KINDS[kind]}/{name}" if name else f"Organization/{kind}"}


def patient(entered: Mapping[str, Any]) -> Json:
    """A person by alias: no last name, no number, no birth date."""
    return {
        "resourceType": "Patient",
        "meta": _TEST,
        "name": [{"use": "anonymous", "given": [entered["alias"]]}],
        "extension": [{"url": v.EXT_AGE_BAND, "valueCode": entered["age-band"]}],
        "communication": [{"language": {"coding": [{"system": v.BCP_47, "code": entered["language"]}]}, "preferred": True}],
    }


def consent(entered: Mapping[str, Any], person: str, party: str, now: datetime) -> Json:
    """One consent: one scope, one receiver, its classes, its end; a base of deny, one nested permit."""
    given = datetime.fromisoformat(entered["given"]) if "given" in entered else now
    evidence: list[Json] = [
        {"url": "mode", "valueCode": entered["mode"]},
        {"url": "recorder-role", "valueCode": entered["recorder"]},
        *({"url": "notice", "valueCode": notice} for notice in entered["notices"]),
        {"url": "giver", "valueCode": "survivor"},
        {"url": "evidence-id", "valueString": entered["evidence"]},
    ]
    permit: Json = {
        "type": "permit",
        "period": {"start": given.isoformat(), "end": (given + timedelta(hours=entered["hours"])).isoformat()},
        "actor": [{"role": concept(v.V3_PARTICIPATION_TYPE, "IRCP"), "reference": address(entered["to"])}],
        "purpose": [{"system": v.purpose_system(code), "code": code} for code in entered["purposes"]],
        "class": [{"system": v.DATA_CLASS, "code": code} for code in entered["classes"]],
        "code": [concept(v.CONSENT_SCOPE, entered["scope"])],
    }
    return {
        "resourceType": "Consent",
        "meta": _TEST,
        "extension": [{"url": v.EXT_EVIDENCE, "extension": evidence}],
        "status": "active",
        "scope": concept(v.CONSENT_SCOPE_STD, "patient-privacy"),
        "category": [concept(v.V3_ACT_CODE, "IDSCL")],
        "patient": {"reference": person},
        "dateTime": given.isoformat(),
        "performer": [{"reference": person}],
        "organization": [{"reference": f"Organization/{party}"}],
        "policyRule": concept(v.V3_ACT_CODE, "OPTINR"),
        "provision": {"provision": [permit]},
    }


def referral(entered: Mapping[str, Any], person: str, party: str, request: str, now: datetime) -> tuple[Json, Json]:
    """The ServiceRequest and the Task of a referral to one role or team. `request` is the reference the Task focuses on."""
    shared: Json = {"meta": _TEST, "intent": "order", "priority": entered["priority"], "authoredOn": now.isoformat()}
    requester = {"reference": f"Organization/{party}"}
    service_request: Json = {
        "resourceType": "ServiceRequest",
        **shared,
        "status": "active",
        "code": concept(v.SERVICE, entered["service"]),
        "subject": {"reference": person},
        "requester": requester,
        "performer": [address(entered["to"])],
    }
    if "reason" in entered:
        service_request["reasonCode"] = [concept(v.REASON, entered["reason"])]
    task: Json = {
        "resourceType": "Task",
        **shared,
        "status": "requested",
        "code": concept(v.TASK_CODE, "transfer"),
        "focus": {"reference": request},
        "for": {"reference": person},
        "requester": requester,
        "owner": address(entered["to"]),
    }
    inputs = _inputs(entered)
    if inputs:
        task["input"] = inputs
    if "offers" in entered:
        task["output"] = [_output("offer", {"valueCodeableConcept": concept(v.OFFER, code)}) for code in entered["offers"]]
    return service_request, task


def _inputs(entered: Mapping[str, Any]) -> list[Json]:
    found: list[Json] = []
    for name, (kind, system) in _CODED_INPUTS.items():
        found += [_input(kind, {"valueCodeableConcept": concept(system, code)}) for code in entered.get(name, ())]
    if "source" in entered:
        found.append(_input("source", {"valueCodeableConcept": concept(v.SOURCE, entered["source"])}))
    found += [_input(name, {"valueBoolean": entered[name]}) for name in _YES_NO if name in entered]
    if "eta" in entered:
        found.append(_input("eta", {"valueDateTime": entered["eta"]}))
    if "meeting-place" in entered:
        found.append(_input("meeting-place", {"valueString": entered["meeting-place"]}))
    # What must not be sent and a worker may try to send all the same.
    found += [_input(code, {"valueString": text}) for code, text in entered.get("extra", {}).items()]
    return found


def _input(kind: str, value: Json) -> Json:
    return {"type": concept(v.TASK_INPUT, kind), **value}


def _output(kind: str, value: Json) -> Json:
    return {"type": concept(v.TASK_OUTPUT, kind), **value}


def with_contact(person: Json, entered: Mapping[str, Any], now: datetime) -> Json:
    """A Patient with one channel that a worker found safe: when, how, and until it must be asked again."""
    parts: list[Json] = [
        {"url": "channel", "valueCode": entered["channel"]},
        {"url": "state", "valueCode": entered["state"]},
        *({"url": "qualifier", "valueCode": code} for code in entered.get("qualifiers", ())),
        {
            "url": "window",
            "valueTiming": {"repeat": {"timeOfDay": [entered["opens"]], "duration": entered["hours"], "durationUnit": "h"}},
        },
        {"url": "verified-at", "valueDateTime": now.isoformat()},
        {"url": "verified-by", "valueCode": entered["by"]},
    ]
    channel = {
        "extension": [{"url": v.EXT_SAFE_CONTACT, "extension": parts}],
        "system": "sms" if entered["channel"] == "text" else "phone",
        "value": entered["number"],
        "use": "mobile",
    }
    kept = {name: value for name, value in person.items() if name != "meta"}
    return {**kept, "meta": _TEST, "telecom": [channel]}


def message(person: str, party: str, text: str) -> Json:
    """A text to a survivor, to be sent when her window opens."""
    return {
        "resourceType": "Communication",
        "meta": _TEST,
        "status": "preparation",
        "subject": {"reference": person},
        "recipient": [{"reference": person}],
        "sender": {"reference": f"Organization/{party}"},
        "payload": [{"contentString": text}],
    }


def moved(task: Json, act: Mapping[str, Any]) -> Json:
    """The members of a Task that an act changes, as they shall be: the state, and what the worker gives with it."""
    changed: Json = {}
    if "to" in act:
        changed["businessStatus"] = concept(v.BUSINESS_STATUS, act["to"])
    if "worker" in act:
        changed["extension"] = [
            *(x for x in task.get("extension", ()) if x.get("url") != v.EXT_ACTING_WORKER),
            {"url": v.EXT_ACTING_WORKER, "valueString": act["worker"]},
        ]
    if "reason" in act:
        changed["statusReason"] = concept(v.DECLINE_REASON, act["reason"])
    given: list[Json] = []
    if "eta" in act:
        given.append(_output("eta", {"valueDateTime": act["eta"]}))
    if "decision" in act:
        given.append(_output("decision", {"valueCodeableConcept": concept(v.DECISION, act["decision"])}))
    given += [_output("offer", {"valueCodeableConcept": concept(v.OFFER, code)}) for code in act.get("offers", ())]
    if given:
        changed["output"] = [*task.get("output", ()), *given]
    return changed


def patch(task: Json, changed: Json) -> list[Json]:
    """RFC 6902: the operations that bring the changed members into a Task as it was read."""
    return [{"op": "replace" if name in task else "add", "path": f"/{name}", "value": value} for name, value in changed.items()]


def bundle(entries: Sequence[tuple[str, Json]]) -> Json:
    """A transaction that creates resources, each under the name by which the others refer to it."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"fullUrl": name, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
            for name, resource in entries
        ],
    }
