"""What a party wants written on its own shelf, made ready: ids, references, threads. No status and no other shelf in here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.identity import Caller, ThreadId
from gateway.problems import FINDINGS_LIMIT, Finding, IssueCode, Problem, ProblemType
from gateway.shelves.copies import Copy
from gateway.shelves.shelf import Criteria, Shelf

__all__ = ["SUBJECT", "Draft", "Entry", "prepare"]

Json = dict[str, Any]

SUBJECT: Final[Mapping[str, str]] = {"ServiceRequest": "subject", "Task": "for", "Consent": "patient", "Communication": "subject"}
"""Where each type names its person. Every copy belongs to one person's thread; there is nothing on a shelf without one."""

_DIRECTORY: Final = frozenset({"Organization", "PractitionerRole", "HealthcareService", "Endpoint"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One interaction of a request: a create (POST) or an update (PUT, or the outcome of a PATCH) on the caller's shelf.

    `at` is its FHIRPath in the request (``Bundle.entry[2].resource``, or the type for a single resource).
    """

    method: str
    resource: Json
    at: str
    id: str | None = None  # of an update
    full_url: str | None = None
    if_match: int | None = None
    if_none_exist: Criteria | None = None


@dataclass(slots=True)
class Draft:
    """An entry with its id, its person's thread, and the version it replaces."""

    entry: Entry
    type: str
    id: str
    resource: Json
    thread: ThreadId
    new_thread: bool
    before: Copy | None = None
    found: Copy | None = None  # a conditional create that met an existing resource
    patient: Json = field(default_factory=dict)


class _Resolver:
    """Turns what an entry refers to into ids on the caller's own shelf or in the directory. Anything else does not exist."""

    def __init__(self, shelf: Shelf, directory: Callable[[str, str], bool], names: Mapping[str, tuple[str, str]]) -> None:
        self._shelf = shelf
        self._directory = directory
        self._names = names
        self.findings: list[Finding] = []
        self.copies: dict[tuple[str, str], Copy] = {}

    async def rewrite(self, resource: Json, at: str, own: set[tuple[str, str]]) -> None:
        """Replace references inside the bundle by the new ids; note those that name nothing the caller has."""
        holders: list[Json] = []
        _collect(resource, holders)
        for holder in holders:
            if len(self.findings) >= FINDINGS_LIMIT:
                return  # no more would be told, and each costs a look at the shelf
            value = holder["reference"]
            inside = self._names.get(value)
            if inside is not None:
                holder["reference"] = f"{inside[0]}/{inside[1]}"
                continue
            type_, _, id_ = value.partition("/")
            if type_ in _DIRECTORY and self._directory(type_, id_):
                continue
            if (type_, id_) in own or await self._known(type_, id_):
                continue
            say = "This reference names nothing in this request, on your shelf or in the directory. Use an id you can read."
            path = next(path for found, path in _references(resource, at) if found is holder)
            self.findings.append(Finding(IssueCode.NOT_FOUND, say, f"{path}.reference"))

    async def _known(self, type_: str, id_: str) -> bool:
        if not id_ or "/" in id_ or not type_.isalpha():
            return False
        copy = self.copies.get((type_, id_)) or await self._shelf.read(type_, id_)
        if copy is None:
            return False
        self.copies[type_, id_] = copy
        return True


async def prepare(
    caller: Caller, entries: list[Entry], shelf: Shelf, directory: Callable[[str, str], bool], new_id: Callable[[], str]
) -> list[Draft]:
    """Ids, references and threads for every entry.

    Raises Problem: UNPROCESSABLE for a reference that names nothing of the caller's (someone else's id and an unknown one are
    the same), NOT_FOUND and PRECONDITION_FAILED for an update, UNPROCESSABLE for a resource without a person.
    """
    drafts: list[Draft] = []
    names: dict[str, tuple[str, str]] = {}
    taken: dict[tuple[str, str], str] = {}
    twice: list[Finding] = []
    for entry in entries:
        type_ = entry.resource["resourceType"]
        before: Copy | None = None
        found: Copy | None = None
        if entry.if_none_exist is not None:
            page = await shelf.search(type_, entry.if_none_exist, count=2, offset=0)
            if page.total > 1:
                say = "More than one resource on your shelf has this identifier."
                raise Problem(ProblemType.PRECONDITION_FAILED, Finding(IssueCode.DUPLICATE, say, entry.at))
            found = page.copies[0] if page.copies else None
        if entry.method == "POST":
            id_ = found.id if found else new_id()
        else:
            id_ = entry.id or ""
            before = await shelf.read(type_, id_)
            if before is None:
                raise not_found()
            if entry.if_match is not None and entry.if_match != before.version:
                say = "This is not the current version. Read it again, then repeat the change."
                raise Problem(ProblemType.PRECONDITION_FAILED, Finding(IssueCode.CONFLICT, say))
        entry.resource["id"] = id_
        if taken.setdefault((type_, id_), entry.at) != entry.at:  # R4 http.html#trules: no resource twice in a transaction
            twice.append(Finding(IssueCode.DUPLICATE, "Another entry is about the same resource. Send each once.", entry.at))
        known = before or found
        draft = Draft(entry, type_, id_, entry.resource, ThreadId(known.thread if known else ""), False, before, found)
        drafts.append(draft)
        names[f"{type_}/{id_}"] = (type_, id_)
        if entry.full_url:
            names[entry.full_url] = (type_, id_)
    if twice:
        raise Problem(ProblemType.UNPROCESSABLE, *twice)
    resolver = _Resolver(shelf, directory, names)
    own = {(d.type, d.id) for d in drafts}
    for draft in drafts:
        await resolver.rewrite(draft.resource, draft.entry.at, own)
    if resolver.findings:
        raise Problem(ProblemType.UNPROCESSABLE, *resolver.findings)
    await _threads(drafts, resolver, shelf, new_id)
    return drafts


async def _threads(drafts: list[Draft], resolver: _Resolver, shelf: Shelf, new_id: Callable[[], str]) -> None:
    patients: dict[str, Draft] = {}
    for draft in drafts:
        if draft.type == "Patient":
            if draft.before is None and draft.found is None:
                draft.thread, draft.new_thread = ThreadId(new_id()), True
            draft.patient = draft.found.resource() if draft.found else draft.resource
            patients[draft.id] = draft
    findings = []
    for draft in drafts:
        if draft.type == "Patient":
            continue
        element = SUBJECT[draft.type]
        person = draft.resource.get(element)
        reference = person.get("reference") if isinstance(person, dict) else None
        if person is None and draft.before is not None and element not in draft.before.resource():
            continue  # the hub's own, about nobody whom it knows
        if not isinstance(reference, str) or not reference.startswith("Patient/"):
            say = "Name the person by a reference to a Patient on your shelf or in this request; an alias is enough."
            findings.append(Finding(IssueCode.REQUIRED, say, f"{draft.entry.at}.{element}"))
            continue
        id_ = reference[8:]
        inside = patients.get(id_)
        copy = resolver.copies.get(("Patient", id_)) or (None if inside else await shelf.read("Patient", id_))
        if inside is not None:
            thread, draft.patient, draft.new_thread = inside.thread, inside.patient, inside.new_thread
        elif copy is not None:
            thread, draft.patient = copy.thread, copy.resource()
        else:
            continue
        if draft.before is not None and draft.before.thread != thread:
            say = "A resource stays with the person it was written about. Create a new one instead."
            findings.append(Finding(IssueCode.BUSINESS_RULE, say, f"{draft.entry.at}.{element}"))
        draft.thread = thread
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)


def not_found() -> Problem:
    """The one answer for what is not on the caller's shelf, whatever exists elsewhere."""
    return Problem(ProblemType.NOT_FOUND, Finding(IssueCode.NOT_FOUND, "There is no such resource."))


def _collect(value: Json, holders: list[Json]) -> None:
    """Every object with a literal reference, in the order of the text. Their paths are worked out only for those that are wrong."""
    if isinstance(value.get("reference"), str):
        holders.append(value)
    for inner in value.values():
        if isinstance(inner, dict):
            _collect(inner, holders)
        elif isinstance(inner, list):
            for item in inner:
                if isinstance(item, dict):
                    _collect(item, holders)


def _references(value: Any, path: str) -> Iterator[tuple[Json, str]]:
    """The same objects, each with its path."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value, path
        for name, inner in value.items():
            if isinstance(inner, dict):
                yield from _references(inner, f"{path}.{name}")
            elif isinstance(inner, list):
                for i, item in enumerate(inner):
                    if isinstance(item, dict):
                        yield from _references(item, f"{path}.{name}[{i}]")
