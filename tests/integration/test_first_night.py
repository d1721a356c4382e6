"""The first transfer of the night, over the hub's own routes."""

from __future__ import annotations

from gateway.clock import millis
from tests.integration.world import NIGHT, World, night_offer


async def test_offer_reaches_the_counsellor_and_police_see_no_more_than_taken_over(world: World) -> None:
    offered = await world.call("police", "POST", "/fhir", night_offer(millis(NIGHT)))
    assert offered.status_code == 200, offered.text
    assert [entry["response"]["status"] for entry in offered.json()["entry"]] == ["201 Created"] * 5
    [received] = await world.tasks("counsellor")
    for state, worker in (("acknowledged", None), ("accepted", "Sam"), ("introduced", None), ("handed-over", None)):
        moved = await world.move("counsellor", received["id"], state, worker=worker)
        assert moved.status_code == 200, moved.text
    [sent] = await world.tasks("police")
    assert sent["businessStatus"]["coding"][0]["code"] == "taken-over"
    assert sent["meta"]["versionId"] == "3"
