"""The five gates: each allows, and each refuses with what its caller may know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.decision.decide import Ask, Denial, Gate, Permit, decide
from gateway.decision.explain import Note, explain, told
from gateway.decision.grants import Grant, GrantState
from gateway.identity import ShelfId
from gateway.problems import Refusal
from tests.unit.decision.making import (
    FAR,
    GIVEN,
    HOSPITAL,
    HOUR,
    INCOME,
    NOW,
    PARTIES,
    POLICE,
    POLICY,
    SERVICES,
    SUPPORT,
    ask,
    consent,
    granted,
    provision,
    warm,
)

WARM = consent(warm())
INCOME_CONSENT = consent(
    warm(to="HealthcareService/pantry.east", scope="income-support", purposes=("ELIGDTRM",), classes=(*GIVEN, "legal-name")), by=SUPPORT
)
NAME_CONSENT = consent(
    warm(to="HealthcareService/pantry.east", scope="share-legal-name", purposes=("ELIGDTRM",), classes=("legal-name",)), by=SUPPORT
)


def permitted(question: Ask) -> Permit:
    answer = decide(question, POLICY)
    assert isinstance(answer, Permit), answer
    assert answer == decide(question, POLICY)
    return answer


def denied(question: Ask) -> Denial:
    answer = decide(question, POLICY)
    assert isinstance(answer, Denial), answer
    return answer


def income(grants: tuple[Grant, ...], **more: Any) -> Ask:
    """Victim services send an income request."""
    fields: dict[str, Any] = {
        "sender": PARTIES[SUPPORT],
        "sender_unit": None,
        "receiver": PARTIES[INCOME],
        "receiver_unit": "east",
        "receiver_role": None,
        "service": SERVICES["emergency-income"],
        "purposes": frozenset({"ELIGDTRM", "COC"}),
        "present": frozenset({"alias", "needs", "legal-name"}),
    }
    return ask(grants, **(fields | more))


def test_all_five_gates_open() -> None:
    answer = permitted(ask(granted(WARM)))
    assert (answer.row.id, answer.agreement.id, answer.basis.id, answer.purpose) == ("p-vs", "bay", "consent-express", "COC")
    assert answer.grants == ("c0-g1",)
    assert answer.ends == NOW + HOUR
    assert set(answer.classes) == {"envelope", "pid", "status", "urgency", "alias", "age-band", "needs", "reason"}
    assert answer.withheld == {}
    assert [s.gate for s in answer.trace] == [Gate.AGREEMENT, Gate.BASIS, Gate.ROW, Gate.CONSENT]


# -- agreement and region ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "receiver", "refusal", "gate", "note"),
    [
        (INCOME, FAR, Refusal.OUTSIDE_AGREEMENT, Gate.AGREEMENT, Note.NO_AGREEMENT),
        (HOSPITAL, FAR, Refusal.OUTSIDE_AGREEMENT, Gate.AGREEMENT, Note.AGREEMENT_NOT_IN_FORCE),
        (POLICE, FAR, Refusal.NOT_YOUR_REGION, Gate.AGREEMENT, Note.REGION_NOT_COVERED),
        (HOSPITAL, POLICE, Refusal.OUTSIDE_AGREEMENT, Gate.ROW, Note.NO_ROW),
    ],
)
def test_parties_without_agreement_region_or_row(sender: Any, receiver: Any, refusal: Refusal, gate: Gate, note: Note) -> None:
    answer = denied(ask(granted(WARM), sender=PARTIES[sender], receiver=PARTIES[receiver]))
    assert (answer.refusal, answer.gate, answer.trace[-1].note) == (refusal, gate, note)


def test_an_agreement_holds_from_its_start_until_just_before_its_end() -> None:
    (bay, *_) = POLICY.agreements
    for starts, ends, open_ in ((NOW, None, True), (NOW + 1, None, False), (0, NOW + 1, True), (0, NOW, False)):
        policy = replace(POLICY, agreements=(replace(bay, starts=starts, ends=ends),))
        assert isinstance(decide(ask(granted(WARM)), policy), Permit) is open_


def cross(**more: Any) -> Ask:
    grants = granted(consent(warm(to="Organization/shore", scope="cross-region"), by=SUPPORT))
    fields: dict[str, Any] = {"sender": PARTIES[SUPPORT], "receiver": PARTIES[FAR], "receiver_unit": None}
    return ask(grants, **(fields | {"present": frozenset({"alias", "safe-contact"})} | more))


def test_another_region_only_by_the_row_for_it() -> None:
    assert permitted(cross()).row.id == "vs-vs"
    within = replace(POLICY, rows=tuple(replace(r, cross_region=False) for r in POLICY.rows))
    answer = decide(cross(), within)
    assert isinstance(answer, Denial)
    assert (answer.refusal, answer.gate) == (Refusal.NOT_YOUR_REGION, Gate.AGREEMENT)


@pytest.mark.parametrize("regions", [{"bay"}, {"ocean"}])
def test_an_agreement_must_cover_both_regions(regions: set[str]) -> None:
    pair = replace(POLICY.agreements[1], regions=frozenset(regions))
    answer = decide(cross(), replace(POLICY, agreements=(pair,)))
    assert isinstance(answer, Denial)
    assert answer.refusal is Refusal.NOT_YOUR_REGION


# -- basis ---------------------------------------------------------------------------------------------------------------------


def to_police(**more: Any) -> Ask:
    fields: dict[str, Any] = {
        "sender": PARTIES[SUPPORT],
        "sender_unit": None,
        "receiver": PARTIES[POLICE],
        "receiver_unit": "north",
        "receiver_role": None,
        "service": SERVICES["statement"],
        "purposes": frozenset({"law-enforcement", "THREAT"}),
        "present": frozenset({"alias", "meeting-place"}),
    }
    return ask(**(fields | more))


STATEMENT = consent(warm(to="HealthcareService/constable.north", scope="police-statement", purposes=("law-enforcement",)), by=SUPPORT)


@pytest.mark.parametrize("basis", ["alleged-duty", "unheard-of"])
def test_a_basis_that_is_off_or_unknown_carries_nothing(basis: str) -> None:
    answer = denied(to_police(basis=basis))
    assert (answer.refusal, answer.gate) == (Refusal.BASIS_OFF, Gate.BASIS)


def test_a_basis_is_for_the_kinds_that_may_invoke_it() -> None:
    answer = permitted(to_police(basis="serious-harm"))
    assert (answer.grants, answer.ends, answer.purpose) == ((), None, "THREAT")
    assert set(answer.classes) - {"envelope", "pid", "status", "urgency"} == {"alias", "meeting-place"}
    assert denied(ask(granted(WARM), basis="serious-harm")).trace[-1].note is Note.BASIS_NOT_THEIRS


def test_a_basis_that_needs_no_consent_is_never_assumed() -> None:
    assert denied(to_police()).refusal is Refusal.NO_CONSENT
    assert permitted(to_police(grants=granted(STATEMENT, by="harbour"))).row.id == "vs-p"


def test_a_stated_basis_is_the_one_used() -> None:
    grants = granted(STATEMENT, by="harbour")
    answer = permitted(to_police(grants=grants, basis="serious-harm"))
    assert (answer.row.id, answer.grants) == ("vs-p-harm", ())
    assert permitted(to_police(grants=grants, basis="consent-express")).row.id == "vs-p"


def test_consent_switched_off_as_a_basis_stops_everything() -> None:
    off = replace(POLICY, bases={"consent-express": replace(POLICY.bases["consent-express"], enabled=False)})
    answer = decide(ask(granted(WARM)), off)
    assert isinstance(answer, Denial)
    assert (answer.refusal, answer.gate) == (Refusal.BASIS_OFF, Gate.BASIS)


def test_a_row_that_needs_consent_but_names_no_scope_is_shut() -> None:
    broken = replace(POLICY, rows=tuple(replace(r, scope=None) for r in POLICY.rows))
    answer = decide(ask(granted(WARM)), broken)
    assert isinstance(answer, Denial)
    assert answer.refusal is Refusal.NO_CONSENT


# -- consent -------------------------------------------------------------------------------------------------------------------

EXPIRED = consent(warm(period=(NOW - HOUR, NOW - 1)))
TABLE: list[tuple[str, tuple[Grant, ...], Note]] = [
    ("none", (), Note.NO_GRANT),
    ("withdrawn", tuple(replace(g, state=GrantState.WITHDRAWN) for g in granted(WARM)), Note.GRANT_WITHDRAWN),
    ("superseded", tuple(replace(g, state=GrantState.SUPERSEDED) for g in granted(WARM)), Note.GRANT_SUPERSEDED),
    ("expired", granted(EXPIRED), Note.GRANT_ENDED),
    ("not begun", granted(consent(warm(period=(NOW + 1, NOW + HOUR)))), Note.GRANT_NOT_BEGUN),
    ("wrong purpose", granted(consent(warm(purposes=("victim-support",)))), Note.GRANT_OTHER_PURPOSE),
    ("wrong receiver", granted(consent(warm(to="Organization/clinic"))), Note.GRANT_OTHER_RECEIVER),
    ("wrong unit", granted(consent(warm(to="PractitionerRole/harbour.ipv-cic"))), Note.GRANT_OTHER_UNIT),
    ("wrong scope", granted(consent(warm(scope="contact-follow-up", purposes=("victim-support",)))), Note.GRANT_OTHER_SCOPE),
    ("unit excluded", granted(consent(warm(provision("deny", to=["PractitionerRole/harbour.ht-cic"])))), Note.RECEIVER_EXCLUDED),
]


@pytest.mark.parametrize(("grants", "note"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_without_a_live_consent_for_this_receiver_nothing_goes(grants: tuple[Grant, ...], note: Note) -> None:
    answer = denied(ask(grants))
    assert (answer.refusal, answer.gate) == (Refusal.NO_CONSENT, Gate.CONSENT), "a sender with the minimal view always hears the same"
    assert note in {s.note for s in answer.trace}


HOSPITAL_CONSENT = consent(warm(to="Organization/clinic", scope="hospital-fast-track", purposes=("ERTREAT",), period=(NOW - HOUR, NOW - 1)))


def to_hospital(grants: tuple[Grant, ...], **more: Any) -> Ask:
    fields: dict[str, Any] = {
        "sender": PARTIES[SUPPORT],
        "sender_unit": None,
        "receiver": PARTIES[HOSPITAL],
        "receiver_unit": None,
        "receiver_role": "dvsacc-nurse",
        "service": SERVICES["fast-track"],
        "purposes": frozenset({"ERTREAT"}),
        "present": frozenset({"alias", "safety-flag"}),
    }
    return ask(grants, **(fields | more))


def test_only_its_recorder_hears_that_a_consent_ended() -> None:
    assert denied(to_hospital(granted(HOSPITAL_CONSENT, by="harbour"))).refusal is Refusal.CONSENT_EXPIRED
    assert denied(to_hospital(granted(HOSPITAL_CONSENT, by="constable/north"))).refusal is Refusal.NO_CONSENT


def test_only_a_holder_that_was_recalled_hears_of_a_withdrawal() -> None:
    (grant,) = granted(HOSPITAL_CONSENT, by="harbour")
    withdrawn = replace(grant, state=GrantState.WITHDRAWN)
    assert denied(to_hospital((withdrawn,))).refusal is Refusal.NO_CONSENT
    assert denied(to_hospital((withdrawn,), recalled=frozenset({grant.id}))).refusal is Refusal.CONSENT_WITHDRAWN


def test_any_holder_with_a_row_may_use_a_grant_that_another_recorded() -> None:
    live = consent(warm(to="Organization/clinic", scope="hospital-fast-track", purposes=("ERTREAT",)))
    answer = permitted(to_hospital(granted(live, by="constable/north")))
    assert answer.row.id == "vs-h"


def test_the_token_must_name_a_purpose_of_the_row() -> None:
    answer = denied(ask(granted(WARM), purposes=frozenset({"HRESCH"})))
    assert (answer.refusal, answer.gate) == (Refusal.PURPOSE_MISMATCH, Gate.ROW)
    both = permitted(ask(granted(WARM), purposes=frozenset({"COC", "victim-support", "HRESCH"})))
    assert both.purpose == "COC", "of the purposes of token and row, one that was consented to"


def test_a_unit_consent_reaches_the_units_backups_and_no_other_unit() -> None:
    grants = granted(consent(warm(to="PractitionerRole/harbour.ht-cic")))
    permitted(ask(grants, receiver_unit="ht"))
    permitted(ask(grants, receiver_unit=None, receiver_role="cic-on-call"))  # the party's on-call role shares the unit's shelf
    denied(ask(grants, receiver_unit="ipv"))


def test_a_unit_with_its_own_shelf_shares_no_consent() -> None:
    grants = granted(INCOME_CONSENT, by="harbour")
    permitted(income(grants))
    denied(income(grants, receiver_unit="west"))
    denied(income(grants, receiver_unit=None))


def test_a_scope_that_names_a_unit_never_opens_the_whole_party() -> None:
    (grant,) = granted(STATEMENT, by="harbour")
    permitted(to_police(grants=(grant,)))
    denied(to_police(grants=(grant,), receiver_unit="south"))
    denied(to_police(grants=(replace(grant, receiver_unit=None),)))


def test_the_consent_that_lasts_longest_is_the_one_used() -> None:
    grants = granted(WARM, consent(warm(period=(NOW - HOUR, NOW + 5 * HOUR))))
    answer = permitted(ask(grants))
    assert (answer.grants, answer.ends) == (("c1-g1",), NOW + 5 * HOUR)
    narrow = consent(warm(classes=("alias",), period=(NOW - HOUR, NOW + 5 * HOUR)))
    answer = permitted(ask(granted(WARM, narrow)))
    assert (set(answer.grants), answer.ends) == ({"c0-g1", "c1-g1"}, NOW + HOUR), "the copy ends with the first of the grants it rests on"


def test_an_exclusion_by_name_holds_in_every_consent_of_the_thread() -> None:
    excludes = consent(warm(provision("deny", to=["PractitionerRole/harbour.ht-cic"])))
    assert denied(ask(granted(WARM, excludes))).refusal is Refusal.NO_CONSENT
    permitted(ask(granted(WARM, excludes), receiver_role="cic-on-call", receiver_unit=None))
    denied(ask(granted(WARM, excludes), receiver_role=None))  # who it is, is not known


def test_an_exclusion_lapses_with_the_consent_it_stands_in() -> None:
    (excludes,) = granted(consent(warm(provision("deny", to=["PractitionerRole/harbour.ht-cic"]))))
    live = granted(consent(warm(classes=(*GIVEN, "legal-name"))))
    denied(ask((*live, excludes)))
    permitted(ask((*live, replace(excludes, id="x", state=GrantState.SUPERSEDED))))
    permitted(ask((*live, replace(excludes, id="x", ends=NOW - 1))))
    permitted(ask((*live, replace(excludes, id="x", starts=NOW + 1))))


def test_a_consent_with_exceptions_reaches_the_units_backups_too() -> None:
    grants = granted(consent(warm(provision("deny", classes=["reason"]), to="PractitionerRole/harbour.ht-cic")))
    for unit, role in (("ht", "ht-cic"), ("ht", None), (None, "cic-on-call")):
        answer = permitted(ask(grants, receiver_unit=unit, receiver_role=role))
        assert answer.withheld == {"reason": "class-denied-by-consent"}


def test_a_class_that_one_consent_denies_may_still_go_under_another() -> None:
    narrowed = consent(warm(provision("deny", classes=["reason"])))
    answer = permitted(ask(granted(narrowed)))
    assert answer.withheld == {"reason": "class-denied-by-consent"}
    assert "reason" in permitted(ask(granted(narrowed, WARM))).classes


# -- class ---------------------------------------------------------------------------------------------------------------------


def test_a_class_the_row_does_not_list_stays_and_stops_nothing() -> None:
    answer = permitted(ask(granted(WARM), present=frozenset({"alias", "legal-name"})))
    assert answer.withheld == {"legal-name": "class-not-in-row"}
    assert "legal-name" not in answer.classes


def test_a_class_the_survivor_did_not_grant_stays() -> None:
    answer = permitted(ask(granted(consent(warm(classes=("alias", "needs"))))))
    assert answer.withheld == {"age-band": "class-not-granted", "reason": "class-not-granted"}


def test_a_class_with_a_consent_of_its_own_needs_it() -> None:
    alone = permitted(income(granted(INCOME_CONSENT, by="harbour")))
    assert alone.withheld == {"legal-name": "class-needs-own-consent"}
    both = permitted(income(granted(INCOME_CONSENT, NAME_CONSENT, by="harbour")))
    assert "legal-name" in both.classes
    assert set(both.grants) == {"c0-g1", "c1-g1"}
    ended = granted(INCOME_CONSENT, by="harbour") + tuple(replace(g, ends=NOW - 1) for g in granted(NAME_CONSENT, by="harbour"))
    assert "legal-name" not in permitted(income(ended)).classes


@pytest.mark.parametrize(
    ("state", "reached", "goes"),
    [
        ("accepted", (), False),
        ("introduced", (), True),
        ("handed-over", (), True),
        ("paused-by-survivor", (), False),
        ("paused-by-survivor", ("introduced",), True),
    ],
)
def test_a_class_released_from_a_state(state: str, reached: tuple[str, ...], goes: bool) -> None:
    answer = permitted(cross(state=state, reached=frozenset(reached)))
    assert ("safe-contact" in answer.classes) is goes
    assert answer.withheld == ({} if goes else {"safe-contact": "class-not-yet"})


def test_a_service_is_told_only_of_needs_that_concern_it() -> None:
    answer = permitted(income(granted(INCOME_CONSENT, by="harbour"), needs=frozenset({"food", "housing"})))
    assert answer.classes["needs"].only == frozenset({"income", "food"}), "the row's list and the service's list both narrow"
    other = permitted(income(granted(INCOME_CONSENT, by="harbour"), needs=frozenset({"housing"})))
    assert other.withheld["needs"] == "class-not-for-service"


def test_nothing_left_to_send_is_refused_and_something_left_is_not() -> None:
    answer = denied(ask(granted(WARM), present=frozenset({"legal-name"})))
    assert (answer.refusal, answer.gate) == (Refusal.MINIMUM_EXCEEDED, Gate.CLASS)
    permitted(ask(granted(WARM), present=frozenset()))
    permitted(cross(present=frozenset({"safe-contact"})))  # a class that goes later is not too much


def test_the_status_class_goes_with_any_permit() -> None:
    assert {"envelope", "pid", "status", "urgency"} <= set(permitted(ask(granted(WARM), present=frozenset({"alias"}))).classes)


# -- what is said --------------------------------------------------------------------------------------------------------------


def test_every_refusal_and_note_has_a_sentence_without_a_name() -> None:
    for refusal in (Refusal.NO_CONSENT, Refusal.CONSENT_EXPIRED, Refusal.OUTSIDE_AGREEMENT, Refusal.BASIS_OFF, Refusal.MINIMUM_EXCEEDED):
        assert told(refusal) != told(Refusal.DUPLICATE)
    lines = explain(denied(ask((*granted(WARM), *granted(EXPIRED)), receiver_unit="ipv", purposes=frozenset({"victim-support"}))).trace)
    assert lines[0] == "The two parties are joined by an agreement in force. [agreement: bay]"
    assert any("another purpose" in line for line in lines)


def test_the_recorder_is_a_shelf_and_not_its_party() -> None:
    (grant,) = granted(HOSPITAL_CONSENT, by="harbour")
    other_unit = replace(grant, recorder=ShelfId("harbour/other"))
    assert denied(to_hospital((other_unit,))).refusal is Refusal.NO_CONSENT


def test_a_row_of_one_region_is_not_a_row_of_another() -> None:
    question = ask(grants=granted(WARM))
    here = replace(POLICY, epoch=POLICY.epoch + 1, rows=tuple(replace(row, region=question.sender.region) for row in POLICY.rows))
    elsewhere = replace(POLICY, epoch=POLICY.epoch + 2, rows=tuple(replace(row, region="elsewhere") for row in POLICY.rows))
    assert isinstance(decide(question, here), Permit)
    answer = decide(question, elsewhere)
    assert isinstance(answer, Denial) and answer.refusal is Refusal.OUTSIDE_AGREEMENT
