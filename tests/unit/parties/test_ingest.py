"""The ingest gate: what a referral needs is admitted, everything else is refused where it stands."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import vocabulary as v
from gateway.fhir.validate import validate
from gateway.parties.ingest import Gate
from gateway.parties.model import Policy
from gateway.problems import FINDINGS_LIMIT, Refusal

Json = dict[str, Any]


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def input_of(code: str, **value: Any) -> Json:
    return {"type": concept(v.TASK_INPUT, code), **value}


PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p",
    "name": [{"use": "nickname", "given": ["Zz-Robin"]}],
    "communication": [
        {"language": concept(v.BCP_47, "en-CA"), "preferred": True, "extension": [{"url": v.EXT_INTERPRETER, "valueBoolean": False}]}
    ],
    "telecom": [
        {
            "system": "sms",
            "value": "+1-905-555-0199",
            "extension": [
                {
                    "url": v.EXT_SAFE_CONTACT,
                    "extension": [
                        {"url": "channel", "valueCode": "text"},
                        {"url": "state", "valueCode": "safe"},
                        {"url": "qualifier", "valueCode": "no-voicemail"},
                        {"url": "window", "valueTiming": {"repeat": {"timeOfDay": ["12:00:00"], "duration": 3, "durationUnit": "h"}}},
                        {"url": "verified-at", "valueDateTime": "2026-01-10T02:50:00-05:00"},
                    ],
                }
            ],
        }
    ],
    "extension": [{"url": v.EXT_AGE_BAND, "valueCode": "18-24"}],
}
REQUEST: Json = {
    "resourceType": "ServiceRequest",
    "status": "active",
    "intent": "order",
    "priority": "stat",
    "code": concept(v.SERVICE, "crisis-counselling"),
    "subject": {"reference": "Patient/p"},
    "requester": {"reference": "Organization/drps"},
    "performer": [{"reference": "PractitionerRole/vsdr.ht-cic"}],
    "authoredOn": "2026-01-10T02:00:00-05:00",
    "reasonCode": [concept(v.REASON, "exploitation-suspected")],
}
TASK: Json = {
    "resourceType": "Task",
    "status": "requested",
    "intent": "order",
    "code": concept(v.TASK_CODE, "transfer"),
    "focus": {"reference": "ServiceRequest/s"},
    "for": {"reference": "Patient/p"},
    "requester": {"reference": "Organization/drps"},
    "owner": {"reference": "PractitionerRole/vsdr.ht-cic"},
    "input": [
        input_of("need", valueCodeableConcept=concept(v.NEED, "income")),
        input_of("safety-flag", valueCodeableConcept=concept(v.SAFETY_FLAG, "companion-not-safe")),
        input_of("source", valueCodeableConcept=concept(v.SOURCE, "date-night")),
        input_of("scene-cleared", valueBoolean=True),
        input_of("meeting-place", valueString="Lobby, north door"),
    ],
}
CONSENT: Json = {
    "resourceType": "Consent",
    "status": "active",
    "scope": concept(v.CONSENT_SCOPE_STD, "patient-privacy"),
    "category": [concept(v.V3_ACT_CODE, "IDSCL")],
    "patient": {"reference": "Patient/p"},
    "dateTime": "2026-01-10T01:58:00-05:00",
    "performer": [{"reference": "Patient/p"}],
    "organization": [{"reference": "Organization/drps"}],
    "policyRule": concept(v.V3_ACT_CODE, "OPTINR"),
    "extension": [
        {
            "url": v.EXT_EVIDENCE,
            "extension": [
                {"url": "mode", "valueCode": "verbal"},
                {"url": "recorder-role", "valueCode": "police-officer"},
                {"url": "notice", "valueCode": "limits"},
                {"url": "giver", "valueCode": "survivor"},
                {"url": "evidence-id", "valueString": "e1"},
            ],
        }
    ],
    "provision": {
        "provision": [
            {
                "type": "permit",
                "period": {"start": "2026-01-10T01:58:00-05:00", "end": "2026-01-13T01:58:00-05:00"},
                "actor": [{"role": concept(v.V3_PARTICIPATION_TYPE, "IRCP"), "reference": {"reference": "Organization/vsdr"}}],
                "code": [concept(v.CONSENT_SCOPE, "warm-transfer")],
                "purpose": [{"system": v.V3_ACT_REASON, "code": "COC"}, {"system": v.PURPOSE, "code": "victim-support"}],
                "class": [{"system": v.DATA_CLASS, "code": "alias"}, {"system": v.DATA_CLASS, "code": "needs"}],
                "provision": [
                    {
                        "type": "deny",
                        "actor": [{"role": concept(v.V3_PARTICIPATION_TYPE, "IRCP"), "reference": {"reference": "Organization/vsdr"}}],
                    }
                ],
            }
        ]
    },
}
SENT = {"Patient": PATIENT, "ServiceRequest": REQUEST, "Task": TASK, "Consent": CONSENT}


@pytest.fixture(scope="module")
def gate(policy: Policy) -> Gate:
    return Gate.of(policy)


@pytest.mark.parametrize("name", SENT)
def test_what_a_warm_transfer_sends_is_valid_and_admitted_unchanged(name: str, gate: Gate) -> None:
    resource = copy.deepcopy(SENT[name])

    assert validate(resource) == []
    admission = gate.admit(resource, name)

    assert admission.findings == [] and admission.dropped == 0
    assert resource == SENT[name]


N, F, U = Refusal.NARRATIVE_NOT_ALLOWED, Refusal.FORBIDDEN_ELEMENT, Refusal.UNKNOWN_CODE
REFUSED: list[tuple[str, Json, str, Refusal]] = [
    ("Task", {"description": "-"}, "Task.description", N),
    ("Task", {"note": [{"text": "-"}]}, "Task.note", N),
    ("Task", {"text": {"status": "generated", "div": "<div xmlns='http://www.w3.org/1999/xhtml'>-</div>"}}, "Task.text", N),
    ("Task", {"reasonReference": {"reference": "Condition/c"}}, "Task.reasonReference", F),
    ("Task", {"contained": [{"resourceType": "Patient"}]}, "Task.contained", F),
    ("Task", {"input": [input_of("occurrence-no", valueString="-")]}, "Task.input[0]", F),
    ("Task", {"input": [input_of("narrative", valueString="-")]}, "Task.input[0]", N),
    ("Task", {"input": [input_of("shoe-size", valueString="-")]}, "Task.input[0]", U),
    ("Task", {"input": [input_of("need", valueString="-")]}, "Task.input[0].valueString", N),
    ("Task", {"input": [input_of("need", valueCodeableConcept={"text": "-"})]}, "Task.input[0].valueCodeableConcept.text", N),
    (
        "Task",
        {"input": [input_of("need", valueCodeableConcept=concept(v.NEED, "gold"))]},
        "Task.input[0].valueCodeableConcept.coding[0]",
        U,
    ),
    (
        "Task",
        {"input": [input_of("need", valueCodeableConcept=concept("urn:x", "income"))]},
        "Task.input[0].valueCodeableConcept.coding[0]",
        U,
    ),
    ("Task", {"input": [input_of("meeting-place", valueString="x" * 121)]}, "Task.input[0].valueString", N),
    (
        "Task",
        {"input": [{"type": concept("urn:x", "need"), "valueCodeableConcept": concept(v.NEED, "food")}]},
        "Task.input[0].type.coding[0]",
        U,
    ),
    (
        "Task",
        {"input": [{"type": {"coding": [*concept(v.TASK_INPUT, "need")["coding"], *concept(v.TASK_INPUT, "eta")["coding"]]}}]},
        "Task.input[0]",
        U,
    ),
    ("Task", {"input": [{"type": {"text": "-"}, "valueString": "-"}]}, "Task.input[0]", U),
    ("Task", {"extension": [{"url": "urn:x", "valueString": "-"}]}, "Task.extension[0]", U),
    ("Task", {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]}, "Task.modifierExtension", U),
    ("Task", {"implicitRules": "urn:x"}, "Task.implicitRules", U),
    ("Task", {"_status": {"extension": [{"url": "urn:x", "valueString": "-"}]}}, "Task._status", F),
    ("ServiceRequest", {"patientInstruction": "-"}, "ServiceRequest.patientInstruction", N),
    ("ServiceRequest", {"_patientInstruction": {"id": "x"}}, "ServiceRequest._patientInstruction", N),
    ("ServiceRequest", {"reasonReference": [{"reference": "Condition/c"}]}, "ServiceRequest.reasonReference", F),
    ("ServiceRequest", {"reasonCode": [concept("http://snomed.info/sct", "1")]}, "ServiceRequest.reasonCode[0].coding[0]", U),
    ("ServiceRequest", {"identifier": [{"system": "urn:police", "value": "-"}]}, "ServiceRequest.identifier[0]", F),
    ("Patient", {"name": [{"use": "usual", "text": "-"}]}, "Patient.name[0]", F),
    ("Patient", {"name": [{"use": "nickname", "family": "-"}]}, "Patient.name[0].family", F),
    ("Patient", {"name": [{"use": "nickname", "text": "-"}]}, "Patient.name[0].text", N),
    ("Patient", {"gender": "female"}, "Patient.gender", F),
    ("Patient", {"address": [{"city": "-"}]}, "Patient.address", F),
    ("Patient", {"identifier": [{"type": concept(v.V2_0203, "SS"), "value": "-"}]}, "Patient.identifier[0]", F),
    ("Patient", {"photo": [{"data": "-"}]}, "Patient.photo", F),
    ("Patient", {"extension": [{"url": v.EXT_AGE_BAND, "valueCode": "middle"}]}, "Patient.extension[0].valueCode", U),
    ("Patient", {"extension": [{"url": v.EXT_AGE_BAND, "valueString": "-"}]}, "Patient.extension[0].valueString", N),
    ("Consent", {"sourceAttachment": {"title": "-"}}, "Consent.sourceAttachment", N),
    ("Consent", {"sourceReference": {"reference": "DocumentReference/d"}}, "Consent.sourceReference", F),
]


@pytest.mark.parametrize(("name", "more", "at", "refusal"), REFUSED, ids=[case[2] + "-" + case[3] for case in REFUSED])
def test_whatever_is_not_listed_is_refused_where_it_stands(name: str, more: Json, at: str, refusal: Refusal, gate: Gate) -> None:
    found = gate.admit({**copy.deepcopy(SENT[name]), **copy.deepcopy(more)}, name).findings

    assert [(finding.expression, finding.refusal) for finding in found] == [(at, refusal)]


def test_display_texts_and_server_marks_are_taken_out(gate: Gate) -> None:
    resource = copy.deepcopy(REQUEST)
    resource["meta"] = {"versionId": "1", "lastUpdated": "2026-01-10T00:00:00Z"}
    resource["code"]["coding"][0]["display"] = "-"
    resource["requester"]["display"] = "-"

    admission = gate.admit(resource, "ServiceRequest")

    assert admission.findings == [] and admission.dropped == 4
    assert resource == REQUEST


def test_a_type_that_is_not_listed_cannot_be_sent(gate: Gate) -> None:
    assert gate.admit({"resourceType": "Condition"}, "Bundle.entry[0].resource").findings[0].expression == "Bundle.entry[0].resource"


def test_no_more_findings_than_an_outcome_carries(gate: Gate) -> None:
    task = {**copy.deepcopy(TASK), "input": [input_of("shoe-size", valueString="-") for _ in range(50)]}

    assert len(gate.admit(task, "Task").findings) == FINDINGS_LIMIT


def test_a_consent_may_nest_as_deep_as_it_likes(gate: Gate) -> None:
    consent = copy.deepcopy(CONSENT)
    for _ in range(8):
        consent["provision"] = {"provision": [consent["provision"]]}

    assert gate.admit(consent, "Consent").findings == []


def test_nothing_unlisted_comes_through_at_any_depth(gate: Gate) -> None:
    """Plant a text in each object of each resource, under a member that FHIR uses for texts, and find it refused or gone."""
    for name, resource in SENT.items():
        for path in _objects(resource):
            planted = copy.deepcopy(resource)
            at: Any = planted
            for step in path:
                at = at[step]
            for member in ("comment", "display", "_value"):
                at[member] = "canary"
            admission = gate.admit(planted, name)
            assert admission.findings or "canary" not in str(planted), path


def _objects(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [path, *(inner for key, item in value.items() for inner in _objects(item, (*path, key)))]
    if isinstance(value, list):
        return [inner for index, item in enumerate(value) for inner in _objects(item, (*path, index))]
    return []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["coding", "system", "code", "url", "extension", "type", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@dataclass(frozen=True)
class Quiet:
    """The gate, without the thousand lines that it would add to the report of a failing example."""

    gate: Gate

    def __repr__(self) -> str:
        return "the gate"


@pytest.fixture(scope="module")
def quiet(gate: Gate) -> Quiet:
    return Quiet(gate)


PLACES = [(name, path) for name in sorted(SENT) for path in _objects(SENT[name])]
MEMBERS = [
    "display",
    "extension",
    "coding",
    "code",
    "url",
    "valueString",
    "id",
    "period",
    "type",
    "use",
    "system",
    "name",
    "input",
    "given",
    "text",
]
VALUES = [
    "x",
    "",
    True,
    7,
    [],
    {},
    None,
    ["x"],
    {"code": "x"},
    [{"url": "x"}],
    {"coding": []},
    CONSENT["provision"],
    TASK["input"],
    PATIENT["name"],
]


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(PLACES), member=st.sampled_from(MEMBERS), value=st.sampled_from(range(len(VALUES))) | anything)
def test_what_passes_at_first_sight_passes_on_examination(
    place: tuple[str, tuple[str | int, ...]], member: str, value: Any, quiet: Quiet
) -> None:
    gate = quiet.gate
    name, path = place
    resource = copy.deepcopy(SENT[name])
    at: Any = resource
    for step in path:
        at = at[step]
    at[member] = copy.deepcopy(VALUES[value]) if isinstance(value, int) and 0 <= value < len(VALUES) else value
    before = copy.deepcopy(resource)

    if gate.clean[name].is_valid(resource):
        examined = gate.examine(resource, name)
        assert examined.findings == [] and examined.dropped == 0
        assert resource == before


def test_what_a_warm_transfer_sends_passes_at_first_sight(gate: Gate) -> None:
    assert all(gate.clean[name].is_valid(resource) for name, resource in SENT.items())


@settings(max_examples=150, deadline=None)
@given(
    resource=st.fixed_dictionaries(
        {"resourceType": st.sampled_from([*SENT, "Other"])},
        optional=dict.fromkeys(("input", "extension", "name", "identifier", "code", "provision", "meta", "telecom", "status"), anything),
    )
)
def test_the_gate_is_total(resource: Json, quiet: Quiet) -> None:
    quiet.gate.admit(resource, "X")
