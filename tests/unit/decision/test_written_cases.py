"""Questions another consent service asks of itself, put again in our own words; with each answer that differs, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.decision.consent import Actor, CompiledConsent, ConsentRequest, Rejected, compile_consent, evaluate
from gateway.decision.reading import boundary
from gateway.vocabulary import CONSENT_SCOPE_STD, V3_ACT_CODE, V3_ACT_REASON, V3_CONFIDENTIALITY
from tests.unit.decision.making import actor, coding, concept

Json = dict[str, Any]
TABLE: Final[Json] = yaml.safe_load((Path(__file__).parents[2] / "data/consent-cases/written/cases.yaml").read_text())
CASES: Final[list[Json]] = TABLE["cases"]
AT: Final = boundary(TABLE["now"], UTC)


def _provision(short: Mapping[str, Any]) -> Json:
    made: Json = {k: v for k, v in short.items() if k in ("type", "period")}
    if "to" in short:
        made["actor"] = [actor(short["to"])]
    for name, member, system in (
        ("purpose", "purpose", V3_ACT_REASON),
        ("label", "securityLabel", V3_CONFIDENTIALITY),
        ("kind", "class", "http://hl7.org/fhir/resource-types"),
    ):
        if name in short:
            made[member] = [coding(system, code) for code in short[name]]
    return made


def _consent(given: Mapping[str, Any]) -> Json:
    made: Json = {
        "resourceType": "Consent",
        "status": "active",
        "scope": concept(CONSENT_SCOPE_STD, "patient-privacy"),
        "category": [concept(V3_ACT_CODE, "IDSCL")],
        "patient": {"reference": "Patient/p"},
        "provision": _provision(given["root"]) | ({"provision": [_provision(r) for r in given["rules"]]} if "rules" in given else {}),
    }
    if given.get("scope") == "in-category":
        made["category"] = [made.pop("scope")]
    if "policy" in given:
        made["policyRule"] = concept(V3_ACT_CODE, given["policy"])
    return made


def _request(asked: Mapping[str, str], record: Mapping[str, Any]) -> ConsentRequest:
    assert AT is not None
    return ConsentRequest(
        receiver_party=asked["by"],
        purposes=frozenset({asked["purpose"]}),
        resource_type=record["type"],
        labels=frozenset(record["labels"]),
        at=AT,
    )


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_written_case(case: Json) -> None:
    compiled = compile_consent(_consent(case["given"]), resolve=lambda reference: Actor(party=reference))
    if "rejected" in case:
        assert isinstance(compiled, Rejected) and compiled.reason == case["rejected"]
        return
    assert isinstance(compiled, CompiledConsent), compiled
    released = [name for name, record in TABLE["records"].items() if evaluate([compiled], _request(case["asked"], record)).permit]
    assert released == case["releases"]


def test_every_answer_that_differs_says_why() -> None:
    """A Consent that the other service reads and this hub refuses is a difference too."""
    assert all(c["differs"].strip() for c in CASES if "differs" in c or "rejected" in c)
    assert sum("differs" in c for c in CASES) == 4
