"""The code systems, extensions and standard codes that appear on the wire, each named once.

Local ones live under one placeholder base; published ones are cited by their canonical URL.
"""

from __future__ import annotations

from typing import Final

BASE: Final = "https://coalition-hub.example/fhir/"
CODE_SYSTEM: Final = BASE + "CodeSystem/"
EXTENSION: Final = BASE + "StructureDefinition/"

# local code systems (Coding.system)
SERVICE: Final = CODE_SYSTEM + "service"  # ServiceRequest.code
NEED: Final = CODE_SYSTEM + "need"
REASON: Final = CODE_SYSTEM + "reason"
SOURCE: Final = CODE_SYSTEM + "source"
SAFETY_FLAG: Final = CODE_SYSTEM + "safety-flag"
ACCESS: Final = CODE_SYSTEM + "access"
CULTURAL: Final = CODE_SYSTEM + "cultural"
AGE_BAND: Final = CODE_SYSTEM + "age-band"
TASK_INPUT: Final = CODE_SYSTEM + "task-input"  # Task.input.type
TASK_OUTPUT: Final = CODE_SYSTEM + "task-output"  # Task.output.type
TASK_CODE: Final = CODE_SYSTEM + "task-code"  # Task.code: transfer
BUSINESS_STATUS: Final = CODE_SYSTEM + "business-status"  # Task.businessStatus
DECLINE_REASON: Final = CODE_SYSTEM + "decline-reason"  # Task.statusReason
DECISION: Final = CODE_SYSTEM + "decision"  # Task.output decision
OFFER: Final = CODE_SYSTEM + "offer"  # Task.output offer
CONSENT_SCOPE: Final = CODE_SYSTEM + "consent-scope"  # Consent.provision.provision.code
DATA_CLASS: Final = CODE_SYSTEM + "data-class"  # Consent.provision.provision.class
PURPOSE: Final = CODE_SYSTEM + "purpose-of-use"  # local purposes
ROLE: Final = CODE_SYSTEM + "role"
BASIS: Final = CODE_SYSTEM + "basis"  # Task.input basis: the law on which a named person rests it
REPORT_DECISION: Final = CODE_SYSTEM + "report-decision"  # Task.output: what a named person decided about a report
REPORT_REASON: Final = CODE_SYSTEM + "report-reason"  # Task.statusReason of a decision not to report now
EMERGENCY_REASON: Final = CODE_SYSTEM + "emergency-reason"  # Task.statusReason of an emergency disclosure
REFUSAL: Final = CODE_SYSTEM + "refusal"
COPY_STATE: Final = CODE_SYSTEM + "copy-state"  # meta.tag
CLOSED: Final = {"system": COPY_STATE, "code": "closed"}
"""The tag of a closed shell: what is left on a receiver's shelf of a copy that was recalled."""
PARTY: Final = BASE + "NamingSystem/party"  # Identifier.system of an Organization
NUMBER: Final = BASE + "NamingSystem/referral-number"  # placer and filler numbers, different per shelf
PID: Final = BASE + "NamingSystem/pid"  # pairwise person identifier, different per shelf

# local extensions
EXT_AGE_BAND: Final = EXTENSION + "age-band"  # Patient.extension valueCode
EXT_SAFE_CONTACT: Final = EXTENSION + "safe-contact"  # Patient.telecom[].extension, complex
EXT_INTERPRETER: Final = EXTENSION + "interpreter-needed"  # Patient.communication[].extension valueBoolean
EXT_EVIDENCE: Final = (
    EXTENSION + "consent-evidence"
)  # Consent.extension, complex: mode, recorder-role, notice*, giver, interpreter, evidence-id
EXT_ACTING_WORKER: Final = EXTENSION + "acting-worker"  # Task.extension valueString; stays on the worker's own shelf
EXT_SHARING_ENDED: Final = EXTENSION + "sharing-ended"  # Task.extension valueBoolean, on the shelf of a receiver that has met her
DATA_ABSENT: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

# published code systems
V3_ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
V3_ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
V3_CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
V3_OBSERVATION_VALUE: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
V3_PARTICIPATION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
V3_ROLE_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
CONSENT_SCOPE_STD: Final = "http://terminology.hl7.org/CodeSystem/consentscope"
V2_0203: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"  # identifier types: PLAC, FILL, JHN
PROVENANCE_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
ORGANIZATION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/organization-type"
BCP_47: Final = "urn:ietf:bcp:47"

LOCAL_PURPOSES: Final = frozenset({"victim-support", "child-protection", "law-enforcement", "missing-person", "case-table"})
"""Purposes of use that HL7 has no code for."""


def purpose_system(purpose: str) -> str:
    """The code system of a purpose of use."""
    return PURPOSE if purpose in LOCAL_PURPOSES else V3_ACT_REASON
