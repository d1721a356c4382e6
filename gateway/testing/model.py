"""A small model of transfers and consent, to hold the hub against: what each side is shown after any sequence of acts.

It is written from the rules (DOMAIN R5, R6, R15) and shares nothing with the hub: no table of moves, no decision, no storage. It knows no
party; a `Referral` has a sender, whose view is minimal or full, and a receiver. Whatever it does not say it does not promise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Given", "Person", "Referral"]

_OPEN: Final = frozenset({"offered", "acknowledged", "backup-offered", "line-given"})
_DECLINED: Final = frozenset({"declined-no-capacity", "declined-not-eligible", "declined-out-of-area", "redirect-suggested"})
_MET: Final = frozenset({"accepted", "en-route", "introduced"})
_HELD: Final = frozenset({"paused-by-survivor", "unreachable", "unsafe-to-contact"})
_AFTER: Final = {
    "acknowledged": frozenset({"offered", "backup-offered"}),
    "accepted": _OPEN | _DECLINED | _HELD,
    "en-route": frozenset({"accepted"}),
    "introduced": frozenset({"accepted", "en-route"}),
    "handed-over": frozenset({"introduced"}),
    "stopped-by-survivor": _OPEN | _MET | _HELD,
    **dict.fromkeys(_DECLINED, _OPEN),
}


@dataclass
class Given:
    """One thing that she allowed: a scope, for a receiver, until a time."""

    scope: str
    receiver: str
    ends: int
    taken_back: bool = False

    def holds(self, at: int) -> bool:
        """Whether it permits anything now."""
        return not self.taken_back and at <= self.ends


@dataclass
class Referral:
    """One transfer, from outside."""

    receiver: str
    scope: str
    minimal: bool
    until: int = 0
    state: str = "offered"
    ending: str | None = None
    accepted: bool = False
    met: bool = False
    recalled: bool = False
    dealt_with: bool = False

    @property
    def over(self) -> bool:
        return self.ending is not None or self.state == "handed-over"

    @property
    def shut(self) -> bool:
        """The receiver holds closed shells: it had not met her when the sharing ended."""
        return self.recalled and not self.met

    def readable(self, at: int) -> bool:
        """A copy that nobody has accepted is readable no longer than the consent; the shell that is left of one is."""
        return self.accepted or self.recalled or at <= self.until

    def may(self, target: str) -> bool:
        """Whether its receiver may say this now."""
        if self.ending is not None or (self.recalled and self.state == "handed-over"):
            return target in ("acknowledged", "closed")
        if target in _HELD:
            return self.state in (_MET | _HELD) - {target}
        return self.state in _AFTER.get(target, frozenset())

    def says(self, target: str) -> None:
        """Its receiver has said it."""
        if self.ending is not None or (self.recalled and self.state == "handed-over"):
            if target == "closed":
                self.dealt_with = True
            elif self.state in ("offered", "backup-offered"):
                self.state = "acknowledged"
            return
        if target == "stopped-by-survivor":
            self.ends(target, dealt_with=True)
            return
        self.state = target
        self.accepted |= target == "accepted"
        self.met |= target == "introduced"

    def ends(self, ending: str, *, dealt_with: bool = False) -> None:
        """Nothing flows any more."""
        if not self.over:
            self.ending = ending
            self.dealt_with = dealt_with
        self.recalled = True

    def is_left_alone(self) -> None:
        """Its deadlines have all run out, with nobody accepting."""
        if self.state in _OPEN:
            self.state = "line-given"

    def may_stop(self) -> bool:
        """Whether its sender may say that she stops."""
        return self.sender_sees() not in ("taken-over", "closed", "handed-over")

    def receiver_sees(self) -> str:
        """The real state."""
        return self.ending or self.state

    def sender_sees(self) -> str:
        """R5: with the minimal view three words, the last of them final; else all but why it is held or closed."""
        if not self.minimal:
            state = self.ending or self.state
            return "on-hold" if state in _HELD else "closed" if state in ("stopped-by-survivor", "consent-withdrawn") else state
        if self.accepted or (self.ending is not None and self.dealt_with):
            return "taken-over"
        if self.state in _DECLINED | {"line-given", "expired"}:
            return "not-taken"
        return "acknowledged" if self.state == "acknowledged" else "offered"


@dataclass
class Person:
    """Everything about one person: what she allowed, and her transfers."""

    given: list[Given] = field(default_factory=list)
    referrals: list[Referral] = field(default_factory=list)

    def allows(self, scope: str, receiver: str, at: int) -> bool:
        """Whether a new transfer may start."""
        return any(g.scope == scope and g.receiver == receiver and g.holds(at) for g in self.given)

    def takes_back(self, scope: str | None = None, receiver: str | None = None) -> Counter[str]:
        """R15: what she names, from everybody; how many transfers that ended, met and unmet."""
        counts: Counter[str] = Counter()
        for given in self.given:
            if not given.taken_back and scope in (None, given.scope) and receiver in (None, given.receiver):
                given.taken_back = True
                for referral in self._resting(given):
                    counts["met" if referral.met else "unmet"] += 1
                    referral.ends("consent-withdrawn")
        return counts

    def _resting(self, given: Given) -> Iterable[Referral]:
        return [r for r in self.referrals if not r.recalled and (r.scope, r.receiver) == (given.scope, given.receiver)]
