"""To whom her data went, and why something was decided, as each may be told: herself, a worker, a party's privacy officer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx

from gateway import vocabulary as v
from gateway.clock import instant
from gateway.fhir.validate import validate
from gateway.identity import ClientId, PartyId, StatusView
from tests.integration.checks import assert_outcome, row_counts
from tests.integration.night import NOW, accepted, offered
from tests.integration.reporting import emergency
from tests.integration.test_withdrawal import withdrawal
from tests.integration.world import BASE_CLASSES, World, consent, input_, request, task, transaction

Json = dict[str, Any]
HOUR = 3_600_000


def caller(world: World, name: str, like: str, *actions: str, smart: str = "system/AuditEvent.s", **changes: Any) -> str:
    """A client registered like another one, with these scopes alone."""
    in_force = world.hub.follower._in_force
    policy = in_force.now.policy
    scopes = frozenset({smart, *actions})
    client = replace(policy.clients[ClientId(like)], id=ClientId(name.replace(" ", "-")), scopes=scopes, **changes)
    in_force.now = replace(in_force.now, policy=replace(policy, clients={**policy.clients, client.id: client}))
    world.tokens[name] = world.hub.tokens.issue(client, scopes).token
    return name


def officer(world: World, party: str, like: str) -> str:
    return caller(world, f"officer of {party}", like, "audit.read-own-party", party=PartyId(party), role="privacy-officer")


async def accounting(world: World, who: str, patient: str) -> httpx.Response:
    return await world.call(who, "GET", f"/fhir/Patient/{patient}/$accounting")


async def told(world: World, who: str, patient: str) -> list[tuple[str, str, str]]:
    """(from, to, service) of each release that a caller is told of."""
    response = await accounting(world, who, patient)
    assert response.status_code == 200, response.text
    found = []
    for entry in response.json().get("entry", ()):
        event = entry["resource"]
        assert validate(event) == [] and event["resourceType"] == "AuditEvent"
        source, target = (agent["who"]["reference"].removeprefix("Organization/") for agent in event["agent"])
        [entity] = event["entity"]
        assert entity["what"] == {"reference": f"Patient/{patient}"}
        found.append((source, target, next(d["valueString"] for d in entity["detail"] if d["type"] == "service")))
    return sorted(found)


async def onward(world: World) -> tuple[str, str]:
    """Police to the counsellor, the counsellor to income support: her Patient on the counsellor's shelf and on the police's."""
    ids, received = await accepted(world)
    hers: str = received["for"]["reference"].rpartition("/")[2]
    who, owner = f"Patient/{hers}", "HealthcareService/ow-durham.htrt"
    c, sr, t = (f"urn:uuid:00000000-0000-4000-8000-00000000000{i}" for i in (6, 7, 8))
    agreed = consent(
        who, "vsdr", "Organization/ow-durham", "income-support", [*BASE_CLASSES, "paperwork-waived"], ["ELIGDTRM"], NOW - HOUR, NOW + HOUR
    )
    asked = transaction(
        (c, agreed),
        (sr, request(who, "vsdr", "emergency-income", owner)),
        (t, task(who, sr, "vsdr", owner, [input_("paperwork-waived", valueBoolean=True)])),
    )
    assert (await world.call("counsellor", "POST", "/fhir", asked)).status_code == 200
    return hers, ids["Patient"]


TO_VSDR = ("drps", "vsdr", "crisis-counselling")
TO_INCOME = ("vsdr", "ow-durham", "emergency-income")


async def test_each_is_told_what_went_from_it_or_came_to_it(world: World) -> None:
    hers, theirs = await onward(world)
    worker = caller(world, "worker", "counsellor", "transfer.read")

    assert await told(world, worker, hers) == [TO_VSDR, TO_INCOME]
    assert await told(world, officer(world, "vsdr", "privacy"), hers) == [TO_VSDR, TO_INCOME]
    assert await told(world, officer(world, "drps", "police"), theirs) == [TO_VSDR]
    income = officer(world, "ow-durham", "income")
    assert (await accounting(world, income, hers)).status_code == 404, "not its own Patient"
    text = (await accounting(world, worker, hers)).text
    assert "Zz-Robin" not in text and "Sam" not in text and theirs not in text


async def test_no_two_parties_are_told_the_same_id(world: World) -> None:
    hers, theirs = await onward(world)
    by = {
        who: {entry["resource"]["id"] for entry in (await accounting(world, who, patient)).json()["entry"]}
        for who, patient in ((officer(world, "vsdr", "privacy"), hers), (officer(world, "drps", "police"), theirs))
    }
    one, other = by.values()
    assert one and other and not one & other


async def test_what_another_made_flow_is_not_told_to_a_minimal_view(world: World) -> None:
    """A later release of what police wrote, on the counsellor's act: police see nothing of it anywhere."""
    _, received = await offered(world)
    hers = received["for"]["reference"].rpartition("/")[2]
    from gateway.disclosure.accounting import Asker, Viewer, releases_of, told_to

    transfer = await world.hub.parts.facts.received(world.hub.parts.policy().clients[ClientId("counsellor")].party, received["id"])  # type: ignore[arg-type]  # its only shelf has the party's name
    assert transfer is not None and hers
    [first] = await releases_of(world.hub.parts.database, [transfer.thread])
    later = replace(first, id="later", party=PartyId("vsdr"))
    police = world.hub.parts.policy().parties[PartyId("drps")]
    for view, expected in ((StatusView.MINIMAL, [first]), (StatusView.FULL, [first, later])):
        viewer = Viewer(Asker.OFFICER, replace(police, status_view=view), first.source)
        assert told_to(viewer, [first, later]) == expected


