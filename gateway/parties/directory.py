"""The directory: organizations, roles, teams and endpoints as FHIR resources, built from configuration. Holds no person.

A party reads the entries of the parties that an agreement in force joins it with, and its own. An Endpoint's address is for its
own party alone: everybody else reaches a party through the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from gateway import vocabulary as v
from gateway.identity import PartyId, shelf_party
from gateway.parties.model import Address, AddressKind, Endpoint, Party, Policy, Transport
from gateway.parties.search import matches, parse

__all__ = ["DIRECTORY_TYPES", "Directory", "Entries", "directory_for"]

Json = dict[str, Any]
Entries = Mapping[tuple[str, str], Json]
"""(type, id) -> resource. Shared between requests: never changed by a reader."""

DIRECTORY_TYPES: Final = ("Endpoint", "HealthcareService", "Organization", "PractitionerRole")
_ADDRESS: Final = v.BASE + "NamingSystem/address"
_CONNECTION: Final = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
_PAYLOAD: Final = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"


@dataclass(slots=True)
class Directory:
    """The directory of one policy. What a party sees is put together once for each set of parties in agreement with it."""

    _public: Mapping[PartyId, Entries]
    _own: Mapping[PartyId, Entries]
    _agreements: tuple[tuple[frozenset[PartyId], int, int | None], ...]
    _seen: dict[tuple[PartyId, frozenset[PartyId]], Entries] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy) -> Directory:
        """Build every resource."""
        public = {party.id: _entries(_party_resources(party, policy)) for party in policy.parties.values()}
        own = {
            party.id: _entries(_endpoint(e, party) for e in policy.endpoints.values() if shelf_party(e.shelf) == party.id)
            for party in policy.parties.values()
        }
        return cls(public, own, tuple((a.parties, a.starts, a.ends) for a in policy.agreements))

    def entries(self, party: PartyId, at: int) -> Entries:
        """What `party` may read at the instant `at` (milliseconds). Nothing for a party that is not one."""
        if party not in self._public:
            return MappingProxyType({})
        seen = {party}
        for parties, starts, ends in self._agreements:
            if party in parties and starts <= at and (ends is None or at < ends):
                seen |= parties
        key = (party, frozenset(seen))
        if key not in self._seen:
            merged: dict[tuple[str, str], Json] = {}
            for each in sorted(key[1]):
                merged.update(self._public.get(each, {}))
            self._seen[key] = MappingProxyType({**merged, **self._own[party]})
        return self._seen[key]

    def knows(self, party: PartyId, type_: str, id_: str, at: int) -> bool:
        """Whether a reference of `party` to the directory names something that it may read."""
        return (type_, id_) in self.entries(party, at)

    def read(self, party: PartyId, type_: str, id_: str, at: int) -> Json | None:
        """One resource, or None: what may not be read is what does not exist."""
        return self.entries(party, at).get((type_, id_))

    def search(self, party: PartyId, type_: str, params: Iterable[tuple[str, str]], at: int) -> list[Json]:
        """The resources of a type that fit all parameters, by id. Raises Problem (BAD_REQUEST) for a parameter not in `SEARCH`."""
        wanted = parse(type_, params)
        found = [r for (kind, _), r in self.entries(party, at).items() if kind == type_ and matches(r, wanted)]
        return sorted(found, key=lambda r: str(r["id"]))


def directory_for(policy: Policy, party: PartyId, at: int) -> Entries:
    """What `party` may read, for a single use; keep a `Directory` for many."""
    return Directory.of(policy).entries(party, at)


def _entries(resources: Iterable[Json]) -> Entries:
    return MappingProxyType({(str(r["resourceType"]), str(r["id"])): r for r in resources})


def _coding(system: str, code: str, display: str | None) -> Json:
    return {"system": system, "code": code, **({"display": display} if display else {})}


def _phone(number: str) -> list[Json]:
    return [{"system": "phone", "value": number, "use": "work"}]


def _party_resources(party: Party, policy: Policy) -> Iterable[Json]:
    shown = policy.displays
    organization: Json = {
        "resourceType": "Organization",
        "id": party.id,
        "identifier": [{"system": v.PARTY, "value": party.id}],
        "active": True,
        "type": [
            {
                "coding": [
                    _coding(v.ORGANIZATION_TYPE, party.organization_type, shown.get("organization-type", {}).get(party.organization_type)),
                    _coding(v.CODE_SYSTEM + "kind", party.kind, None),
                ]
            }
        ],
        "name": party.name,
    }
    lines = dict.fromkeys(route.last_resort_line for route in party.routes)
    if lines:
        organization["telecom"] = [item for line in lines for item in _phone(line)]
    yield organization
    for address in party.addresses:
        yield _role(address, party, shown) if address.kind is AddressKind.ROLE else _team(address, party, shown)


def _services(address: Address, shown: Mapping[str, Mapping[str, str]]) -> list[Json]:
    names = shown.get("service", {})
    return [{"coding": [_coding(v.SERVICE, service, names.get(service))]} for service in sorted(address.services)]


def _role(address: Address, party: Party, shown: Mapping[str, Mapping[str, str]]) -> Json:
    role = address.role or ""
    resource: Json = {
        "resourceType": "PractitionerRole",
        "id": address.id,
        "identifier": [{"system": _ADDRESS, "value": address.id}],
        "active": True,
        "organization": {"reference": f"Organization/{party.id}"},
        "code": [{"coding": [_coding(v.ROLE, role, shown.get("role", {}).get(role))], "text": address.name}],
    }
    if address.services:
        resource["specialty"] = _services(address, shown)
    if address.phone:
        resource["telecom"] = _phone(address.phone)
    return resource


def _team(address: Address, party: Party, shown: Mapping[str, Mapping[str, str]]) -> Json:
    resource: Json = {
        "resourceType": "HealthcareService",
        "id": address.id,
        "identifier": [{"system": _ADDRESS, "value": address.id}],
        "active": True,
        "providedBy": {"reference": f"Organization/{party.id}"},
        "category": [{"coding": [_coding(v.CODE_SYSTEM + "kind", party.kind, None)]}],
        "name": address.name,
    }
    if address.services:
        resource["type"] = _services(address, shown)
    if address.phone:
        resource["telecom"] = _phone(address.phone)
    return resource


def _endpoint(endpoint: Endpoint, party: Party) -> Json:
    push = endpoint.transport is Transport.FHIR_PUSH
    kind = _coding(_CONNECTION, "hl7-fhir-rest", None) if push else _coding(v.CODE_SYSTEM + "transport", endpoint.transport.value, None)
    return {
        "resourceType": "Endpoint",
        "id": endpoint.id,
        "status": "active",
        "connectionType": kind,
        "managingOrganization": {"reference": f"Organization/{party.id}"},
        "payloadType": [{"coding": [_coding(_PAYLOAD, "any" if push else "none", None)]}],
        "address": endpoint.address,
    }
