"""`mappings/terms.yaml`: what the words of every region's agreements mean. A consent given in one region may be used in another,
so services, consent scopes and legal bases are said once, for all; a region says which of them it uses, and may replace a deadline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from gateway.parties.codes import CodeBook
from gateway.parties.durations import duration
from gateway.parties.errors import Mistakes
from gateway.parties.model import Basis, ClockRule, ConsentScope, Verification
from gateway.parties.yaml_lines import Document, Place

__all__ = ["Reader", "Terms", "compile_clock", "compile_terms"]

_BUSINESS: Final = " business days"


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms. `services` maps a service to the needs it may be told of; who owns it stands in the manifests.

    `attended` are states in which no clock need run: a person has the survivor before them, or the transfer in a queue of their own.
    """

    document: Document
    lists: Mapping[str, Mapping[str, frozenset[str]]]  # need and service -> name -> codes
    services: Mapping[str, frozenset[str]]
    scopes: Mapping[str, ConsentScope]
    bases: Mapping[str, Basis]
    clocks: tuple[ClockRule, ...]
    attended: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one document against the code book, and notes what it names that is not there."""

    document: Document
    book: CodeBook
    mistakes: Mistakes
    ids: dict[str, set[str]] = field(default_factory=dict)

    def wrong(self, place: Place, reason: str) -> None:
        """Note a mistake at a value."""
        self.mistakes.add(self.document.file, self.document.line(place), reason)

    def once(self, what: str, name: str, place: Place) -> None:
        """Note a name that this document gave before."""
        seen = self.ids.setdefault(what, set())
        if name in seen:
            self.wrong(place, f"the {what} {name!r} is listed twice")
        seen.add(name)

    def all_known(self, system: str, codes: list[str], place: Place) -> frozenset[str]:
        """Codes of one system."""
        for index, code in enumerate(codes):
            self.book.expect(system, code, self.document, (*place, index), self.mistakes)
        return frozenset(codes)

    def listed(self, kind: str, value: str | list[str], place: Place, lists: Mapping[str, Mapping[str, frozenset[str]]]) -> frozenset[str]:
        """A list of codes, or the name of a list of the terms."""
        if isinstance(value, list):
            return self.all_known(kind, value, place)
        named = lists[kind].get(value)
        if named is None:
            self.wrong(place, f"there is no {kind} list {value!r}")
        return named or frozenset()


def compile_terms(document: Document, book: CodeBook, mistakes: Mistakes) -> Terms:
    """Compile the terms; their shape has been checked, what they name in themselves and in the code book is checked here."""
    data: dict[str, Any] = document.data
    reader = Reader(document, book, mistakes)
    lists = {
        kind: {name: reader.all_known(kind, codes, (f"{kind}-lists", name)) for name, codes in data[f"{kind}-lists"].items()}
        for kind in ("need", "service")
    }
    return Terms(
        document=document,
        lists=lists,
        services=_services(reader, lists),
        scopes=_scopes(reader),
        bases=_bases(reader),
        clocks=tuple(compile_clock(reader, item, ("clocks", index), lists) for index, item in enumerate(data["clocks"])),
        attended=reader.all_known("business-status", data["attended-states"], ("attended-states",)),
    )


def _services(reader: Reader, lists: Mapping[str, Mapping[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    result = {}
    for name, item in reader.document.data["services"].items():
        reader.book.expect("service", name, reader.document, ("services", name), reader.mistakes)
        result[name] = reader.listed("need", item["needs"], ("services", name, "needs"), lists)
    return result


def _scopes(reader: Reader) -> dict[str, ConsentScope]:
    result = {}
    for name, item in reader.document.data["consent-scopes"].items():
        place: Place = ("consent-scopes", name)
        reader.book.expect("consent-scope", name, reader.document, place, reader.mistakes)
        if ("asked-again" in item) != (item["lifetime"] == "until-withdrawn"):
            reader.wrong(place, "a consent until withdrawn says when it is asked again, any other does not")
        result[name] = ConsentScope(
            id=name,
            purposes=reader.all_known("purpose", item["purposes"], (*place, "purposes")),
            lifetime=None if item["lifetime"] == "until-withdrawn" else duration(item["lifetime"]),
            notices=reader.all_known("notice", item["notices"], (*place, "notices")),
            self_recording_kinds=reader.all_known("kind", item.get("self-recorded-by", []), (*place, "self-recorded-by")),
            names_unit=item.get("names-unit", False),
            asked_again=duration(item["asked-again"]) if "asked-again" in item else None,
        )
    return result


def _bases(reader: Reader) -> dict[str, Basis]:
    result = {}
    for name, item in reader.document.data["bases"].items():
        place: Place = ("bases", name)
        reader.book.expect("basis", name, reader.document, place, reader.mistakes)
        kinds = reader.all_known("kind", item["invoked-by"], (*place, "invoked-by"))
        verification = Verification(item["verification"])
        result[name] = Basis(name, item["authority"], item["needs-consent"], kinds, verification, item["enabled"])
    return result


def compile_clock(
    reader: Reader, item: dict[str, Any], place: Place, lists: Mapping[str, Mapping[str, frozenset[str]]], region: str = ""
) -> ClockRule:
    """One deadline, of every region or of one."""
    reader.once("clock", item["id"], (*place, "id"))
    reader.book.expect("business-status", item["state"], reader.document, (*place, "state"), reader.mistakes)
    business = item["due"].endswith(_BUSINESS)
    return ClockRule(
        id=item["id"],
        state=item["state"],
        services=reader.listed("service", item["services"], (*place, "services"), lists) if "services" in item else None,
        priorities=frozenset(item["priorities"]) if "priorities" in item else None,
        due=timedelta(days=int(item["due"].removesuffix(_BUSINESS))) if business else duration(item["due"]),
        then=item["then"],
        during=reader.all_known("business-status", item.get("during", []), (*place, "during")) | {item["state"]},
        stopped_by=reader.all_known("task-output", item.get("stopped-by", []), (*place, "stopped-by")),
        after_eta=duration(item["after-eta"]) if "after-eta" in item else None,
        business_days=business,
        region=region,
    )
