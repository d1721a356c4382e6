"""Questions asked together: each gets its own answer, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.storage.gathering import MOST, Gathering
from gateway.storage.writer import StorageError


class Library:
    """Answers ten times the question, refuses 13, and notes what it was asked together."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def ask(self, questions: Sequence[int]) -> list[int]:
        self.asked.append(list(questions))
        await asyncio.sleep(0)
        if 13 in questions:
            raise StorageError("thirteen")
        return [10 * question for question in questions]


async def test_a_question_alone_goes_at_once() -> None:
    library = Library()
    assert await Gathering(library.ask).ask(4) == 40
    assert library.asked == [[4]]


async def test_questions_that_come_meanwhile_go_together_and_each_gets_its_own_answer() -> None:
    library = Library()
    gathering = Gathering(library.ask)
    answers = await asyncio.gather(*(gathering.ask(number) for number in range(100, 105 + MOST)))
    assert answers == [10 * number for number in range(100, 105 + MOST)]
    assert [len(asked) for asked in library.asked] == [MOST, 5]


async def test_a_question_that_fails_harms_no_other() -> None:
    library = Library()
    gathering = Gathering(library.ask)
    answers = await asyncio.gather(*(gathering.ask(number) for number in (1, 13, 2)), return_exceptions=True)
    assert [answers[0], answers[2]] == [10, 20]
    assert isinstance(answers[1], StorageError)


async def test_whoever_stops_waiting_takes_nobody_else_along() -> None:
    library = Library()
    gathering = Gathering(library.ask)
    gone, stays = asyncio.create_task(gathering.ask(1)), asyncio.create_task(gathering.ask(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 20
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await gathering.ask(3) == 30


async def test_nobody_is_left_waiting_when_the_asking_is_ended() -> None:
    async def never(_: Sequence[int]) -> list[int]:
        await asyncio.Event().wait()
        return []

    gathering = Gathering(never)
    waiting = [asyncio.create_task(gathering.ask(number)) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert gathering._asking is not None
    gathering._asking.cancel()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, StorageError)
