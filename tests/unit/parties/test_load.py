"""The configuration in the repository, compiled."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from gateway import vocabulary as v
from gateway.identity import PartyId, ShelfId, StatusView
from gateway.parties.load import load_policy
from gateway.parties.model import AddressKind, MatrixRow, Policy, SelectorKind, Verification
from tests.unit.parties.conftest import ROOT, Spoil

VSDR, DRPS, LAKERIDGE, OW = PartyId("vsdr"), PartyId("drps"), PartyId("lakeridge"), PartyId("ow-durham")


def row(policy: Policy, name: str) -> MatrixRow:
    return next(each for each in policy.rows if each.id == name)


def test_shelves_follow_the_units(policy: Policy) -> None:
    assert policy.parties[VSDR].shelves == (ShelfId("vsdr"),)
    assert policy.parties[DRPS].shelves == tuple(ShelfId(f"drps/{unit}") for unit in ("htu", "ipv", "svu", "missing-persons"))
    assert policy.parties[OW].shelf_of("oshawa") == ShelfId("ow-durham/oshawa") == policy.address_shelf("ow-durham.htrt")
    assert policy.address_shelf("vsdr.ht-cic") == ShelfId("vsdr")
    assert policy.address_shelf("nobody") is None


def test_only_police_and_those_who_share_rooms_with_them_have_the_minimal_view(policy: Policy) -> None:
    minimal = {party for party in policy.parties.values() if party.status_view is StatusView.MINIMAL}
    assert {party.id for party in minimal} == {"drps", "prp", "opp"}
    assert all(party in minimal for party in policy.parties.values() if party.kind == "police")
    society = policy.parties[PartyId("dcas")]
    assert [society.view_of(shelf) for shelf in society.shelves] == [StatusView.FULL, StatusView.MINIMAL]
    assert not any(address.shelf == "dcas/joint" for address in society.addresses)


def test_addresses_are_roles_and_teams(policy: Policy) -> None:
    assert policy.addresses["vsdr.ht-cic"].kind is AddressKind.ROLE
    assert policy.addresses["vsdr.ht-on-call"].kind is AddressKind.TEAM
    assert policy.addresses["ow-durham.htrt"].role is None


def test_every_address_and_service_has_a_route_with_a_backup_and_a_line(policy: Policy) -> None:
    for party in policy.parties.values():
        for route in party.routes:
            assert route.backups and route.last_resort_line
        for address in party.addresses:
            for service in address.services:
                assert any(r.service == service and r.unit in (address.unit, None) for r in party.routes)


def test_the_crisis_chain_is_counsellor_then_on_call_then_manager(policy: Policy) -> None:
    route = next(r for r in policy.parties[VSDR].routes if r.service == "crisis-counselling" and r.unit == "ht")

    assert [route.first, *(step.address for step in route.backups)] == ["vsdr.ht-cic", "vsdr.cic-on-call", "vsdr.program-manager"]
    assert {step.after for step in route.backups} == {timedelta(minutes=10)}


def test_a_service_belongs_to_those_who_may_promise_it(policy: Policy) -> None:
    assert policy.services["emergency-income"].owners == {OW, "ow-peel"}
    assert policy.services["dvsacc-fast-track"].owners == {LAKERIDGE}
    assert policy.services["dvsacc-fast-track"].needs == frozenset()
    assert all(service.owners for service in policy.services.values())


BASE = {"pid", "alias", "age-band", "language", "access", "cultural", "urgency"}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("police-to-victim-services", "needs reason source safety-flag scene-cleared meeting-place safe-contact vpst-flag"),
        ("police-to-income-support", "needs paperwork-waived meeting-place"),
        ("police-to-hospital", "eta support-person safety-flag"),
        ("victim-services-to-hospital", "eta support-person safety-flag"),
        ("hospital-to-victim-services", "safety-flag meeting-place safe-contact"),
        ("victim-services-to-income-support", "needs paperwork-waived meeting-place safe-contact safety-flag legal-name"),
        ("income-support-to-victim-services", "needs reason safety-flag safe-contact meeting-place"),
    ],
)
def test_a_row_lists_exactly_these_classes(name: str, more: str, policy: Policy) -> None:
    assert set(row(policy, name).classes) == BASE | set(more.split())


def test_a_hospital_is_never_told_needs_reason_source_or_how_to_reach_her(policy: Policy) -> None:
    for each in policy.rows:
        if each.receiver_kind == "hospital":
            assert not {"needs", "reason", "source", "safe-contact", "meeting-place"} & set(each.classes)


def test_income_support_is_told_only_income_needs_and_two_safety_flags(policy: Policy) -> None:
    classes = row(policy, "victim-services-to-income-support").classes

    needs = classes["needs"].only
    assert needs is not None and {"income", "safe-phone"} <= needs and not {"medical-check", "harm-reduction", "safety-plan"} & needs
    assert classes["safety-flag"].only == frozenset({"companion-not-safe", "device-watched"})
    assert classes["legal-name"].scope == "share-legal-name"


def test_no_row_leads_from_a_hospital_or_income_support_to_police(policy: Policy) -> None:
    assert {r.sender_kind for r in policy.rows if r.receiver_kind == "police"} == {"victim-services"}


def test_a_decision_never_goes_back_to_police(policy: Policy) -> None:
    police = [party for party in policy.parties.values() if party.kind == "police"]
    for each in policy.rows:
        if each.sender_kind == "police":
            assert not each.returns_decision and all(p.status_view is StatusView.MINIMAL for p in police)


def test_consent_scopes_have_the_published_lifetimes(policy: Policy) -> None:
    scopes = policy.scopes

    assert scopes["warm-transfer"].lifetime == scopes["hospital-fast-track"].lifetime == timedelta(hours=72)
    assert scopes["contact-follow-up"].lifetime == timedelta(days=90)
    assert scopes["court-support"].lifetime is None and scopes["court-support"].asked_again == timedelta(days=90)
    assert scopes["police-statement"].notices == {"limits", "court-evidence"} and scopes["police-statement"].names_unit
    assert all("limits" in scope.notices for scope in scopes.values())
    assert len(scopes) == len(policy.codes["consent-scope"]) == 17


def test_police_never_record_for_themselves(policy: Policy) -> None:
    assert all("police" not in scope.self_recording_kinds for scope in policy.scopes.values())
    assert {s.id for s in policy.scopes.values() if s.self_recording_kinds} == {"contact-follow-up", "feedback", "identity-data"}


def test_no_basis_is_verified_and_the_doubtful_ones_are_off(policy: Policy) -> None:
    assert all(basis.verification is Verification.UNVERIFIED for basis in policy.bases.values())
    assert not policy.bases["vsdr-police-duty"].enabled and not policy.bases["police-cspa-s80"].enabled
    assert policy.bases["consent-express"].enabled and policy.bases["consent-express"].needs_consent
    assert set(policy.bases) == policy.codes["basis"]


def test_the_income_clocks_are_six_and_forty_eight_hours(policy: Policy) -> None:
    due = {clock.id: clock for clock in policy.clocks}

    assert (due["income-first-answer"].due, due["income-first-answer"].then) == (timedelta(hours=6), "escalate")
    assert (due["income-decision"].due, due["income-decision"].then) == (timedelta(hours=48), "breach")
    assert due["income-decision"].stopped_by == {"decision"}


def test_an_urgent_income_request_runs_on_no_crisis_clock(policy: Policy) -> None:
    running = [c.id for c in policy.clocks if c.state == "offered" and (c.services is None or "emergency-income" in c.services)]

    assert running == ["income-first-answer", "income-decision"]


def test_classes_follow_changes_or_stand_still_as_designed(policy: Policy) -> None:
    live = {name for name, data_class in policy.classes.items() if data_class.live}

    assert {"alias", "age-band", "language", "access", "safety-flag", "meeting-place", "safe-contact"} <= live
    assert not {"needs", "reason", "source"} & live
    assert all(rule.live == (name in live) for each in policy.rows for name, rule in each.classes.items())


def test_needs_reason_and_source_carry_both_violence_labels(policy: Policy) -> None:
    for name in ("needs", "reason", "source"):
        assert set(policy.classes[name].sensitivity) == {"SDV", "VIO"}


def test_selectors_speak_whole_urls(policy: Policy) -> None:
    age, born = policy.classes["age-band"].selectors
    (contact,) = policy.classes["safe-contact"].selectors
    (reason,) = policy.classes["reason"].selectors

    assert (age.kind, age.element, age.system) == (SelectorKind.EXTENSION, v.EXT_AGE_BAND, v.AGE_BAND)
    assert (born.kind, born.element, born.extension, born.ages["16-17"]) == (SelectorKind.AGE, "birthDate", v.EXT_AGE_BAND, 16)
    assert contact.where["extension.url"] == {v.EXT_SAFE_CONTACT} and v.EXT_SAFE_CONTACT in contact.extensions
    assert reason.where["coding.system"] == {v.REASON}


def test_codes_agree_with_the_vocabulary(policy: Policy) -> None:
    assert {p: v.purpose_system(p) for p in policy.purposes} == dict(policy.purposes)
    assert {"transfer", "abort"} <= policy.codes["task-code"]
    local = {value.removeprefix(v.CODE_SYSTEM) for value in vars(v).values() if isinstance(value, str) and value.startswith(v.CODE_SYSTEM)}
    assert local - {"", "refusal"} <= set(policy.codes)


def test_counsellors_do_not_work_from_police_devices(policy: Policy) -> None:
    assert {"ht-cic", "cic", "cic-on-call"} <= policy.device_refusals["police"]
    assert "police-officer" not in policy.device_refusals["police"]


def test_the_version_follows_values_and_not_comments(tree: Path, spoil: Spoil) -> None:
    before = load_policy(tree, registry=None)

    spoil("consent_profiles/durham.yaml", "region: durham", "# a comment\nregion: durham")
    commented = load_policy(tree, registry=None)
    spoil("mappings/terms.yaml", "lifetime: 72h", "lifetime: 71h")
    changed = load_policy(tree, registry=None)

    assert (before.version, before.epoch) == (commented.version, commented.epoch)
    assert before.version != changed.version and before.epoch != changed.epoch
    assert 0 <= changed.epoch < 2**63


def test_regions_limit_what_is_loaded() -> None:
    durham = load_policy(ROOT, registry=None, regions={"durham"})

    assert {DRPS, VSDR, LAKERIDGE, OW} <= set(durham.parties)
    assert {party.region for party in durham.parties.values()} == {"durham"}
    assert [agreement.id for agreement in durham.agreements] == ["durham-coalition"], "none with a region that is not served"


def test_an_agreement_with_another_region_counts_where_both_are_served() -> None:
    both = load_policy(ROOT, registry=None, regions={"durham", "peel"})

    assert {agreement.id for agreement in both.agreements} == {"durham-coalition", "durham-peel", "peel-coalition"}


def test_a_region_may_have_a_deadline_of_its_own(tree: Path, spoil: Spoil) -> None:
    own = "{id: peel-stat, replaces: crisis-acknowledge, state: offered, during: [delivered], due: 15m, then: backup, services: crisis}"
    spoil("consent_profiles/peel.yaml", "clocks: []", f"clocks:\n  - {own}")

    clocks = {clock.id: clock for clock in load_policy(tree, registry=None).clocks}

    assert clocks["crisis-acknowledge"].except_regions == {"peel"} and not clocks["asap-acknowledge"].except_regions
    assert (clocks["peel-stat"].region, clocks["peel-stat"].due) == ("peel", timedelta(minutes=15))


def test_a_second_region_is_data_alone(tree: Path) -> None:
    profile = (tree / "consent_profiles" / "durham.yaml").read_text()
    manifest = (tree / "adapters" / "vsdr" / "manifest.yaml").read_text()
    other = profile.replace("region: durham", "region: waterloo").replace("regions: [durham]", "regions: [waterloo]")
    other = other.replace("durham-coalition", "waterloo-coalition").replace("parties: [drps, vsdr, ", "parties: [vs-waterloo, vsdr]  # ")
    services = "services: [crisis-counselling, victim-fund-assessment, court-accompaniment, records-demand]\n"
    other = other[: other.index("  # Support across")] + services + "rows: []\nclocks: []\n"
    (tree / "consent_profiles" / "waterloo.yaml").write_text(other)
    (tree / "adapters" / "vs-waterloo").mkdir()
    new = (
        manifest.replace("vsdr", "vs-waterloo")
        .replace("region: durham", "region: waterloo")
        .replace("profile: durham", "profile: waterloo")
    )
    agreed = "agreements: [durham-coalition, durham-peel, opp-durham]"
    (tree / "adapters" / "vs-waterloo" / "manifest.yaml").write_text(new.replace(agreed, "agreements: [waterloo-coalition]"))
    ours = tree / "adapters" / "vsdr" / "manifest.yaml"
    ours.write_text(manifest.replace(agreed, agreed.replace("[", "[waterloo-coalition, ")))

    loaded = load_policy(tree, registry=None)

    assert PartyId("vs-waterloo") in loaded.services["crisis-counselling"].owners
    assert set(loaded.timezones) == {"durham", "peel", "ontario", "waterloo"}


def test_loading_is_fast() -> None:
    best = min(_seconds() for _ in range(3))

    assert best < 0.3


def _seconds() -> float:
    start = time.perf_counter()
    load_policy(ROOT, registry=None)
    return time.perf_counter() - start
