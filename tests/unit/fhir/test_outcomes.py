"""Every finding becomes one issue of a valid OperationOutcome."""

from __future__ import annotations

import pytest

from gateway.fhir.oracle import parse_r4b
from gateway.fhir.outcomes import REFUSAL_SYSTEM, outcome
from gateway.fhir.validate import validate
from gateway.problems import Finding, IssueCode, Refusal


@pytest.mark.parametrize("code", IssueCode)
@pytest.mark.parametrize("refusal", [None, Refusal.NO_CONSENT])
def test_each_kind_of_finding_gives_a_valid_outcome(code: IssueCode, refusal: Refusal | None) -> None:
    made = outcome([Finding(code, "Do this.", "Task.status", refusal)], correlation_id="c-1")
    assert validate(made) == []
    assert parse_r4b(made) == []
    assert made["issue"][0]["code"] == code.value
    assert made["issue"][0]["expression"] == ["Task.status"]
    assert "text" not in made


def test_a_refusal_is_a_coding_of_its_own_system() -> None:
    made = outcome([Finding(IssueCode.FORBIDDEN, "Ask first.", refusal=Refusal.NO_CONSENT)])
    assert made["issue"][0]["details"]["coding"] == [{"system": REFUSAL_SYSTEM, "code": "no-consent"}]
    assert "expression" not in made["issue"][0]


def test_findings_keep_their_order() -> None:
    findings = [Finding(IssueCode.VALUE, str(i)) for i in range(5)]
    assert [issue["diagnostics"] for issue in outcome(findings)["issue"]] == ["0", "1", "2", "3", "4"]


def test_no_finding_is_all_ok() -> None:
    made = outcome([])
    assert validate(made) == []
    assert [issue["severity"] for issue in made["issue"]] == ["information"]
