"""Scopes: what a client may ask for, what it is given, and what a route may check (SMART App Launch 2, "Scopes for requesting FHIR data").

A call needs two scopes: a SMART v2 *system scope* for the FHIR interaction (``system/Task.rs``) and an *action scope* for the business
act (``transfer.offer``). Only system scopes exist here: ``patient/`` and ``user/`` scopes, launch contexts and scopes narrowed by
search parameters (``?param=value``) are not advertised and never granted. No wildcard is granted: it is expanded to the registered list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final

__all__ = ["ActionScope", "Interaction", "allows", "grant", "has_action", "registration_problems"]


class ActionScope(StrEnum):
    """The business acts a client may be registered for."""

    TRANSFER_OFFER = "transfer.offer"
    TRANSFER_ACCEPT = "transfer.accept"
    TRANSFER_READ = "transfer.read"  # the own shelf only
    TRANSFER_READ_OWN = "transfer.read-own"  # the narrower view of what one sent oneself
    CONSENT_RECORD = "consent.record"
    CONSENT_RECORD_OUTWARD = "consent.record-outward"
    CONSENT_WITHDRAW = "consent.withdraw"
    MESSAGE_SEND = "message.send"
    REPORT_SEND = "report.send"
    REPORT_RECEIVE = "report.receive"
    REPORT_ACKNOWLEDGE = "report.acknowledge"
    OFFER_WRITE = "offer.write"
    DECISION_WRITE = "decision.write"
    EMERGENCY_REQUEST = "emergency.request"
    EMERGENCY_REVIEW = "emergency.review"
    CDS_CALL = "cds.call"
    DIRECTORY_READ = "directory.read"
    OWN_REFER = "own.refer"
    OWN_READ = "own.read"
    OWN_WITHDRAW = "own.withdraw"
    OWN_STOP = "own.stop"
    OWN_DISCLOSURES = "own.disclosures"
    AUDIT_READ_OWN_PARTY = "audit.read-own-party"
    STATS_READ = "stats.read"


class Interaction(StrEnum):
    """A FHIR interaction; the value is its letter in a v2 scope ("c r u d s", SMART App Launch 2 table of permissions)."""

    CREATE = "c"
    READ = "r"  # read, vread and the history of one resource
    UPDATE = "u"  # update and patch
    DELETE = "d"
    SEARCH = "s"  # search, and the history of a type or of the system


_LETTERS: Final = "cruds"
_BITS: Final = {letter: 1 << position for position, letter in enumerate(_LETTERS)}
_INTERACTION_BITS: Final = {interaction: _BITS[interaction.value] for interaction in Interaction}
_V1: Final = {"read": "rs", "write": "cud", "*": "cruds"}  # SMART App Launch 2, "Scopes for SMART 1.0 compatibility"
_SYSTEM: Final = re.compile(r"system/(\*|[A-Z][A-Za-z]{0,63})\.(read|write|\*|(?=[cruds])c?r?u?d?s?)")
_ACTIONS: Final = frozenset(action.value for action in ActionScope)


def grant(asked: str, registered: Iterable[str]) -> frozenset[str]:
    """What a request for `asked` (RFC 6749 section 3.3) gets: asked and registered, wildcards expanded, in v2 spelling.

    Letters of one resource type are merged and cut to the registered ones, so that ``system/Task.cruds`` yields what is registered of it.
    What is not understood or not registered is left out; an empty answer means ``invalid_scope``.
    """
    allowed = frozenset(registered)
    have = _letters(allowed)
    want: dict[str, int] = {}
    granted: set[str] = set()
    for token in asked.split(" "):
        if token in _ACTIONS:
            if token in allowed:
                granted.add(token)
            continue
        match = _SYSTEM.fullmatch(token)
        if match is None:
            continue
        types = have if match[1] == "*" else (match[1],)
        for resource_type in types:
            want[resource_type] = want.get(resource_type, 0) | _mask(match[2])
    for resource_type, mask in want.items():
        if both := mask & have.get(resource_type, 0):
            granted.add(f"system/{resource_type}.{_spell(both)}")
    return frozenset(granted)


def allows(scopes: frozenset[str], interaction: Interaction, resource_type: str) -> bool:
    """Whether granted `scopes` permit this FHIR interaction on this resource type."""
    return bool(_letters(scopes).get(resource_type, 0) & _INTERACTION_BITS[interaction])


def has_action(scopes: frozenset[str], action: ActionScope) -> bool:
    """Whether granted `scopes` permit this business act."""
    return action.value in scopes


def registration_problems(scopes: Iterable[str]) -> tuple[str, ...]:
    """Why a list of scopes may not be registered, one sentence each; empty when it may. For the configuration check at start.

    The sentences name the scope: it comes from the operator's own file, not from a request.
    """
    problems = []
    for scope in scopes:
        match = _SYSTEM.fullmatch(scope)
        if match is not None and match[1] == "*":
            problems.append(f"{scope}: a wildcard can be asked for, but each resource type must be registered by name")
        elif match is None and scope not in _ACTIONS:
            problems.append(f"{scope}: neither an action scope nor a system scope such as system/Task.rs")
    return tuple(problems)


@lru_cache(maxsize=4096)
def _letters(scopes: frozenset[str]) -> Mapping[str, int]:
    """Resource type -> letters, of concrete system scopes. A registered wildcard counts for nothing."""
    found: dict[str, int] = {}
    for scope in scopes:
        match = _SYSTEM.fullmatch(scope)
        if match is not None and match[1] != "*":
            found[match[1]] = found.get(match[1], 0) | _mask(match[2])
    return MappingProxyType(found)


def _mask(letters: str) -> int:
    return sum(_BITS[letter] for letter in _V1.get(letters, letters))


def _spell(mask: int) -> str:
    return "".join(letter for letter in _LETTERS if mask & _BITS[letter])
