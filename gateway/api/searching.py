"""Search parameters of a caller's own shelf, read into `Criteria`; what is not listed is refused, never ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from gateway.clock import millis
from gateway.fhir.capability import SearchParam, SearchParamType
from gateway.identity import Caller, StatusView
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.shelves.shelf import Criteria

__all__ = ["COUNT_LIMIT", "PERSON", "SEARCHABLE", "Asked", "check_caller", "read_search"]

COUNT_LIMIT: Final = 100
_DEFAULT_COUNT: Final = 20
_VALUES_LIMIT: Final = 50
_MANY: Final = frozenset({"_lastUpdated", "_format"})
_MINIMAL: Final[Mapping[str, frozenset[str]]] = {
    "Task": frozenset({"_id", "identifier", "status", "_lastUpdated", "_count", "_offset", "_sort"}),
    "ServiceRequest": frozenset({"_id", "identifier", "status", "_lastUpdated", "_count", "_offset", "_sort"}),
}
"""What a party with the minimal view may search on its shelf; anything else is outside its scope."""

PERSON: Final = "Patient"
Asked = tuple[Criteria, int, int]


def _tokens(value: str) -> list[str]:
    return [part.rpartition("|")[2] for part in value.split(",")]


def _references(value: str) -> list[str]:
    return [part.rpartition("/")[2] for part in value.split(",")]


_Reader = Callable[[Criteria, str], Criteria]


def _identifier(criteria: Criteria, value: str) -> Criteria:
    pairs = []
    for part in value.split(","):
        system, bar, number = part.rpartition("|")
        pairs.append((system if bar else "", number))
    return replace(criteria, identifiers=criteria.identifiers + tuple(pairs))


def _updated(criteria: Criteria, value: str) -> Criteria:
    prefix, rest = (value[:2], value[2:]) if value[:2] in ("ge", "gt", "le", "lt") else ("", value)
    if not prefix:
        raise ValueError("prefix")
    at = datetime.fromisoformat(rest)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return replace(criteria, updated=(*criteria.updated, (prefix, millis(at))))


_READERS: Final[Mapping[str, tuple[SearchParamType, _Reader]]] = {
    "_id": (SearchParamType.TOKEN, lambda c, v: replace(c, ids=c.ids + tuple(_tokens(v)))),
    "_lastUpdated": (SearchParamType.DATE, _updated),
    "identifier": (SearchParamType.TOKEN, _identifier),
    "status": (SearchParamType.TOKEN, lambda c, v: replace(c, statuses=c.statuses + tuple(_tokens(v)))),
    "business-status": (SearchParamType.TOKEN, lambda c, v: replace(c, businesses=c.businesses + tuple(_tokens(v)))),
    "owner": (SearchParamType.REFERENCE, lambda c, v: replace(c, owners=c.owners + tuple(_references(v)))),
    "patient": (SearchParamType.REFERENCE, lambda c, v: replace(c, patients=c.patients + tuple(_references(v)))),
    "subject": (SearchParamType.REFERENCE, lambda c, v: replace(c, patients=c.patients + tuple(_references(v)))),
    "focus": (SearchParamType.REFERENCE, lambda c, v: replace(c, targets=c.targets + tuple(_references(v)))),
}

_BY_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "Patient": ("_id", "_lastUpdated", "identifier"),
    "Consent": ("_id", "_lastUpdated", "status", "patient"),
    "ServiceRequest": ("_id", "_lastUpdated", "identifier", "status", "patient", "subject"),
    "Task": ("_id", "_lastUpdated", "identifier", "status", "business-status", "owner", "patient", "focus"),
    "Communication": ("_id", "_lastUpdated", "status", "patient", "subject"),
    "Provenance": ("_id", "_lastUpdated"),
}

SEARCHABLE: Final[Mapping[str, tuple[SearchParam, ...]]] = {
    type_: tuple(SearchParam(name, _READERS[name][0]) for name in names) for type_, names in _BY_TYPE.items()
}
"""What the capability statement says can be searched, from the same table that the reader uses."""


def read_search(type_: str, params: Iterable[tuple[str, str]]) -> Asked:
    """(criteria, count, offset). Raises Problem(BAD_REQUEST) naming the parameter when it is not known, given twice or can't be read.

    Two values of one parameter in R4 mean both (search.html#combining); no element searched here holds more than one, so it is refused.
    """
    criteria, count, offset = Criteria(), _DEFAULT_COUNT, 0
    allowed = _BY_TYPE[type_]
    seen: set[str] = set()
    for name, value in params:
        try:
            if (name in seen and name not in _MANY) or value.count(",") >= _VALUES_LIMIT or "\x00" in value:
                raise ValueError(name)
            seen.add(name)
            if name == "_count":
                count = max(0, min(COUNT_LIMIT, int(value)))
            elif name == "_offset":
                offset = max(0, min(1_000_000, int(value)))
            elif name == "_sort" and value in ("_lastUpdated", "-_lastUpdated"):
                criteria = replace(criteria, newest_first=value.startswith("-"))
            elif name == "_format" and "json" in value:
                continue
            elif name in allowed:
                criteria = _READERS[name][1](criteria, value)
            else:
                raise _bad("This search parameter is not supported for this type. The capability statement lists those that are.", None)
        except ValueError:
            raise _bad("This search parameter's value can't be read.", name if name in _READERS or name.startswith("_") else None) from None
    return criteria, count, offset


def check_caller(caller: Caller, type_: str, params: Iterable[tuple[str, str]], *, can_search: bool) -> None:
    """Bulk first, then what a minimal view may search. The same for every value, real or made up. Raises Problem(FORBIDDEN)."""
    given = [(name, value) for name, value in params if not (name.startswith("_") and name not in ("_id", "_lastUpdated"))]
    if type_ == PERSON and not _narrows(given):
        say = "People can't be listed. Name one person by an id or identifier that you hold."
        raise Problem(ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, say, refusal=Refusal.BULK_QUERY_REFUSED))
    minimal = caller.status_view is StatusView.MINIMAL
    if not can_search or (minimal and (type_ not in _MINIMAL or any(name not in _MINIMAL[type_] for name, _ in params))):
        raise Problem(
            ProblemType.FORBIDDEN, Finding(IssueCode.FORBIDDEN, "Your client has no scope for this.", refusal=Refusal.SCOPE_MISSING)
        )


def _narrows(given: list[tuple[str, str]]) -> bool:
    named = [value for name, value in given if name in ("_id", "identifier", "name", "given", "family")]
    return bool(named) and not any("," in value or "*" in value or not value for value in named)


def _bad(say: str, name: str | None) -> Problem:
    return Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.NOT_SUPPORTED, say, f"http.{name}" if name else None))
