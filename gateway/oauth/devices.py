"""The device rule (R18): which roles may not work from a device that a given kind of owner controls. The pairs are data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.identity import Caller
from gateway.problems import Finding, IssueCode, Refusal

__all__ = ["DeviceRule"]


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """`refusals` gives those of the policy in force: device owner -> the roles refused on such a device. What is not listed is allowed."""

    refusals: Callable[[], Mapping[str, frozenset[str]]]

    def problem(self, caller: Caller) -> Finding | None:
        """Why this caller may not act from its device, or None. Asked after the scope check, so that the order of refusals holds."""
        if caller.role not in self.refusals().get(caller.device_owner, frozenset()):
            return None
        return Finding(
            IssueCode.FORBIDDEN,
            "This role may not work from a device of this owner. Sign in from a device of your own organization.",
            refusal=Refusal.DEVICE_NOT_ALLOWED,
        )
