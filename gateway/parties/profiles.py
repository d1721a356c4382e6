"""`consent_profiles/<region>.yaml`: agreements, the disclosure matrix, consent scopes, legal bases, clocks of one region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from gateway.identity import PartyId, StatusView
from gateway.parties.classes import ClassBook
from gateway.parties.codes import CodeBook
from gateway.parties.durations import day, duration
from gateway.parties.errors import Mistakes
from gateway.parties.model import Agreement, Basis, ClassRule, ClockRule, ConsentScope, MatrixRow, Verification
from gateway.parties.yaml_lines import Document, Place

__all__ = ["Profile", "compile_profile"]

_BUSINESS: Final = " business days"


@dataclass(frozen=True, slots=True)
class Profile:
    """One region's profile. `services` maps a service to the needs it may be told of; who owns it stands in the manifests."""

    document: Document
    region: str
    timezone: str
    mixed_units: frozenset[str]
    agreements: tuple[Agreement, ...]
    services: Mapping[str, frozenset[str]]
    scopes: Mapping[str, ConsentScope]
    bases: Mapping[str, Basis]
    rows: tuple[MatrixRow, ...]
    clocks: tuple[ClockRule, ...]


def compile_profile(document: Document, book: CodeBook, classes: ClassBook, mistakes: Mistakes) -> Profile:
    """Compile one profile; its shape has been checked, what it names in itself and in the mappings is checked here."""
    data: dict[str, Any] = document.data
    reader = _Reader(document, book, classes, mistakes)
    try:
        ZoneInfo(data["timezone"])
    except (KeyError, ValueError, OSError):
        reader.wrong(("timezone",), f"{data['timezone']!r} is not a time zone")
    for name in ("need-lists", "service-lists"):
        system = "need" if name == "need-lists" else "service"
        for key, codes in data[name].items():
            reader.all_known(system, codes, (name, key))
    return Profile(
        document=document,
        region=data["region"],
        timezone=data["timezone"],
        mixed_units=frozenset(data["mixed-units"]),
        agreements=tuple(reader.agreements()),
        services=reader.services(),
        scopes=reader.scopes(),
        bases=reader.bases(),
        rows=tuple(reader.rows()),
        clocks=tuple(reader.clocks()),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    document: Document
    book: CodeBook
    classes: ClassBook
    mistakes: Mistakes
    ids: dict[str, set[str]] = field(default_factory=dict)

    def wrong(self, place: Place, reason: str) -> None:
        self.mistakes.add(self.document.file, self.document.line(place), reason)

    def once(self, what: str, name: str, place: Place) -> None:
        seen = self.ids.setdefault(what, set())
        if name in seen:
            self.wrong(place, f"the {what} {name!r} is listed twice")
        seen.add(name)

    def all_known(self, system: str, codes: list[str], place: Place) -> frozenset[str]:
        for index, code in enumerate(codes):
            self.book.expect(system, code, self.document, (*place, index), self.mistakes)
        return frozenset(codes)

    def listed(self, kind: str, value: str | list[str], place: Place) -> frozenset[str]:
        """A list of codes, or the name of a list of the profile."""
        if isinstance(value, list):
            return self.all_known(kind, value, place)
        named = self.document.data[f"{kind}-lists"].get(value)
        if named is None:
            self.wrong(place, f"there is no {kind} list {value!r}")
        return frozenset(named or ())

    def agreements(self) -> list[Agreement]:
        result = []
        for index, item in enumerate(self.document.data["agreements"]):
            place: Place = ("agreements", index)
            self.once("agreement", item["id"], (*place, "id"))
            starts, ends = day(item["starts"]), day(item["ends"]) if "ends" in item else None
            if starts is None:
                self.wrong((*place, "starts"), "is not a day of the calendar")
            if "ends" in item and (ends is None or (starts is not None and ends <= starts)):
                self.wrong((*place, "ends"), "is not a day of the calendar after the start")
            parties = frozenset(PartyId(party) for party in item["parties"])
            result.append(Agreement(item["id"], parties, frozenset(item["regions"]), starts or 0, ends))
        return result

    def services(self) -> dict[str, frozenset[str]]:
        result = {}
        for name, item in self.document.data["services"].items():
            self.book.expect("service", name, self.document, ("services", name), self.mistakes)
            result[name] = self.listed("need", item["needs"], ("services", name, "needs"))
        return result

    def scopes(self) -> dict[str, ConsentScope]:
        result = {}
        for name, item in self.document.data["consent-scopes"].items():
            place: Place = ("consent-scopes", name)
            self.book.expect("consent-scope", name, self.document, place, self.mistakes)
            if ("asked-again" in item) != (item["lifetime"] == "until-withdrawn"):
                self.wrong(place, "a consent until withdrawn says when it is asked again, any other does not")
            result[name] = ConsentScope(
                id=name,
                purposes=self.all_known("purpose", item["purposes"], (*place, "purposes")),
                lifetime=None if item["lifetime"] == "until-withdrawn" else duration(item["lifetime"]),
                notices=self.all_known("notice", item["notices"], (*place, "notices")),
                self_recording_kinds=self.all_known("kind", item.get("self-recorded-by", []), (*place, "self-recorded-by")),
                names_unit=item.get("names-unit", False),
                asked_again=duration(item["asked-again"]) if "asked-again" in item else None,
            )
        return result

    def bases(self) -> dict[str, Basis]:
        result = {}
        for name, item in self.document.data["bases"].items():
            place: Place = ("bases", name)
            self.book.expect("basis", name, self.document, place, self.mistakes)
            kinds = self.all_known("kind", item["invoked-by"], (*place, "invoked-by"))
            verification = Verification(item["verification"])
            result[name] = Basis(name, item["authority"], item["needs-consent"], kinds, verification, item["enabled"])
        return result

    def rows(self) -> list[MatrixRow]:
        result = []
        for index, item in enumerate(self.document.data["rows"]):
            place: Place = ("rows", index)
            self.once("row", item["id"], (*place, "id"))
            for side in ("from", "to"):
                self.book.expect("kind", item[side], self.document, (*place, side), self.mistakes)
            purposes = self.all_known("purpose", item["purposes"], (*place, "purposes"))
            self.gate(item, purposes, place)
            for at, service in enumerate(item["services"]):
                if service not in self.document.data["services"]:
                    self.wrong((*place, "services", at), f"{service!r} is not a service of this profile")
            view = item.get("status-view")
            result.append(
                MatrixRow(
                    id=item["id"],
                    sender_kind=item["from"],
                    receiver_kind=item["to"],
                    basis=item["basis"],
                    scope=item.get("scope"),
                    services=frozenset(item["services"]),
                    classes=self.row_classes(item["classes"], (*place, "classes")),
                    purposes=purposes,
                    cross_region=item.get("cross-region", False),
                    status_view=StatusView(view) if view else None,
                    returns_decision=item.get("returns-decision", True),
                    region=self.document.data["region"],
                )
            )
        return result

    def gate(self, item: dict[str, Any], purposes: frozenset[str], place: Place) -> None:
        """A row's basis, scope and purposes fit each other."""
        basis = self.document.data["bases"].get(item["basis"])
        if basis is None:
            self.wrong((*place, "basis"), f"{item['basis']!r} is not a legal basis of this profile")
        else:
            if item["from"] not in basis["invoked-by"]:
                self.wrong((*place, "basis"), f"the kind {item['from']!r} cannot invoke {item['basis']!r}")
            if basis["needs-consent"] != ("scope" in item):
                self.wrong(place, "a row names a consent scope exactly when its basis needs consent")
        if "scope" in item:
            self.scope(item["scope"], purposes, (*place, "scope"))

    def scope(self, name: str, purposes: frozenset[str], place: Place) -> None:
        scope = self.document.data["consent-scopes"].get(name)
        if scope is None:
            self.wrong(place, f"{name!r} is not a consent scope of this profile")
        elif not purposes & frozenset(scope["purposes"]):
            self.wrong(place, f"no purpose of this row is a purpose of the consent scope {name!r}, so it could never permit")

    def row_classes(self, items: list[Any], place: Place) -> dict[str, ClassRule]:
        result: dict[str, ClassRule] = {}
        purposes = frozenset(self.document.data[place[0]][place[1]]["purposes"])
        for index, item in enumerate(items):
            at: Place = (*place, index)
            entry = {"class": item} if isinstance(item, str) else item
            members = self.classes.groups.get(entry["class"], frozenset({entry["class"]}))
            if len(entry) > 1 and entry["class"] in self.classes.groups:
                self.wrong(at, "a group cannot be limited: name the class")
            if "scope" in entry:
                self.scope(entry["scope"], purposes, (*at, "scope"))
            if "from" in entry:
                self.book.expect("business-status", entry["from"], self.document, (*at, "from"), self.mistakes)
            for name in sorted(members):
                if name in result:
                    self.wrong(at, f"the class {name!r} is listed twice in this row")
                if name not in self.classes.classes:
                    self.wrong(at, f"{name!r} is not a data class")
                    continue
                only = self.only(name, entry["only"], (*at, "only")) if "only" in entry else None
                result[name] = ClassRule(name, only, entry.get("scope"), entry.get("from"), self.classes.classes[name].live)
        return result

    def only(self, name: str, value: str | list[str], place: Place) -> frozenset[str]:
        """The codes of a class that may go: each must be one that the class can hold."""
        if isinstance(value, str):
            if name == "needs":
                return self.listed("need", value, place)
            self.wrong(place, "a named list holds needs: list the codes")
            return frozenset()
        possible: set[str] = set()
        for selector in self.classes.classes[name].selectors:
            possible |= selector.codes or frozenset()
        for index, code in enumerate(value):
            if code not in possible:
                self.wrong((*place, index), f"{code!r} is not a code that the class {name!r} can hold")
        return frozenset(value)

    def clocks(self) -> list[ClockRule]:
        result = []
        for index, item in enumerate(self.document.data["clocks"]):
            place: Place = ("clocks", index)
            self.once("clock", item["id"], (*place, "id"))
            self.book.expect("business-status", item["state"], self.document, (*place, "state"), self.mistakes)
            business = item["due"].endswith(_BUSINESS)
            services = self.listed("service", item["services"], (*place, "services")) if "services" in item else None
            result.append(
                ClockRule(
                    id=item["id"],
                    state=item["state"],
                    services=services,
                    priorities=frozenset(item["priorities"]) if "priorities" in item else None,
                    due=timedelta(days=int(item["due"].removesuffix(_BUSINESS))) if business else duration(item["due"]),
                    then=item["then"],
                    during=self.all_known("business-status", item.get("during", []), (*place, "during")) | {item["state"]},
                    stopped_by=self.all_known("task-output", item.get("stopped-by", []), (*place, "stopped-by")),
                    after_eta=duration(item["after-eta"]) if "after-eta" in item else None,
                    business_days=business,
                    region=self.document.data["region"],
                )
            )
        return result
