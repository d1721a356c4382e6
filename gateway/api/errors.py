"""The only place where a Problem becomes a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from starlette.responses import Response

from gateway.fhir.outcomes import outcome
from gateway.oauth.dpop import PROOF_ALGS
from gateway.problems import Challenge, Finding, IssueCode, Problem, ProblemType, Refusal

__all__ = ["FHIR_JSON", "STATUS", "answer", "unexpected"]

FHIR_JSON: Final = "application/fhir+json"

STATUS: Final[Mapping[ProblemType, int]] = {
    ProblemType.MALFORMED: 400,
    ProblemType.BAD_REQUEST: 400,
    ProblemType.UNAUTHENTICATED: 401,
    ProblemType.FORBIDDEN: 403,
    ProblemType.NOT_FOUND: 404,
    ProblemType.METHOD_NOT_ALLOWED: 405,
    ProblemType.NOT_ACCEPTABLE: 406,
    ProblemType.CONFLICT: 409,
    ProblemType.GONE: 410,
    ProblemType.PRECONDITION_FAILED: 412,
    ProblemType.TOO_LARGE: 413,
    ProblemType.UNSUPPORTED_MEDIA: 415,
    ProblemType.UNPROCESSABLE: 422,
    ProblemType.THROTTLED: 429,
    ProblemType.UNAVAILABLE: 503,
}

_ALGS: Final = f'algs="{" ".join(PROOF_ALGS)}"'
_CHALLENGES: Final[Mapping[Challenge, str]] = {
    Challenge.ABSENT: f"Bearer, DPoP {_ALGS}",
    Challenge.TOKEN: f'Bearer error="invalid_token", DPoP error="invalid_token", {_ALGS}',
    Challenge.PROOF: f'DPoP error="invalid_dpop_proof", {_ALGS}',
}
"""RFC 6750 section 3 and RFC 9449 section 7.1: one challenge for every failure of a token, without detail."""
_TOO_SMALL: Final = f'Bearer error="insufficient_scope", DPoP error="insufficient_scope", {_ALGS}'


def answer(problem: Problem, correlation: str) -> Response:
    """An OperationOutcome. The body of a 404 is always the same but for the correlation id."""
    headers = {"X-Correlation-ID": correlation, "Cache-Control": "no-store"}
    if problem.type is ProblemType.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = _CHALLENGES[problem.challenge]
    if problem.type is ProblemType.FORBIDDEN and any(f.refusal is Refusal.SCOPE_MISSING for f in problem.findings):
        headers["WWW-Authenticate"] = _TOO_SMALL
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    body = orjson.dumps(outcome(problem.findings, correlation_id=correlation))
    return Response(body, STATUS[problem.type], headers, FHIR_JSON)


def unexpected(correlation: str) -> Response:
    """500: a fixed sentence and the id to ask about."""
    finding = Finding(IssueCode.EXCEPTION, "Something went wrong in the hub. Nothing was done. Quote the correlation id.")
    body = orjson.dumps(outcome([finding], correlation_id=correlation))
    return Response(body, 500, {"X-Correlation-ID": correlation, "Cache-Control": "no-store"}, FHIR_JSON)
