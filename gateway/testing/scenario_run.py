"""Plays a scenario: sets the clock, asks each party's own system to act, waits for what must follow, and compares.

It knows no transport and no party: a `Stage` reaches the systems. It never stops at the first difference, and it types nothing in: whatever
a result says was read from a system or from a party's shelf.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from gateway.testing.scenario import Expectation, Scenario, Sight, Step, local_time
from gateway.testing.scenario_facts import Holdings, Written, cell_of
from gateway.testing.scenario_result import CellResult, Check, Played, Reading, StepResult

__all__ = ["Stage", "play"]

Json = dict[str, Any]

PATIENCE: Final = 10.0
"""Real seconds that an effect may take to reach another system."""
LOOK_EVERY: Final = 0.02

_ID: Final = re.compile(r"[0-9a-f]{32}")


class Stage(Protocol):
    """The systems of the parties, as the runner reaches them."""

    def set_time(self, at: datetime) -> None:
        """Move business time, for the hub and every system."""
        ...

    async def ask(self, party: str, act: str, entered: Mapping[str, Any]) -> Json:
        """Let a party's system act. Answers: status, body, refusals, elements, says, sent, made."""
        ...

    async def seen(self, party: str) -> Json:
        """What the system knows by itself: tasks, arrivals, notices."""
        ...

    async def versions(self, party: str) -> list[str]:
        """The newest version of everything the party can read at the hub: ``Type/id/version``."""
        ...

    async def look(self, party: str) -> Json:
        """Everything the party can read at the hub (`shelf`, all versions), and all that was pushed to it (`pushed`)."""
        ...

    async def texts(self) -> list[Json]:
        """What has reached the survivor's phone."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait in real time."""
        ...


async def play(scenario: Scenario, stage: Stage, tell: Callable[[StepResult], None] | None = None) -> Played:
    """Play all steps, then read every shelf. `tell` hears of each step when its effects are known."""
    player = _Player(scenario, stage)
    began = time.monotonic()
    for step in scenario.steps:
        result = await player.step(step)
        player.results.append(result)
        if tell is not None:
            tell(result)
    cells, strangers = await player.table()
    return Played(scenario.id, scenario.title, tuple(player.results), tuple(cells), tuple(strangers), time.monotonic() - began)


@dataclass(slots=True)
class _Known:
    """Ids as one party knows them, under the names of the steps that made them."""

    ids: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)  # (party, name) -> kind -> id

    def find(self, party: str, path: str) -> str:
        """``NAME.kind`` for a party, or ``PARTY:NAME.kind``. Raises KeyError."""
        who, colon, rest = path.rpartition(":")
        name, _, kind = rest.partition(".")
        return self.ids[who if colon else party, name][kind]


