"""What `gateway consent simulate` shows is what a hub does: the same answer, and the same resources on the receiver's shelf."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.clock import millis
from gateway.identity import ShelfId
from tests.integration.world import NIGHT, World, night_offer

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, bundle: Json, *words: str) -> Result:
    (folder / "offer.json").write_text(json.dumps(bundle))
    asked = ["consent", "simulate", str(folder / "offer.json"), "--root", str(ROOT), "--from", "drps/htu", *words]
    return CliRunner().invoke(app, asked)


def said(folder: Path, bundle: Json, *words: str) -> list[Json]:
    answer = run(folder, bundle, *words, "--json")
    assert answer.exit_code == 0, answer.output
    found: list[Json] = json.loads(answer.output)
    return found


def comparable(resources: list[Json]) -> Json:
    """Resources by type, without what is drawn for each: ids, numbers made of them, versions and times of storage."""
    ids = {resource["id"]: f"<{resource['resourceType']}>" for resource in resources}
    found = {}
    for resource in resources:
        kept = {name: value for name, value in resource.items() if name not in ("id", "identifier")}
        kept["meta"] = {name: value for name, value in kept["meta"].items() if name not in ("versionId", "lastUpdated")}
        text = orjson.dumps(kept).decode()
        for id_, name in ids.items():
            text = text.replace(id_, name)
        found[resource["resourceType"]] = orjson.loads(text)
    return found


async def test_it_shows_what_would_lie_on_the_shelf(world: World, tmp_path: Path) -> None:
    bundle = night_offer(millis(world.hub.parts.clock.now()))
    [shown] = said(tmp_path, bundle, "--at", NIGHT.isoformat())

    await world.call("police", "POST", "/fhir", bundle)
    [task] = await world.tasks("counsellor")
    transfer = await world.hub.parts.facts.received(ShelfId("vsdr"), task["id"])
    assert transfer is not None
    shelf = world.hub.parts.shelves.reading_shelf(ShelfId("vsdr"))
    kinds = ("Patient", "ServiceRequest", "Task", "Consent", "Provenance")
    real = [copy.resource() for kind in kinds for copy in await shelf.in_thread(transfer.thread, kind)]

    assert shown["outcome"] == "permit" and shown["to"] == "vsdr.ht-cic"
    assert comparable(shown["resources"]) == comparable(real)


def test_a_changed_consent_changes_what_would_be_seen(tmp_path: Path) -> None:
    bundle = night_offer(millis(NIGHT))
    agreed: Json = deepcopy(bundle["entry"][1]["resource"])
    [permit] = agreed["provision"]["provision"]
    permit["class"] = [each for each in permit["class"] if each["code"] != "needs"]
    agreed["patient"] = agreed["performer"][0] = {"reference": "Patient/p"}
    (tmp_path / "changed.json").write_text(json.dumps(agreed))

    [before] = said(tmp_path, bundle, "--at", NIGHT.isoformat())
    [after] = said(tmp_path, bundle, "--at", NIGHT.isoformat(), "--consent", str(tmp_path / "changed.json"))

    assert "needs" in before["decision"]["classes"] and after["decision"]["withheld"]["needs"] == "class-not-granted"
    kinds = {item["type"]["coding"][0]["code"] for r in after["resources"] if r["resourceType"] == "Task" for item in r["input"]}
    assert "need" not in kinds and "source" in kinds


def test_another_receiver_is_refused_with_every_gate(tmp_path: Path) -> None:
    words = ("--at", NIGHT.isoformat(), "--to", "vsdr.ipv-cic", "--to", "ow-durham")
    unit, office = said(tmp_path, night_offer(millis(NIGHT)), *words)
    assert unit["outcome"] == "permit", "the consent names the whole party"
    assert office["outcome"] == "deny" and office["resources"] == []
    text = run(tmp_path, night_offer(millis(NIGHT)), *words)
    assert text.exit_code == 0 and "The disclosure matrix has no row" in text.output and "goes       needs" in text.output


def test_a_consent_that_would_be_refused_gives_nothing_and_says_why(tmp_path: Path) -> None:
    bundle = night_offer(millis(NIGHT))
    bundle["entry"][1]["resource"]["extension"][0]["extension"] = [
        each for each in bundle["entry"][1]["resource"]["extension"][0]["extension"] if each["url"] != "notice"
    ]
    [shown] = said(tmp_path, bundle, "--at", NIGHT.isoformat())
    assert shown["outcome"] == "deny" and any("notice-missing" in line for line in shown["consents-refused"])


def test_what_cannot_be_used_is_said_without_a_value(tmp_path: Path) -> None:
    bundle = night_offer(millis(NIGHT))
    bundle["entry"][4]["resource"]["status"] = "Zz-Canary"
    for words, says in (((), "Not valid FHIR R4"), (("--from", "nobody"), "no such party"), (("--state", "asleep"), "no such state")):
        answer = run(tmp_path, bundle, *words)
        assert answer.exit_code == 2 and says in answer.output and "Zz-" not in answer.output, answer.output
