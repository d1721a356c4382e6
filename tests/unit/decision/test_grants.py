"""What of a coalition Consent becomes a grant, and what gives none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.clock import instant
from gateway.decision.compiling import RejectReason
from gateway.decision.grants import MOST_GRANTS, GrantState
from gateway.parties.model import Policy
from tests.unit.decision.making import GIVEN, HOUR, NOW, POLICY, SUPPORT, consent, grants_of, provision, warm


def test_a_complete_permit_becomes_one_flat_grant() -> None:
    (grant,), rejected = grants_of(consent(warm()))
    assert not rejected
    assert (grant.receiver_party, grant.receiver_unit, grant.scope) == (SUPPORT, None, "warm-transfer")
    assert (grant.classes, grant.purposes) == (frozenset(GIVEN), frozenset({"COC"}))
    assert (grant.starts, grant.ends, grant.state, grant.rule) == (NOW - HOUR, NOW + HOUR, GrantState.ACTIVE, None)
    assert (grant.recorder, grant.consent_id, grant.consent_version, grant.thread) == ("constable/north", "c", 1, "thread-1")


INCOMPLETE: list[tuple[str, dict[str, Any], RejectReason]] = [
    ("receiver", {"to": ""}, RejectReason.NO_RECEIVER),
    ("scope", {"scope": ()}, RejectReason.NO_SCOPE),
    ("one scope", {"scope": ("warm-transfer", "income-support")}, RejectReason.NO_SCOPE),
    ("known scope", {"scope": "everything"}, RejectReason.UNKNOWN_CODE),
    ("classes", {"classes": ()}, RejectReason.NO_CLASSES),
    ("known classes", {"classes": ("narrative",)}, RejectReason.UNKNOWN_CODE),
    ("end", {"period": (NOW, None)}, RejectReason.NO_END),
    ("purpose of the scope", {"purposes": ("HRESCH",)}, RejectReason.NO_PURPOSE),
]


@pytest.mark.parametrize(("fields", "reason"), [i[1:] for i in INCOMPLETE], ids=[i[0] for i in INCOMPLETE])
def test_a_permit_that_lacks_one_gives_nothing(fields: dict[str, Any], reason: RejectReason) -> None:
    permit = warm(**fields)
    if fields.get("to") == "":
        del permit["actor"]
    grants, rejected = grants_of(consent(permit))
    assert not grants
    assert [r.reason for r in rejected] == [reason]
    assert rejected[0].expression.startswith("Consent.provision.provision[0]")


def test_one_incomplete_permit_does_not_spoil_the_other() -> None:
    grants, rejected = grants_of(consent(warm(), warm(classes=())))
    assert (len(grants), len(rejected)) == (1, 1)


def test_without_a_purpose_the_purposes_of_the_scope_hold() -> None:
    (grant,), _ = grants_of(consent(warm(purposes=())))
    assert grant.purposes == {"COC", "victim-support"}


def test_the_period_of_the_root_bounds_the_grant() -> None:
    resource = consent(warm(period=None))
    resource["provision"]["period"] = {"start": instant(NOW), "end": instant(NOW + HOUR)}
    (grant,), _ = grants_of(resource)
    assert (grant.starts, grant.ends) == (NOW, NOW + HOUR)


def test_a_permit_outlasts_neither_itself_nor_the_consent_around_it() -> None:
    for own, root in ((NOW + HOUR, NOW + 2 * HOUR), (NOW + 2 * HOUR, NOW + HOUR)):
        resource = consent(warm(period=(NOW - HOUR, own)))
        resource["provision"]["period"] = {"end": instant(root)}
        (grant,), _ = grants_of(resource)
        assert grant.ends == NOW + HOUR


def test_a_scope_until_withdrawn_needs_no_end() -> None:
    (grant,), _ = grants_of(consent(warm(scope="court-support", purposes=("HLEGAL",), period=None)))
    assert grant.ends is None


def test_consent_never_reaches_back_before_it_was_given() -> None:
    (grant,), _ = grants_of(consent(warm(period=(NOW - 9 * HOUR, NOW + HOUR))))
    assert grant.starts == NOW - HOUR


def test_a_day_ends_where_the_recorder_is() -> None:
    (grant,), _ = grants_of(consent(warm(period=None) | {"period": {"end": "2027-01-15"}}))
    assert grant.ends is not None
    assert instant(grant.ends) == "2027-01-16T04:59:59.999Z"


@pytest.mark.parametrize("status", ["draft", "proposed", "rejected", "inactive", "entered-in-error"])
def test_a_consent_that_is_not_active_gives_nothing(status: str) -> None:
    grants, rejected = grants_of(consent(warm(), status=status))
    assert (grants, [r.reason for r in rejected]) == ([], [RejectReason.NOT_ACTIVE])


def test_the_base_is_deny_whatever_the_policy_rule_says() -> None:
    grants, _ = grants_of(consent(warm(), policy_rule="OPTIN"))
    assert len(grants) == 1
    assert grants_of(consent(policy_rule="OPTIN")) == ([], [])


def test_the_record_of_a_withdrawal_gives_nothing() -> None:
    assert grants_of(consent(policy_rule="OPTOUT")) == ([], [])
    grants, rejected = grants_of(consent(warm(), policy_rule="OPTOUT"))
    assert (grants, [r.reason for r in rejected]) == ([], [RejectReason.CONTRADICTORY_ROOT])


def test_a_consent_that_is_not_understood_gives_nothing() -> None:
    grants, rejected = grants_of(consent(warm(), modifierExtension=[{"url": "x"}]))
    assert (grants, [r.reason for r in rejected]) == ([], [RejectReason.MODIFIER_EXTENSION])


def test_an_address_stands_for_its_unit() -> None:
    (grant,), _ = grants_of(consent(warm(to="PractitionerRole/harbour.ht-cic")))
    assert (grant.receiver_party, grant.receiver_unit) == (SUPPORT, "ht")


def test_an_address_under_the_wrong_type_is_nobody() -> None:
    _, rejected = grants_of(consent(warm(to="HealthcareService/harbour.ht-cic")))
    assert [r.reason for r in rejected] == [RejectReason.UNKNOWN_ACTOR]


def test_a_scope_that_names_a_unit_needs_one() -> None:
    statement: dict[str, Any] = {"scope": "police-statement", "purposes": ("law-enforcement",)}
    _, rejected = grants_of(consent(warm(to="Organization/constable", **statement)), by="harbour")
    assert [r.reason for r in rejected] == [RejectReason.NO_UNIT]
    (grant,), _ = grants_of(consent(warm(to="HealthcareService/constable.north", **statement)), by="harbour")
    assert grant.receiver_unit == "north"


def test_no_party_grants_itself_what_others_hold() -> None:
    _, rejected = grants_of(consent(warm(to="Organization/constable")), by="constable/south")
    assert [r.reason for r in rejected] == [RejectReason.SELF_SERVING]
    follow_up: dict[str, Any] = {"scope": "contact-follow-up", "purposes": ("victim-support",)}
    grants, rejected = grants_of(consent(warm(**follow_up)), by="harbour")
    assert (len(grants), rejected) == (1, [])
    grants, rejected = grants_of(consent(warm(to="Organization/constable", **follow_up)), by="constable")
    assert (len(grants), len(rejected)) == (0, 1), "only the kinds that the scope names may record it for themselves"


def test_a_consent_that_says_more_keeps_its_rules() -> None:
    (grant,), _ = grants_of(consent(warm(provision("deny", classes=["reason"]))))
    assert grant.rule is not None
    assert [r.effect for r in grant.rule.rules] == ["deny", "permit"]


def test_an_unknown_region_has_utc() -> None:
    elsewhere: Policy = replace(POLICY, timezones={})
    (grant,), _ = grants_of(consent(warm(period=None) | {"period": {"end": "2027-01-15"}}), policy=elsewhere)
    assert grant.ends is not None
    assert instant(grant.ends) == "2027-01-15T23:59:59.999Z"


def test_a_receiver_named_again_and_again_is_one_receiver() -> None:
    permit = warm()
    permit["actor"] = permit["actor"] * 5_000
    grants, rejected = grants_of(consent(permit))
    assert (len(grants), rejected) == (1, [])


def test_a_consent_that_names_more_than_a_conversation_has_gives_nothing_at_all() -> None:
    grants, _ = grants_of(consent(*[warm()] * MOST_GRANTS))
    assert len(grants) == MOST_GRANTS
    grants, rejected = grants_of(consent(*[warm()] * (MOST_GRANTS + 1)))
    assert (grants, [r.reason for r in rejected]) == ([], [RejectReason.TOO_DEEP])
