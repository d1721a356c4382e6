"""No transfer waits unseen: in every state that it can stay in, a clock runs or a person has it (DOMAIN 5, R6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

from gateway.parties.errors import Mistakes
from gateway.parties.manifests import Member
from gateway.parties.model import ClockRule
from gateway.parties.profiles import Profile
from gateway.parties.terms import Terms

__all__ = ["watch"]

_PRIORITIES: Final = ("routine", "urgent", "asap", "stat")


def watch(profiles: Sequence[Profile], members: Sequence[Member], terms: Terms, states: frozenset[str], mistakes: Mistakes) -> None:
    """Note each state, for each service that a region's parties receive, in which nothing would remind anyone.

    Every business status counts, unless the terms list it as attended: one that nobody thought of is a mistake.
    """
    for profile in profiles:
        received = {
            route.service for member in members if member.party.region == profile.region for route in member.party.routes
        } & profile.services
        here = [clock for clock in terms.clocks if clock.id not in profile.replaced] + list(profile.clocks)
        for state in sorted(states - terms.attended):
            pairs = product(sorted(received), _PRIORITIES)
            missing = [(service, priority) for service, priority in pairs if not _runs(here, state, service, priority)]
            if missing:
                service, priority = missing[0]
                line = profile.document.line(("services", profile.document.data["services"].index(service)))
                say = f"a {priority} transfer for {service!r} would stay {state!r} with no clock running and nobody told"
                mistakes.add(profile.document.file, line, say)


def _runs(clocks: Sequence[ClockRule], state: str, service: str, priority: str) -> bool:
    return any(
        state in clock.during
        and (clock.services is None or service in clock.services)
        and (clock.priorities is None or priority in clock.priorities)
        for clock in clocks
    )
