"""What no file can get wrong alone: profiles and manifests against each other."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from gateway.identity import PartyId
from gateway.parties.codes import CodeBook
from gateway.parties.errors import Mistakes
from gateway.parties.manifests import Member
from gateway.parties.profiles import Profile
from gateway.parties.terms import Terms
from gateway.parties.watching import watch
from gateway.parties.yaml_lines import Document, Place

__all__ = ["check"]


def check(
    profiles: Sequence[Profile], members: Sequence[Member], terms: Terms, book: CodeBook, joining: Collection[str], mistakes: Mistakes
) -> None:
    """Note every disagreement between the terms, the profiles and the manifests.

    `joining` are agreements with regions that are not served: a manifest may name them, and nothing rests on them here.
    """
    _unique(profiles, members, mistakes)
    _roles(profiles, book, mistakes)
    _membership(profiles, members, mistakes)
    _agreements(profiles, members, joining, mistakes)
    _services(profiles, members, mistakes)
    _rows(profiles, members, mistakes)
    watch(profiles, members, terms, book.codes["business-status"], mistakes)


def _wrong(mistakes: Mistakes, document: Document, place: Place, reason: str) -> None:
    mistakes.add(document.file, document.line(place), reason)


def _named_after(mixed: frozenset[str], name: str) -> bool:
    """Whether a party, unit, address or role is one of the mixed units in all but spelling (R17)."""
    return bool(mixed.intersection(re.split(r"[-._/]", name.casefold())))


def _called(mixed: frozenset[str], name: str) -> bool:
    """Whether a name for people holds one, in capitals as such units are written, so that child care is not meant."""
    return name.casefold() in mixed or not frozenset(re.findall(r"\w+", name)).isdisjoint({each.upper() for each in mixed})


def _roles(profiles: Sequence[Profile], book: CodeBook, mistakes: Mistakes) -> None:
    for profile in profiles:
        for index, mixed in enumerate(profile.document.data["mixed-units"]):
            roles = sorted({role for kind in book.kinds.values() for role in kind.scopes_of if _named_after(frozenset((mixed,)), role)})
            if roles:
                _wrong(mistakes, profile.document, ("mixed-units", index), f"the role {roles[0]!r} is named after this mixed unit (R17)")


def _unique(profiles: Sequence[Profile], members: Sequence[Member], mistakes: Mistakes) -> None:
    parties: set[str] = set()
    addresses: dict[str, str] = {}
    mixed = frozenset(name for profile in profiles for name in profile.mixed_units)
    for member in members:
        party, document = member.party, member.document
        if party.id in parties:
            _wrong(mistakes, document, ("party",), f"the party {party.id!r} has a manifest already")
        parties.add(party.id)
        if _named_after(mixed, party.id) or _called(mixed, party.name):
            _wrong(mistakes, document, ("party",), f"{party.id!r} is a mixed unit: its member organisations are the parties (R17)")
        for index, unit in enumerate(party.units):
            if _named_after(mixed, unit.id) or _called(mixed, unit.name):
                say = f"{unit.id!r} is named after a mixed unit, whose members belong to their own organisations (R17)"
                _wrong(mistakes, document, ("units", index, "id"), say)
        for index, address in enumerate(party.addresses):
            place: Place = ("addresses", index, "id")
            if address.id in addresses:
                _wrong(mistakes, document, place, f"the address {address.id!r} belongs to {addresses[address.id]!r} already")
            addresses[address.id] = party.id
            if _named_after(mixed, address.id):
                _wrong(mistakes, document, place, f"{address.id!r} is named after a mixed unit, which is never an address (R17)")
    for what in ("agreement", "row", "clock", "region"):
        seen: set[str] = set()
        for profile in profiles:
            lists = {
                "agreement": [("agreements", each.id) for each in profile.agreements],
                "row": [("rows", each.id) for each in profile.rows],
                "clock": [("clocks", each.id) for each in profile.clocks],
                "region": [("region", profile.region)],
            }
            for section, name in lists[what]:
                if name in seen and len(profiles) > 1:
                    _wrong(mistakes, profile.document, (section,), f"the {what} {name!r} is in another profile already")
            seen |= {name for _, name in lists[what]}


def _membership(profiles: Sequence[Profile], members: Sequence[Member], mistakes: Mistakes) -> None:
    by_name = {profile.document.file.stem: profile for profile in profiles}
    regions = {profile.region for profile in profiles}
    for member in members:
        if member.manifest.consent_profile not in by_name:
            _wrong(mistakes, member.document, ("consent-profile",), f"there is no consent profile {member.manifest.consent_profile!r}")
        if member.party.region not in regions:
            _wrong(mistakes, member.document, ("region",), f"no consent profile is for the region {member.party.region!r}")


def _agreements(profiles: Sequence[Profile], members: Sequence[Member], joining: Collection[str], mistakes: Mistakes) -> None:
    known = {member.party.id: member for member in members}
    regions = {profile.region for profile in profiles}
    parties_of: dict[str, frozenset[PartyId]] = {}
    for profile in profiles:
        places = {item["id"]: index for index, item in enumerate(profile.document.data["agreements"])}
        for agreement in profile.agreements:
            index = places[agreement.id]
            place: Place = ("agreements", index)
            parties_of[agreement.id] = agreement.parties
            for region in sorted(agreement.regions - regions):
                _wrong(mistakes, profile.document, (*place, "regions"), f"no consent profile is for the region {region!r}")
            for at, party in enumerate(profile.document.data["agreements"][index]["parties"]):
                where: Place = (*place, "parties", at)
                if party in profile.mixed_units:
                    _wrong(mistakes, profile.document, where, f"{party!r} is a mixed unit: its member organisations are the parties (R17)")
                elif party not in known:
                    _wrong(mistakes, profile.document, where, f"the agreement names {party!r}, which has no manifest")
                elif agreement.id not in known[PartyId(party)].manifest.agreements:
                    _wrong(mistakes, profile.document, where, f"the manifest of {party!r} does not name this agreement")
    for member in members:
        for index, name in enumerate(member.document.data["agreements"]):
            if name in joining and name not in parties_of:
                continue
            if name not in parties_of:
                _wrong(mistakes, member.document, ("agreements", index), f"there is no agreement {name!r}")
            elif member.party.id not in parties_of[name]:
                _wrong(mistakes, member.document, ("agreements", index), f"the agreement {name!r} does not name this party")


def _services(profiles: Sequence[Profile], members: Sequence[Member], mistakes: Mistakes) -> None:
    owned = frozenset(service for member in members for service in member.party.services)
    offered = frozenset(service for profile in profiles for service in profile.services)
    for profile in profiles:
        here = {service for member in members if member.party.region == profile.region for service in member.party.services}
        abroad = {service for row in profile.rows if row.cross_region for service in row.services} & owned
        for index, name in enumerate(profile.document.data["services"]):
            if name not in here | abroad:
                _wrong(mistakes, profile.document, ("services", index), f"the service {name!r} has no owner, so none could offer it (R11)")
    for member in members:
        for index, service in enumerate(member.document.data["owns"]):
            if service not in offered:
                _wrong(mistakes, member.document, ("owns", index), f"{service!r} is not a service of any consent profile")
        for index, address in enumerate(member.party.addresses):
            for service in sorted(address.services - offered):
                _wrong(mistakes, member.document, ("addresses", index), f"{service!r} is not a service of any consent profile")


def _rows(profiles: Sequence[Profile], members: Sequence[Member], mistakes: Mistakes) -> None:
    """A row leads somewhere: for each of its services a party of the kind it names has a route, with a backup and a line."""
    for profile in profiles:
        for index, row in enumerate(profile.document.data["rows"]):
            if row.get("cross-region", False):
                continue
            of_kind = [each.party for each in members if each.party.region == profile.region and each.party.kind == row["to"]]
            taken = {route.service for party in of_kind for route in party.routes}
            for at, service in enumerate(row["services"]):
                if service not in taken:
                    say = f"no party of the kind {row['to']!r} takes {service!r} here"
                    _wrong(mistakes, profile.document, ("rows", index, "services", at), say)
