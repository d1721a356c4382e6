"""Which parties take a party's reports, found from the matrix, the agreements and what each kind may do. Pure."""

from __future__ import annotations

from gateway.decision.agreement import NotJoined, find_agreement
from gateway.decision.plan import index_of
from gateway.oauth.scopes import ActionScope
from gateway.parties.model import Party, Policy

__all__ = ["reports_to", "societies"]


def societies(policy: Policy, sender: Party, at: int, chosen: frozenset[str] = frozenset()) -> list[Party]:
    """The parties that take this party's reports, those named by what she chose first."""
    found = [
        party
        for party in policy.parties.values()
        if reports_to(policy, party) and not isinstance(find_agreement(index_of(policy).agreements, sender, party, at), NotJoined)
    ]
    return sorted(found, key=lambda party: (not party.preferred_with & chosen, party.id))


def reports_to(policy: Policy, party: Party) -> frozenset[str]:
    """The services by which a party takes reports: it may receive them, and a row to it needs no consent."""
    kind = policy.kinds.get(party.kind)
    if kind is None or not any(ActionScope.REPORT_RECEIVE in scopes for scopes in kind.scopes_of.values()):
        return frozenset()
    reported = {
        service
        for row in policy.rows
        if row.receiver_kind == party.kind and row.basis in policy.bases and not policy.bases[row.basis].needs_consent
        for service in row.services
    }
    return frozenset(route.service for route in party.routes) & reported
