"""How long the ingest path of a referral takes; on one core, medians, so run it on a quiet machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import orjson
import pytest

from gateway.fhir.parse import parse_json
from gateway.fhir.validate import validate, warm

pytestmark = pytest.mark.bench

_CODE = {"coding": [{"system": "https://example.org/fhir/CodeSystem/service", "code": "crisis-counselling"}]}
_PATIENT = {"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}
_PERIOD = {"start": "2026-01-10T01:58:00-05:00", "end": "2026-04-10T01:58:00-04:00"}
_ACTOR = {"role": _CODE, "reference": {"reference": "Organization/receiver"}}
_CLASSES = [{"system": "https://example.org/fhir/CodeSystem/data-class", "code": f"class-{i}"} for i in range(6)]
_RULE = {"type": "permit", "actor": [_ACTOR], "class": _CLASSES, "code": [_CODE]}
_CONSENT = {
    "resourceType": "Consent",
    "status": "active",
    "scope": _CODE,
    "category": [_CODE],
    "patient": _PATIENT,
    "dateTime": "2026-01-10T01:58:00-05:00",
    "organization": [{"reference": "Organization/sender"}],
    "policyRule": _CODE,
    "provision": {"period": _PERIOD, "provision": [_RULE]},
}
_REQUEST = {
    "resourceType": "ServiceRequest",
    "status": "active",
    "intent": "order",
    "priority": "stat",
    "code": _CODE,
    "subject": _PATIENT,
    "authoredOn": "2026-01-10T02:00:00-05:00",
    "requester": {"reference": "PractitionerRole/sender"},
    "performer": [{"reference": "HealthcareService/receiver"}],
}
_TASK = {
    "resourceType": "Task",
    "status": "requested",
    "intent": "order",
    "code": _CODE,
    "for": _PATIENT,
    "authoredOn": "2026-01-10T02:00:00-05:00",
    "owner": {"reference": "HealthcareService/receiver"},
    "input": [{"type": _CODE, "valueCodeableConcept": _CODE} for _ in range(5)],
}
_NAMED = {"resourceType": "Patient", "name": [{"use": "nickname", "given": ["Zz-Robin"]}], "communication": [{"language": _CODE}]}


def referral() -> dict[str, Any]:
    resources: list[dict[str, Any]] = [_NAMED, _CONSENT, _CONSENT, _REQUEST, _TASK]
    entries = [
        {"fullUrl": f"urn:uuid:00000000-0000-4000-8000-{i:012}", "resource": r, "request": {"method": "POST", "url": r["resourceType"]}}
        for i, r in enumerate(resources)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def microseconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(2000):
        started = time.perf_counter_ns()
        work()
        taken.append(time.perf_counter_ns() - started)
    return median(taken) / 1000


def test_a_referral_is_parsed_and_validated_in_time() -> None:
    warm()
    body = orjson.dumps(referral())
    parsed = parse_json(body)
    assert 5000 < len(body) < 6000
    assert validate(parsed) == []
    assert microseconds(lambda: parse_json(body)) < 60
    assert microseconds(lambda: validate(parsed)) < 150


def test_the_validator_is_ready_soon_and_small() -> None:
    """In a process of its own: what importing and warming costs in time and memory."""
    program = (
        "import time, psutil, orjson, jsonschema_rs\n"
        "before, started = psutil.Process().memory_info().rss, time.perf_counter()\n"
        "from gateway.fhir.validate import warm\n"
        "warm()\n"
        "print(time.perf_counter() - started, (psutil.Process().memory_info().rss - before) / 2**20)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, mebibytes = map(float, done.stdout.split())
    assert seconds < 0.6
    assert mebibytes < 30
