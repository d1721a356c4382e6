"""Every decision can be explained afterwards: from its audit entry or the correlation id of its answer, and never with a value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from gateway import vocabulary as v
from gateway.audit.explaining import EntryId, Explained, find, of_correlation, of_party
from gateway.cli import app
from gateway.clock import instant, millis
from gateway.decision.record import narrowed, sentences
from gateway.storage import tables
from gateway.storage.statements import Query
from tests.integration.world import World, coded, consent, input_, night_offer, patient, request, task, transaction

Json = dict[str, Any]
HOUR = 3_600_000
_ENTRIES = Query(select(tables.audit_entries.c.writer, tables.audit_entries.c.seq, tables.audit_entries.c.body))
_RELEASES = Query(select(tables.releases.c.source, tables.releases.c.target, tables.releases.c.classes, tables.releases.c.consents))


def now(world: World) -> int:
    return millis(world.hub.parts.clock.now())


async def audited(world: World, action: str) -> list[tuple[EntryId, Json]]:
    rows = await world.hub.parts.database.facts(_ENTRIES, {})
    found = [(EntryId(writer, seq), json.loads(body)) for writer, seq, body in rows]
    return [(id_, body) for id_, body in found if body["action"] == action]


async def why(world: World, entry: EntryId) -> Sequence[Explained]:
    found = await find(world.hub.parts.database, entry)
    assert found is not None
    return found


async def test_a_release_is_explained_beside_its_entry(world: World) -> None:
    await world.call("police", "POST", "/fhir", night_offer(now(world)))

    [(entry, body)] = await audited(world, "release")
    [told] = await why(world, entry)

    assert told.sound and told.correlation == body["correlation_id"] and (told.party, told.target) == ("drps", "vsdr")
    assert told.document["outcome"] == "permit" and told.document["row"] == body["detail"]["row"]
    assert set(body["classes"]) <= told.document["classes"].keys()
    found = list(sentences(told.document))
    assert [gate for gate, _ in found[:4]] == ["agreement", "basis", "row", "consent"]
    [[consent_id, version, recorder, receiver, scope]] = told.document["grants"].values()
    assert found[3][1] == (
        f"The survivor's consent allows it. [Consent/{consent_id} version {version}, recorded by drps/htu, warm-transfer for vsdr]"
    ) and (recorder, receiver, scope) == ("drps/htu", "vsdr", "warm-transfer")
    assert "Zz-Robin" not in json.dumps(told.document) and "lobby" not in json.dumps(told.document)


async def test_a_refusal_is_found_by_the_correlation_id_that_its_caller_has(world: World) -> None:
    bundle = night_offer(now(world))
    bundle["entry"] = [each for each in bundle["entry"] if "lakeridge" in json.dumps(each) or each["resource"]["resourceType"] != "Consent"]

    refused = await world.call("police", "POST", "/fhir", bundle)
    [told] = await of_correlation(world.hub.parts.database, refused.headers["x-correlation-id"])

    assert refused.status_code == 403
    assert told.document["outcome"] == "deny" and told.document["refusal"] == "no-consent" and told.document["gate"] == "consent"
    assert [step.split("|")[0] for step in told.document["steps"][-2:]] == ["consent:grant-other-receiver", "consent:no-grant"]
    [(entry, body)] = await audited(world, "refuse")
    assert [each.entry for each in await why(world, entry)] == [told.entry]
    assert told.sound and "decision.0" in body["detail"]


async def test_the_rule_of_a_consent_that_shut_a_receiver_out_is_named(world: World) -> None:
    at = now(world)
    p, c, sr, t = (f"urn:uuid:00000000-0000-4000-8000-00000000000{i}" for i in range(1, 5))
    owner = "PractitionerRole/vsdr.ht-cic"
    agreed = consent(p, "drps", "Organization/vsdr", "warm-transfer", ["alias", "needs"], ["COC"], at - 1000, at + HOUR)
    [permit] = agreed["provision"]["provision"]
    permit["provision"] = [{"type": "deny", "actor": permit["actor"], "class": [{"system": v.DATA_CLASS, "code": "needs"}]}]
    inputs = [input_("need", valueCodeableConcept=coded(v.NEED, "income"))]
    bundle = transaction(
        (p, patient()), (c, agreed), (sr, request(p, "drps", "crisis-counselling", owner)), (t, task(p, sr, "drps", owner, inputs))
    )

    answer = await world.call("police", "POST", "/fhir", bundle)
    [(entry, _)] = await audited(world, "release")
    [told] = await why(world, entry)

    assert answer.status_code == 200, answer.text
    assert told.document["withheld"]["needs"] == "class-denied-by-consent"
    rules = {name: (why_, rule) for _, _, name, why_, rule in told.document["rules"]}
    assert rules["needs"] == ("rule-denies", "Consent.provision.provision[0].provision[0]")
    assert rules["alias"] == ("rule-permits", "Consent.provision.provision[0]")
    assert narrowed(told.document, "drps")["withheld"]["needs"] == "class-not-granted"


async def test_every_move_and_every_send_that_was_decided_is_explained(world: World) -> None:
    await world.call("police", "POST", "/fhir", night_offer(now(world)))
    [shown] = await world.tasks("counsellor")
    await world.move("counsellor", shown["id"], "acknowledged")

    [(entry, body)] = await audited(world, "act")
    [told] = await why(world, entry)

    assert body["detail"]["to"] == "acknowledged"
    assert told.document["state"] == "acknowledged" and told.party is None, "the police's question, asked again on another party's act"


async def test_a_party_reads_what_it_asked_and_no_more_than_it_was_told(world: World) -> None:
    at = now(world)
    await world.call("police", "POST", "/fhir", night_offer(at))
    [shown] = await world.tasks("counsellor")
    who, owner = shown["for"]["reference"], "HealthcareService/ow-durham.htrt"
    sr, t = "urn:uuid:00000000-0000-4000-8000-000000000004", "urn:uuid:00000000-0000-4000-8000-000000000005"
    inputs = [input_("paperwork-waived", valueBoolean=True)]
    asking = transaction((sr, request(who, "vsdr", "emergency-income", owner)), (t, task(who, sr, "vsdr", owner, inputs)))
    refused = await world.call("counsellor", "POST", "/fhir", asking)
    assert refused.status_code == 403

    [own, *_] = await of_party(world.hub.parts.database, "vsdr")
    said = narrowed(own.document, "vsdr")

    assert own.document["grants"] and {grant[2] for grant in own.document["grants"].values()} == {"drps/htu"}
    assert said["grants"] == {} and [step for step in said["steps"] if step.startswith("consent")] == ["consent:no-grant"]
    assert said["refusal"] == "no-consent" and said["told"].startswith("There is no consent")
    [theirs, *_] = await of_party(world.hub.parts.database, "ow-durham")
    assert theirs.entry == own.entry
    assert narrowed(theirs.document, "ow-durham") == {
        **{"format": 1, "to": "ow-durham", "unit": own.document["unit"], "role": own.document["role"], "service": "emergency-income"},
        **{"at": at, "outcome": "deny", "from": "vsdr", "steps": [], "grants": {}},
    }
    assert not await of_party(world.hub.parts.database, "lakeridge")
    assert [each.document["to"] for each in await of_party(world.hub.parts.database, "drps")] == ["vsdr"]
    assert await of_party(world.hub.parts.database, "vsdr", before=instant(at - HOUR)) == []


async def test_what_was_changed_afterwards_is_not_sound(world: World) -> None:
    await world.call("police", "POST", "/fhir", night_offer(now(world)))
    [(entry, _)] = await audited(world, "release")
    [told] = await why(world, entry)
    assert told.sound
    database = world.hub.parts.database
    if world.settings.sqlite_path is None:
        return  # there the role that writes may not change it
    import sqlite3

    with sqlite3.connect(world.settings.sqlite_path) as raw:
        raw.execute("UPDATE decisions SET text = replace(text, 'warm-transfer', 'housing')")
    again = await find(database, entry)
    assert again is not None and not again[0].sound


async def test_each_release_is_in_the_ledger(world: World) -> None:
    await world.call("police", "POST", "/fhir", night_offer(now(world)))
    [(source, target, classes, consents)] = await world.hub.parts.database.facts(_RELEASES, {})
    [(_, body)] = await audited(world, "release")

    assert (source, target) == ("drps/htu", "vsdr") and classes.split() == body["classes"]
    [[_, version, scope]] = json.loads(consents)
    assert (version, scope) == (1, "warm-transfer")


async def test_the_privacy_officer_reads_it_at_the_command_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.call("police", "POST", "/fhir", night_offer(now(world)))
    [(entry, _)] = await audited(world, "release")
    monkeypatch.setattr("gateway.settings.load_settings", lambda: world.settings)

    def invoke(words: list[str]) -> Result:
        return CliRunner().invoke(app, words)

    async def run(*words: str) -> Result:
        return await asyncio.to_thread(invoke, ["consent", "explain", *words])

    told = await run(f"{entry.writer}/{entry.seq}")
    assert told.exit_code == 0, told.output
    assert "drps/htu -> vsdr/ht, crisis-counselling" in told.output and "recorded by drps/htu, warm-transfer for vsdr" in told.output
    [as_json] = json.loads((await run(f"{entry.writer}/{entry.seq}", "--json")).output)
    assert as_json["sound"] and as_json["decision"]["outcome"] == "permit" and as_json["action"] == "release"
    unknown = await run("w-0000000000000000/7")
    assert unknown.exit_code == 1 and "no such entry" in unknown.output
