"""What a case table says, as the messages a party would send: a person, a consent, a question. Nothing here looks at a row."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway import vocabulary as v
from gateway.clock import instant
from gateway.decision.ask import Ask, Said
from gateway.decision.coalition import check_coalition_consent
from gateway.decision.decide import Denial, Permit, decide
from gateway.decision.grants import Grant, compile_grants
from gateway.disclosure.minimize import Release, Source, age_band_of, classes_in, compile_plan, minimize, yes_in
from gateway.identity import PartyId, ShelfId, ThreadId
from gateway.parties.load import load_policy
from gateway.parties.model import Party, Policy
from gateway.problems import Finding

ROOT: Final = Path(__file__).resolve().parents[2]
POLICY: Final = load_policy(ROOT, registry=None)
PLAN: Final = compile_plan(POLICY.classes)
NOW: Final = 1_800_000_000_000
HOUR: Final = 3_600_000
ENDS: Final = NOW + 24 * HOUR
THREAD: Final = ThreadId("thread")
Json = dict[str, Any]
GROUPS: Final = {
    "base": ("alias", "age-band", "language", "access", "cultural"),
    "everything": (
        *("alias", "legal-name", "age-band", "dob", "hcn", "safe-contact", "language", "access", "cultural", "needs", "safety-flag"),
        *("scene-cleared", "eta", "support-person", "paperwork-waived", "charges-laid", "reason", "source", "whereabouts"),
        *("meeting-place", "vpst-flag", "report-ground", "report-basis"),
    ),
}
"""What a word stands for in the classes of a consent. What goes with any transfer needs no consent of its own."""

_HCN: Final = "https://fhir.infoway-inforoute.ca/NamingSystem/ca-on-patient-hcn"
_BOOLEANS: Final = ("scene-cleared", "support-person", "paperwork-waived", "charges-laid", "vpst-flag")
_TEXTS: Final = ("whereabouts", "meeting-place", "report-basis")
_CODED: Final = {
    "access": (v.ACCESS, "access"),
    "cultural": (v.CULTURAL, "cultural"),
    "needs": (v.NEED, "need"),
    "safety-flag": (v.SAFETY_FLAG, "safety-flag"),
    "source": (v.SOURCE, "source"),
    "report-ground": (v.REASON, "report-ground"),
}


def concept(system: str, code: str) -> Json:
    """A CodeableConcept as a sender writes it, with a display that must not go on."""
    return {"coding": [{"system": system, "code": code, "display": "said by the sender"}], "text": "said by the sender"}


def source_of(sent: Mapping[str, Any]) -> Source:
    """The Patient, ServiceRequest and Task in which a sender says all this, with things around it that never go."""
    names: list[Json] = []
    if "alias" in sent:
        names.append({"use": "nickname", "given": [sent["alias"]], "family": "Zz-Never", "text": "Zz-Never"})
    if "legal-name" in sent:
        given, family = sent["legal-name"].split()
        names.append({"use": "official", "given": [given], "family": family})
    patient: Json = {
        "resourceType": "Patient",
        "text": {"status": "generated", "div": "<div>Zz-Never</div>"},
        "name": names,
        "extension": [{"url": v.EXT_AGE_BAND, "valueCode": sent["age-band"]}] if "age-band" in sent else [],
        "birthDate": sent.get("dob"),
        "identifier": [{"system": _HCN, "value": sent["hcn"]}] if "hcn" in sent else [],
        "telecom": [_contact(*line.split()) for line in sent.get("safe-contact", ())],
        "communication": [_language(item) for item in sent.get("language", ())],
        "address": [{"city": "Zz-Never"}],
    }
    request: Json = {
        "resourceType": "ServiceRequest",
        **({"priority": sent["urgency"]} if "urgency" in sent else {}),
        "reasonCode": [concept(v.REASON, code) for code in sent.get("reason", ())],
        "note": [{"text": "Zz-Never"}],
    }
    inputs: list[Json] = []
    for name, (system, kind) in _CODED.items():
        inputs += [{"type": concept(v.TASK_INPUT, kind), "valueCodeableConcept": concept(system, code)} for code in sent.get(name, ())]
    inputs += [{"type": concept(v.TASK_INPUT, name), "valueBoolean": sent[name]} for name in _BOOLEANS if name in sent]
    inputs += [{"type": concept(v.TASK_INPUT, name), "valueString": sent[name]} for name in _TEXTS if name in sent]
    inputs += [{"type": concept(v.TASK_INPUT, name), "valueDateTime": sent[name]} for name in ("eta",) if name in sent]
    return Source(patient, request, {"resourceType": "Task", "input": inputs, "description": "Zz-Never"})


def _contact(channel: str, number: str) -> Json:
    parts = [{"url": "channel", "valueCode": channel}, {"url": "state", "valueCode": "safe"}]
    return {"system": "phone", "value": number, "extension": [{"url": v.EXT_SAFE_CONTACT, "extension": parts}]}


def _language(item: str) -> Json:
    code, _, interpreter = item.partition(" ")
    said: Json = {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": code, "display": "Zz-Never"}], "text": "Zz-Never"}}
    if interpreter:
        said["extension"] = [{"url": v.EXT_INTERPRETER, "valueBoolean": True}]
    return said


def arrived(release: Release) -> Json:
    """What a release holds, class by class, read off its elements. Anything unexpected has a name of its own."""
    found: dict[str, list[Any]] = {}
    for element, values in release.patient.items():
        for value in values if isinstance(values, list) else [values]:
            name, said = _of_patient(element, value)
            found.setdefault(name, []).append(said)
    for element, values in release.request.items():
        if element == "reasonCode":
            found["reason"] = [only_code(value) for value in values]
        elif element != "priority":
            found[f"request.{element}"] = values
    names = {kind: name for name, (_, kind) in _CODED.items()}
    for item in release.inputs:
        kind = only_code(item["type"])
        (key,) = item.keys() - {"type"}
        value = item[key]
        found.setdefault(names.get(kind, kind), []).append(only_code(value) if isinstance(value, dict) else value)
    single = {"alias", "legal-name", "age-band", "dob", "hcn", "eta", *_BOOLEANS, *_TEXTS}
    return {name: values[0] if name in single and len(values) == 1 else values for name, values in found.items()}


def _of_patient(element: str, value: Any) -> tuple[str, Any]:
    match element:
        case "name" if value["use"] == "nickname" and value.keys() == {"use", "given"}:
            return "alias", value["given"][0]
        case "name" if value["use"] == "official" and value.keys() == {"use", "given", "family"}:
            return "legal-name", f"{value['given'][0]} {value['family']}"
        case "birthDate":
            return "dob", value
        case "identifier":
            return "hcn", value["value"]
        case "extension" if value["url"] == v.EXT_AGE_BAND and value.keys() == {"url", "valueCode"}:
            return "age-band", value["valueCode"]
        case "communication":
            interpreter = value.get("extension") == [{"url": v.EXT_INTERPRETER, "valueBoolean": True}]
            return "language", only_code(value["language"]) + (" interpreter" if interpreter else "")
        case "telecom":
            (extension,) = value["extension"]
            (channel,) = (part["valueCode"] for part in extension["extension"] if part["url"] == "channel")
            return "safe-contact", f"{channel} {value['value']}"
    return f"patient.{element}", value


def only_code(value: Json) -> str:
    """The code of a concept that holds one coding of a system and a code, and nothing else."""
    (coding,) = value["coding"]
    assert value.keys() == {"coding"} and coding.keys() == {"system", "code"}, "only what was rebuilt"
    code: str = coding["code"]
    return code


def consent_of(said: Mapping[str, Any], policy: Policy, *, ends: int = ENDS) -> Json:
    """The Consent in which a recorder writes down what she agreed to."""
    classes = [name for each in said["classes"] for name in GROUPS.get(each, (each,))]
    purposes = said["purposes"]
    permit: Json = {
        "type": "permit",
        "period": {"start": instant(NOW - 100 * HOUR), "end": instant(ends)},
        "actor": [{"role": concept(v.V3_PARTICIPATION_TYPE, "IRCP"), "reference": {"reference": said["to"]}}],
        "code": [concept(v.CONSENT_SCOPE, said["scope"])],
        "purpose": [{"system": policy.purposes[purpose], "code": purpose} for purpose in purposes],
        "class": [{"system": v.DATA_CLASS, "code": name} for name in classes],
    }
    if said.get("never"):  # she also said whom she never wants told
        permit["provision"] = [{"type": "deny", "actor": permit["actor"]}]
    recorder = said["by"].partition("/")[0]
    parts = [("mode", "verbal"), ("recorder-role", "cic"), ("giver", "survivor"), *(("notice", n) for n in said.get("notices", ["limits"]))]
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": concept(v.CONSENT_SCOPE_STD, "patient-privacy"),
        "category": [concept(v.V3_ACT_CODE, "IDSCL")],
        "patient": {"reference": "Patient/p"},
        "dateTime": instant(NOW - 100 * HOUR),
        "performer": [{"reference": "Patient/p"}],
        "organization": [{"reference": f"Organization/{recorder}"}],
        "policyRule": concept(v.V3_ACT_CODE, "OPTINR"),
        "extension": [{"url": v.EXT_EVIDENCE, "extension": [{"url": url, "valueCode": code} for url, code in parts]}],
        "provision": {"provision": [permit]},
    }


def findings_of(said: Mapping[str, Any], policy: Policy) -> list[Finding]:
    """What is wrong with the shape of that Consent, as its recorder writes it."""
    party = policy.parties[PartyId(said["by"].partition("/")[0])]
    return check_coalition_consent(consent_of(said, policy), party.kind, party.id, policy)


def grants_of(consents: Sequence[Mapping[str, Any]], policy: Policy, *, ends: int = ENDS) -> tuple[Grant, ...]:
    """The register after these were recorded."""
    numbers = itertools.count(1)
    made: list[Grant] = []
    for index, said in enumerate(consents):
        grants, rejected = compile_grants(
            consent_of(said, policy, ends=ends),
            consent_id=f"c{index}",
            version=1,
            thread=THREAD,
            recorder=ShelfId(said["by"]),
            policy=policy,
            at=NOW,
            new_id=lambda: f"g{next(numbers)}",
        )
        assert grants and not rejected, f"the consent {said['scope']} to {said['to']} gives a grant"
        made += grants
    return tuple(made)


def put(
    policy: Policy,
    *,
    sender: str,
    to: str,
    service: str,
    purposes: Sequence[str],
    source: Source,
    grants: tuple[Grant, ...] = (),
    basis: str | None = None,
    at: int = NOW,
    state: str = "offered",
    recalled: frozenset[str] = frozenset(),
) -> tuple[Permit | Denial, Release | None]:
    """Ask, and if something may go, make the release. `to` is an address, or a party that has none."""
    party, _, unit = sender.partition("/")
    address = policy.addresses.get(to)
    receiver: Party = policy.parties[address.party if address else PartyId(to)]
    ask = Ask(
        sender=policy.parties[PartyId(party)],
        sender_unit=unit or None,
        receiver=receiver,
        receiver_unit=address.unit if address else None,
        receiver_role=address.role if address else None,
        service=policy.services[service],
        purposes=frozenset(purposes),
        at=at,
        grants=grants,
        present=classes_in(source, PLAN),
        state=state,
        basis=basis,
        needs=frozenset(only["valueCodeableConcept"]["coding"][0]["code"] for only in source.task["input"] if _is_need(only)),
        recalled=recalled,
        said=Said(age_band_of(source, PLAN, at), yes_in(source, PLAN)),
    )
    answer = decide(ask, policy)
    if isinstance(answer, Denial):
        return answer, None
    shelf = address.shelf if address else ShelfId(receiver.id)
    return answer, minimize(source, answer, PLAN, thread=THREAD, shelf=shelf, needs=policy.services[service].needs)


def _is_need(item: Json) -> bool:
    return bool(item["type"]["coding"][0]["code"] == "need")


def without_agreements(policy: Policy, at: int) -> Policy:
    """The same policy after its agreements have ended."""
    return replace(policy, agreements=tuple(replace(each, ends=at) for each in policy.agreements))


def with_basis(policy: Policy, basis: str, *, enabled: bool) -> Policy:
    """The same policy with one legal basis switched on or off."""
    return replace(policy, bases={**policy.bases, basis: replace(policy.bases[basis], enabled=enabled)})
