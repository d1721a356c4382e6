"""Scopes: what is granted of what was asked, and what a granted set permits."""

from __future__ import annotations

import pytest

from gateway.oauth.scopes import ActionScope, Interaction, allows, grant, has_action, registration_problems

REGISTERED = frozenset({"system/Task.rus", "system/Patient.r", "system/Bundle.c", "transfer.offer", "directory.read"})

GRANTS = [
    ("system/Task.rs", {"system/Task.rs"}),
    ("system/Task.rsu", set()),  # letters out of order are not a scope
    ("system/Task.rus", {"system/Task.rus"}),
    ("system/Task.cruds", {"system/Task.rus"}),
    ("system/Task.r system/Task.s", {"system/Task.rs"}),
    ("system/Task.read", {"system/Task.rs"}),
    ("system/Task.write", {"system/Task.u"}),
    ("system/Task.*", {"system/Task.rus"}),
    ("system/*.rs", {"system/Task.rs", "system/Patient.r"}),
    ("system/*.*", {"system/Task.rus", "system/Patient.r", "system/Bundle.c"}),
    ("system/*.cruds transfer.offer", {"system/Task.rus", "system/Patient.r", "system/Bundle.c", "transfer.offer"}),
    ("system/*.d", set()),
    ("system/Observation.rs", set()),
    ("system/Task.d", set()),
    ("transfer.offer transfer.accept", {"transfer.offer"}),
    ("transfer.*", set()),
    ("*", set()),
    ("patient/Task.rs user/Task.rs launch openid fhirUser offline_access", set()),
    ("patient/*.rs system/Task.r", {"system/Task.r"}),
    ("system/Task.rs?status=requested", set()),
    ("system/Task.", set()),
    ("system/Task.sr", set()),
    ("system/Task.rr", set()),
    ("system/Task.rsx", set()),
    ("system/task.rs", set()),
    ("SYSTEM/Task.rs", set()),
    ("system/Task.rs\n", set()),
    ("system/Task.rs\tsystem/Patient.r", set()),
    ("  system/Patient.r  ", {"system/Patient.r"}),
    ("", set()),
]


@pytest.mark.parametrize("number", range(len(GRANTS)))
def test_the_grant_is_what_was_asked_and_registered(number: int) -> None:
    asked, granted = GRANTS[number]
    assert grant(asked, REGISTERED) == granted


def test_a_grant_is_granted_again_unchanged() -> None:
    granted = grant("system/*.* transfer.offer", REGISTERED)
    assert grant(" ".join(sorted(granted)), REGISTERED) == granted


def test_a_registered_wildcard_counts_for_nothing() -> None:
    assert grant("system/*.rs system/Task.rs", {"system/*.cruds"}) == frozenset()
    assert not allows(frozenset({"system/*.cruds"}), Interaction.READ, "Task")


@pytest.mark.parametrize("interaction", list(Interaction))
def test_a_letter_permits_its_own_interaction_only(interaction: Interaction) -> None:
    for letter in "cruds":
        scopes = frozenset({f"system/Task.{letter}"})
        assert allows(scopes, interaction, "Task") is (letter == interaction.value)
        assert not allows(scopes, interaction, "Patient")
    assert not allows(frozenset(), interaction, "Task")
    assert not allows(frozenset({"transfer.read"}), interaction, "Task")


def test_an_action_needs_its_own_scope() -> None:
    scopes = frozenset({"transfer.read-own", "system/Task.cruds"})
    assert has_action(scopes, ActionScope.TRANSFER_READ_OWN)
    assert not has_action(scopes, ActionScope.TRANSFER_READ)


def test_a_registration_names_known_scopes_one_by_one() -> None:
    assert registration_problems(["system/Task.rus", "transfer.offer"]) == ()
    assert len(registration_problems(["system/*.rs", "transfer.offr", "patient/Task.rs", "system/Task.sr", "system/Task."])) == 5
