"""Findings as an OperationOutcome (R4 operationoutcome.html)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.problems import Finding, IssueCode

__all__ = ["REFUSAL_SYSTEM", "outcome"]

REFUSAL_SYSTEM: Final = "https://coalition-hub.example/fhir/CodeSystem/refusal"
_CORRELATION: Final = "https://coalition-hub.example/fhir/StructureDefinition/correlation-id"


def outcome(findings: Sequence[Finding], *, correlation_id: str | None = None) -> dict[str, Any]:
    """One issue per finding, in their order. There is no narrative: `diagnostics` says what to do.

    With no finding at all the one issue is informational ("All OK"), as R4 requires at least one. The correlation id, when given, is an
    extension of the resource: it names the hub's own log line and is made by the hub or is the caller's own header.
    """
    made: dict[str, Any] = {"resourceType": "OperationOutcome"}
    if correlation_id:
        made["extension"] = [{"url": _CORRELATION, "valueString": correlation_id}]
    made["issue"] = [_issue(finding) for finding in findings] or [
        {"severity": "information", "code": IssueCode.INFORMATIONAL.value, "diagnostics": "All OK."}
    ]
    return made


def _issue(finding: Finding) -> dict[str, Any]:
    severity = "information" if finding.code is IssueCode.INFORMATIONAL else "error"
    issue: dict[str, Any] = {"severity": severity, "code": finding.code.value}
    if finding.refusal is not None:
        issue["details"] = {"coding": [{"system": REFUSAL_SYSTEM, "code": finding.refusal.value}]}
    issue["diagnostics"] = finding.say
    if finding.expression is not None:
        issue["expression"] = [finding.expression]
    return issue