async def test_a_withdrawal_takes_nothing_out_of_the_accounting(world: World) -> None:
    hers, _ = await onward(world)
    answer = await world.call("counsellor", "POST", "/fhir/Consent", withdrawal(f"Patient/{hers}", "vsdr"))
    assert answer.status_code in (200, 201), answer.text
    assert await told(world, officer(world, "vsdr", "privacy"), hers) == [TO_VSDR, TO_INCOME]


async def herself(world: World, patient: str, **contact: Any) -> str:
    """A client of her own, on a shelf where nobody but her is; her safe contact as she gave it."""
    parts = {"channel": "text", "state": "safe", "verified-at": instant(NOW - HOUR), **contact}
    extension = [{"url": url, ("valueDateTime" if url == "verified-at" else "valueCode"): value} for url, value in parts.items()]
    current = (await world.call("counsellor", "GET", f"/fhir/Patient/{patient}")).json()
    current["telecom"] = [
        {"system": "phone", "value": "+1-416-555-0001", "extension": [{"url": v.EXT_SAFE_CONTACT, "extension": extension}]}
    ]
    current.pop("meta")
    written = await world.call("counsellor", "PUT", f"/fhir/Patient/{patient}", current)
    assert written.status_code == 200, written.text
    return caller(world, "herself", "counsellor", "own.disclosures", role="survivor")


async def test_she_is_told_everything_while_her_phone_is_safe(world: World) -> None:
    hers, _ = await onward(world)
    me = await herself(world, hers)
    before = await row_counts(world)

    assert await told(world, me, hers) == [TO_VSDR, TO_INCOME]

    after = await row_counts(world)
    assert {name for name in after if after[name] != before[name]} == {"audit_entries"}, "told, and nowhere stored"


async def test_on_a_phone_that_may_be_watched_she_is_asked_to_see_her_worker(world: World) -> None:
    _, received = await offered(world)
    hers = received["for"]["reference"].rpartition("/")[2]
    unsafe: list[Json] = [
        *({"state": "unknown"}, {"state": "safe-with-limits"}, {"qualifier": "device-watched"}, {"qualifier": "device-shared"}),
        {"verified-at": instant(NOW - 15 * 24 * HOUR)},
    ]
    for contact in unsafe:
        assert_outcome(await accounting(world, await herself(world, hers, **contact), hers), 409, refusal="unsafe-channel")


