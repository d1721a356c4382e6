"""Why a decision came out as it did: codes kept with the audit entry, and the sentences they stand for.

A trace holds gates, rule codes and ids of configuration, grants and data classes; never a value of a person. `told` is for the caller
that is refused and depends on nothing but the refusal code; `explain` is for the privacy officer of the party concerned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.problems import Refusal

__all__ = ["Gate", "Note", "Step", "Trace", "explain", "sentence", "told"]


class Gate(StrEnum):
    """The five gates of a disclosure, in the order in which they are tried (R1)."""

    AGREEMENT = "agreement"
    BASIS = "basis"
    ROW = "row"
    CONSENT = "consent"
    CLASS = "class"


class Note(StrEnum):
    """One thing a gate found."""

    AGREEMENT_FOUND = "agreement-found"
    NO_AGREEMENT = "no-agreement"
    AGREEMENT_NOT_IN_FORCE = "agreement-not-in-force"
    REGION_NOT_COVERED = "region-not-covered"
    BASIS_FOUND = "basis-found"
    BASIS_UNKNOWN = "basis-unknown"
    BASIS_OFF = "basis-off"
    BASIS_NOT_THEIRS = "basis-not-theirs"
    BASIS_NOT_NAMED = "basis-not-named"
    ROW_FOUND = "row-found"
    NO_ROW = "no-row"
    PURPOSE_NOT_IN_ROW = "purpose-not-in-row"
    AGE_NOT_IN_ROW = "age-not-in-row"
    NOT_SAID_YES = "not-said-yes"
    HUMAN_ANSWERS = "human-answers"
    CONSENT_NOT_NEEDED = "consent-not-needed"
    GRANT_USED = "grant-used"
    GRANT_OTHER_RECEIVER = "grant-other-receiver"
    GRANT_OTHER_UNIT = "grant-other-unit"
    GRANT_OTHER_SCOPE = "grant-other-scope"
    GRANT_WITHDRAWN = "grant-withdrawn"
    GRANT_SUPERSEDED = "grant-superseded"
    GRANT_NOT_BEGUN = "grant-not-begun"
    GRANT_ENDED = "grant-ended"
    GRANT_OTHER_PURPOSE = "grant-other-purpose"
    RECEIVER_EXCLUDED = "receiver-excluded"
    NO_GRANT = "no-grant"
    CLASS_NOT_IN_ROW = "class-not-in-row"
    CLASS_NOT_GRANTED = "class-not-granted"
    CLASS_DENIED_BY_CONSENT = "class-denied-by-consent"
    CLASS_NEEDS_OWN_CONSENT = "class-needs-own-consent"
    CLASS_NOT_YET = "class-not-yet"
    CLASS_NOT_FOR_SERVICE = "class-not-for-service"
    NOTHING_LEFT = "nothing-left"


@dataclass(frozen=True, slots=True)
class Step:
    """What one gate found, and the id (of an agreement, basis, row, grant or data class) it is about."""

    gate: Gate
    note: Note
    about: str | None = None


Trace = tuple[Step, ...]


_SENTENCES: Final[Mapping[Note, str]] = {
    Note.AGREEMENT_FOUND: "The two parties are joined by an agreement in force.",
    Note.NO_AGREEMENT: "No agreement joins the two parties.",
    Note.AGREEMENT_NOT_IN_FORCE: "The agreement between the two parties has not begun or has ended.",
    Note.REGION_NOT_COVERED: "No agreement or route covers these two regions together.",
    Note.BASIS_FOUND: "The legal basis is known, switched on, and theirs to use.",
    Note.BASIS_UNKNOWN: "The legal basis named is not a known one.",
    Note.BASIS_OFF: "The legal basis is switched off.",
    Note.BASIS_NOT_THEIRS: "A party of this kind may not use this legal basis.",
    Note.BASIS_NOT_NAMED: "This route needs a legal basis that a named person states; none was stated.",
    Note.ROW_FOUND: "The disclosure matrix has a row for this sender, receiver and service.",
    Note.NO_ROW: "The disclosure matrix has no row for this sender, receiver and service.",
    Note.PURPOSE_NOT_IN_ROW: "None of the purposes of the token is a purpose of the row.",
    Note.AGE_NOT_IN_ROW: "The row is not for a person of this age, or her age was not said.",
    Note.NOT_SAID_YES: "The row needs a yes of the sender that was not given.",
    Note.HUMAN_ANSWERS: "A named person of the other party answers this by hand.",
    Note.CONSENT_NOT_NEEDED: "The legal basis needs no consent.",
    Note.GRANT_USED: "The survivor's consent allows it.",
    Note.GRANT_OTHER_RECEIVER: "A consent names another receiver.",
    Note.GRANT_OTHER_UNIT: "A consent names another unit of the receiver.",
    Note.GRANT_OTHER_SCOPE: "A consent is for something else.",
    Note.GRANT_WITHDRAWN: "A consent was withdrawn.",
    Note.GRANT_SUPERSEDED: "A consent was replaced by a newer version.",
    Note.GRANT_NOT_BEGUN: "A consent has not begun.",
    Note.GRANT_ENDED: "A consent has ended.",
    Note.GRANT_OTHER_PURPOSE: "A consent is for another purpose.",
    Note.RECEIVER_EXCLUDED: "The survivor excluded this receiver.",
    Note.NO_GRANT: "There is no consent that allows it.",
    Note.CLASS_NOT_IN_ROW: "Withheld: the row does not list this class.",
    Note.CLASS_NOT_GRANTED: "Withheld: the consent does not include this class.",
    Note.CLASS_DENIED_BY_CONSENT: "Withheld: the consent excludes this class here.",
    Note.CLASS_NEEDS_OWN_CONSENT: "Withheld: this class needs a consent of its own.",
    Note.CLASS_NOT_YET: "Withheld: this class goes later in the transfer.",
    Note.CLASS_NOT_FOR_SERVICE: "Withheld: none of the codes sent concerns this service.",
    Note.NOTHING_LEFT: "Nothing that was sent may go.",
}

_TOLD: Final[Mapping[Refusal, str]] = {
    Refusal.NO_CONSENT: "There is no consent on which this can be sent. Ask the person, record it, and send again.",
    Refusal.CONSENT_EXPIRED: "The consent you recorded has ended. Ask the person again if it still helps them.",
    Refusal.CONSENT_WITHDRAWN: "The consent was withdrawn. Nothing more can be sent on it.",
    Refusal.OUTSIDE_AGREEMENT: "No agreement and route lets you send this to that party.",
    Refusal.NOT_YOUR_REGION: "No agreement and route covers that party's region from yours.",
    Refusal.PURPOSE_MISMATCH: "None of the purposes of your token is one for which this may be sent.",
    Refusal.BASIS_OFF: "This legal basis is not available to you.",
    Refusal.CHARGES_NOT_LAID: "This service begins once charges are laid. Say that they are, if so.",
    Refusal.HUMAN_REVIEW_REQUIRED: "A named person of that party looks at this and answers by hand.",
    Refusal.MINIMUM_EXCEEDED: "Nothing of what you sent may go to that party for this service.",
}


def told(refusal: Refusal) -> str:
    """The one sentence a refused caller reads. The same for every person, real or not."""
    return _TOLD.get(refusal, "This is not allowed.")


def sentence(note: Note) -> str:
    """What a note stands for."""
    return _SENTENCES[note]


def explain(trace: Trace) -> tuple[str, ...]:
    """A trace in sentences, with the ids it is about; for a privacy officer, never for the other party."""
    return tuple(f"{_SENTENCES[s.note]} [{s.gate}{': ' + s.about if s.about else ''}]" for s in trace)
