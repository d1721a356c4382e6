"""Every invariant of severity error in HL7's definitions of the supported types: checked, broken once and kept once."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.fhir.model import PYTHON_RULES, Child, Plan, Rule, human, load, plan
from gateway.fhir.r4.invariants import RULES
from gateway.fhir.validate import validate
from gateway.problems import IssueCode
from tests.unit.fhir.samples import host, minimal

INVARIANTS: dict[str, dict[str, str]] = load("invariants")["invariants"]
UCUM = "http://unitsofmeasure.org"
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">%s</div>'

Case = tuple[dict[str, Any], dict[str, Any]]
"""(a resource that breaks it, one that keeps it)"""


def of(name: str, broken: dict[str, Any], kept: dict[str, Any]) -> Case:
    """The element of this type gets these members, beside what it must have."""
    return host(name, minimal(name) | broken)[0], host(name, minimal(name) | kept)[0]


def only(name: str, broken: dict[str, Any], kept: dict[str, Any]) -> Case:
    """The element of this type is this and nothing else."""
    return host(name, broken)[0], host(name, kept)[0]


def bundle(kind: str, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": "Bundle", "type": kind, **more}
    return made | {"entry": list(entries)} if entries else made


def statement(kind: str, *absent: str, **more: Any) -> dict[str, Any]:
    made = minimal("CapabilityStatement") | {"kind": kind, **more}
    return {k: v for k, v in made.items() if k not in absent}


def consent_about(code: str) -> Case:
    scope = {"coding": [{"system": "something", "code": code}]}
    return of("Consent", {"scope": scope}, {"scope": scope, "patient": {"reference": "Patient/1"}})


def narrative(broken: str, kept: str) -> Case:
    text = {"status": "generated"}
    return {"resourceType": "Patient", "text": text | {"div": broken}}, {"resourceType": "Patient", "text": text | {"div": kept}}


def containing(broken: dict[str, Any], kept: dict[str, Any]) -> Case:
    request = minimal("ServiceRequest") | {"performer": [{"reference": "#a"}]}
    base = {"resourceType": "Organization", "id": "a", "name": "text"}
    return request | {"contained": [base | broken]}, request | {"contained": [base | kept]}


GET = {"request": {"method": "GET", "url": "Patient/1"}}
PATIENT = {"resource": {"resourceType": "Patient"}}
HEADER = {"resource": minimal("MessageHeader")}
DIAGNOSIS = {"coding": [{"system": "https://example.org/s", "code": "a"}]}
MONTHS = {"value": 3, "unit": "month"}

CASES: dict[str, Case] = {
    "Age:age-1": only("Age", {"value": 0, "code": "a", "system": UCUM}, {"value": 3, "code": "a", "system": UCUM}),
    "Attachment:att-1": only("Attachment", {"data": "QUJD"}, {"data": "QUJD", "contentType": "text/plain"}),
    "AuditEvent.entity:sev-1": only("AuditEvent.entity", {"name": "text", "query": "QUJD"}, {"name": "text"}),
    "Bundle.entry:bdl-5": (bundle("collection", {"fullUrl": "https://example.org/f"}), bundle("collection", PATIENT)),
    "Bundle.entry:bdl-8": (
        bundle("collection", PATIENT | {"fullUrl": "https://example.org/Patient/1/_history/2"}),
        bundle("collection", PATIENT | {"fullUrl": "https://example.org/Patient/1"}),
    ),
    "Bundle:bdl-1": (bundle("collection", total=1), bundle("searchset", total=1)),
    "Bundle:bdl-10": (bundle("document"), bundle("document", timestamp="2026-01-02T03:04:05Z")),
    "Bundle:bdl-11": (bundle("document", PATIENT), bundle("document", {"resource": {"resourceType": "Composition"}})),
    "Bundle:bdl-12": (bundle("message", PATIENT), bundle("message", HEADER)),
    "Bundle:bdl-2": (
        bundle("collection", PATIENT | {"search": {"mode": "match"}}),
        bundle("searchset", PATIENT | {"search": {"mode": "match"}}),
    ),
    "Bundle:bdl-3": (bundle("transaction", PATIENT), bundle("transaction", GET)),
    "Bundle:bdl-4": (bundle("batch-response", PATIENT), bundle("batch-response", {"response": {"status": "200"}})),
    "Bundle:bdl-7": (
        bundle("collection", *[PATIENT | {"fullUrl": "https://example.org/Patient/1"}] * 2),
        bundle("history", *[PATIENT | GET | {"fullUrl": "https://example.org/Patient/1", "response": {"status": "200"}}] * 2),
    ),
    "Bundle:bdl-9": (bundle("document"), bundle("document", identifier={"system": "https://example.org/s", "value": "1"})),
    "CapabilityStatement.rest.resource:cpb-12": of(
        "CapabilityStatement.rest.resource",
        {"searchParam": [{"name": "a", "type": "token"}, {"name": "a", "type": "date"}]},
        {"searchParam": [{"name": "a", "type": "token"}, {"name": "b", "type": "date"}]},
    ),
    "CapabilityStatement.rest:cpb-9": of(
        "CapabilityStatement.rest", {"resource": [{"type": "Task"}] * 2}, {"resource": [{"type": "Task"}, {"type": "Consent"}]}
    ),
    "CapabilityStatement:cpb-1": (statement("instance", "rest"), statement("instance")),
    "CapabilityStatement:cpb-14": (statement("instance", "implementation", description="text"), statement("instance")),
    "CapabilityStatement:cpb-15": (statement("capability"), statement("capability", "implementation", software={"name": "text"})),
    "CapabilityStatement:cpb-16": (statement("requirements"), statement("requirements", "implementation", description="text")),
    "CapabilityStatement:cpb-2": (
        statement("requirements", "implementation"),
        statement("requirements", "implementation", description="text"),
    ),
    "CapabilityStatement:cpb-3": (
        statement(
            "requirements",
            "implementation",
            description="text",
            messaging=[{"endpoint": [{"protocol": {"code": "http"}, "address": "https://example.org"}]}],
        ),
        statement("instance"),
    ),
    "CapabilityStatement:cpb-7": (
        statement("instance", document=[{"mode": "producer", "profile": "https://example.org/p"}] * 2),
        statement("instance", document=[{"mode": m, "profile": "https://example.org/p"} for m in ("producer", "consumer")]),
    ),
    "Consent:ppc-1": ({k: v for k, v in minimal("Consent").items() if k != "policyRule"}, minimal("Consent")),
    "Consent:ppc-2": consent_about("patient-privacy"),
    "Consent:ppc-3": consent_about("research"),
    "Consent:ppc-4": consent_about("adr"),
    "Consent:ppc-5": consent_about("treatment"),
    "ContactPoint:cpt-2": only("ContactPoint", {"value": "1"}, {"value": "1", "system": "phone"}),
    "Count:cnt-3": only("Count", {"value": 1.5, "code": "1", "system": UCUM}, {"value": 2, "code": "1", "system": UCUM}),
    "DataRequirement.codeFilter:drq-1": only("DataRequirement.codeFilter", {"path": "a", "searchParam": "b"}, {"path": "a"}),
    "DataRequirement.dateFilter:drq-2": only("DataRequirement.dateFilter", {"path": "a", "searchParam": "b"}, {"searchParam": "a"}),
    "Distance:dis-1": only("Distance", {"value": 1.5}, {"value": 1.5, "code": "m", "system": UCUM}),
    "DomainResource:dom-2": containing({"contained": [{"resourceType": "Patient", "id": "b"}]}, {}),
    "DomainResource:dom-3": (
        minimal("ServiceRequest") | {"contained": [{"resourceType": "Patient", "id": "a"}]},
        minimal("ServiceRequest") | {"contained": [{"resourceType": "Patient", "id": "a"}], "subject": {"reference": "#a"}},
    ),
    "DomainResource:dom-4": containing({"meta": {"versionId": "1"}}, {"meta": {"source": "https://example.org/s"}}),
    "DomainResource:dom-5": containing({"meta": {"security": [{"code": "R"}]}}, {}),
    "Duration:drt-1": only(
        "Duration", {"code": "h", "system": "https://example.org/s", "value": 1}, {"code": "h", "system": UCUM, "value": 1}
    ),
    "Element:ele-1": only("CodeableConcept", {"id": "a"}, {"id": "a", "text": "text"}),
    "Expression:exp-1": only("Expression", {"language": "text/cql"}, {"language": "text/cql", "reference": "https://example.org/e"}),
    "Extension:ext-1": (
        {"resourceType": "Patient", "extension": [{"url": "https://example.org/e"}]},
        {"resourceType": "Patient", "extension": [{"url": "https://example.org/e", "valueCode": "a"}]},
    ),
    "Narrative.div:txt-1": narrative(DIV % "<script>1</script>", DIV % "<p>text</p>"),
    "Narrative.div:txt-2": narrative(DIV % " ", DIV % '<img src="#a"/>'),
    "Observation.referenceRange:obs-3": only("Observation.referenceRange", {"type": {"text": "text"}}, {"low": {"value": 1}}),
    "Observation:obs-6": of(
        "Observation", {"valueBoolean": True, "dataAbsentReason": {"text": "text"}}, {"dataAbsentReason": {"text": "text"}}
    ),
    "Observation:obs-7": of(
        "Observation",
        {"valueBoolean": True, "code": DIAGNOSIS, "component": [{"code": DIAGNOSIS}]},
        {"valueBoolean": True, "code": DIAGNOSIS, "component": [{"code": {"coding": [{"code": "a"}]}}]},
    ),
    "Organization.address:org-2": of("Organization", {"address": [{"use": "home"}]}, {"address": [{"use": "work"}]}),
    "Organization.telecom:org-3": of("Organization", {"telecom": [{"use": "home"}]}, {"telecom": [{"use": "work"}]}),
    "Organization:org-1": (
        {"resourceType": "Organization", "active": True},
        {"resourceType": "Organization", "identifier": [{"value": "1"}]},
    ),
    "Parameters.parameter:inv-1": only(
        "Parameters.parameter", {"name": "a", "valueCode": "a", "part": [{"name": "b", "valueCode": "b"}]}, {"name": "a", "valueCode": "a"}
    ),
    "Patient.contact:pat-1": only(
        "Patient.contact", {"gender": "female"}, {"gender": "female", "organization": {"reference": "Organization/1"}}
    ),
    "Period:per-1": only("Period", {"start": "2026-02-02", "end": "2026-02-01"}, {"start": "2026-02-01", "end": "2026-02-02"}),
    "Quantity:qty-3": only("Quantity", {"value": 1, "code": "a"}, {"value": 1, "code": "a", "system": UCUM}),
    "QuestionnaireResponse.item:qrs-1": of(
        "QuestionnaireResponse.item", {"answer": [{"valueBoolean": True}], "item": [{"linkId": "b"}]}, {"answer": [{"valueBoolean": True}]}
    ),
    "Range:rng-2": only("Range", {"low": MONTHS, "high": MONTHS | {"value": 2}}, {"low": MONTHS, "high": MONTHS}),
    "Ratio:rat-1": only("Ratio", {"numerator": {"value": 1}}, {"numerator": {"value": 1}, "denominator": {"value": 2}}),
    "Reference:ref-1": only("Reference", {"reference": "#a"}, {"reference": "Patient/1"}),
    "ServiceRequest:prr-1": of(
        "ServiceRequest", {"orderDetail": [{"text": "text"}]}, {"orderDetail": [{"text": "text"}], "code": {"text": "text"}}
    ),
    "SimpleQuantity:sqty-1": only("Range", {"low": {"value": 1, "comparator": "<"}}, {"low": {"value": 1}}),
    "Task:inv-1": of(
        "Task",
        {"authoredOn": "2026-01-02T00:00:00Z", "lastModified": "2026-01-01T23:59:59Z"},
        {"authoredOn": "2026-01-02T00:00:00Z", "lastModified": "2026-01-01T20:00:00-05:00"},
    ),
    "Timing.repeat:tim-1": only("Timing.repeat", {"duration": 1}, {"duration": 1, "durationUnit": "h"}),
    "Timing.repeat:tim-10": only("Timing.repeat", {"timeOfDay": ["10:00:00"], "when": ["MORN"]}, {"when": ["MORN"]}),
    "Timing.repeat:tim-2": only("Timing.repeat", {"period": 1}, {"period": 1, "periodUnit": "h"}),
    "Timing.repeat:tim-4": only("Timing.repeat", {"duration": -1, "durationUnit": "h"}, {"duration": 0, "durationUnit": "h"}),
    "Timing.repeat:tim-5": only("Timing.repeat", {"period": -1, "periodUnit": "h"}, {"period": 0.5, "periodUnit": "h"}),
    "Timing.repeat:tim-6": only("Timing.repeat", {"periodMax": 1}, {"periodMax": 1, "period": 1, "periodUnit": "h"}),
    "Timing.repeat:tim-7": only("Timing.repeat", {"durationMax": 1}, {"durationMax": 1, "duration": 1, "durationUnit": "h"}),
    "Timing.repeat:tim-8": only("Timing.repeat", {"countMax": 2}, {"countMax": 2, "count": 1}),
    "Timing.repeat:tim-9": only("Timing.repeat", {"offset": 1, "when": ["C"]}, {"offset": 1, "when": ["MORN"]}),
    "TriggerDefinition:trd-1": of("TriggerDefinition", {"timingDate": "2026"}, {}),
    "TriggerDefinition:trd-2": only(
        "TriggerDefinition",
        {"type": "named-event", "name": "a", "condition": {"language": "a", "expression": "b"}},
        {"type": "named-event", "name": "a"},
    ),
    "TriggerDefinition:trd-3": only("TriggerDefinition", {"type": "named-event"}, {"type": "named-event", "name": "a"}),
}


def broken_keys(resource: dict[str, Any]) -> set[str]:
    return {f.say.partition(":")[0] for f in validate(resource) if f.code is IssueCode.INVARIANT}


def test_every_invariant_of_the_definitions_has_a_case() -> None:
    assert CASES.keys() == INVARIANTS.keys()


@pytest.mark.parametrize("rule_id", CASES)
def test_a_broken_invariant_is_refused(rule_id: str) -> None:
    key, sentence = human(rule_id)
    findings = validate(CASES[rule_id][0])
    assert f"{key}: {sentence}" in [finding.say for finding in findings], findings
    assert [f for f in findings if f.code not in (IssueCode.INVARIANT, IssueCode.NOT_SUPPORTED)] == []


@pytest.mark.parametrize("rule_id", CASES)
def test_a_kept_invariant_is_not_named(rule_id: str) -> None:
    key, _ = human(rule_id)
    assert key not in broken_keys(CASES[rule_id][1])


@pytest.mark.parametrize("rule_id", RULES)
def test_without_its_rule_the_broken_case_would_pass(rule_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each case is refused by its own rule and not by another of the same key."""
    rule = next(r for name in load("model")["types"] for r in _rules(name) if r.id == rule_id)
    key, sentence = human(rule_id)
    seen: list[bool | None] = []

    def watched(node: Any, context: Any) -> bool | None:
        verdict = rule.check(node, context)
        seen.append(verdict)
        return True

    patched = [r for name in load("model")["types"] for r in _holders(name, rule_id)]
    for holder in patched:
        monkeypatch.setattr(holder, "rules", tuple(Rule(r.id, watched) if r.id == rule_id else r for r in holder.rules))
    assert f"{key}: {sentence}" not in [finding.say for finding in validate(CASES[rule_id][0])]
    assert False in seen


def _rules(name: str) -> list[Rule]:
    made = plan(name)
    return [*made.rules, *(rule for child in made.children.values() for rule in child.rules)]


def _holders(name: str, rule_id: str) -> list[Plan | Child]:
    made = plan(name)
    holders: list[Plan | Child] = [made, *made.children.values()]
    return [holder for holder in holders if any(rule.id == rule_id for rule in holder.rules)]


def test_what_is_not_translated_is_little_and_has_its_reason() -> None:
    ways = {rule_id: entry["checked"] for rule_id, entry in INVARIANTS.items()}
    assert [rule_id for rule_id, way in ways.items() if way == "no"] == []
    assert {rule_id for rule_id, way in ways.items() if way == "python"} == set(PYTHON_RULES)
    assert len(PYTHON_RULES) == 3
    assert {rule_id for rule_id, way in ways.items() if way == "schema"} == {"Element:ele-1"}
    assert {rule_id for rule_id, way in ways.items() if way == "translated"} == set(RULES)
    assert all(entry["where"] for entry in INVARIANTS.values() if entry["checked"] != "translated")
    assert len(RULES) > 60
