"""Staff who share a room or device with police see what police see, whatever the rest of their party sees (R17)."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from gateway.identity import ClientId, StatusView
from tests.integration.checks import assert_outcome, assert_views
from tests.integration.night import business, made, offer, only_task, resource, taken, with_consent
from tests.integration.world import BASE_CLASSES, CLIENTS, World, input_, open_world, settings_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def shared(tmp_path: Path, database: dict[str, str]) -> AsyncIterator[World]:
    """A hub where one unit of victim services sits with police."""
    for folder in ("mappings", "consent_profiles", "adapters"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    manifest = tmp_path / "adapters" / "vsdr" / "manifest.yaml"
    desk = "units:\n  - {id: desk, name: Desk at the station, own-shelf: true, colocated: police}"
    manifest.write_text(manifest.read_text().replace("units:", desk, 1))
    settings = settings_for(tmp_path / "hub", config_root=tmp_path, **database)
    assert settings.registry is not None
    registry = yaml.safe_load(settings.registry.read_text())
    for name, more in (
        ("at-the-station", {"colocated": "police", "device-owner": "police", "role": "program-manager"}),
        ("counsellor-there", {"device-owner": "police"}),
        ("in-the-unit", {}),
    ):
        keys = {"jwks": registry["clients"][0]["jwks"]}
        registry["clients"].append({"client-id": name, **CLIENTS["counsellor"], "unit": "desk", **more, **keys})
    settings.registry.write_text(yaml.safe_dump(registry))
    async with open_world(settings) as opened:
        opened.after = assert_views
        yield opened


def fast_track() -> dict[str, object]:
    owner = "PractitionerRole/lakeridge.dvsacc-nurse"
    allowed = with_consent(
        recorder="vsdr",
        receiver="Organization/lakeridge",
        scope="hospital-fast-track",
        classes=[*BASE_CLASSES, "eta", "support-person", "safety-flag"],
        purposes=["ERTREAT"],
    )
    inputs = [input_("support-person", valueBoolean=True)]
    return offer(sender="vsdr", owner=owner, service="dvsacc-fast-track", consents=[allowed], inputs=inputs)


@pytest.mark.parametrize("who", ["at-the-station", "in-the-unit"])
async def test_a_unit_in_a_shared_room_sees_that_it_was_taken_over_and_nothing_more(shared: World, who: str) -> None:
    sent = made(await shared.call(who, "POST", "/fhir", fast_track()))["Task"]
    received = await only_task(shared, "nurse")
    await taken(shared, "nurse", received["id"])
    seen = await resource(shared, who, f"Task/{sent}")
    assert business(seen) == "taken-over"
    assert (await shared.move("nurse", received["id"], "unreachable")).status_code == 200
    assert await resource(shared, who, f"Task/{sent}") == seen
    assert_outcome(await shared.call(who, "GET", "/fhir/Task?code=transfer"), 403)  # what police may not search by


async def test_the_rest_of_the_party_sees_the_course(shared: World) -> None:
    sent = made(await shared.call("counsellor", "POST", "/fhir", fast_track()))["Task"]
    received = await only_task(shared, "nurse")
    await taken(shared, "nurse", received["id"])
    assert business(await resource(shared, "counsellor", f"Task/{sent}")) == "accepted"
    assert (await shared.call("in-the-unit", "GET", f"/fhir/Task/{sent}")).status_code == 404


async def test_the_token_says_where_its_holder_sits(shared: World) -> None:
    client = shared.hub.parts.policy().clients[ClientId("at-the-station")]
    caller = shared.hub.tokens.verify(shared.hub.tokens.issue(client, client.scopes).token)
    assert (caller.colocated, caller.status_view, caller.shelf) == ("police", StatusView.MINIMAL, "vsdr/desk")
    assert shared.hub.tokens.verify(shared.token("in-the-unit")).status_view is StatusView.MINIMAL
    assert shared.hub.tokens.verify(shared.token("counsellor")).status_view is StatusView.FULL


async def test_a_counsellor_on_a_police_device_is_refused_whatever_she_asks(shared: World) -> None:
    """R18: also where the registration holds together, and with every scope in hand."""
    for method, path, body in (("GET", "/fhir/Task", None), ("GET", "/fhir/Task/nobody", None), ("POST", "/fhir", fast_track())):
        refused = await shared.call("counsellor-there", method, path, body)
        assert_outcome(refused, 403, refusal="device-not-allowed")
