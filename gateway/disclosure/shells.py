"""Closed shells: what is left on a receiver's shelf of a copy that was recalled. Pure.

Each is the smallest R4 resource of its type that is valid: required elements, references among the shells themselves, and the tag that
says what it is. Nothing in it comes from the person, the sender or the request.
"""

from __future__ import annotations

from typing import Any

from gateway import vocabulary as v
from gateway.clock import instant, to_minute
from gateway.transfers.model import Transfer

__all__ = ["person_shells", "transfer_shells"]

Json = dict[str, Any]


def transfer_shells(transfer: Transfer) -> tuple[Json, ...]:
    """What is left of what one transfer brought: that there was a task, and that it is over."""
    attempt, stands = transfer.attempt, transfer.stands.value
    closed = transfer.ending is not None
    return (
        {
            **_shell("Task", attempt.task),
            "status": "cancelled",
            "businessStatus": {"coding": [{"system": v.BUSINESS_STATUS, "code": stands if closed else "consent-withdrawn"}]},
            "intent": "order",
            "focus": {"reference": f"ServiceRequest/{attempt.request}"},
            "for": {"reference": f"Patient/{attempt.patient}"},
        },
        {
            **_shell("ServiceRequest", attempt.request),
            "status": "revoked",
            "intent": "filler-order",
            "subject": {"reference": f"Patient/{attempt.patient}"},
        },
        {
            **_shell("Provenance", attempt.provenance),
            "target": [{"reference": f"Task/{attempt.task}"}],
            "recorded": instant(to_minute(attempt.recalled or 0)),
            "agent": [{"who": {"extension": [{"url": v.DATA_ABSENT, "valueCode": "masked"}]}}],
        },
    )


def person_shells(patient: str, consent: str) -> tuple[Json, ...]:
    """What is left of the person, once nothing on that shelf is about her any more."""
    return (
        {**_shell("Patient", patient), "active": False},
        {
            **_shell("Consent", consent),
            "status": "inactive",
            "scope": {"coding": [{"system": v.CONSENT_SCOPE_STD, "code": "patient-privacy"}]},
            "category": [{"coding": [{"system": v.V3_ACT_CODE, "code": "IDSCL"}]}],
            "patient": {"reference": f"Patient/{patient}"},
            "policyRule": {"coding": [{"system": v.V3_ACT_CODE, "code": "OPTOUT"}]},
        },
    )


def _shell(type_: str, id_: str) -> Json:
    return {"resourceType": type_, "id": id_, "meta": {"tag": [v.CLOSED]}}
