"""The registry: OAuth clients and the addresses of partners' systems. Generated for development, real in production; holds no secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway.identity import ClientId, PartyId, ShelfId, StatusView, shelf_party
from gateway.oauth.outbound import UnusableKey, read_client_key
from gateway.parties.codes import CodeBook
from gateway.parties.errors import Mistakes
from gateway.parties.manifests import Member
from gateway.parties.model import Binding, Client, Endpoint, SmartAuth, Transport
from gateway.parties.yaml_lines import Document, Place

__all__ = ["Registry", "compile_registry"]


@dataclass(frozen=True, slots=True)
class Registry:
    """Who may call, and where news is sent."""

    clients: Mapping[ClientId, Client]
    endpoints: Mapping[ShelfId, Endpoint]


def compile_registry(document: Document, members: Mapping[PartyId, Member], book: CodeBook, mistakes: Mistakes) -> Registry:
    """Compile the registry against the manifests: one token names one shelf, and asks for no scope its role may not have."""
    compiler = _Compiler(document, members, book, mistakes)
    return Registry(compiler.clients(), compiler.endpoints())


@dataclass(frozen=True, slots=True)
class _Compiler:
    document: Document
    members: Mapping[PartyId, Member]
    book: CodeBook
    mistakes: Mistakes

    def wrong(self, place: Place, reason: str) -> None:
        self.mistakes.add(self.document.file, self.document.line(place), reason)

    def clients(self) -> dict[ClientId, Client]:
        result: dict[ClientId, Client] = {}
        for index, item in enumerate(self.document.data["clients"]):
            place: Place = ("clients", index)
            client_id = ClientId(item["client-id"])
            if client_id in result:
                self.wrong((*place, "client-id"), "this client id is registered twice")
            member = self.members.get(PartyId(item["party"]))
            if member is None:
                self.wrong((*place, "party"), "is not a party of this hub")
                continue
            self.client_shelf(item, member, place)
            self.client_company(item, member, place)
            self.client_scopes(item, member, place)
            if item["device-owner"] not in self.book.kinds:
                self.wrong((*place, "device-owner"), "must be the kind of party that owns the device")
            for at, purpose in enumerate(item["purposes"]):
                if purpose not in self.book.purposes:
                    self.wrong((*place, "purposes", at), "is not a purpose of use")
            url = item.get("jwks-url")
            if url is not None and not _sound(url):
                self.wrong((*place, "jwks-url"), "must be an absolute https address (http only to this machine)")
            keys = item.get("jwks")
            if keys is not None and len({key["kid"] for key in keys["keys"]}) != len(keys["keys"]):
                self.wrong((*place, "jwks"), "has two keys with one kid")
            result[client_id] = Client(
                id=client_id,
                party=member.party.id,
                unit=item.get("unit"),
                role=item["role"],
                device_owner=item["device-owner"],
                purposes=frozenset(item["purposes"]),
                scopes=frozenset(item["scopes"]),
                jwks_url=url,
                jwks=keys,
                binding=Binding(item.get("binding", Binding.NONE)),
                colocated=item.get("colocated"),
                manages_tokens=item.get("manages-tokens", False),
            )
        return result

    def client_shelf(self, item: dict[str, Any], member: Member, place: Place) -> None:
        party, unit = member.party, item.get("unit")
        if unit is not None and all(known.id != unit for known in party.units):
            self.wrong((*place, "unit"), "is not a unit of this party")
        elif party.shelf_of(unit) not in party.shelves:
            self.wrong(place, "must name a unit: this party has no shared shelf, and a token names exactly one shelf")

    def client_company(self, item: dict[str, Any], member: Member, place: Place) -> None:
        """R17: staff on a device, or in a room, of another kind of party that narrows the view read a shelf that has the minimal view."""
        party, named, owner = member.party, item.get("colocated"), item["device-owner"]
        if named is not None and named not in self.book.narrowing:
            self.wrong((*place, "colocated"), "is not a kind of party whose company narrows the view")
        shares = named is not None or (owner != party.kind and owner in self.book.narrowing)
        if shares and party.view_of(party.shelf_of(item.get("unit"))) is not StatusView.MINIMAL:
            where: Place = (*place, "colocated" if named is not None else "device-owner")
            self.wrong(where, "needs a unit with its own shelf that is marked colocated: a shelf is shown one way to all who read it (R17)")

    def client_scopes(self, item: dict[str, Any], member: Member, place: Place) -> None:
        kind = self.book.kinds.get(member.party.kind)
        allowed = kind.scopes_of.get(item["role"]) if kind else None
        if allowed is None:
            self.wrong((*place, "role"), "is not a role of this kind of party")
            return
        for index, scope in enumerate(item["scopes"]):
            if not scope.startswith("system/") and scope not in allowed:
                self.wrong((*place, "scopes", index), "is not an action scope that this role may have")

    def endpoints(self) -> dict[ShelfId, Endpoint]:
        result: dict[ShelfId, Endpoint] = {}
        for index, item in enumerate(self.document.data["endpoints"]):
            place: Place = ("endpoints", index)
            shelf = ShelfId(item["shelf"])
            member = self.members.get(shelf_party(shelf))
            if member is None or shelf not in member.party.shelves:
                self.wrong((*place, "shelf"), "is not a shelf of this hub")
                continue
            if shelf in result:
                self.wrong((*place, "shelf"), "has an endpoint already")
            if Transport(item["transport"]) is not member.manifest.transport:
                self.wrong((*place, "transport"), f"the manifest of this party says {member.manifest.transport}")
            if not _sound(item["address"]):
                self.wrong((*place, "address"), "must be an absolute https address (http only to this machine)")
            result[shelf] = Endpoint(
                shelf.replace("/", "."), shelf, Transport(item["transport"]), item["address"], self.authenticates(item.get("auth"), place)
            )
        return result

    def authenticates(self, item: dict[str, Any] | None, place: Place) -> SmartAuth | None:
        """How the hub shows an endpoint who it is. The key itself is never in the registry, only where it lies."""
        if item is None or item["kind"] == "hub-statement":
            return None
        if not _sound(item["token-url"]):
            self.wrong((*place, "auth", "token-url"), "must be an absolute https address (http only to this machine)")
        key_file = self.document.file.parent / item["key-file"]
        try:
            read_client_key(key_file)
        except UnusableKey as reason:
            self.wrong((*place, "auth", "key-file"), str(reason))
        return SmartAuth(item["token-url"], item["client-id"], item["scope"], str(key_file))


def _sound(url: str) -> bool:
    """Whether an address may be registered: https, or http on this machine only."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost")))
