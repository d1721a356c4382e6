"""A bad request, and how it is judged: its status, the element named, nothing of it in the answer or a log, nothing stored."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.integration.checks import assert_outcome, row_counts
from tests.integration.night import NOW
from tests.integration.world import World, night_offer

__all__ = ["CANARY", "Case", "changed", "played", "raw"]

Json = dict[str, Any]
CANARY = "zzcanary7f3a"
"""Stands in every input below, and must not come back: not in a body, a header, a log line."""


def changed(path: str, value: Any, bundle: Json | None = None) -> Json:
    """The night's offer with one thing changed; `path` is dotted, with numbers for list items."""
    result = copy.deepcopy(bundle or night_offer(NOW))
    at: Any = result
    *way, last = path.split(".")
    for name in way:
        at = at[int(name)] if name.isdecimal() else at.setdefault(name, {})
    if last.isdecimal():
        at[int(last)] = value
    else:
        at[last] = value
    return result


@dataclass(frozen=True)
class Case:
    """One bad request and what it is answered."""

    name: str
    status: int
    body: Any = None
    expression: str | None = None
    refusal: str | None = None
    method: str = "POST"
    path: str = "/fhir"
    who: str = "police"
    headers: dict[str, str] = field(default_factory=dict)


def raw(text: str) -> bytes:
    return text.encode()


async def played(world: World, cases: list[Case], capsys: pytest.CaptureFixture[str]) -> None:
    """Send each; collect all that is wrong, so that one mistake does not hide the next."""
    wrong: list[str] = []
    for case in cases:
        before = await row_counts(world)
        response = await world.call(case.who, case.method, case.path, case.body, **case.headers)
        try:
            assert_outcome(response, case.status, expression=case.expression, refusal=case.refusal, canaries=[CANARY])
            after = await row_counts(world)
            assert after == {**before, "audit_entries": before["audit_entries"] + 1}
            logged = "".join(capsys.readouterr())
            assert CANARY not in logged.lower(), "in the log"
        except AssertionError as error:
            wrong.append(f"{case.name}: {str(error)[:500]}")
    assert not wrong, "\n".join(wrong)
