"""The age line of a party, the law that follows from an age band, and what a report may say; over the configuration that ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway import vocabulary as v
from gateway.parties.load import load_policy
from gateway.parties.model import Policy
from gateway.reports.ages import Standing, standing_of
from gateway.reports.societies import societies
from gateway.reports.stating import basis_for, faults, stated_basis

Json = dict[str, Any]
ROOT = Path(__file__).parents[3]
AT = 1_773_453_600_000


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(ROOT, registry=None)


@pytest.mark.parametrize(
    ("band", "at_16", "at_18"),
    [
        ("u12", Standing.MANDATORY, Standing.MANDATORY),
        ("12-15", Standing.MANDATORY, Standing.MANDATORY),
        ("16-17", Standing.PERMISSIVE, Standing.MANDATORY),
        ("18-24", None, None),
        ("25plus", None, None),
        ("unknown-adult", None, None),
        ("unknown-maybe-minor", Standing.UNKNOWN, Standing.UNKNOWN),
        (None, None, None),
        ("made-up", None, None),
    ],
)
def test_the_age_line_is_a_partys_own(policy: Policy, band: str | None, at_16: Standing | None, at_18: Standing | None) -> None:
    assert standing_of(policy, band, 16) is at_16
    assert standing_of(policy, band, 18) is at_18


@pytest.mark.parametrize(
    ("kind", "band", "basis"),
    [
        ("police", "12-15", "duty-report-u16"),
        ("victim-services", "u12", "duty-report-u16"),
        ("police", "16-17", "may-report-16-17"),
        ("victim-services", "16-17", "may-report-16-17"),
        ("hospital", "16-17", "may-report-16-17"),
        ("police", "unknown-maybe-minor", None),
        ("police", "18-24", None),
    ],
)
def test_the_law_follows_from_the_age_band_where_the_band_tells_it(policy: Policy, kind: str, band: str, basis: str | None) -> None:
    sender = next(party for party in policy.parties.values() if party.kind == kind and party.region == "durham")
    receiver = next(party for party in policy.parties.values() if party.kind == "child-protection" and party.region == "durham")
    assert basis_for(policy, sender, receiver, "child-protection-report", band) == basis


def test_societies_are_those_of_the_agreement_and_the_chosen_one_comes_first(policy: Policy) -> None:
    sender = next(party for party in policy.parties.values() if party.kind == "police" and party.region == "durham")
    usual = [party.id for party in societies(policy, sender, AT)]
    assert usual == sorted(usual) and len(usual) == 2
    chosen = societies(policy, sender, AT, frozenset({"indigenous-service"}))
    assert "indigenous-service" in chosen[0].preferred_with and {party.id for party in chosen} == set(usual)


@pytest.mark.parametrize(
    ("name", "wrong"), [("Dana", False), ("Mary-Ann", False), ("Dana Last", True), ("", True), ("Dana\tLast", True), (None, True)]
)
def test_who_reports_is_named_by_a_first_name_alone(name: str | None, wrong: bool) -> None:
    task: Json = {
        "code": {"coding": [{"system": v.TASK_CODE, "code": "report"}]},
        "input": [{"type": {"coding": [{"system": v.TASK_INPUT, "code": kind}]}} for kind in ("report-ground", "report-basis")],
    }
    if name is not None:
        task["extension"] = [{"url": v.EXT_ACTING_WORKER, "valueString": name}]
    assert [finding.expression for finding in faults(task, "Task")] == (["Task.extension"] if wrong else [])
    assert stated_basis(task) is None


@pytest.mark.parametrize("kind", ["report-ground", "report-basis", "whereabouts", "form-number", "call-back-line"])
@pytest.mark.parametrize("code", ["transfer", "emergency", None])
def test_what_belongs_in_a_report_or_a_demand_stands_nowhere_else(kind: str, code: str | None) -> None:
    task: Json = {"input": [{"type": {"coding": [{"system": v.TASK_INPUT, "code": kind}]}}]}
    if code is not None:
        task["code"] = {"coding": [{"system": v.TASK_CODE, "code": code}]}
    assert "narrative-not-allowed" in [finding.refusal for finding in faults(task, "Task")]
