"""What one partner's system holds: resources it received or wrote, the deliveries it has seen, the notices it was given.

The deliveries are also kept in a file, one line each, written before the hub gets its receipt: a system that is started again still
knows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway import vocabulary as v

__all__ = ["Arrival", "Records"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivery: its key, and what came with it (type, id, version)."""

    key: str
    parts: tuple[str, ...]


@dataclass(slots=True)
class Records:
    """The store of one system. Not more durable than a demo needs, but for the ledger of deliveries."""

    ledger: Path
    resources: dict[str, Json] = field(default_factory=dict)  # "Type/id" -> newest known
    seen: dict[str, Json] = field(default_factory=dict)  # "Type/id/version" -> every version that ever reached this system
    arrivals: list[Arrival] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    repeats: int = 0
    notices: int = 0

    @classmethod
    def open(cls, ledger: Path) -> Records:
        """Records with the deliveries that an earlier run of the system has taken."""
        records = cls(ledger)
        if ledger.exists():
            for line in ledger.read_bytes().splitlines():
                entry = orjson.loads(line)
                records.keys.add(entry["key"])
                records.arrivals.append(Arrival(entry["key"], tuple(entry["parts"])))
        return records

    def take(self, key: str, resources: Iterable[Json]) -> bool:
        """A delivery by push. False when it was taken before: then nothing changes."""
        if key in self.keys:
            self.repeats += 1
            return False
        held = list(resources)
        arrival = Arrival(key, tuple(_name(resource) for resource in held))
        with self.ledger.open("ab") as file:
            file.write(orjson.dumps({"key": key, "parts": arrival.parts}) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.keys.add(key)
        self.arrivals.append(arrival)
        for resource in held:
            self.keep(resource)
        return True

    def keep(self, resource: Json) -> None:
        """A resource as it was pushed, read, or answered to a write. An older version never replaces a newer one."""
        name = f"{resource['resourceType']}/{resource['id']}"
        self.seen[_name(resource)] = resource
        held = self.resources.get(name)
        if held is None or _version(held) <= _version(resource):
            self.resources[name] = resource

    def tasks(self) -> list[Json]:
        """The work list: each Task with what it asks for and how it stands."""
        rows = []
        for resource in self.resources.values():
            if resource["resourceType"] != "Task":
                continue
            request = self.resources.get(resource.get("focus", {}).get("reference", ""), {})
            rows.append(
                {
                    "id": resource["id"],
                    "version": resource.get("meta", {}).get("versionId"),
                    "service": _code(request.get("code"), v.SERVICE),
                    "status": _code(resource.get("businessStatus"), v.BUSINESS_STATUS),
                    "task-status": resource.get("status"),
                    "patient": resource.get("for", {}).get("reference", "").removeprefix("Patient/"),
                    "request": request.get("id"),
                    "output": sorted({_code(item.get("type"), v.TASK_OUTPUT) or "" for item in resource.get("output", ())}),
                }
            )
        return rows

    def newest(self) -> str | None:
        """The latest lastUpdated of what it holds: where the next reading of the shelf starts (`ge`, times being cut to the minute)."""
        times = [stamp for r in self.resources.values() if isinstance(stamp := r.get("meta", {}).get("lastUpdated"), str)]
        return max(times, default=None)


def _name(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}/{_version(resource)}"


def _version(resource: Json) -> int:
    return int(resource.get("meta", {}).get("versionId") or 0)


def _code(concept: Any, system: str) -> str | None:
    for coding in (concept or {}).get("coding", ()):
        if coding.get("system") == system:
            return str(coding.get("code"))
    return None