class _Player:
    def __init__(self, scenario: Scenario, stage: Stage) -> None:
        self.results: list[StepResult] = []
        self._scenario = scenario
        self._stage = stage
        self._known = _Known()
        self._written = Written()
        self._services: dict[str, str] = {}  # transfer -> service
        self._quiet: dict[str, frozenset[str]] = {}  # party -> what it held when last looked at, while nothing has been due there

    async def step(self, step: Step) -> StepResult:
        """One step, with everything that is expected of it checked."""
        began = time.monotonic()
        self._stage.set_time(step.at)
        before = {sight.by: await self._stage.seen(sight.by) for sight in step.expect.sees}
        unknown = [party for party in step.expect.unchanged if party not in self._quiet]
        self._quiet.update(zip(unknown, await asyncio.gather(*map(self._holding, unknown)), strict=True))
        try:
            entered = self._filled(step.entered, step.who)
        except KeyError:
            lost = Check("what it refers to exists", False, "an earlier step did not make it")
            return StepResult(step, 0, (), (), (lost,), None, time.monotonic() - began)
        reply = await self._stage.ask(step.who, step.act, entered)
        self._remember(step, reply)
        checks = [*_answered(step.expect, reply)]
        patience = PATIENCE if all(check.ok for check in checks) else 0.0
        for sight in step.expect.sees:
            checks.append(await self._sight(sight, before[sight.by], patience))
        text: str | None = None
        if step.expect.texts is not None:
            check, text = await self._texts(step.expect.texts)
            checks.append(check)
        if step.expect.resource is not None:
            checks.append(await self._resource(step, reply))
        checks += await self._unchanged(step)
        reading = await self._reading(step, reply) if step.act == "read" and step.is_refused else None
        return StepResult(
            step=step,
            status=int(reply["status"]),
            refusals=tuple(reply["refusals"]),
            says=tuple(reply["says"]),
            checks=tuple(checks),
            reading=reading,
            seconds=time.monotonic() - began,
            text=text,
        )

    def _filled(self, value: Any, party: str) -> Any:
        """What is entered, with times and ids put in."""
        if isinstance(value, Mapping):
            return {name: self._filled(inner, party) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner, party) for inner in value]
        if isinstance(value, str) and value.startswith("@"):
            return local_time(value[1:], self._scenario.day, self._scenario.zone).isoformat()
        if isinstance(value, str) and value.startswith("$"):
            return self._known.find(party, value[1:])
        return value

    def _remember(self, step: Step, reply: Json) -> None:
        """Ids that were made, what was written, and that the parties concerned are not where they were."""
        for party in {step.who, *(sight.by for sight in step.expect.sees)} - set(step.expect.unchanged):
            self._quiet.pop(party, None)
        if reply["status"] >= 300:
            return
        if step.name is not None:
            made = {_kind(item["type"]): item["id"] for item in reply["made"]}
            made["id"] = reply["made"][-1]["id"] if reply["made"] else ""
            if "patient" in step.entered:
                made.setdefault("patient", self._filled(step.entered["patient"], step.who))
            self._known.ids[step.who, step.name] = made
            if "service" in step.entered:
                self._services[step.name] = step.entered["service"]
        name = step.name or _named(step.entered.get("task"))
        if name is not None:
            self._written.add(name, step.who, reply["sent"])

    # -- what must follow ----------------------------------------------------------------------------------------------------

    async def _sight(self, sight: Sight, before: Json, patience: float) -> Check:
        """Wait until a party's own system knows what it must; look once when there is no hope."""
        says = f"{sight.by} sees {sight.of} {sight.status}"
        problem = "nothing of it"
        until = time.monotonic() + patience
        while True:
            now = await self._stage.seen(sight.by)
            task = self._task_of(sight, now)
            if task is not None:
                problem = _difference(sight, task, before, now)
                if not problem:
                    return Check(says, True, sight.arrives)
            if time.monotonic() >= until:
                return Check(says, False, problem)
            await self._stage.pause(LOOK_EVERY)

    def _task_of(self, sight: Sight, seen: Json) -> Json | None:
        """The Task of a transfer in a system's work list: by its id, or when it is new there, by the service it asks for."""
        known = self._known.ids.get((sight.by, sight.of))
        for task in seen["tasks"]:
            if known is not None and task["id"] == known.get("task"):
                return dict(task)
            if known is None and task["service"] == self._services.get(sight.of):
                self._known.ids[sight.by, sight.of] = {"task": task["id"], "servicerequest": task["request"], "patient": task["patient"]}
                return dict(task)
        return None

    async def _texts(self, count: int) -> tuple[Check, str | None]:
        """How many texts there are on the phone, and the last of them."""
        until = time.monotonic() + (PATIENCE if count else 0)
        texts = await self._stage.texts()
        while len(texts) < count and time.monotonic() < until:
            await self._stage.pause(LOOK_EVERY)
            texts = await self._stage.texts()
        return Check(f"texts on her phone: {count}", len(texts) == count, str(len(texts))), texts[-1]["text"] if texts else None

    async def _resource(self, step: Step, reply: Json) -> Check:
        """The status of what was read or written; a reading is repeated while the hub is still at it."""
        wanted, got = step.expect.resource, reply["body"].get("status")
        until = time.monotonic() + PATIENCE
        while got != wanted and step.act == "read" and time.monotonic() < until:
            await self._stage.pause(LOOK_EVERY)
            reply = await self._stage.ask(step.who, step.act, self._filled(step.entered, step.who))
            got = reply["body"].get("status")
        return Check(f"it is {wanted}", got == wanted, str(got))

    async def _unchanged(self, step: Step) -> list[Check]:
        checks = []
        holdings = await asyncio.gather(*map(self._holding, step.expect.unchanged))
        for party, after in zip(step.expect.unchanged, holdings, strict=True):
            before, self._quiet[party] = self._quiet[party], after
            new = len(after - before) + len(before - after)
            checks.append(Check(f"{party} sees nothing of it", not new, "no new version, no notice" if not new else f"{new} differences"))
        return checks

    async def _holding(self, party: str) -> frozenset[str]:
        """Every version on a party's shelf, and how often its system was told of something."""
        seen, versions = await self._stage.seen(party), await self._stage.versions(party)
        return frozenset((*versions, f"arrivals {len(seen['arrivals'])}", f"notices {seen['notices']}"))

    async def _reading(self, step: Step, reply: Json) -> Reading:
        """That the id exists and its owner can read it now; and that an id nobody has gets the very same answer."""
        path = str(step.entered["id"])
        owner = path[1:].partition(":")[0]
        asked = {"type": step.entered["type"], "id": self._filled(path, step.who)}
        owned = await self._stage.ask(owner, "read", asked)
        unknown = await self._stage.ask(step.who, "read", {**asked, "id": "f" * 32})
        same = unknown["status"] == reply["status"] and _plain(unknown["body"]) == _plain(reply["body"])
        return Reading(owner, int(owned["status"]), same)

    # -- the table -----------------------------------------------------------------------------------------------------------

    async def table(self) -> tuple[list[CellResult], list[str]]:
        """Every cell, from all that each party can see; and referrals on a shelf whose party has no part in them."""
        holdings: dict[str, Holdings] = {}
        strangers = []
        looks = await asyncio.gather(*map(self._stage.look, self._scenario.parties))
        for party, look in zip(self._scenario.parties, looks, strict=True):
            holdings[party] = Holdings.of([*look["shelf"], *look["pushed"]])
            parts = {self._services[name] for who, name in self._known.ids if who == party and name in self._services}
            found = {fact.service for fact in holdings[party].facts if fact.service is not None}
            strangers += [f"{party}: {service}" for service in sorted(found - parts)]
        cells = []
        for row in self._scenario.rows:
            for party in self._scenario.parties:
                got = cell_of(row, party, holdings[party], self._written, self._services)
                cells.append(CellResult(row.name, party, row.cells[party], got))
        return cells, strangers


