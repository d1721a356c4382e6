"""A text to the survivor: only with her consent, on a channel that is safe now, inside her window, and saying nothing (R12, R13)."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.integration.checks import assert_outcome, row_counts
from tests.integration.night import HOUR, NOW, accepted, contact, resource, with_consent
from tests.integration.world import NIGHT, World

Json = dict[str, Any]


def message(who: str, text: str) -> Json:
    return {
        "resourceType": "Communication",
        "status": "preparation",
        "subject": {"reference": who},
        "payload": [{"contentString": text}],
    }


async def reachable(world: World, *, consent: bool = True, **channel: Any) -> str:
    """The counsellor has accepted, has noted a phone, and has her consent to text; returns the Patient's reference."""
    _, received = await accepted(world)
    who: str = received["for"]["reference"]
    person = await resource(world, "counsellor", who)
    verified = channel.pop("verified", NOW)
    noted = await world.call("counsellor", "PUT", f"/fhir/{who}", {**person, "telecom": [contact(verified, **channel)]})
    assert noted.status_code == 200, noted.text
    if consent:
        agreed = with_consent(
            recorder="vsdr",
            receiver="Organization/vsdr",
            scope="contact-follow-up",
            classes=["safe-contact"],
            purposes=["victim-support"],
            start=NOW,
            end=NOW + 2160 * HOUR,
            who=who,
        )
        kept = await world.call("counsellor", "POST", "/fhir/Consent", agreed)
        assert kept.status_code == 201, kept.text
    return who


async def sent(world: World, who: str, text: str) -> httpx.Response:
    return await world.call("counsellor", "POST", "/fhir/Communication", message(who, text))


async def becomes(world: World, id_: str, status: str) -> Json:
    """Wait until the hub has settled a message."""
    seen = ""
    for _ in range(200):
        found = await resource(world, "counsellor", f"Communication/{id_}")
        seen = found["status"]
        if seen == status:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"it stays {seen}")


async def test_a_text_before_the_window_is_held_until_it_opens(world: World) -> None:
    """The window is 12:00 to 15:00 in Toronto; no text service is set up here, so nothing can leave, and it waits."""
    who = await reachable(world)
    held = await sent(world, who, "hi robin, call me when ok")
    assert held.status_code == 201, held.text
    assert held.json()["status"] == "on-hold"
    open_at = datetime(2026, 3, 14, 12, 1).replace(tzinfo=NIGHT.tzinfo) + timedelta(hours=4)
    world.clock.set(open_at)
    later = await sent(world, who, "hi robin, call me when ok")
    assert later.json()["status"] == "in-progress"


async def test_a_withdrawn_contact_consent_stops_a_text_that_waits(world: World) -> None:
    who = await reachable(world)
    held = await sent(world, who, "hi robin, call me when ok")
    found = await world.call("counsellor", "GET", "/fhir/Consent?status=active")
    [mine] = [e["resource"] for e in found.json()["entry"] if "organization" in e["resource"]]
    ended = await world.call("counsellor", "PUT", f"/fhir/Consent/{mine['id']}", {**mine, "status": "inactive"})
    assert ended.status_code == 200, ended.text
    world.clock.set(NIGHT + timedelta(hours=14, minutes=30))
    await becomes(world, held.json()["id"], "not-done")


async def test_a_phone_that_became_unsafe_stops_a_text_that_waits(world: World) -> None:
    who = await reachable(world)
    held = await sent(world, who, "hi robin, call me when ok")
    person = await resource(world, "counsellor", who)
    await world.call("counsellor", "PUT", f"/fhir/{who}", {**person, "telecom": [contact(NOW, state="unsafe")]})
    world.clock.set(NIGHT + timedelta(hours=14, minutes=30))
    await becomes(world, held.json()["id"], "not-done")


TELLING = [
    "Ms Robin, Ontario Works approved you",
    "call Victim Services",
    "the officer asks for you",
    "your safe phone is here",
    "DRPS called",
]


async def test_names_titles_agencies_and_services_are_refused(world: World) -> None:
    who = await reachable(world)
    before = await row_counts(world)
    for text in TELLING:
        refused = await sent(world, who, text)
        assert_outcome(refused, 422, refusal="name-or-title-in-message", expression="Communication.payload", canaries=[text])
    assert await row_counts(world) == {**before, "audit_entries": before["audit_entries"] + len(TELLING)}


@pytest.mark.parametrize(
    ("channel", "status", "refusal"),
    [
        ({"state": "unsafe"}, 409, "unsafe-channel"),
        ({"state": "unknown"}, 409, "unsafe-channel"),
        ({"verified": NOW - 15 * 24 * HOUR}, 409, "unsafe-channel"),
        ({"qualifiers": ("device-watched",)}, 409, "unsafe-channel"),
        ({"qualifiers": ("device-shared",)}, 409, "unsafe-channel"),
        ({"consent": False}, 403, "no-consent"),
        ({"qualifiers": ("no-text-content",)}, 422, "message-not-allowed"),
    ],
    ids=["unsafe", "unknown", "stale", "watched", "shared", "no-consent", "only-call-me"],
)
async def test_a_channel_that_may_not_be_used(world: World, channel: Json, status: int, refusal: str) -> None:
    who = await reachable(world, **channel)
    refused = await sent(world, who, "your cheque is ready")
    assert_outcome(refused, status, refusal=refusal)


async def test_a_phone_that_takes_only_call_me_takes_that(world: World) -> None:
    who = await reachable(world, qualifiers=("no-text-content",))
    allowed = await sent(world, who, "hi robin, call me when ok")
    assert allowed.status_code == 201, allowed.text


async def test_a_message_needs_its_scope_and_a_text(world: World) -> None:
    who = await reachable(world)
    without = world.narrowed("counsellor", "message.send")
    assert_outcome(await world.call(without, "POST", "/fhir/Communication", message(who, "call me")), 403, refusal="scope-missing")
    assert_outcome(await world.call("police", "POST", "/fhir/Communication", message(who, "call me")), 403, refusal="scope-missing")
    assert_outcome(await sent(world, who, "call me " * 40), 422)
    assert_outcome(await sent(world, who, " "), 422)


async def test_a_message_cannot_be_changed_once_it_is_sent(world: World) -> None:
    who = await reachable(world)
    held = await sent(world, who, "hi robin, call me when ok")
    again = await world.call("counsellor", "PUT", f"/fhir/Communication/{held.json()['id']}", held.json())
    assert_outcome(again, 403, refusal="scope-missing")


async def test_nobody_else_sees_a_message_or_that_there_is_one(world: World) -> None:
    who = await reachable(world)
    held = (await sent(world, who, "hi robin, call me when ok")).json()
    for other in ("nurse", "income"):
        assert_outcome(await world.call(other, "GET", f"/fhir/Communication/{held['id']}"), 404)
    assert "call me" not in (await world.call("police", "GET", "/fhir/Task")).text
