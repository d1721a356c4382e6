"""No mark planted in anything that is sent comes out where it may not; and the search finds leaks that are made on purpose."""

from __future__ import annotations

import base64
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.delivery.doors import Nudge
from gateway.disclosure import release, selecting, views
from gateway.fhir import explain
from gateway.parties.ingest import Gate
from gateway.shelves.shelf import Shelf
from gateway.testing.canaries import Spelling, found_in, marker, spelled
from tests.integration.world import World, open_world, output, settings_for
from tests.security.canary_course import every_element, play
from tests.security.one_line import changed
from tests.security.test_two_worlds import differing
from tests.security.worlds import OpenWorld

Log = Callable[[], str]


@pytest.fixture
def logged(loud: pytest.CaptureFixture[str]) -> Iterator[Log]:
    yield lambda: "".join(loud.readouterr())
    logging.basicConfig(level=logging.WARNING, force=True)  # the handler that wrote into what was captured


@pytest.mark.parametrize("spelling", Spelling)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("a", "xyz"), ("bc", "d")])
def test_a_mark_is_found_in_every_spelling(spelling: Spelling, before: str, after: str) -> None:
    text = before + spelled(marker(42), spelling) + after
    assert found_in(text) == {42}
    assert found_in(json.dumps({"x": text})) == {42}
    if spelling is not Spelling.BASE64:
        assert found_in(base64.b64encode((before + marker(42) + after).encode())) == {42}
    assert found_in("".join(f"\\u{ord(letter):04x}" for letter in marker(7))) == {7}


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.ci)])
async def test_no_mark_comes_out_where_it_may_not(tmp_path: Path, logged: Log, every: int) -> None:
    field, course = await play(tmp_path, logged, every_element()[::every])
    seen = {who or "nobody": len(numbers) for who, numbers in field.seen.items()}
    print(f"\n{len(field.planted)} marks in {course.sent} requests; searched {field.searched}; marks seen {seen}")
    assert field.leaks == set()
    assert every > 1 or len(field.planted) >= 1_000
    assert all(field.searched[egress] for egress in ("answer 2xx", "answer 4xx", "reads", "versions", "pushes", "notices", "files"))
    assert all(field.seen[who] for who in ("police", "counsellor", "nurse", "income")), "what may be seen is seen"


@dataclass(frozen=True)
class Seeded:
    """A leak: one line of a function of the product, and what stands in its place."""

    function: Callable[..., Any]
    line: str
    instead: str
    shows_in: str


FEW: Final = [e for e in every_element() if e.type == "Patient" and (len(e.path) == 1 or e.path == ("text", "div"))]
SEEDED: Final = {
    "a display text is kept": Seeded(
        *(Gate._members, "if rule.treatment is Treatment.KEEP:", 'if rule.treatment is Treatment.KEEP or name == "display":', "reads")
    ),
    "narrative is kept": Seeded(
        *(Gate._members, 'if name != "resourceType" or not type_:', 'if name not in ("resourceType", "text"):', "reads")
    ),
    "a sibling is kept": Seeded(
        *(Gate._members, 'if name != "resourceType" or not type_:', 'if name[0] != "_" and name != "resourceType":', "reads")
    ),
    "an unknown extension is kept": Seeded(
        *(Gate._members, "if type(value) is str and rule.codes is None", 'if name == "extension" or type(value) is str', "reads")
    ),
    "an error repeats what was sent": Seeded(
        *(explain.explain, "return Finding(*_SAY", "return Finding(IssueCode.VALUE, str(error), path); Finding(*_SAY", "answer 4xx")
    ),
    "a line is logged": Seeded(
        *(Gate.examine, "result = Admission()", 'result = Admission(); __import__("logging").warning("%s", resource)', "logs")
    ),
    "a legal name goes for an alias": Seeded(
        *(selecting.copy_values, "(item for item in found if _matches(item, step) and", "(item for item in found if", "reads")
    ),
    "a copy names another shelf's Task": Seeded(
        *(views.provenance_copy, 'reference("Task", attempt.task),', 'reference("Task", transfer.sender_task),', "shared with police")
    ),
    "a total counts another shelf": Seeded(
        *(Shelf.search, "self._database.shelf_rows(self.id, total, params)", 'self._database.shelf_rows("vsdr", total, params)', "totals")
    ),
    "a notice holds what it is about": Seeded(
        *(Nudge.deliver, """body=b'{"event":"shelf-changed"}'""", "body=release.parts[0].body", "notices")
    ),
}


@pytest.mark.ci
@pytest.mark.parametrize("name", SEEDED)
async def test_a_leak_of_one_line_is_found(tmp_path: Path, logged: Log, name: str) -> None:
    seeded = SEEDED[name]
    with changed(seeded.function, seeded.line, seeded.instead):
        field, _ = await play(tmp_path, logged, FEW, [Spelling.PLAIN])
    assert seeded.shows_in in {leak.egress for leak in field.leaks}


async def _acknowledged(world: World, id_: str) -> None:
    assert (await world.move("counsellor", id_, "acknowledged")).status_code == 200


async def _says_when_to_expect_her(world: World, id_: str) -> None:
    await _acknowledged(world, id_)
    eta: list[Any] = [{"op": "add", "path": "/output", "value": [output("eta", valueDateTime="2026-03-14T02:40:00Z")]}]
    assert (await world.call("counsellor", "PATCH", f"/fhir/Task/{id_}", eta)).status_code == 200


@pytest.mark.ci
async def test_a_version_that_moves_with_what_is_hidden_is_found(tmp_path: Path) -> None:
    """No mark can show this one: it takes two worlds, one in which the worker has said when she comes, and one in which not yet."""
    numbers = itertools.count()

    def new_world() -> OpenWorld:
        return open_world(settings_for(tmp_path / f"world-{next(numbers)}"))

    assert not await differing(new_world, _acknowledged, [_says_when_to_expect_her])
    line, instead = "if content(_said(ws, held)) == content(after):", "if False:"
    with changed(release.ReleaseStep._put_if_changed, line, instead):
        assert await differing(new_world, _acknowledged, [_says_when_to_expect_her])
