"""`mappings/codes.yaml`: the code systems, and what each kind of party may register."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.parties.errors import Mistakes
from gateway.parties.model import Kind
from gateway.parties.yaml_lines import Document, Place
from gateway.vocabulary import CODE_SYSTEM

__all__ = ["CodeBook", "compile_codes"]


@dataclass(frozen=True, slots=True)
class CodeBook:
    """Every code that may occur, for the other files to be checked against."""

    codes: Mapping[str, frozenset[str]]
    displays: Mapping[str, Mapping[str, str]]
    urls: Mapping[str, str]
    purposes: Mapping[str, str]
    kinds: Mapping[str, Kind]
    device_refusals: Mapping[str, frozenset[str]]
    narrowing: frozenset[str]  # kinds: whoever shares a room or device with them gets the minimal view (R17)

    def known(self, system: str, code: str) -> bool:
        """Whether a code belongs to a system named in `mappings/codes.yaml`."""
        return code in self.codes.get(system, frozenset())

    def expect(self, system: str, code: str, document: Document, place: Place, mistakes: Mistakes) -> None:
        """Note a code that its system does not have."""
        if not self.known(system, code):
            mistakes.add(document.file, document.line(place), f"{code!r} is not a {system}")


def compile_codes(document: Document, mistakes: Mistakes) -> CodeBook:
    """Compile the code book; its shape has been checked."""
    systems: dict[str, Any] = document.data["systems"]
    codes = {name: frozenset(system["codes"]) for name, system in systems.items()}
    urls = {name: system.get("url", CODE_SYSTEM + name) for name, system in systems.items()}
    purposes: dict[str, str] = {}
    for name, system in systems.items():
        if not system.get("purpose"):
            continue
        for code in system["codes"]:
            if code in purposes:
                mistakes.add(document.file, document.key_line(("systems", name, "codes", code)), f"{code!r} is a purpose of two systems")
            purposes[code] = urls[name]
    kinds, refusals = _kinds(document, codes.get("role", frozenset()), mistakes)
    codes = {**codes, "kind": frozenset(kinds), "purpose": frozenset(purposes)}
    displays = {name: dict(system["codes"]) for name, system in systems.items()}
    narrowing = document.data["kinds"]["narrow-view"]
    for index, kind in enumerate(narrowing):
        if kind not in kinds:
            mistakes.add(document.file, document.line(("kinds", "narrow-view", index)), f"{kind!r} is not a kind")
    return CodeBook(codes, displays, urls, purposes, kinds, refusals, frozenset(narrowing))


def _kinds(document: Document, roles: frozenset[str], mistakes: Mistakes) -> tuple[dict[str, Kind], dict[str, frozenset[str]]]:
    data = document.data["kinds"]
    kinds: dict[str, Kind] = {}
    refused: dict[str, set[str]] = {}
    for role in data["by-role"]:
        if role not in roles:
            mistakes.add(document.file, document.key_line(("kinds", "by-role", role)), f"{role!r} is not a role")
    for name, kind in data["by-kind"].items():
        place: Place = ("kinds", "by-kind", name)
        usual = frozenset(kind["scopes"]) | (frozenset(data["common"]) if kind["person-data"] else frozenset())
        for index, role in enumerate(kind["roles"]):
            if role not in roles:
                mistakes.add(document.file, document.line((*place, "roles", index)), f"{role!r} is not a role")
        kinds[name] = Kind(
            id=name,
            scopes_of={role: frozenset(data["by-role"][role]) if role in data["by-role"] else usual for role in kind["roles"]},
        )
        for owner, barred in kind.get("refused-on", {}).items():
            if owner not in data["by-kind"]:
                mistakes.add(document.file, document.key_line((*place, "refused-on", owner)), f"{owner!r} is not a kind")
            for index, role in enumerate(barred):
                if role not in kind["roles"]:
                    mistakes.add(document.file, document.line((*place, "refused-on", owner, index)), f"{role!r} is not a role of this kind")
                refused.setdefault(owner, set()).add(role)
    return kinds, {owner: frozenset(barred) for owner, barred in refused.items()}
