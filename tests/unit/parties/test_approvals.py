"""What flows under a policy is written down, compared, and may grow only with the approvals that R27 asks for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.decision.flows import Flow, flows_of
from gateway.identity import PartyId, StatusView
from gateway.parties.approvals import APPROVALS, LOCK, Change, change, describe, digest_of, read_lock, write_lock
from gateway.parties.load import load_policy
from gateway.parties.model import ClassRule, MatrixRow, Policy

ROOT: Final = Path(__file__).resolve().parents[3]
WHOLE: Final = load_policy(ROOT, registry=None)
FEW: Final = frozenset(map(PartyId, ("vsdr", "drps", "lakeridge", "ow-durham")))
POLICY: Final = replace(WHOLE, agreements=tuple(replace(each, parties=each.parties & FEW) for each in WHOLE.agreements))
"""The agreements of four parties, so that each comparison takes a moment."""
FLOWS: Final = flows_of(POLICY)


def with_row(policy: Policy, id_: str, alter: Callable[[MatrixRow], MatrixRow]) -> Policy:
    """The policy with one row of its matrix altered."""
    return replace(policy, rows=tuple(alter(row) if row.id == id_ else row for row in policy.rows))


def changed(policy: Policy) -> Change:
    return change(FLOWS, flows_of(policy))


def test_the_same_policy_lets_the_same_flow() -> None:
    assert flows_of(POLICY) == FLOWS and change(FLOWS, FLOWS) == Change((), ())


def test_a_class_more_is_listed_for_each_pair_with_its_elements() -> None:
    wider = with_row(
        POLICY, "victim-services-to-hospital", lambda row: replace(row, classes={**row.classes, "reason": ClassRule("reason")})
    )
    made = changed(wider)

    pairs = {(flow.sender, flow.receiver) for flow in made.widens}
    assert pairs == {("vsdr", "lakeridge")} and made.narrows == () and made.holders == ("vsdr",) and not made.switches_on
    assert {flow.what for flow in made.widens} == {
        f"ServiceRequest.reasonCode[coding.system=reason].coding.{leaf}" for leaf in ("system", "code")
    }
    assert change(flows_of(wider), FLOWS).narrows == made.widens


def test_one_code_more_is_a_line() -> None:
    def wider(row: MatrixRow) -> MatrixRow:
        flags = row.classes["safety-flag"]
        assert flags.only is not None
        return replace(row, classes={**row.classes, "safety-flag": replace(flags, only=flags.only | {"guardian-unsafe"})})

    made = changed(with_row(POLICY, "victim-services-to-income-support", wider))
    assert {flow.code for flow in made.widens} == {"guardian-unsafe"} and made.narrows == ()
    assert all(line.endswith("; Task.input[safety-flag] ; guardian-unsafe") for line in describe(made.widens))


def loosened(policy: Policy, what: str) -> Policy:
    match what:
        case "notice":
            scope = policy.scopes["police-statement"]
            return replace(policy, scopes={**policy.scopes, scope.id: replace(scope, notices=frozenset({"limits"}))})
        case "unit":
            scope = policy.scopes["police-statement"]
            return replace(policy, scopes={**policy.scopes, scope.id: replace(scope, names_unit=False)})
        case "life":
            return with_row(policy, "victim-services-to-police-emergency", lambda row: replace(row, life=None))
        case "obligation":
            return with_row(policy, "victim-services-to-police-emergency", lambda row: replace(row, obligations=()))
        case "decision":
            return with_row(policy, "police-to-income-support", lambda row: replace(row, returns_decision=True))
        case "course":
            party = policy.parties[PartyId("drps")]
            wider = with_row(policy, "police-to-victim-services", lambda row: replace(row, status_view=None))
            return replace(wider, parties={**wider.parties, party.id: replace(party, status_view=StatusView.FULL)})
        case _:
            basis = policy.bases["vsdr-police-duty"]
            return replace(policy, bases={**policy.bases, basis.id: replace(basis, enabled=True)})


@pytest.mark.parametrize("what", ["notice", "unit", "life", "obligation", "decision", "course", "basis"])
def test_whatever_stood_in_the_way_and_is_gone_widens(what: str) -> None:
    made = changed(loosened(POLICY, what))
    assert made.widens
    assert made.switches_on is (what == "basis")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "consent_profiles").mkdir()
    odd = Flow("a", "b", "", "by", "", "", "x", "", True)
    history = [{"flows": digest_of(FLOWS | {odd}), "approval": "baseline"}]
    write_lock(tmp_path, FLOWS | {odd}, history)
    lock = read_lock(tmp_path)
    assert lock is not None and lock.flows == FLOWS | {odd} and list(lock.history) == history


def gateway(*words: str) -> Result:
    return CliRunner().invoke(app, ["policy", *words])


@pytest.mark.ci
def test_a_widening_waits_for_the_panel_and_for_the_holders_privacy_officer(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        for part in ("mappings", "consent_profiles", "adapters"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "flows.lock", "approvals"))
    assert gateway("check", "--root", str(new), "--baseline").exit_code == 0

    profile = new / "consent_profiles" / "peel.yaml"
    text = profile.read_text()
    assert "[base, needs, reason," in text
    profile.write_text(text.replace("[base, needs, reason,", "[base, needs, reason, dob,", 1))

    listed = gateway("diff", str(old), str(new), "--json")
    assert listed.exit_code == 1
    assert {(flow["sender"], flow["what"]) for flow in json.loads(listed.output)["widens"]} == {("prp", "Patient.birthDate")}
    refused = gateway("check", "--root", str(new))
    assert refused.exit_code == 1 and "Patient.birthDate" in refused.output
    assert gateway("check", "--root", str(new), "--write").exit_code == 1
    [file] = (new / APPROVALS).glob("*.yaml")
    unsigned = gateway("check", "--root", str(new), "--write")
    assert unsigned.exit_code == 1 and "the privacy officer of prp is not filled in" in unsigned.output

    form: dict[str, Any] = yaml.safe_load(file.read_text())
    signed = {"by": "role, by name in the minutes", "date": "2026-11-24"}
    form |= {"why": "to be shown", "survivor-advisory-panel": signed, "privacy-officers": {"prp": signed}}
    for each in (form["survivor-advisory-panel"], form["privacy-officers"]["prp"]):
        each["date"] = yaml.safe_load("2026-11-24")
    file.write_text(yaml.safe_dump(form, sort_keys=False, width=10**6))
    assert gateway("check", "--root", str(new), "--write").exit_code == 0
    assert gateway("check", "--root", str(new)).exit_code == 0
    file.write_text(yaml.safe_dump(form | {"survivor-advisory-panel": {"by": "", "date": ""}}))
    taken_back = gateway("check", "--root", str(new))
    assert taken_back.exit_code == 1 and "survivor advisory panel is not filled in" in taken_back.output
    assert (new / LOCK).exists()
