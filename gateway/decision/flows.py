"""Everything that a policy lets flow, as a set that can be compared with another policy's. Pure.

Each pair of parties that an agreement joins is asked about, for each service, under each consent and legal basis that could carry it and
some that must not, for each purpose, state, age and yes that a row looks at. What `decide` lets go is written down element by element.
What stands between data and a receiver besides (a notice, the life of a copy, an obligation) is a guard: losing one widens as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from gateway.decision.ask import Ask, Said
from gateway.decision.decide import COURSE, Permit, decide
from gateway.decision.grants import Grant, GrantState
from gateway.decision.plan import GOES_WITH_ANY, RowPlan, index_of
from gateway.identity import PartyId, ShelfId, StatusView, ThreadId
from gateway.parties.model import Address, MatrixRow, Party, Policy, Selector, SelectorKind, Service

__all__ = ["ANYBODY", "Flow", "flows_of"]

ANYBODY: Final = "*"
_THREAD: Final = ThreadId("probe")
_SCREENED: Final = "alias"
"""A class of which a probe holds a grant for nothing else: whatever else flows then, flows ungranted."""


class Flow(NamedTuple):
    """One thing that may flow, or (`guard`) one that stands in the way. Sorts as a person would list it."""

    sender: str  # party; * = whoever
    receiver: str  # shelf
    service: str
    by: str  # consent scopes or legal basis
    when: str  # what the request must say, and how far the transfer must be
    purpose: str
    what: str  # an element, or a guard
    code: str = ""  # of a coded element that is narrowed to some codes
    guard: bool = False


_Item = tuple[str, str, bool]
"""(element or guard, code, whether it is a guard)."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One probe: what is asked under, and how it is called."""

    by: str
    grants: tuple[Grant, ...]
    basis: str | None = None
    screened: bool = False  # only what flows without being granted is of interest
    beside: bool = False  # one way more of giving the consent before it: only what differs is written down
    adds: bool = False  # and that it gives the same is not worth a word


def flows_of(policy: Policy) -> frozenset[Flow]:
    """All of it. The same policy always gives the same set."""
    found: set[Flow] = set(_terms(policy))
    index = index_of(policy)
    for sender_id, receiver_id in sorted(index.agreements):
        sender, receiver = policy.parties.get(sender_id), policy.parties.get(receiver_id)
        if sender is None or receiver is None:
            continue
        at = max(each.starts for each in index.agreements[sender_id, receiver_id])
        for service in sorted(policy.services):
            plans = index.rows.get((sender.kind, receiver.kind, service), ())
            plans = tuple(plan for plan in plans if plan.row.region in ("", sender.region))
            if plans:
                for address in _addresses(receiver, service):
                    found |= _asked(policy, sender, receiver, policy.services[service], address, plans, at)
    return frozenset(found)


def _addresses(receiver: Party, service: str) -> Iterator[Address]:
    """One address for each shelf and unit that takes the service."""
    seen: set[tuple[str, str | None]] = set()
    for address in receiver.addresses:
        if service in address.services and (address.shelf, address.unit) not in seen:
            seen.add((address.shelf, address.unit))
            yield address


