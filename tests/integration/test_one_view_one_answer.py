"""What a sender may do follows from what it is shown, for every state a transfer can be in: the real state never makes a difference."""

from __future__ import annotations

from collections import defaultdict

import pytest

from gateway.identity import PartyId, ShelfId, StatusView, ThreadId, TransferId
from gateway.problems import Problem, ProblemType
from gateway.transfers.acts import Act, apply_act
from gateway.transfers.model import Attempt, Mover, Returned, State, Transfer, legal_moves, seen_by_receiver, seen_by_sender, viewed_as


def transfer(state: State) -> Transfer:
    names = ("a", "t", "r", "p", "c", "v", "row", "agreement", "basis")
    attempt = Attempt(1, PartyId("there"), ShelfId("there"), *names, offered=0)
    return Transfer(
        *(TransferId("x"), ThreadId("y"), 1, state, "here", ShelfId("here"), "task", "request", "service", "stat", frozenset(), 0, None),
        attempt=attempt,
    )


def allowed(state: State, viewed: State, mover: Mover) -> frozenset[State]:
    """The moves that are let through."""
    found = set()
    for target in State:
        try:
            moved = apply_act(
                transfer(state), Act(target, Returned(worker="Sam"), gives_decision=False, gives_offer=False), mover, viewed, 1
            )
        except Problem as problem:
            assert problem.type is ProblemType.CONFLICT
        else:
            assert moved.state is target or target is State.STOPPED  # an ending stands beside the course
            found.add(target)
    return frozenset(found)


@pytest.mark.parametrize("view", list(StatusView))
def test_states_that_look_the_same_to_a_sender_allow_the_same(view: StatusView) -> None:
    answers = defaultdict(set)
    for state in State:
        seen = seen_by_sender(state, view)
        viewed = viewed_as(seen)
        answers[seen.code].add(allowed(state, viewed, Mover.SENDER))
        assert allowed(state, viewed, Mover.SENDER) == set(legal_moves(viewed, Mover.SENDER)), "what a refusal lists is what is possible"
    assert {code for code, found in answers.items() if len(found) > 1} == set()
    assert any(found != {frozenset()} for found in answers.values())


def test_what_a_receiver_is_told_it_may_do_it_may() -> None:
    for state in State:
        viewed = viewed_as(seen_by_receiver(state))
        assert allowed(state, viewed, Mover.RECEIVER) == set(legal_moves(viewed, Mover.RECEIVER))
