"""Expand a value set of a required binding to the codes that it allows.

R4 binds with strength `required` only elements of type `code` in the types the hub supports (the build fails if that changes), so a
set of codes is enough: the system is implied by the element.
"""

from __future__ import annotations

from typing import Any

from .sources import Sources

__all__ = ["Unexpandable", "expand"]


class Unexpandable(Exception):
    """The definitions do not hold the codes; the message says which system is missing."""


def expand(sources: Sources, url: str) -> frozenset[str]:
    """All codes of the value set named by `url` (its version suffix is ignored: one release is read)."""
    value_set = sources.value_sets.get(url.split("|")[0])
    if value_set is None:
        raise Unexpandable(f"value set {url} is not in the definitions")
    compose = value_set["compose"]
    if "exclude" in compose:
        raise Unexpandable(f"value set {url} excludes codes, which this script does not handle")
    codes: set[str] = set()
    for part in compose["include"]:
        codes |= _include(sources, part)
    return frozenset(codes)


def _include(sources: Sources, part: dict[str, Any]) -> set[str]:
    if "filter" in part:
        raise Unexpandable("a filter over a code system is not handled")
    if "system" not in part:
        sets = [set(expand(sources, other)) for other in part["valueSet"]]
        return set.intersection(*sets)
    if "concept" in part:
        return {concept["code"] for concept in part["concept"]}
    system = sources.code_systems.get(part["system"])
    if system is None:
        raise Unexpandable(f"code system {part['system']} is not in the definitions (kept outside HL7)")
    if system["content"] != "complete":
        raise Unexpandable(f"code system {part['system']} is given as {system['content']}")
    codes: set[str] = set()
    _concepts(system.get("concept", []), codes)
    return codes


def _concepts(concepts: list[dict[str, Any]], into: set[str]) -> None:
    for concept in concepts:
        into.add(concept["code"])
        _concepts(concept.get("concept", []), into)