def _asked(
    policy: Policy, sender: Party, receiver: Party, service: Service, address: Address, plans: Sequence[RowPlan], at: int
) -> set[Flow]:
    rows = [plan.row for plan in plans]
    bands = {band for row in rows for band in row.age_bands or ()}
    ages: list[str | None] = [None, *sorted(policy.codes.get("age-band", bands))] if bands else [None]
    questions = frozenset(name for row in rows for name in row.requires_yes)
    wanted = {purpose for row in rows for purpose in row.purposes}
    other = frozenset(policy.purposes) - wanted
    found: set[Flow] = set()
    plain: dict[tuple[str, str], set[_Item]] = {}
    for case in _cases(policy, rows, receiver, address, at):
        if not case.beside:
            plain = {}
        for purposes in [*({p} for p in sorted(wanted)), other]:
            for age in ages:
                for yes in (frozenset[str](), questions) if questions else (questions,):
                    said = [f"age {age or 'unsaid'}"] if bands else []
                    said += ["after yes"] if yes else []
                    since: set[_Item] = set()
                    for state in COURSE:
                        ask = Ask(
                            sender=sender,
                            sender_unit=None,
                            receiver=receiver,
                            receiver_unit=address.unit,
                            receiver_role=address.role,
                            service=service,
                            purposes=frozenset(purposes),
                            at=at,
                            grants=case.grants,
                            present=frozenset(policy.classes),
                            state=state,
                            basis=case.basis,
                            said=Said(age, yes),
                        )
                        answer = decide(ask, policy)
                        if not isinstance(answer, Permit):
                            continue
                        when = ", ".join([*said, f"from {state}"] if state != COURSE[0] else said)
                        items = set(_written(policy, sender, answer, case)) - since
                        since |= items
                        known = plain.setdefault((when, answer.purpose), set())
                        if not case.beside:
                            known |= items
                        elif not case.screened:
                            same, items = items & known, items - known
                            items |= {("(the same)", "", False)} if same and not case.adds else set()
                        for item in items:
                            found.add(Flow(sender.id, address.shelf, service.id, case.by, when, answer.purpose, *item))
    return found


def _cases(policy: Policy, rows: Sequence[MatrixRow], receiver: Party, address: Address, at: int) -> Iterator[_Case]:
    """The consents and bases that may carry it, and those that never should."""
    scopes = sorted({row.scope for row in rows if row.scope is not None})
    further = sorted({rule.scope for row in rows for rule in row.classes.values() if rule.scope is not None})
    other_unit = next((unit.id for unit in receiver.units if unit.id != address.unit), None)

    def grant(scope: str, unit: str | None) -> Grant:
        return _grant(policy, receiver.id, unit, scope, at)

    yield _Case("nothing", ())
    for scope in scopes:
        whole = grant(scope, address.unit)
        yield _Case(f"consent {scope}", (whole,))
        if further:
            added = tuple(grant(each, address.unit) for each in further)
            yield _Case(f"consent {scope} and {' '.join(further)}", (whole, *added), beside=True, adds=True)
        yield _Case(f"consent {scope}, ungranted", (replace(whole, classes=frozenset((_SCREENED,))),), screened=True, beside=True)
        if address.unit is not None:
            yield _Case(f"consent {scope} for the whole party", (replace(whole, receiver_unit=None),), beside=True)
        if other_unit is not None:
            yield _Case(f"consent {scope} for another unit", (replace(whole, receiver_unit=other_unit),), beside=True)
        yield _Case(f"consent {scope} that has ended", (replace(whole, ends=at - 1),), beside=True)
        yield _Case(f"consent {scope} that was withdrawn", (replace(whole, state=GrantState.WITHDRAWN),), beside=True)
        yield _Case(f"consent {scope} for another party", (replace(whole, receiver_party=PartyId(ANYBODY)),), beside=True)
    others = tuple(grant(each, address.unit) for each in sorted(policy.scopes) if each not in scopes)
    yield _Case("other consents", others)
    for basis in sorted({row.basis for row in rows if not policy.bases[row.basis].needs_consent}):
        yield _Case(f"basis {basis}", (), basis)


def _grant(policy: Policy, receiver: PartyId, unit: str | None, scope: str, at: int) -> Grant:
    return Grant(
        id=scope,
        thread=_THREAD,
        consent_id=scope,
        consent_version=1,
        recorder=ShelfId(ANYBODY),
        receiver_party=receiver,
        receiver_unit=unit,
        scope=scope,
        classes=frozenset(policy.classes),
        purposes=policy.scopes[scope].purposes if scope in policy.scopes else frozenset(policy.purposes),
        starts=at - 10,
        ends=at + 10,
    )


