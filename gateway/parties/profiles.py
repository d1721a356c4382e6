"""`consent_profiles/<region>.yaml`: one region's agreements, services, disclosure matrix and own deadlines, in the common terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from gateway.identity import PartyId, StatusView
from gateway.parties.classes import ClassBook
from gateway.parties.codes import CodeBook
from gateway.parties.durations import day, duration
from gateway.parties.errors import Mistakes
from gateway.parties.model import Agreement, ClassRule, ClockRule, MatrixRow, SelectorKind
from gateway.parties.terms import Reader, Terms, compile_clock
from gateway.parties.yaml_lines import Document, Place

__all__ = ["Profile", "compile_profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One region's profile. `replaced` maps a deadline of the common terms to the one that holds here instead."""

    document: Document
    region: str
    timezone: str
    mixed_units: frozenset[str]
    agreements: tuple[Agreement, ...]
    services: frozenset[str]
    rows: tuple[MatrixRow, ...]
    clocks: tuple[ClockRule, ...]
    replaced: Mapping[str, str]


def compile_profile(document: Document, book: CodeBook, classes: ClassBook, terms: Terms, mistakes: Mistakes) -> Profile:
    """Compile one profile; its shape has been checked, what it names in itself, the terms and the mappings is checked here."""
    data: dict[str, Any] = document.data
    compiler = _Compiler(document, Reader(document, book, mistakes), book, classes, terms)
    try:
        ZoneInfo(data["timezone"])
    except (KeyError, ValueError, OSError):
        compiler.reader.wrong(("timezone",), f"{data['timezone']!r} is not a time zone")
    for index, service in enumerate(data["services"]):
        if service not in terms.services:
            compiler.reader.wrong(("services", index), f"{service!r} is not a service of the common terms")
    clocks, replaced = compiler.clocks()
    return Profile(
        document=document,
        region=data["region"],
        timezone=data["timezone"],
        mixed_units=frozenset(data["mixed-units"]),
        agreements=tuple(compiler.agreements()),
        services=frozenset(data["services"]),
        rows=tuple(compiler.rows()),
        clocks=tuple(clocks),
        replaced=replaced,
    )


