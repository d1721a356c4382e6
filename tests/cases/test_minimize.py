"""What becomes of each data class on its way to a receiver, and of everything that is no class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import orjson
import pytest
import yaml

from gateway import vocabulary as v
from gateway.clock import millis, when
from gateway.decision.decide import Permit
from gateway.disclosure.ages import band_on, is_birth_date
from gateway.disclosure.minimize import OBLIGATIONS, minimize
from gateway.disclosure.selecting import Source, age_band_of, classes_in, yes_in
from gateway.disclosure.views import receiver_meta
from gateway.identity import ShelfId
from gateway.parties.model import ClassRule, SelectorKind
from tests.cases.world import NOW, PLAN, POLICY, ROOT, THREAD, arrived, grants_of, put, source_of

PERSON: Final[dict[str, Any]] = yaml.safe_load((ROOT / "consent_profiles" / "durham.cases.yaml").read_text())["person"]
SENT: Final = sorted(PERSON.keys() - {"urgency"})
BANDS: Final = {"u12": 0, "12-15": 12, "16-17": 16, "18-24": 18, "25plus": 25}
WARM: Final = {
    "by": "drps/htu",
    "to": "PractitionerRole/vsdr.ht-cic",
    "scope": "warm-transfer",
    "purposes": ["COC"],
    "classes": ["everything"],
}


def permit(*names: str, **rules: ClassRule) -> Permit:
    """A permit for these classes and no others."""
    fields: dict[str, Any] = {"sender": "drps/htu", "to": "vsdr.ht-cic", "service": "crisis-counselling", "purposes": ["COC"]}
    found, _ = put(POLICY, source=source_of(PERSON), grants=grants_of([WARM], POLICY), **fields)
    assert isinstance(found, Permit)
    return replace(found, classes={name: ClassRule(name) for name in names} | rules)


def made(source: Source, using: Permit) -> Any:
    return minimize(source, using, PLAN, thread=THREAD, shelf=ShelfId("vsdr"))


@pytest.mark.parametrize("name", SENT)
def test_a_class_goes_whole_and_alone(name: str) -> None:
    release = made(source_of(PERSON), permit(name))

    assert arrived(release) == {name: PERSON[name]}
    assert release.classes == (name,)
    assert b"Zz-Never" not in orjson.dumps([release.patient, release.request, release.inputs])
    assert b"said by the sender" not in orjson.dumps([release.patient, release.request, release.inputs])


@pytest.mark.parametrize("name", SENT)
def test_what_was_sent_is_known_by_class(name: str) -> None:
    assert name in classes_in(source_of(PERSON), PLAN)
    derived = {"age-band"} if name == "dob" else set()  # what a birth date makes is there too
    assert classes_in(source_of({name: PERSON[name]}), PLAN) == {name} | derived


def test_every_class_of_the_configuration_is_sent_here_or_made_by_the_hub() -> None:
    by_hub = {
        name for name, entry in POLICY.classes.items() if all(s.kind in (SelectorKind.HUB, SelectorKind.OUTPUT) for s in entry.selectors)
    }

    written_by_the_hub = {"reporter"}  # into the Task of a report, before it goes
    assert POLICY.classes.keys() == set(SENT) | {"urgency"} | written_by_the_hub | by_hub
    assert {"envelope", "pid", "status", "decision", "offer", "contact-card", "shelter-location", "identity-data"} == by_hub


def test_nothing_goes_without_a_class() -> None:
    release = made(source_of(PERSON), permit())

    assert not release.patient and not release.request and not release.inputs
    assert (release.confidentiality, release.sensitivity) == ("N", ())


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("alias",), ("R",)),
        (("alias", "legal-name"), ("V",)),
        (("needs",), ("R", "SDV", "VIO")),
        (("reason",), ("V", "SDV", "VIO")),
        (("source",), ("V", "SDV", "VIO")),
        (("safe-contact",), ("V", "PATLOC")),
        (("meeting-place",), ("V", "PATLOC")),
        (("whereabouts",), ("V", "PATLOC")),
        (("dob",), ("V", "DOB")),
        (("hcn",), ("V", "IDS")),
        (("report-ground", "report-basis"), ("V", "ADOL")),
        (("age-band",), ("R",)),
        (("needs", "meeting-place"), ("V", "SDV", "VIO", "PATLOC")),
    ],
)
def test_a_copy_is_labelled_by_what_of_it_went(names: tuple[str, ...], labels: tuple[str, ...]) -> None:
    release = made(source_of(PERSON), permit(*names))

    assert (release.confidentiality, *release.sensitivity) == labels


@pytest.mark.parametrize(
    ("band", "adolescent"), [("u12", True), ("12-15", True), ("16-17", True), ("unknown-maybe-minor", True), ("25plus", False)]
)
def test_a_minors_copy_says_so_only_where_the_age_goes(band: str, adolescent: bool) -> None:
    source = source_of({**PERSON, "age-band": band})

    assert ("ADOL" in made(source, permit("alias", "age-band")).sensitivity) is adolescent
    assert "ADOL" not in made(source, permit("alias")).sensitivity


@pytest.mark.parametrize(("reasons", "labelled"), [(["harm-reduction"], False), (["harm-reduction", "partner-violence"], True), ([], True)])
def test_sex_work_by_choice_carries_no_label_of_violence(reasons: list[str], labelled: bool) -> None:
    release = made(source_of({**PERSON, "reason": reasons}), permit("needs"))

    assert (release.sensitivity == ("SDV", "VIO")) is labelled


def test_every_copy_carries_the_obligations_and_is_marked_as_a_part() -> None:
    plain = made(source_of(PERSON), permit("alias"))
    more = made(source_of(PERSON), replace(permit("alias"), row=replace(permit().row, obligations=("HUAPRV",))))

    for release, codes in ((plain, OBLIGATIONS), (more, (*OBLIGATIONS, "HUAPRV"))):
        meta = receiver_meta(release)
        assert [label["code"] for label in meta["security"]] == ["R", *codes]
        assert [tag["code"] for tag in meta["tag"]] == ["SUBSETTED"]
    assert set(OBLIGATIONS) == {"MINEC", "CPLYCD", "NORDSCLCDS", "NOREUSE", "NORELINK"}


def test_needs_are_those_of_the_receivers_list_and_of_the_service() -> None:
    only = permit(needs=ClassRule("needs", frozenset({"food", "income"})))

    assert arrived(made(source_of(PERSON), only)) == {"needs": ["income", "food"]}
    narrowed = minimize(source_of(PERSON), only, PLAN, thread=THREAD, shelf=ShelfId("vsdr"), needs=frozenset({"food", "housing"}))
    assert arrived(narrowed) == {"needs": ["food"]}


def test_a_channel_that_may_not_go_stays_with_its_number() -> None:
    only = permit(**{"safe-contact": ClassRule("safe-contact", frozenset({"via-worker"}))})

    assert arrived(made(source_of(PERSON), only)) == {"safe-contact": ["via-worker +1-905-555-0002"]}
    assert made(source_of({**PERSON, "safe-contact": ["text +1-416-555-0001"]}), only).classes == ()


@pytest.mark.parametrize("name", ["meeting-place", "whereabouts", "report-basis"])
def test_a_text_longer_than_its_class_allows_does_not_go(name: str) -> None:
    assert made(source_of({name: "x" * 501}), permit(name)).classes == ()


# -- from a birth date to a band ---------------------------------------------------------------------------------------------------


def at(day: str) -> int:
    return millis(when(0).fromisoformat(day + "T12:00:00+00:00"))


@pytest.mark.parametrize(
    ("birth", "day", "band"),
    [
        ("2010-06-15", "2026-06-14", "12-15"),
        ("2010-06-15", "2026-06-15", "16-17"),
        ("2008-02-29", "2026-02-28", "16-17"),
        ("2008-02-29", "2026-03-01", "18-24"),
        ("2001-01-01", "2026-01-01", "25plus"),
        ("2026-01-01", "2026-01-02", "u12"),
        ("2012", "2026-06-15", "12-15"),
        ("2010", "2026-06-15", None),
        ("2010-06", "2026-06-15", None),
        ("2010-06", "2026-07-01", "16-17"),
        ("2010-12", "2026-12-31", "16-17"),
        ("2027-01-01", "2026-06-15", None),
        ("2010-02-30", "2026-06-15", None),
        ("0000", "2026-06-15", None),
        ("2010-06-15T00:00:00Z", "2026-06-15", None),
        ("٢٠١٠", "2026-06-15", None),
        (2010, "2026-06-15", None),
        (None, "2026-06-15", None),
    ],
)
def test_a_birth_date_makes_a_band_or_none(birth: object, day: str, band: str | None) -> None:
    assert band_on(birth, at(day), BANDS) == band


def test_a_birthday_counts_once_it_has_begun_everywhere() -> None:
    midnight = at("2026-06-15") - 12 * 3_600_000

    assert band_on("2010-06-15", midnight + 12 * 3_600_000 - 1, BANDS) == "12-15"
    assert band_on("2010-06-15", midnight + 12 * 3_600_000, BANDS) == "16-17"


def test_only_a_date_of_the_calendar_is_one() -> None:
    assert [is_birth_date(x) for x in ("2010", "2010-06", "2010-06-15", "2010-13", "yesterday", None)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_where_the_band_may_go_and_the_date_not_the_band_is_made_from_the_date() -> None:
    born = source_of({"alias": "Zz-Robin", "dob": "2010-06-15"})

    release = made(born, replace(permit("alias", "age-band"), at=at("2026-08-01")))

    assert arrived(release) == {"alias": "Zz-Robin", "age-band": "16-17"}
    assert release.sensitivity == ("ADOL",)
    assert b"2010" not in orjson.dumps(release.patient)


def test_what_the_sender_says_of_her_age_is_what_goes() -> None:
    assert arrived(made(source_of(PERSON), permit("age-band"))) == {"age-band": "18-24"}
    assert made(source_of({"dob": "2010-06"}), replace(permit("age-band"), at=at("2026-06-15"))).classes == ()


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ({"age-band": "25plus", "dob": "1990-01-01"}, "25plus"),
        ({"age-band": "25plus", "dob": "2011-01-01"}, "12-15"),
        ({"age-band": "16-17", "dob": "1990-01-01"}, "16-17"),
        ({"age-band": "unknown-adult"}, "unknown-adult"),
        ({"dob": "1990-01-01"}, "25plus"),
        ({"dob": "2008"}, None),
        ({}, None),
    ],
)
def test_a_birth_date_that_makes_her_a_minor_counts_whatever_is_said(said: dict[str, str], counts: str | None) -> None:
    assert age_band_of(source_of(said), PLAN, at("2026-06-15")) == counts


def test_two_ages_at_once_are_none() -> None:
    source = source_of({"age-band": "18-24"})
    source.patient["extension"].append({"url": v.EXT_AGE_BAND, "valueCode": "25plus"})

    assert age_band_of(source, PLAN, NOW) is None


def test_yes_is_said_once_and_not_taken_back() -> None:
    source = source_of({"charges-laid": True, "scene-cleared": False})
    (yes,) = source_of({"charges-laid": True}).task["input"]

    assert yes_in(source, PLAN) >= {"charges-laid"} and "scene-cleared" not in yes_in(source, PLAN)
    assert yes_in(Source({}, {}, {"input": [yes, {**yes, "valueBoolean": False}]}), PLAN) == frozenset()


def test_a_copy_for_adults_holds_nothing_once_she_turns_out_to_be_younger() -> None:
    agreed = {"by": "drps/htu", "to": "Organization/hr-compass", "scope": "community-service", "purposes": ["victim-support"]}
    fields: dict[str, Any] = {"sender": "drps/htu", "to": "hr-compass.worker", "service": "harm-reduction", "purposes": ["victim-support"]}
    found, before = put(POLICY, source=source_of(PERSON), grants=grants_of([{**agreed, "classes": ["everything"]}], POLICY), **fields)
    assert isinstance(found, Permit) and before is not None and before.classes

    after = made(source_of({**PERSON, "age-band": "16-17"}), found)

    assert after.classes == () and not after.patient and not after.inputs