def _answered(expect: Expectation, reply: Json) -> list[Check]:
    """What the hub said at once."""
    checks = [Check(f"answered {expect.status}", reply["status"] == expect.status, str(reply["status"]))]
    if expect.refusal is not None:
        checks.append(Check(f"refused as {expect.refusal}", expect.refusal in reply["refusals"], ", ".join(reply["refusals"]) or "no code"))
    if expect.element is not None:
        named = any(expect.element in element for element in reply["elements"])
        checks.append(Check(f"names the element {expect.element}", named, ", ".join(reply["elements"]) or "none"))
    if expect.answer:
        tasks = [e["resource"] for e in reply["body"].get("entry", ()) if e.get("resource", {}).get("resourceType") == "Task"]
        said = {c["code"] for task in tasks for item in task.get("output", ()) for c in item["type"]["coding"]}
        said |= {c["code"] for task in tasks for c in task.get("businessStatus", {}).get("coding", ())}
        for code in sorted(expect.answer):
            checks.append(Check(f"the first answer says {code}", code in said, ", ".join(sorted(said)) or "nothing"))
    return checks


def _difference(sight: Sight, task: Json, before: Json, now: Json) -> str:
    """What a system still lacks of a sight; empty when it has all of it."""
    if task["status"] != sight.status:
        return str(task["status"])
    if sight.task_status is not None and task["task-status"] != sight.task_status:
        return f"Task.status {task['task-status']}"
    output = set(task["output"])
    if not sight.shows <= output:
        return f"lacks {', '.join(sorted(sight.shows - output))}"
    if sight.hides & output:
        return f"shows {', '.join(sorted(sight.hides & output))}"
    if sight.arrives == "notice" and now["notices"] <= before["notices"]:
        return "no notice came"
    if sight.arrives == "push":
        new = now["arrivals"][len(before["arrivals"]) :]
        if not any(part.startswith(f"Task/{task['id']}/") for parts in new for part in parts):
            return "it was not pushed"
    return ""


def _kind(type_: str) -> str:
    return type_.lower()


def _named(task: Any) -> str | None:
    """The transfer that an act is about: the NAME in ``$NAME.task``."""
    return task[1:].partition(".")[0] if isinstance(task, str) and task.startswith("$") else None


def _plain(body: Json) -> str:
    """An answer without the correlation id that is made anew for each."""
    return _ID.sub("·", str(body))
