"""Clients and messages for reports, dangers told at once and demands."""

from __future__ import annotations

from typing import Any

from gateway import vocabulary as v
from gateway.clock import instant
from tests.integration.night import SR, P, T
from tests.integration.world import coded, input_, output, patient, request, task, transaction

__all__ = ["DCAS", "acting", "decide", "demand", "emergency", "not_now", "of_kind", "outcome", "phoned", "report"]

Json = dict[str, Any]
DCAS = "HealthcareService/dcas.intake"


def acting(name: str) -> list[Json]:
    """The acting-worker extension."""
    return [{"url": v.EXT_ACTING_WORKER, "valueString": name}]


def report(
    *,
    sender: str = "drps",
    owner: str = DCAS,
    who: str | None = None,
    age_band: str = "16-17",
    whereabouts: str | None = "Motel by the lake",
    name: str | None = "Dana",
    basis: str | None = None,
    facts: str = "Found alone with an older man, afraid to go home.",
) -> Json:
    """A report to a society, about a person already on the shelf or a new one."""
    inputs = [
        input_("report-ground", valueCodeableConcept=coded(v.REASON, "minor-at-risk")),
        input_("report-basis", valueString=facts),
        *([input_("whereabouts", valueString=whereabouts)] if whereabouts else []),
        *([input_("basis", valueCodeableConcept=coded(v.BASIS, basis))] if basis else []),
    ]
    about = f"Patient/{who}" if who else P
    extra: Json = {"extension": acting(name)} if name else {}
    written = task(about, SR, sender, owner, inputs, code=coded(v.TASK_CODE, "report"), **extra)
    resources = [(SR, request(about, sender, "child-protection-report", owner)), (T, written)]
    return transaction(*([] if who else [(P, patient("Zz-Sky", age_band))]), *resources)


def of_kind(tasks: list[Json], kind: str) -> list[Json]:
    """The Tasks of one code."""
    return [each for each in tasks if each["code"]["coding"][0]["code"] == kind]


def decide(task_: Json, name: str | None, *outputs: Json, reason: str | None = None, close: bool = False) -> list[Json]:
    """A JSON Patch by which a named human answers a duty."""
    patch: list[Json] = []
    if outputs:
        patch.append({"op": "add", "path": "/output", "value": [*task_.get("output", []), *outputs]})
    if name is not None:
        patch.append({"op": "add", "path": "/extension", "value": acting(name)})
    if reason is not None:
        patch.append({"op": "add", "path": "/statusReason", "value": coded(v.REPORT_REASON, reason)})
    if close:
        patch.append({"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, "closed")})
    return patch


def phoned(at: int) -> Json:
    """The record of a call to the society."""
    return output("phone-record", valueDateTime=instant(at))


def not_now() -> Json:
    """The decision not to report now."""
    return output("report-decision", valueCodeableConcept=coded(v.REPORT_DECISION, "not-now"))


def emergency(who: str | None = None, *, owner: str = "HealthcareService/drps.htu", name: str | None = "Ines", **changes: Any) -> Json:
    """A danger told to one unit of police by a named person of victim services."""
    about = f"Patient/{who}" if who else P
    inputs = [
        input_("meeting-place", valueString="Bus shelter at the mall"),
        input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, "exploiter-may-be-near")),
        input_("need", valueCodeableConcept=coded(v.NEED, "income")),
    ]
    extra: Json = {"code": coded(v.TASK_CODE, "emergency"), "statusReason": coded(v.EMERGENCY_REASON, "imminent-harm")}
    if name is not None:
        extra["extension"] = acting(name)
    extra.update(changes)
    resources = [
        (SR, request(about, "vsdr", "imminent-risk", owner)),
        (T, task(about, SR, "vsdr", owner, inputs, **extra)),
    ]
    return transaction(*([] if who else [(P, patient("Zz-Ash", "18-24"))]), *resources)


def demand(name: str = "Zz-Ash", family: str = "Testperson", *, basis: str = "missing-persons-demand") -> Json:
    """An urgent demand of police; the form itself goes by hand."""
    owner = "PractitionerRole/vsdr.program-manager"
    claimed = {"resourceType": "Patient", "name": [{"use": "official", "family": family, "given": [name]}], "birthDate": "2001-07-02"}
    inputs = [
        input_("basis", valueCodeableConcept=coded(v.BASIS, basis)),
        input_("form-number", valueString="MPA-3/2026-118"),
        input_("call-back-line", valueContactPoint={"system": "phone", "value": "+1-905-555-0111"}),
    ]
    written = task(P, SR, "drps", owner, inputs, "urgent", code=coded(v.TASK_CODE, "demand"))
    return transaction((P, claimed), (SR, request(P, "drps", "records-demand", owner, "urgent")), (T, written))


def outcome(code: str) -> Json:
    """What came of a review."""
    return output("review-outcome", valueCodeableConcept=coded(v.CODE_SYSTEM + "review-outcome", code))
