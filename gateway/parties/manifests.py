"""`adapters/<folder>/manifest.yaml`: one coalition member each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.adapter_api import CONTRACT_VERSION, OLDEST_CONTRACT
from gateway.identity import PartyId, ShelfId, StatusView
from gateway.parties.codes import CodeBook
from gateway.parties.durations import duration
from gateway.parties.errors import Mistakes
from gateway.parties.model import Address, AddressKind, BackupStep, Manifest, Party, Route, Transport, Unit
from gateway.parties.yaml_lines import Document, Place

__all__ = ["Member", "compile_manifest", "manifest_files"]

_KINDS: Final = {"role": AddressKind.ROLE, "team": AddressKind.TEAM}
_FHIR_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Member:
    """A party, its adapter's part of the manifest, and the file both came from."""

    party: Party
    manifest: Manifest
    document: Document


def manifest_files(root: Path) -> list[Path]:
    """Every manifest, in the order of their folders."""
    return sorted((root / "adapters").glob("*/manifest.yaml"))


def compile_manifest(document: Document, book: CodeBook, mistakes: Mistakes) -> Member:
    """Compile one manifest; its shape has been checked, what it names in itself and in the code book is checked here."""
    return _Compiler(document, book, mistakes).member()


@dataclass(frozen=True, slots=True)
class _Compiler:
    document: Document
    book: CodeBook
    mistakes: Mistakes

    def wrong(self, place: Place, reason: str) -> None:
        self.mistakes.add(self.document.file, self.document.line(place), reason)

    def member(self) -> Member:
        data: dict[str, Any] = self.document.data
        party_id = PartyId(data["party"])
        self.book.expect("kind", data["kind"], self.document, ("kind",), self.mistakes)
        self.book.expect("organization-type", data["organization-type"], self.document, ("organization-type",), self.mistakes)
        if not OLDEST_CONTRACT <= data["contract"] <= CONTRACT_VERSION:
            self.wrong(("contract",), f"the adapter contract must be between {OLDEST_CONTRACT} and {CONTRACT_VERSION}")
        folder = self.document.file.parent
        module = data.get("module")
        if module is not None and not (folder / module).is_file():
            self.wrong(("module",), f"there is no file {module!r} beside this manifest")
        units = self.units(data["units"])
        shared = data.get("shared-shelf", True)
        if not shared and (not units or not all(unit.own_shelf for unit in units)):
            self.wrong(("shared-shelf",), "without a shared shelf there must be units, each with its own shelf")
        if data.get("colocated") is not None:
            self.narrowed(data["colocated"], ("colocated",))
            if StatusView(data["status-view"]) is not StatusView.MINIMAL:
                self.wrong(("status-view",), "a party that shares rooms or devices with others has the minimal view (R17)")
        for index, service in enumerate(data["owns"]):
            self.book.expect("service", service, self.document, ("owns", index), self.mistakes)
        party = Party(
            id=party_id,
            name=data["name"],
            kind=data["kind"],
            organization_type=data["organization-type"],
            region=data["region"],
            status_view=StatusView(data["status-view"]),
            units=units,
            shelves=(*((ShelfId(party_id),) if shared else ()), *(ShelfId(f"{party_id}/{u.id}") for u in units if u.own_shelf)),
            addresses=self.addresses(data["addresses"], party_id, units, shared),
            services=frozenset(data["owns"]),
            routes=self.routes(data),
            colocated=data.get("colocated"),
            notices=frozenset(data.get("notices", ())),
            age_line=data.get("age-line", 16),
            permission_services=frozenset(data.get("guardian-permission", {}).get("services", ())),
            permission_under=data.get("guardian-permission", {}).get("under", 0),
            preferred_with=frozenset(data.get("preferred-with", ())),
        )
        for index, notice in enumerate(data.get("notices", ())):
            self.book.expect("notice", notice, self.document, ("notices", index), self.mistakes)
        for index, service in enumerate(data.get("guardian-permission", {}).get("services", ())):
            self.book.expect("service", service, self.document, ("guardian-permission", "services", index), self.mistakes)
        for index, code in enumerate(data.get("preferred-with", ())):
            if not (self.book.known("consent-scope", code) or self.book.known("cultural", code)):
                self.wrong(("preferred-with", index), f"{code!r} is neither a consent scope nor a cultural need")
        self.coverage(party)
        manifest = Manifest(
            party=party_id,
            contract=data["contract"],
            folder=folder.name,
            module=module,
            transport=Transport(data["transport"]),
            consent_profile=data["consent-profile"],
            agreements=frozenset(data["agreements"]),
            capabilities=dict(data["capabilities"]),
            settings=tuple(data["settings"]),
            owners=tuple(data["owners"]),
        )
        if party.addresses and not manifest.owners:
            self.wrong(("owners",), "a party that has addresses says which of them answers for it")
        own = {address.id for address in party.addresses}
        for index, owner in enumerate(manifest.owners):
            if owner not in own:
                self.wrong(("owners", index), f"the owner {owner!r} is not an address of this party")
        return Member(party, manifest, self.document)

    def units(self, data: list[dict[str, Any]]) -> tuple[Unit, ...]:
        seen: set[str] = set()
        for index, unit in enumerate(data):
            if unit["id"] in seen:
                self.wrong(("units", index, "id"), f"the unit {unit['id']!r} is listed twice")
            seen.add(unit["id"])
            if unit.get("colocated") is not None:
                self.narrowed(unit["colocated"], ("units", index, "colocated"))
                if not unit["own-shelf"]:
                    self.wrong(("units", index, "own-shelf"), "a unit that shares a room with others needs its own shelf (R17)")
        return tuple(Unit(unit["id"], unit["name"], unit["own-shelf"], unit.get("colocated")) for unit in data)

    def narrowed(self, kind: str, place: Place) -> None:
        if kind not in self.book.narrowing:
            self.wrong(place, f"{kind!r} is not a kind of party whose company narrows the view (narrow-view in codes.yaml)")

    def addresses(self, data: list[dict[str, Any]], party: PartyId, units: tuple[Unit, ...], shared: bool) -> tuple[Address, ...]:
        own = {unit.id: unit.own_shelf for unit in units}
        shares = {unit.id: unit.colocated is not None for unit in units}
        kind = self.book.kinds.get(self.document.data["kind"])
        result = []
        for index, item in enumerate(data):
            place: Place = ("addresses", index)
            unit, role, services = item.get("unit"), item.get("role"), item["services"]
            if not item["id"].startswith(f"{party}.") or not _FHIR_ID.match(item["id"]):
                self.wrong((*place, "id"), f"an address of this party starts with '{party}.' and has at most 64 characters")
            if unit is not None and unit not in own:
                self.wrong((*place, "unit"), f"{unit!r} is not a unit of this party")
            if unit is not None and shares.get(unit):
                self.wrong((*place, "unit"), "work is not sent to a unit that shares a room with others (R17): address another queue")
            if unit is None and not shared:
                self.wrong(place, "an address needs a unit here, since the party has no shared shelf")
            if (item["kind"] == "role") != (role is not None):
                self.wrong(place, "a role address names its role, a team address none")
            if role is not None and kind is not None and role not in kind.scopes_of:
                self.wrong((*place, "role"), f"{role!r} is not a role of the kind {kind.id!r}")
            for at, service in enumerate(services):
                self.book.expect("service", service, self.document, (*place, "services", at), self.mistakes)
            shelf = ShelfId(f"{party}/{unit}") if unit is not None and own.get(unit) else ShelfId(party)
            result.append(
                Address(item["id"], _KINDS[item["kind"]], party, unit, shelf, item["name"], role, frozenset(services), item.get("phone"))
            )
        return tuple(result)

    def routes(self, data: dict[str, Any]) -> tuple[Route, ...]:
        result: dict[tuple[str, str | None], Route] = {}
        for index, item in enumerate(data["routes"]):
            line = item.get("line", data["line"])
            steps = tuple(BackupStep(step["address"], duration(step["after"])) for step in item["backups"])
            for at, service in enumerate(item["services"]):
                key = (service, item.get("unit"))
                if key in result:
                    self.wrong(("routes", index, "services", at), f"the service {service!r} has a route for this unit already")
                result[key] = Route(service, item.get("unit"), item["first"], steps, line["phone"], line["name"])
        return tuple(result.values())

    def coverage(self, party: Party) -> None:
        """R6: each route leads to addresses that can take it, with a backup and a line; each service a party owns has one."""
        known = {address.id: address for address in party.addresses}
        units = {unit.id for unit in party.units}
        for index, item in enumerate(self.document.data["routes"]):
            place: Place = ("routes", index)
            unit = item.get("unit")
            if unit is not None and unit not in units:
                self.wrong((*place, "unit"), f"{unit!r} is not a unit of this party")
            chain = [((*place, "first"), item["first"])]
            chain += [((*place, "backups", at, "address"), step["address"]) for at, step in enumerate(item["backups"])]
            seen: set[str] = set()
            for where, address_id in chain:
                address = known.get(address_id)
                if address is None:
                    self.wrong(where, f"{address_id!r} is not an address of this party")
                    continue
                if address_id in seen:
                    self.wrong(where, f"{address_id!r} stands in this route already: a backup is somebody else")
                seen.add(address_id)
                for service in item["services"]:
                    if service not in address.services:
                        self.wrong(where, f"{address_id!r} does not take {service!r}")
                if address.unit is not None and address.unit != unit:
                    self.wrong(where, f"{address_id!r} belongs to another unit than this route")
        routed = {(route.service, route.unit) for route in party.routes}
        for index, address in enumerate(party.addresses):
            for service in sorted(address.services):
                if (service, address.unit) not in routed and (service, None) not in routed:
                    self.wrong(("addresses", index), f"there is no route for {service!r} to this address, so no backup (R6)")
        for index, service in enumerate(self.document.data["owns"]):
            if all(route.service != service for route in party.routes):
                self.wrong(("owns", index), f"there is no route for {service!r}, which this party owns (R6)")
