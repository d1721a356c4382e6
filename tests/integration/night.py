"""Steps of a night that many tests begin with."""

from __future__ import annotations

from typing import Any

from gateway import vocabulary as v
from gateway.clock import instant, millis
from tests.integration.world import (
    BASE_CLASSES,
    NIGHT,
    World,
    coded,
    consent,
    input_,
    night_offer,
    patient,
    request,
    task,
    transaction,
)

__all__ = [
    "HOUR",
    "NOW",
    "accepted",
    "business",
    "contact",
    "fast_track",
    "income_request",
    "made",
    "offer",
    "offered",
    "only_task",
    "resource",
    "taken",
    "with_consent",
]

Json = dict[str, Any]
NOW = millis(NIGHT)
HOUR = 3_600_000
P, C, SR, T = (f"urn:uuid:00000000-0000-4000-8000-00000000000{i}" for i in (1, 2, 4, 5))


def business(task_: Json) -> str:
    """The business status that a view shows."""
    code: str = task_["businessStatus"]["coding"][0]["code"]
    return code


def made(response: Any) -> dict[str, str]:
    """Type -> id of what a transaction wrote (of several, the last)."""
    assert response.status_code == 200, response.text
    ids = {}
    for entry in response.json()["entry"]:
        type_, id_ = entry["response"]["location"].split("/")[:2]
        ids[type_] = id_
    return ids


async def only_task(world: World, who: str) -> Json:
    """The one Task on a party's shelf."""
    [found] = await world.tasks(who)
    return found


async def resource(world: World, who: str, reference: str) -> Json:
    """One resource as a party reads it."""
    response = await world.call(who, "GET", f"/fhir/{reference}")
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def offered(world: World, alias: str = "Zz-Robin", at: int = NOW) -> tuple[dict[str, str], Json]:
    """Police have offered; what they wrote, and the counsellor's Task."""
    before = {task_["id"] for task_ in await world.tasks("counsellor")}
    ids = made(await world.call("police", "POST", "/fhir", night_offer(at, alias)))
    [received] = [task_ for task_ in await world.tasks("counsellor") if task_["id"] not in before]
    return ids, received


async def accepted(world: World, alias: str = "Zz-Robin") -> tuple[dict[str, str], Json]:
    """The counsellor has accepted."""
    ids, received = await offered(world, alias)
    await taken(world, "counsellor", received["id"])
    return ids, await resource(world, "counsellor", f"Task/{received['id']}")


async def taken(world: World, who: str, id_: str) -> None:
    """Acknowledged and accepted by a named human."""
    for state, worker in (("acknowledged", None), ("accepted", "Sam")):
        moved = await world.move(who, id_, state, worker=worker)
        assert moved.status_code == 200, moved.text


def offer(
    *,
    sender: str = "drps",
    owner: str = "PractitionerRole/vsdr.ht-cic",
    service: str = "crisis-counselling",
    consents: list[Json] | None = None,
    inputs: list[Json] | None = None,
    who: Json | None = None,
    priority: str = "stat",
) -> Json:
    """A transaction with a new person and one Task; by default police to a counsellor, with a consent that allows it."""
    if consents is None:
        consents = [with_consent()]
    given = inputs if inputs is not None else [input_("need", valueCodeableConcept=coded(v.NEED, "income"))]
    return transaction(
        (P, who or patient()),
        *((f"urn:uuid:00000000-0000-4000-8000-0000000001{i:02}", c) for i, c in enumerate(consents)),
        (SR, request(P, sender, service, owner, priority)),
        (T, task(P, SR, sender, owner, given, priority)),
    )


def with_consent(
    *,
    recorder: str = "drps",
    receiver: str = "Organization/vsdr",
    scope: str = "warm-transfer",
    classes: list[str] | None = None,
    purposes: list[str] | None = None,
    start: int = NOW - HOUR,
    end: int = NOW + 48 * HOUR,
    who: str = P,
) -> Json:
    """A coalition Consent; by default warm-transfer to victim services, recorded by police."""
    given = classes if classes is not None else [*BASE_CLASSES, "needs", "reason", "source", "safety-flag", "meeting-place", "safe-contact"]
    return consent(who, recorder, receiver, scope, given, purposes or ["COC", "victim-support"], start, end)


def fast_track(patient_id: str, *, sender: str = "vsdr", owner: str = "PractitionerRole/lakeridge.dvsacc-nurse") -> Json:
    """S1 step 4: the hospital's fast-track for someone already on the sender's shelf."""
    who = f"Patient/{patient_id}"
    inputs = [
        input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, "companion-not-safe")),
        input_("support-person", valueBoolean=True),
        input_("need", valueCodeableConcept=coded(v.NEED, "income")),
    ]
    return transaction((SR, request(who, sender, "dvsacc-fast-track", owner)), (T, task(who, SR, sender, owner, inputs)))


def income_request(patient_id: str, at: int = NOW, *, service: str = "emergency-income") -> Json:
    """S1 step 5: the income-support consent that the counsellor recorded, and the request to one office."""
    who, owner = f"Patient/{patient_id}", "HealthcareService/ow-durham.htrt"
    classes = [*BASE_CLASSES, "needs", "paperwork-waived", "meeting-place", "safe-contact", "safety-flag"]
    given = with_consent(
        recorder="vsdr",
        receiver="PractitionerRole/ow-durham.ow-supervisor",
        scope="income-support",
        classes=classes,
        purposes=["ELIGDTRM"],
        start=at,
        end=at + 720 * HOUR,
        who=who,
    )
    inputs = [
        input_("need", valueCodeableConcept=coded(v.NEED, "income")),
        input_("need", valueCodeableConcept=coded(v.NEED, "crisis-counselling")),
        input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, "companion-not-safe")),
        input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, "exploiter-may-be-near")),
        input_("paperwork-waived", valueBoolean=True),
    ]
    return transaction(
        (C, given), (SR, request(who, "vsdr", service, owner, "urgent")), (T, task(who, SR, "vsdr", owner, inputs, "urgent"))
    )


def contact(
    at: int, *, state: str = "safe", opens: str = "12:00:00", hours: int = 3, qualifiers: tuple[str, ...] = ("no-voicemail",)
) -> Json:
    """A phone with its safe-contact extension."""
    parts: list[Json] = [{"url": "channel", "valueCode": "text"}, {"url": "state", "valueCode": state}]
    parts += [{"url": "qualifier", "valueCode": each} for each in qualifiers]
    repeat = {"timeOfDay": [opens], "duration": hours, "durationUnit": "h"}
    parts += [
        {"url": "window", "valueTiming": {"repeat": repeat}},
        {"url": "verified-at", "valueDateTime": instant(at)},
        {"url": "verified-by", "valueCode": "ht-cic"},
    ]
    return {"system": "phone", "value": "+1-905-555-0142", "extension": [{"url": v.EXT_SAFE_CONTACT, "extension": parts}]}
