"""What an age band means for the duty to report (R16). Pure; the bands and where they begin are data, the age line is a party's own."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from gateway.parties.model import Policy, SelectorKind

__all__ = ["Standing", "standing_of"]

_LABEL = "ADOL"
"""v3-ActCode: a band that brings this label is that of a minor, or may be."""


class Standing(StrEnum):
    """What a party that knows of a person of some age band has to do."""

    MANDATORY = "mandatory"  # report: nobody decides about it, and no consent blocks it
    PERMISSIVE = "permissive"  # a named human decides
    UNKNOWN = "unknown"  # find out; meanwhile a named human decides


def standing_of(policy: Policy, band: str | None, age_line: int) -> Standing | None:
    """The standing of a band under a party's age line; None for an adult, or where nothing is said."""
    minor, begins = _bands(policy)
    if band is None or band not in minor:
        return None
    if band not in begins:
        return Standing.UNKNOWN
    ends = min((start for start in begins.values() if start > begins[band]), default=None)
    return Standing.MANDATORY if ends is not None and ends <= age_line else Standing.PERMISSIVE


def _bands(policy: Policy) -> tuple[frozenset[str], Mapping[str, int]]:
    """The bands of minors, and the age at which each known band begins: from the class that holds the band."""
    for data_class in policy.classes.values():
        for selector in data_class.selectors:
            if selector.kind is SelectorKind.AGE:
                return data_class.sensitivity_of.get(_LABEL, frozenset()), selector.ages
    return frozenset(), {}