async def test_an_emergency_waits_for_a_named_person_before_she_is_told(world: World) -> None:
    _, received = await accepted(world)
    hers = received["for"]["reference"].rpartition("/")[2]
    sent = await world.call("manager", "POST", "/fhir", emergency(hers))
    assert sent.status_code == 200, sent.text
    me, privacy = await herself(world, hers), officer(world, "vsdr", "privacy")
    told_of = ("vsdr", "drps", "imminent-risk")

    assert told_of not in await told(world, me, hers)
    assert told_of in await told(world, privacy, hers)
    waiting = [e["resource"] for e in (await accounting(world, privacy, hers)).json()["entry"] if "she may be shown" in json.dumps(e)]
    [entry] = [each["id"] for each in waiting]
    address = f"/fhir/Patient/{hers}/$accounting"
    assert (await world.call(me, "POST", f"{address}/{entry}/$show")).status_code == 403
    assert (await world.call(privacy, "POST", f"{address}/{'0' * 32}/$show")).status_code == 404
    assert (await world.call(privacy, "POST", f"{address}/{entry}/$show")).status_code == 204
    assert told_of in await told(world, me, hers)


async def test_without_its_scopes_nothing_is_told(world: World) -> None:
    hers, _ = await onward(world)
    paths = (f"/fhir/Patient/{hers}/$accounting", "/fhir/$decisions")
    for name, smart, actions in (
        ("no action", "system/AuditEvent.s", ()),
        ("no smart", "system/Task.rs", ("audit.read-own-party", "transfer.read")),
        ("other", "system/AuditEvent.s", ("transfer.offer", "transfer.read-own")),
    ):
        who = caller(world, name, "counsellor", *actions, smart=smart)
        for path in paths:
            assert_outcome(await world.call(who, "GET", path), 403, refusal="scope-missing")
    assert_outcome(await accounting(world, officer(world, "vsdr", "privacy"), "nobody"), 404)


async def decisions(world: World, who: str, query: str = "") -> list[Json]:
    response = await world.call(who, "GET", f"/fhir/$decisions{query}")
    assert response.status_code == 200, response.text
    resource = response.json()
    assert validate(resource) == []
    return [
        {part["name"]: next((part[k] for k in part if k.startswith("value")), part.get("part")) for part in each["part"]}
        for each in resource.get("parameter", ())
    ]


async def test_a_privacy_officer_reads_what_its_party_asked(world: World) -> None:
    hers, _ = await onward(world)
    owner, sr = "PractitionerRole/lakeridge.dvsacc-nurse", "urn:uuid:00000000-0000-4000-8000-000000000007"
    who, t = f"Patient/{hers}", "urn:uuid:00000000-0000-4000-8000-000000000008"
    await world.call("counsellor", "POST", "/fhir/Consent", withdrawal(who, "vsdr", scopes=["hospital-fast-track"]))
    asked = transaction(
        (sr, request(who, "vsdr", "dvsacc-fast-track", owner)),
        (t, task(who, sr, "vsdr", owner, [input_("support-person", valueBoolean=True)])),
    )
    refused = await world.call("counsellor", "POST", "/fhir", asked)
    assert refused.status_code == 403
    privacy = officer(world, "vsdr", "privacy")

    [found] = await decisions(world, privacy, f"?correlation={refused.headers['x-correlation-id']}")
    assert (found["outcome"], found["refusal"]) == ("deny", refused.json()["issue"][0]["details"]["coding"][0]["code"])
    assert "withdrawn" not in json.dumps(found).replace("consent-withdrawn", "") and "drps" not in json.dumps(found)
    assert [each["entry"] for each in await decisions(world, privacy, f"?entry={found['entry']}")] == [found["entry"]]
    newest = await decisions(world, privacy, "?_count=1")
    assert newest[0]["entry"] == found["entry"]

    [addressed] = [each for each in await decisions(world, officer(world, "lakeridge", "nurse")) if "addressed" in each]
    assert addressed.keys() == {"addressed", "at", "from", "to", "service", "outcome"} and addressed["from"] == "vsdr"
    police = await decisions(world, officer(world, "drps", "police"))
    assert [(each["from"], each["to"]) for each in police] == [("drps/htu", "vsdr")]
    assert await decisions(world, officer(world, "drps", "police"), f"?entry={found['entry']}") == []
    assert_outcome(await world.call(privacy, "GET", "/fhir/$decisions?name=x"), 400)
