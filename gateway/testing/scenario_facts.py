"""What resources say, as plain facts: (data class, value, service). Reads FHIR by itself, so that it can judge the code that made it.

Used twice: on what a party wrote, and on everything that a party's shelf and system hold. Who sees what is the comparison of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway import vocabulary as v
from gateway.testing.scenario import Cell, Row

__all__ = ["Fact", "Holdings", "Written", "cell_of", "facts_in"]

Json = Mapping[str, Any]

_INPUTS: Final = {"need": "needs"}  # Task.input code -> class, where they differ
_RETURNED: Final = frozenset({"status", "decision", "offer", "worker"})
"""What a receiver gives back: whoever wrote it owns it, rather than sent it."""
_SEARCHED: Final = frozenset({"meeting-place", "safe-contact", "text", "worker", "alias"})
"""Classes whose values are looked for as text, wherever they stand: a leak does not keep to the element it belongs in."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One value of one class; `service` of the referral it stands in, if it stands in one."""

    data_class: str
    value: str
    service: str | None = None


@dataclass(slots=True)
class Written:
    """What each named step wrote, and who wrote it."""

    facts: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)  # (name, class) -> value -> party

    def add(self, name: str, party: str, resources: Iterable[Json]) -> None:
        """Remember what a party sent under a step's name."""
        for fact in facts_in(resources):
            self.facts.setdefault((name, fact.data_class), {}).setdefault(fact.value, party)


@dataclass(frozen=True, slots=True)
class Holdings:
    """Everything one party can see: facts, and the text of all of it."""

    facts: frozenset[Fact]
    text: str

    @classmethod
    def of(cls, resources: Iterable[Json]) -> Holdings:
        """From every version of every resource on its shelf, and all that was pushed to it."""
        held = list(resources)
        return cls(frozenset(facts_in(held)), orjson.dumps(held).decode())

    def sees(self, data_class: str, value: str, service: str | None) -> bool:
        """Whether this party sees a value. A status counts only in a referral for that service."""
        if data_class == "status":
            return Fact(data_class, value, service) in self.facts
        if data_class in _SEARCHED and value in self.text:
            return True
        return any(fact.data_class == data_class and fact.value == value for fact in self.facts)


def cell_of(row: Row, party: str, holdings: Holdings, written: Written, services: Mapping[str, str]) -> Cell:
    """What a party sees of a row, by the same signs as a scenario's table. `services`: name of a transfer -> its service."""
    seen: set[str] = set()
    wanted: set[str] = set()
    theirs: list[bool] = []
    returned = True
    for name, data_class in row.of:
        for value, author in written.facts.get((name, data_class), {}).items():
            if row.only is not None and value not in row.only:
                continue
            wanted.add(value)
            theirs.append(author == party)
            returned = returned and data_class in _RETURNED
            if holdings.sees(data_class, value, services.get(name)):
                seen.add(value)
    if not wanted:
        return "nothing was written"
    if not seen:
        return "-"
    if seen != wanted:
        return frozenset(seen)
    if all(theirs):
        return "o" if returned else "own"
    return "y"


def facts_in(resources: Iterable[Json]) -> list[Fact]:
    """All facts that resources state."""
    held = list(resources)
    services = {
        f"ServiceRequest/{r['id']}": _code(r.get("code"), v.SERVICE) for r in held if r["resourceType"] == "ServiceRequest" and "id" in r
    }
    found: list[Fact] = []
    for resource in held:
        match resource["resourceType"]:
            case "Patient":
                found += _person(resource)
            case "ServiceRequest":
                service = _code(resource.get("code"), v.SERVICE)
                found += [Fact("reason", code, service) for item in resource.get("reasonCode", ()) for code in _codes(item)]
            case "Task":
                found += _task(resource, services.get(resource.get("focus", {}).get("reference", "")))
            case "Communication" if not resource.get("category"):
                found += [Fact("text", item["contentString"]) for item in resource.get("payload", ()) if "contentString" in item]
    return found


def _person(resource: Json) -> list[Fact]:
    found = [
        Fact("alias" if name.get("use") in ("anonymous", "nickname") else "legal-name", given)
        for name in resource.get("name", ())
        for given in (*name.get("given", ()), *([name["family"]] if "family" in name else ()))
    ]
    found += [Fact("age-band", e["valueCode"]) for e in resource.get("extension", ()) if e.get("url") == v.EXT_AGE_BAND]
    found += [Fact("language", code) for item in resource.get("communication", ()) for code in _codes(item.get("language"))]
    found += [Fact("safe-contact", point["value"]) for point in resource.get("telecom", ()) if "value" in point]
    return found


def _task(resource: Json, service: str | None) -> list[Fact]:
    found: list[Fact] = []
    for item in resource.get("input", ()):
        kind = _code(item.get("type"), v.TASK_INPUT) or "unknown"
        found += [Fact(_INPUTS.get(kind, kind), value, service) for value in _values(item)]
    for item in resource.get("output", ()):
        kind = _code(item.get("type"), v.TASK_OUTPUT) or "unknown"
        found += [Fact(kind, value, service) for value in _values(item)]
    found += [Fact("status", code, service) for code in _codes(resource.get("businessStatus"))]
    found += [Fact("worker", e["valueString"], service) for e in resource.get("extension", ()) if e.get("url") == v.EXT_ACTING_WORKER]
    return found


def _values(item: Json) -> list[str]:
    """The value[x] of an input or output as text."""
    for name, value in item.items():
        if name == "valueCodeableConcept":
            return _codes(value)
        if name.startswith("value") and not isinstance(value, dict):
            return [str(value).lower() if isinstance(value, bool) else str(value)]
    return []


def _codes(concept: Any) -> list[str]:
    return [coding["code"] for coding in (concept or {}).get("coding", ()) if "code" in coding]


def _code(concept: Any, system: str) -> str | None:
    return next((str(c["code"]) for c in (concept or {}).get("coding", ()) if c.get("system") == system), None)
