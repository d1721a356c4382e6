"""Runs that differ only in what police may not see give police the same answers, byte for byte, but for ids drawn at random (R5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from gateway import vocabulary as v
from gateway.testing import worlds
from gateway.testing.worlds import Transcript
from tests.integration.night import NOW, fast_track, income_request, made, offered, resource, taken
from tests.integration.test_timers import at
from tests.integration.world import NIGHT, World, coded, night_offer, output, request, task, transaction
from tests.security.worlds import OpenWorld

Json = dict[str, Any]
Course = Callable[[World, str], Awaitable[None]]
"""What happens at victim services, given its Task."""


async def look(said: Transcript, world: World, ids: dict[str, str]) -> None:
    """Everything police can look at."""
    for type_ in ("Task", "ServiceRequest"):
        await said.ask(world, "police", "GET", f"/fhir/{type_}?_sort=-_lastUpdated")
        await said.ask(world, "police", "GET", f"/fhir/{type_}?status=accepted,on-hold,cancelled,completed,rejected")
    for type_ in ("Patient", "Consent", "ServiceRequest", "Task"):
        await said.ask(world, "police", "GET", f"/fhir/{type_}/{ids[type_]}")
        for version in range(1, 7):
            await said.ask(world, "police", "GET", f"/fhir/{type_}/{ids[type_]}/_history/{version}")
    mine = await resource(world, "police", f"Task/{ids['Task']}")
    for item in mine["output"]:
        if "valueReference" in item:
            await said.ask(world, "police", "GET", f"/fhir/{item['valueReference']['reference']}")


async def meddle(said: Transcript, world: World, ids: dict[str, str]) -> None:
    """Everything police can write; whatever has happened, the same answers."""
    path = f"/fhir/Task/{ids['Task']}"
    for state in (
        "accepted",
        "introduced",
        "handed-over",
        "paused-by-survivor",
        "declined-no-capacity",
        "line-given",
        "stopped-by-survivor",
        "offered",
    ):
        patch = [{"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, state)}]
        await said.ask(world, "police", "PATCH", path, patch)
    await said.ask(world, "police", "PATCH", path, [{"op": "replace", "path": "/status", "value": "cancelled"}])
    await said.ask(world, "police", "PATCH", path, [], If_Match='W/"1"')
    await said.ask(world, "police", "PUT", path, await resource(world, "police", f"Task/{ids['Task']}"))
    person = await resource(world, "police", f"Patient/{ids['Patient']}")
    person["name"] = [{"use": "nickname", "given": ["Zz-Renamed"]}]
    await said.ask(world, "police", "PUT", f"/fhir/Patient/{ids['Patient']}", person)
    asked = await resource(world, "police", f"ServiceRequest/{ids['ServiceRequest']}")
    await said.ask(world, "police", "PUT", f"/fhir/ServiceRequest/{ids['ServiceRequest']}", {**asked, "priority": "routine"})
    agreed = await resource(world, "police", f"Consent/{ids['Consent']}")
    await said.ask(world, "police", "PUT", f"/fhir/Consent/{ids['Consent']}", agreed)
    world.clock.set(world.clock.now() + timedelta(minutes=1))  # so that no two Tasks have one time, and ids drawn at random no say
    who, owner, sr = f"Patient/{ids['Patient']}", "PractitionerRole/vsdr.ht-cic", "urn:uuid:00000000-0000-4000-8000-000000000004"
    again = transaction(
        (sr, request(who, "drps", "crisis-counselling", owner)),
        (
            "urn:uuid:00000000-0000-4000-8000-000000000005",
            task(who, sr, "drps", owner, [{"type": coded(v.TASK_INPUT, "scene-cleared"), "valueBoolean": True}]),
        ),
    )
    await said.ask(world, "police", "POST", "/fhir", again, X_Request_ID="again")
    await said.ask(world, "police", "POST", "/fhir", again, X_Request_ID="again")


async def night(world: World, said: Transcript, course: Course, minutes: float = 3) -> None:
    """Offered, whatever `course` makes of it, and then all that police can do."""
    answer = await world.call("police", "POST", "/fhir", night_offer(NOW))
    said.note("offer", answer)
    ids = made(answer)
    [received] = await world.tasks("counsellor")
    await course(world, received["id"])
    await at(world, NIGHT + timedelta(minutes=minutes))
    await look(said, world, ids)
    await meddle(said, world, ids)
    await look(said, world, ids)


async def seen_by_police(opening: OpenWorld, course: Course, minutes: float) -> list[str]:
    """One world, as police see it."""
    said = Transcript()
    async with opening as world:
        await night(world, said, course, minutes)
    return said.lines


async def _then(world: World, id_: str, *states: str) -> None:
    for state in states:
        moved = await world.move("counsellor", id_, state, worker="Sam" if state == "accepted" else None)
        assert moved.status_code == 200, moved.text


async def goes_well(world: World, id_: str) -> None:
    await taken(world, "counsellor", id_)
    await _then(world, id_, "introduced", "handed-over")


async def only_accepted(world: World, id_: str) -> None:
    await taken(world, "counsellor", id_)


async def goes_on_to_others(world: World, id_: str) -> None:
    await taken(world, "counsellor", id_)
    who = (await resource(world, "counsellor", f"Task/{id_}"))["for"]["reference"].partition("/")[2]
    made(await world.call("counsellor", "POST", "/fhir", fast_track(who)))
    [asked] = await world.tasks("nurse")
    await taken(world, "nurse", asked["id"])
    made(await world.call("counsellor", "POST", "/fhir", income_request(who)))


async def she_pauses(world: World, id_: str) -> None:
    await taken(world, "counsellor", id_)
    await _then(world, id_, "paused-by-survivor")


async def she_is_not_reached(world: World, id_: str) -> None:
    await taken(world, "counsellor", id_)
    await _then(world, id_, "unreachable", "unsafe-to-contact", "accepted")


async def she_stops(world: World, id_: str) -> None:
    await taken(world, "counsellor", id_)
    await _then(world, id_, "stopped-by-survivor")


async def she_stops_before_it_is_accepted(world: World, id_: str) -> None:
    await _then(world, id_, "acknowledged", "stopped-by-survivor")


async def somebody_else_is_there_too(world: World, id_: str) -> None:
    """Another person of the same name, sent by the hospital's own police contact: nothing of her shows."""
    await taken(world, "counsellor", id_)
    made(await world.call("police-svu", "POST", "/fhir", night_offer(NOW)))