@dataclass(frozen=True, slots=True)
class _Compiler:
    document: Document
    reader: Reader
    book: CodeBook
    classes: ClassBook
    terms: Terms

    def wrong(self, place: Place, reason: str) -> None:
        self.reader.wrong(place, reason)

    def agreements(self) -> list[Agreement]:
        result = []
        for index, item in enumerate(self.document.data["agreements"]):
            place: Place = ("agreements", index)
            self.reader.once("agreement", item["id"], (*place, "id"))
            starts, ends = day(item["starts"]), day(item["ends"]) if "ends" in item else None
            if starts is None:
                self.wrong((*place, "starts"), "is not a day of the calendar")
            if "ends" in item and (ends is None or (starts is not None and ends <= starts)):
                self.wrong((*place, "ends"), "is not a day of the calendar after the start")
            parties = frozenset(PartyId(party) for party in item["parties"])
            result.append(Agreement(item["id"], parties, frozenset(item["regions"]), starts or 0, ends))
        return result

    def rows(self) -> list[MatrixRow]:
        """A row for several kinds of sender is one row for each."""
        result = []
        for index, item in enumerate(self.document.data["rows"]):
            place: Place = ("rows", index)
            self.reader.once("row", item["id"], (*place, "id"))
            senders = item["from"] if isinstance(item["from"], list) else [item["from"]]
            self.reader.all_known("kind", senders, (*place, "from"))
            self.book.expect("kind", item["to"], self.document, (*place, "to"), self.reader.mistakes)
            purposes = self.reader.all_known("purpose", item["purposes"], (*place, "purposes"))
            self.gate(item, senders, purposes, place)
            for at, service in enumerate(item["services"]):
                if service not in self.document.data["services"]:
                    self.wrong((*place, "services", at), f"{service!r} is not a service of this profile")
            view = item.get("status-view")
            bands = self.reader.all_known("age-band", item["age-bands"], (*place, "age-bands")) if "age-bands" in item else None
            rules = self.row_classes(item["classes"], purposes, (*place, "classes"))
            result += [
                MatrixRow(
                    id=item["id"],
                    sender_kind=sender,
                    receiver_kind=item["to"],
                    basis=item["basis"],
                    scope=item.get("scope"),
                    services=frozenset(item["services"]),
                    classes=rules,
                    purposes=purposes,
                    cross_region=item.get("cross-region", False),
                    status_view=StatusView(view) if view else None,
                    returns_decision=item.get("returns-decision", True),
                    region=self.document.data["region"],
                    age_bands=bands,
                    requires_yes=self.yes_or_no(item.get("requires-yes", []), rules, (*place, "requires-yes")),
                    without_labels=frozenset(item.get("without-labels", ())),
                    obligations=tuple(item.get("obligations", ())),
                    life=duration(item["life"]) if "life" in item else None,
                    human_review=item.get("human-review", False),
                )
                for sender in senders
            ]
        return result

    def gate(self, item: dict[str, Any], senders: list[str], purposes: frozenset[str], place: Place) -> None:
        """A row's basis, scope and purposes fit each other."""
        basis = self.terms.bases.get(item["basis"])
        if basis is None:
            self.wrong((*place, "basis"), f"{item['basis']!r} is not a legal basis of the common terms")
        else:
            for sender in senders:
                if sender not in basis.invoked_by:
                    self.wrong((*place, "basis"), f"the kind {sender!r} cannot invoke {item['basis']!r}")
            if basis.needs_consent != ("scope" in item):
                self.wrong(place, "a row names a consent scope exactly when its basis needs consent")
        if "scope" in item:
            self.scope(item["scope"], purposes, (*place, "scope"))
        if item.get("human-review") and item["classes"]:
            self.wrong((*place, "classes"), "nothing goes by a row that waits for a named human")

    def scope(self, name: str, purposes: frozenset[str], place: Place) -> None:
        scope = self.terms.scopes.get(name)
        if scope is None:
            self.wrong(place, f"{name!r} is not a consent scope of the common terms")
        elif not purposes & scope.purposes:
            self.wrong(place, f"no purpose of this row is a purpose of the consent scope {name!r}, so it could never permit")

    def yes_or_no(self, names: list[str], rules: Mapping[str, ClassRule], place: Place) -> frozenset[str]:
        for index, name in enumerate(names):
            selectors = self.classes.classes[name].selectors if name in rules and name in self.classes.classes else ()
            if not any(s.kind is SelectorKind.INPUT and s.value == "valueBoolean" for s in selectors):
                self.wrong((*place, index), f"{name!r} is not a class of this row that holds yes or no")
        return frozenset(names)

    def row_classes(self, items: list[Any], purposes: frozenset[str], place: Place) -> dict[str, ClassRule]:
        result: dict[str, ClassRule] = {}
        for index, item in enumerate(items):
            at: Place = (*place, index)
            entry = {"class": item} if isinstance(item, str) else item
            members = self.classes.groups.get(entry["class"], frozenset({entry["class"]}))
            if len(entry) > 1 and entry["class"] in self.classes.groups:
                self.wrong(at, "a group cannot be limited: name the class")
            if "scope" in entry:
                self.scope(entry["scope"], purposes, (*at, "scope"))
            if "from" in entry:
                self.book.expect("business-status", entry["from"], self.document, (*at, "from"), self.reader.mistakes)
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
                return self.reader.listed("need", value, place, self.terms.lists)
            self.wrong(place, "a named list holds needs: list the codes")
            return frozenset()
        possible: set[str] = set()
        for selector in self.classes.classes[name].selectors:
            possible |= selector.codes or frozenset()
        for index, code in enumerate(value):
            if code not in possible:
                self.wrong((*place, index), f"{code!r} is not a code that the class {name!r} can hold")
        return frozenset(value)

    def clocks(self) -> tuple[list[ClockRule], dict[str, str]]:
        known = {clock.id for clock in self.terms.clocks}
        result, replaced = [], {}
        for index, item in enumerate(self.document.data["clocks"]):
            place: Place = ("clocks", index)
            if item["id"] in known:
                self.wrong((*place, "id"), f"the clock {item['id']!r} is one of the common terms: use another id, and say what it replaces")
            result.append(compile_clock(self.reader, item, place, self.terms.lists, self.document.data["region"]))
            if "replaces" in item:
                if item["replaces"] not in known:
                    self.wrong((*place, "replaces"), f"{item['replaces']!r} is not a clock of the common terms")
                replaced[item["replaces"]] = item["id"]
        return result, replaced
