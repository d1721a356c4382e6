"""Reading single values out of JSON of which nothing is known: a time, a code, a reference. Nothing here raises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

import orjson

from gateway.vocabulary import EXT_EVIDENCE

__all__ = ["boundary", "codings", "evidence", "has_modifier", "items_of", "reference_of"]

_DATE: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?\Z")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})\Z")
_MEANT: Final = range(-2_208_988_800_000, 32_503_680_000_000)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def boundary(value: object, zone: tzinfo, *, end: bool = False) -> int | None:
    """The first, or for an end the last, millisecond that a FHIR date or dateTime covers; None when it is neither, or is not within
    the years 1900 to 2999: what lies beyond them is no time that a person meant, and near the ends of the calendar none can be reckoned."""
    found = _boundary(value, zone, end)
    return found if found is not None and found in _MEANT else None


def _boundary(value: object, zone: tzinfo, end: bool) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        if _INSTANT.match(value):
            return (datetime.fromisoformat(value) - _EPOCH) // _MILLISECOND
        parts = _DATE.match(value)
        if parts is None:
            return None
        year, month, day = (int(x) if x else None for x in parts.groups())
        first = datetime(year or 0, month or 1, day or 1, tzinfo=zone)
        if not end:
            return (first - _EPOCH) // _MILLISECOND
        if day:
            after = first + timedelta(days=1)
        else:
            after = first.replace(month=month % 12 + 1, year=first.year + month // 12) if month else first.replace(year=first.year + 1)
        return (after - _EPOCH) // _MILLISECOND - 1
    except (ValueError, OverflowError):
        return None


def evidence(consent: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    """The parts of the consent-evidence extension: name to coded values. Empty when there is none, or more than one."""
    found = [e for e in items_of(consent.get("extension")) if isinstance(e, dict) and e.get("url") == EXT_EVIDENCE]
    parts: dict[str, tuple[str, ...]] = {}
    if len(found) == 1:
        for part in items_of(found[0].get("extension")):
            value = _coded_value(part) if isinstance(part, dict) else None
            if value is not None and isinstance(part.get("url"), str):
                parts[part["url"]] = (*parts.get(part["url"], ()), value)
    return parts


def _coded_value(part: Mapping[str, Any]) -> str | None:
    for name in ("valueCode", "valueString", "valueId"):
        if isinstance(part.get(name), str):
            return str(part[name])
    coding = part.get("valueCoding")
    if coding is None and isinstance(part.get("valueCodeableConcept"), dict):
        coding = next(iter(items_of(part["valueCodeableConcept"].get("coding"))), None)
    if isinstance(coding, dict) and isinstance(coding.get("code"), str):
        return str(coding["code"])
    return None


def codings(concept: object, system: str) -> set[str]:
    """The codes of a CodeableConcept in one system."""
    if not isinstance(concept, dict):
        return set()
    return {
        c["code"]
        for c in items_of(concept.get("coding"))
        if isinstance(c, dict) and c.get("system") == system and isinstance(c.get("code"), str)
    }


def reference_of(value: object) -> str | None:
    if isinstance(value, dict) and isinstance(value.get("reference"), str) and value["reference"]:
        return str(value["reference"])
    return None


def items_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def has_modifier(consent: object) -> bool:
    """Whether a modifier extension stands anywhere, also inside data types and contained resources."""
    try:
        # in JSON text the name has its quotes on both sides only where it is a whole string, so most need no second look
        if b'"modifierExtension"' not in orjson.dumps(consent):
            return False
    except TypeError:
        pass  # not plain JSON: looked at piece by piece
    waiting: list[Any] = [consent]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "modifierExtension" in value:
                return True
            value = value.values()
        elif not isinstance(value, list):
            continue
        waiting += [inner for inner in value if isinstance(inner, (dict, list))]
    return False
