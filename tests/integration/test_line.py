"""The line that always answers is in every refusal of a request for somebody at once (R6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.clock import millis
from tests.integration.world import NIGHT, World, night_offer

Json = dict[str, Any]
LINE = "+1-905-555-0100"


def _entry(bundle: Json, type_: str) -> Json:
    found: Json = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == type_)
    return found


def _without_consent(bundle: Json) -> None:
    bundle["entry"] = [e for e in bundle["entry"] if e["resource"]["resourceType"] != "Consent"]


def _not_fhir(bundle: Json) -> None:
    _entry(bundle, "Patient")["active"] = "yes"


def _narrative(bundle: Json) -> None:
    _entry(bundle, "Task")["description"] = "x"


WRONG: dict[str, Callable[[Json], None]] = {"no consent": _without_consent, "not valid FHIR": _not_fhir, "free text": _narrative}


@pytest.mark.parametrize("why", sorted(WRONG))
async def test_a_refused_stat_offer_says_whom_to_call(world: World, why: str) -> None:
    bundle = night_offer(millis(NIGHT))
    WRONG[why](bundle)
    refused = await world.call("police", "POST", "/fhir", bundle)
    assert refused.status_code in (403, 422)
    assert [LINE in issue["diagnostics"] for issue in refused.json()["issue"]].count(True) == 1
    last = refused.json()["issue"][-1]
    assert (last["severity"], last["code"]) == ("information", "informational")


async def test_a_refused_stat_offer_without_the_scope_says_it_too(world: World) -> None:
    caller = world.narrowed("police", "transfer.offer")
    refused = await world.call(caller, "POST", "/fhir", night_offer(millis(NIGHT)))
    assert refused.status_code == 403 and LINE in refused.text


async def test_a_refused_routine_request_does_not(world: World) -> None:
    bundle = night_offer(millis(NIGHT))
    _without_consent(bundle)
    for type_ in ("ServiceRequest", "Task"):
        _entry(bundle, type_)["priority"] = "routine"
    refused = await world.call("police", "POST", "/fhir", bundle)
    assert refused.status_code == 403 and LINE not in refused.text