def _written(policy: Policy, sender: Party, permit: Permit, case: _Case) -> Iterator[_Item]:
    """What a permit lets go: (element, code, whether it is a guard)."""
    for name, rule in permit.classes.items():
        if not case.screened or (name != _SCREENED and not _always(policy, name)):
            for what in _elements(policy, name):
                for code in sorted(rule.only) if rule.only is not None else ("",):
                    yield what, code, False
    if case.screened:
        return
    row = permit.row
    if row.returns_decision:
        yield "back to the sender: decision and redirect", "", False
    if row.status_view is not StatusView.MINIMAL:
        for shelf in sender.shelves:
            if sender.view_of(shelf) is StatusView.FULL:
                yield f"back to the sender: the whole course, to {shelf.partition('/')[2] or 'its own shelf'}", "", False
    for label in sorted(row.without_labels):
        yield f"copies without the label {label}", "", False
    for code in row.obligations:
        yield f"obligation {code}", "", True
    if row.life is not None:
        yield f"copies end after {row.life}", "", True


def _always(policy: Policy, name: str) -> bool:
    return name in GOES_WITH_ANY or name in policy.always


def _elements(policy: Policy, name: str) -> Iterable[str]:
    """The elements that a class stands for; what the hub makes itself goes by the class's own name."""
    found = policy.classes.get(name)
    leaves = [_path(selector) for selector in found.selectors if _leaves(selector)] if found is not None else []
    return [each for paths in leaves for each in paths] or [f"({name})"]


def _leaves(selector: Selector) -> bool:
    return selector.kind in (SelectorKind.ELEMENT, SelectorKind.EXTENSION, SelectorKind.AGE, SelectorKind.INPUT)


def _path(selector: Selector) -> list[str]:
    """`Patient.name[use=nickname|anonymous].given`, and so on for each part that is copied."""
    where = "".join(
        f"[{path}={'|'.join(sorted(value.rpartition('/')[2] for value in values))}]" for path, values in sorted(selector.where.items())
    )
    if selector.kind is SelectorKind.INPUT:
        return [f"Task.input[{selector.element}]"]
    if selector.kind is SelectorKind.EXTENSION:
        return [f"{selector.resource}.extension[{selector.element.rpartition('/')[2]}]"]
    if selector.kind is SelectorKind.AGE:
        return [f"{selector.resource}.extension[{selector.extension.rpartition('/')[2]}] made of {selector.element}"]
    base = f"{selector.resource}.{selector.element}{where}"
    parts = [f".{path}" for path in selector.keep]
    for url, extensions in selector.extensions.items():
        short = url.rpartition("/")[2]
        parts += [f".extension[{short}]{f'.{part}' if part else ''}.{path}" for part, paths in extensions.items() for path in paths]
    return [base + part for part in parts] or [base]


def _terms(policy: Policy) -> Iterator[Flow]:
    """What holds for everybody: how a consent is given, and which legal bases are switched on."""

    def term(by: str, what: str, *, guard: bool = False) -> Flow:
        return Flow(ANYBODY, ANYBODY, "", by, "", "", what, "", guard)

    for scope in policy.scopes.values():
        by = f"consent {scope.id}"
        for notice in sorted(scope.notices):
            yield term(by, f"the notice {notice} is shown first", guard=True)
        if scope.names_unit:
            yield term(by, "it names a unit", guard=True)
        if scope.lifetime is not None:
            yield term(by, f"it ends, by itself after {scope.lifetime}", guard=True)
        for kind in sorted(scope.self_recording_kinds):
            yield term(by, f"{kind} may record it for itself")
    for basis in policy.bases.values():
        if basis.enabled:
            yield term(f"basis {basis.id}", "is switched on")
            for kind in sorted(basis.invoked_by):
                yield term(f"basis {basis.id}", f"{kind} may invoke it")
            if basis.needs_consent:
                yield term(f"basis {basis.id}", "it needs a consent", guard=True)
    for party in policy.parties.values():
        for notice in sorted(party.notices):
            yield Flow(ANYBODY, party.id, "", "any consent", "", "", f"the notice {notice} is shown first", "", True)
