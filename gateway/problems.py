"""What can go wrong, in the hub's own words; no HTTP and no FHIR wire format in here.

One exception carries every refusal, and `gateway.api.errors` is the only place that turns it into a response::

    Problem                     what a caller is told
      .type: ProblemType        the family, which decides the status line
      .findings: Finding...     which element, what to do about it, and (for a domain refusal) which one

Inside a transaction a refusal is a *returned value* until it is committed with its audit entry; only then is it raised.
No field of a Problem ever holds a value from the input: `expression` is a path, `say` is a sentence fixed in the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.audit.explanation import Explanation

__all__ = ["FINDINGS_LIMIT", "Challenge", "Finding", "IssueCode", "Problem", "ProblemType", "Refusal"]

FINDINGS_LIMIT: Final = 20
"""At most this many findings are reported for one request."""


class IssueCode(StrEnum):
    """The FHIR IssueType codes the hub uses (R4 `issue-type`, required binding)."""

    INVALID = "invalid"
    STRUCTURE = "structure"
    REQUIRED = "required"
    VALUE = "value"
    INVARIANT = "invariant"
    SECURITY = "security"
    LOGIN = "login"
    EXPIRED = "expired"
    FORBIDDEN = "forbidden"
    NOT_SUPPORTED = "not-supported"
    DUPLICATE = "duplicate"
    NOT_FOUND = "not-found"
    TOO_LONG = "too-long"
    CODE_INVALID = "code-invalid"
    EXTENSION = "extension"
    TOO_COSTLY = "too-costly"
    BUSINESS_RULE = "business-rule"
    CONFLICT = "conflict"
    TRANSIENT = "transient"
    THROTTLED = "throttled"
    EXCEPTION = "exception"
    INFORMATIONAL = "informational"


class Refusal(StrEnum):
    """The domain refusals, in the order of the published table; the wire code system is `refusal`."""

    NO_CONSENT = "no-consent"
    CONSENT_EXPIRED = "consent-expired"
    CONSENT_WITHDRAWN = "consent-withdrawn"
    OUTSIDE_AGREEMENT = "outside-agreement"
    NOT_YOUR_REGION = "not-your-region"
    SCOPE_MISSING = "scope-missing"
    NOT_OWNER_OF_OFFER = "not-owner-of-offer"
    FORBIDDEN_ELEMENT = "forbidden-element"
    NARRATIVE_NOT_ALLOWED = "narrative-not-allowed"
    MINIMUM_EXCEEDED = "minimum-exceeded"
    NAME_OR_TITLE_IN_MESSAGE = "name-or-title-in-message"
    UNSAFE_CHANNEL = "unsafe-channel"
    CONDITIONAL_SUPPORT = "conditional-support"
    MIXED_UNIT_ADDRESS = "mixed-unit-address"
    DEVICE_NOT_ALLOWED = "device-not-allowed"
    SELF_SERVING_CONSENT = "self-serving-consent"
    BULK_QUERY_REFUSED = "bulk-query-refused"
    HUMAN_REVIEW_REQUIRED = "human-review-required"
    CHARGES_NOT_LAID = "charges-not-laid"
    NOTICE_MISSING = "notice-missing"
    MESSAGE_NOT_ALLOWED = "message-not-allowed"
    REPORT_MANDATORY = "report-mandatory"
    UNKNOWN_CODE = "unknown-code"
    GIVER_NOT_VALID = "giver-not-valid"
    PURPOSE_MISMATCH = "purpose-mismatch"
    BASIS_OFF = "basis-off"
    ILLEGAL_MOVE = "illegal-move"
    DUPLICATE = "duplicate"


class ProblemType(StrEnum):
    """The family of a problem. `gateway.api.errors` maps each to one status."""

    MALFORMED = "malformed"  # not JSON, duplicate keys, too deep: 400
    BAD_REQUEST = "bad-request"  # an unknown parameter, a header that can't be read: 400
    UNAUTHENTICATED = "unauthenticated"  # 401
    FORBIDDEN = "forbidden"  # 403
    NOT_FOUND = "not-found"  # 404, always the same body
    METHOD_NOT_ALLOWED = "method-not-allowed"  # 405
    NOT_ACCEPTABLE = "not-acceptable"  # 406
    CONFLICT = "conflict"  # 409
    GONE = "gone"  # 410
    PRECONDITION_FAILED = "precondition-failed"  # 412
    TOO_LARGE = "too-large"  # 413
    UNSUPPORTED_MEDIA = "unsupported-media"  # 415
    UNPROCESSABLE = "unprocessable"  # 422: FHIR rules and domain rules about shape
    THROTTLED = "throttled"  # 429
    UNAVAILABLE = "unavailable"  # 503: nothing happened, try again


class Challenge(StrEnum):
    """What an unauthenticated caller is asked for (RFC 6750 section 3, RFC 9449 section 7.1). Never says what was wrong with a token."""

    ABSENT = "absent"  # no token was sent
    TOKEN = "token"
    PROOF = "proof"  # the DPoP proof does not count


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `expression` is a FHIRPath element path such as ``Bundle.entry[2].resource.status`` (array indexes and names from
    FHIR definitions only; an unknown member is named by its parent). `say` tells the caller what to do.
    """

    code: IssueCode
    say: str
    expression: str | None = None
    refusal: Refusal | None = None


class Problem(Exception):
    """A request refused. Never holds, and never prints, a value from the request."""

    def __init__(
        self,
        type: ProblemType,
        *findings: Finding,
        retry_after: int | None = None,
        grounds: tuple[tuple[str, str], ...] = (),
        challenge: Challenge = Challenge.TOKEN,
        why: Explanation | None = None,
    ) -> None:
        """`grounds`: codes and configuration ids on which it was decided, for the audit log alone, as is `why`; never for the caller."""
        super().__init__(type.value)
        self.type = type
        self.findings = findings[:FINDINGS_LIMIT]
        self.retry_after = retry_after
        self.grounds = grounds
        self.challenge = challenge
        self.why = why

    def also(self, finding: Finding) -> Problem:
        """The same problem with one more thing to say, which is never cut off."""
        kept = self.findings[: FINDINGS_LIMIT - 1]
        more: dict[str, Any] = {"retry_after": self.retry_after, "grounds": self.grounds, "challenge": self.challenge, "why": self.why}
        return Problem(self.type, *kept, finding, **more)

    def __str__(self) -> str:
        return f"{self.type}: " + "; ".join(f"{f.code} at {f.expression or '-'}" for f in self.findings)