AFTER_TAKING_OVER = [
    goes_well,
    goes_on_to_others,
    she_pauses,
    she_is_not_reached,
    she_stops,
    she_stops_before_it_is_accepted,
    somebody_else_is_there_too,
]


async def differing(new_world: Callable[[], OpenWorld], reference: Course, courses: Sequence[Course]) -> list[str]:
    """The first answer in which each course differs from the reference, if any does."""
    return await worlds.differing(new_world, night, reference, courses)


async def test_once_taken_over_nothing_shows_of_what_comes_of_it(new_world: Callable[[], OpenWorld]) -> None:
    told = await differing(new_world, only_accepted, AFTER_TAKING_OVER)
    assert not told, "\n".join(told)


async def _declines(world: World, id_: str, state: str, reason: str, *given: Json) -> None:
    moved = await world.move("counsellor", id_, state, *given, statusReason=coded(v.DECLINE_REASON, reason))
    assert moved.status_code == 200, moved.text


async def no_capacity(world: World, id_: str) -> None:
    await _declines(world, id_, "declined-no-capacity", "no-capacity")


async def not_eligible(world: World, id_: str) -> None:
    redirect = output("redirect", valueCodeableConcept=coded(v.SERVICE, "victim-fund-assessment"))
    await _declines(world, id_, "declined-not-eligible", "age-outside-program", redirect)


async def out_of_area(world: World, id_: str) -> None:
    await _declines(world, id_, "declined-out-of-area", "out-of-area")


async def she_does_not_want_it(world: World, id_: str) -> None:
    await _declines(world, id_, "redirect-suggested", "survivor-declined")


async def test_not_taken_is_all_that_shows_of_a_decline(new_world: Callable[[], OpenWorld]) -> None:
    told = await differing(new_world, no_capacity, [not_eligible, out_of_area, she_does_not_want_it])
    assert not told, "\n".join(told)


async def test_not_taken_is_the_same_whether_declined_or_never_answered(new_world: Callable[[], OpenWorld]) -> None:
    async def nobody_answers(world: World, _: str) -> None:
        for minute in (10, 20, 30):
            await at(world, NIGHT + timedelta(minutes=minute))

    async def declined_at_the_same_minute(world: World, id_: str) -> None:
        for minute in (10, 20, 29.99):
            await at(world, NIGHT + timedelta(minutes=minute))
        world.clock.set(NIGHT + timedelta(minutes=30))
        await _declines(world, id_, "declined-no-capacity", "no-capacity")

    one, other = [await seen_by_police(new_world(), course, 30) for course in (nobody_answers, declined_at_the_same_minute)]
    assert one == other


async def test_a_transcript_does_tell_two_different_answers_apart(new_world: Callable[[], OpenWorld]) -> None:
    """The comparison itself: what police may see is seen."""
    taken_over = await seen_by_police(new_world(), only_accepted, 3)
    declined = await seen_by_police(new_world(), no_capacity, 3)
    assert taken_over != declined


async def test_no_name_of_a_worker_or_of_another_party_reaches_police(new_world: Callable[[], OpenWorld]) -> None:
    lines = "\n".join(await seen_by_police(new_world(), goes_on_to_others, 3))
    for word in ("Sam", "fast-track-status", "emergency-income", "ow-durham.htrt", "lakeridge.dvsacc"):
        assert word not in lines
    async with new_world() as world:
        await offered(world)
        assert "vsdr.ht-cic" in (await world.call("police", "GET", "/fhir/Task")).text
