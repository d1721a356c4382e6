"""Every value of a good request replaced by every kind of wrong one: the answer is always an answer, never a failure of the hub's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from tests.integration.checks import assert_outcome, assert_views
from tests.integration.night import NOW, contact, fast_track, income_request, offered, resource
from tests.integration.test_messages import message, reachable
from tests.integration.world import World, night_offer

Json = dict[str, Any]
Way = tuple[str | int, ...]

WRONG: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**30, "", " ", "x", "\x00", "Ü" * 2000, [], {}, [[]], [None], {"a": []}, ["x"], {"reference": 5}),
    *(
        {"resourceType": ["x"]},
        {"coding": 5},
        {"coding": [5]},
        [{"url": []}],
        {"reference": "Patient/\x00"},
        "9999-12-31T23:59:59Z",
        "0001-01-01",
    ),
)


def ways(value: Any, at: Way = ()) -> Iterator[Way]:
    """Every place in a JSON value."""
    if at:
        yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in inner:
        yield from ways(child, (*at, name))


def mangled(value: Json, at: Way, wrong: Any) -> Json:
    """A copy with one place replaced."""
    result = copy.deepcopy(value)
    holder: Any = result
    for name in at[:-1]:
        holder = holder[name]
    holder[at[-1]] = wrong
    return result


async def survives(world: World, who: str, method: str, path: str, body: Json, *, every: int) -> None:
    """Send each mangled body (`every` n-th, to keep the time short); none may be a failure."""
    failures, n = [], 0
    for at in ways(body):
        for wrong in WRONG:
            n += 1
            if n % every:
                continue
            response = await world.call(who, method, path, mangled(body, at, wrong))
            if response.status_code >= 500:
                failures.append(f"{response.status_code} at {'.'.join(map(str, at))} with a {type(wrong).__name__}")
            elif response.status_code >= 400:
                assert_outcome(response, response.status_code)
    assert not failures, "\n".join(failures[:20])
    assert n > 100


async def test_an_offer(world: World) -> None:
    bundle = night_offer(NOW)
    bundle["entry"][0]["resource"]["telecom"] = [contact(NOW)]
    await survives(world, "police", "POST", "/fhir", bundle, every=9)
    await assert_views(world)


async def test_an_act_and_edits(world: World) -> None:
    ids, received = await offered(world)
    who = received["for"]["reference"]
    await survives(world, "counsellor", "PUT", f"/fhir/Task/{received['id']}", received, every=9)
    person = {**(await resource(world, "counsellor", who)), "telecom": [contact(NOW)]}
    await survives(world, "counsellor", "PUT", f"/fhir/{who}", person, every=9)
    request = await resource(world, "police", f"ServiceRequest/{ids['ServiceRequest']}")
    await survives(world, "police", "PUT", f"/fhir/ServiceRequest/{ids['ServiceRequest']}", request, every=9)
    consent = await resource(world, "police", f"Consent/{ids['Consent']}")
    await survives(world, "police", "PUT", f"/fhir/Consent/{ids['Consent']}", consent, every=9)
    await assert_views(world)


async def test_requests_onward_and_a_message(world: World) -> None:
    _, received = await offered(world)
    who = received["for"]["reference"]
    patient = who.partition("/")[2]
    await survives(world, "counsellor", "POST", "/fhir", fast_track(patient), every=9)
    await survives(world, "counsellor", "POST", "/fhir", income_request(patient), every=9)
    await survives(world, "counsellor", "POST", "/fhir/Communication", message(who, "call me"), every=1)
    await assert_views(world)


async def test_a_window_that_no_calendar_holds(world: World) -> None:
    """What is valid FHIR may still be nonsense: a channel whose hours can't be told is not safe."""
    for hours in (10**30, 10**90, 10**9):
        who = await reachable(world, hours=hours)
        answer = await world.call("counsellor", "POST", "/fhir/Communication", message(who, "call me"))
        assert_outcome(answer, 409, refusal="unsafe-channel")
