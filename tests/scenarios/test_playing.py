"""The runner itself, on a stage of plain values: it finds what differs, and it waits for what is on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway import vocabulary as v
from gateway.testing import scenario_run
from gateway.testing.scenario import Expectation, Row, Scenario, Sight, Step, local_time
from gateway.testing.scenario_result import Played
from gateway.testing.scenario_run import play

Json = dict[str, Any]
ZONE, DAY = ZoneInfo("America/Toronto"), date(2026, 2, 11)
PLACE = "Side entrance"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario_run, "PATIENCE", 0.05)


def coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def written_task(**more: Any) -> Json:
    place = {"type": coded(v.TASK_INPUT, "meeting-place"), "valueString": PLACE}
    return {
        "resourceType": "Task",
        "id": "t-a",
        "meta": {"versionId": "1"},
        "focus": {"reference": "ServiceRequest/r"},
        "input": [place],
        **more,
    }


def request() -> Json:
    return {"resourceType": "ServiceRequest", "id": "r", "meta": {"versionId": "1"}, "code": coded(v.SERVICE, "help")}


@dataclass
class Stage:
    """Two parties: `a` refers to `b`. What each sees is set by the test."""

    late: int = 0  # how many looks at b it takes until it is there
    asked: bool = False
    shelves: dict[str, list[Json]] = field(default_factory=lambda: {"a": [written_task(), request()], "b": []})
    answer: Json = field(default_factory=dict)
    unknown: Json = field(default_factory=lambda: {"status": 404, "body": {"text": "none"}})
    times: list[datetime] = field(default_factory=list)
    moves_under_a: bool = False  # a's shelf changes with every look

    def set_time(self, at: datetime) -> None:
        self.times.append(at)

    async def ask(self, party: str, act: str, entered: Mapping[str, Any]) -> Json:
        base: Json = {"status": 201, "body": {}, "refusals": [], "elements": [], "says": [], "sent": [], "made": []}
        if act == "read":
            owned = (
                {"status": 200, "body": {}}
                if party == "a"
                else self.unknown
                if entered["id"] == "f" * 32
                else {"status": 404, "body": {"text": "none"}}
            )
            return {**base, **owned}
        self.asked = True
        made = [{"type": "Task", "id": "t-a"}]
        return {**base, "sent": [written_task(), request()], "made": made, **self.answer}

    async def seen(self, party: str) -> Json:
        self.late -= self.asked and party == "b"
        arrived = self.asked and (party == "a" or self.late < 0)
        task = {
            "id": f"t-{party}",
            "service": "help",
            "status": "offered",
            "task-status": "requested",
            "request": "r",
            "patient": "p",
            "output": [],
        }
        return {"tasks": [task] if arrived else [], "arrivals": [["Task/t-b/1"]] if arrived and party == "b" else [], "notices": 0}

    async def versions(self, party: str) -> list[str]:
        if party == "a" and self.moves_under_a:
            self.shelves["a"][0]["meta"] = {"versionId": str(int(self.shelves["a"][0]["meta"]["versionId"]) + 1)}
        return [f"{r['resourceType']}/{r['id']}/{r['meta']['versionId']}" for r in self.shelves[party]]

    async def look(self, party: str) -> Json:
        return {"shelf": self.shelves[party], "pushed": []}

    async def texts(self) -> list[Json]:
        return []

    async def pause(self, seconds: float) -> None:
        return None


def refer(**expect: Any) -> Step:
    wanted = Expectation(status=201, sees=(Sight("b", "T", "offered", arrives="push"),), **expect)
    return Step(local_time("02:00", DAY, ZONE), "a refers", "a", "refer", {"service": "help"}, wanted, name="T")


def scenario(*steps: Step, cells: Mapping[str, Any] | None = None) -> Scenario:
    row = Row("place", (("T", "meeting-place"),), None, cells or {"a": "own", "b": "-"})
    return Scenario("X", "x", ZONE, DAY, ("a", "b"), (), steps, (row,))


async def run(stage: Stage, *steps: Step, cells: Mapping[str, Any] | None = None) -> Played:
    return await play(scenario(*steps, cells=cells), stage)


async def test_what_is_as_expected_is_ok() -> None:
    stage = Stage(late=4)
    played = await run(stage, refer())
    assert played.ok
    assert stage.times == [datetime(2026, 2, 11, 2, 0, tzinfo=ZONE)]


async def test_what_never_arrives_differs() -> None:
    played = await run(Stage(late=10**9), refer())
    assert [check.ok for check in played.steps[0].checks] == [True, False]


async def test_another_status_or_refusal_differs() -> None:
    stage = Stage(answer={"status": 422, "refusals": ["unknown-code"], "elements": ["Task.code"]})
    wanted = Expectation(status=422, refusal="forbidden-element", element="input")
    step = Step(local_time("02:00", DAY, ZONE), "refused", "a", "refer", {}, wanted)
    played = await run(stage, step, cells={"a": "nothing was written", "b": "nothing was written"})
    assert [check.ok for check in played.steps[0].checks] == [True, False, False]
    assert not played.ok


async def test_a_change_on_a_shelf_that_must_stay_as_it_is_differs() -> None:
    assert (await run(Stage(), refer(unchanged=("a",)))).ok
    played = await run(Stage(moves_under_a=True), refer(unchanged=("a",)))
    assert [check.ok for check in played.steps[0].checks] == [True, True, False]


async def test_a_value_that_a_party_must_not_see_is_found_wherever_it_stands() -> None:
    for leak in ({"text": {"div": f"<div>{PLACE}</div>"}}, {"input": written_task()["input"]}):
        stage = Stage()
        stage.shelves["b"] = [request(), {"resourceType": "Task", "id": "t-b", "meta": {"versionId": "1"}, **leak}]
        played = await run(stage, refer())
        assert [(cell.party, cell.got, cell.ok) for cell in played.cells] == [("a", "own", True), ("b", "y", False)]


async def test_a_value_that_a_party_must_see_and_does_not_differs() -> None:
    played = await run(Stage(), refer(), cells={"a": "own", "b": "y"})
    assert [(cell.party, cell.got, cell.ok) for cell in played.cells] == [("a", "own", True), ("b", "-", False)]


async def test_a_row_of_which_nothing_was_written_proves_nothing() -> None:
    row = Row("nothing", (("T", "needs"),), None, {"a": "-", "b": "-"})
    played = await play(Scenario("X", "x", ZONE, DAY, ("a", "b"), (), (refer(),), (row,)), Stage())
    assert [cell.ok for cell in played.cells] == [False, False]


async def test_a_referral_that_a_party_has_no_part_in_is_a_stranger_on_its_shelf() -> None:
    stage = Stage()
    other = {**request(), "id": "r2", "code": coded(v.SERVICE, "other")}
    stage.shelves["b"] = [
        other,
        {**written_task(), "input": [], "focus": {"reference": "ServiceRequest/r2"}, "businessStatus": coded(v.BUSINESS_STATUS, "offered")},
    ]
    played = await run(stage, refer())
    assert played.strangers == ("b: other",)
    assert not played.ok


def refused_read() -> Step:
    step = Step(local_time("02:01", DAY, ZONE), "b reads", "b", "read", {"type": "Task", "id": "$a:T.task"}, Expectation(status=404))
    return step


async def test_a_refused_read_is_held_against_the_owners_and_against_an_unknown_id() -> None:
    assert (await run(Stage(), refer(), refused_read())).ok
    told_apart = await run(Stage(unknown={"status": 404, "body": {"text": "never heard of it"}}), refer(), refused_read())
    assert told_apart.steps[1].reading is not None
    assert not told_apart.steps[1].ok


async def test_a_step_that_refers_to_what_was_never_made_differs() -> None:
    played = await run(
        Stage(answer={"status": 500}), refer(), refused_read(), cells={"a": "nothing was written", "b": "nothing was written"}
    )
    assert [step.ok for step in played.steps] == [False, False]
