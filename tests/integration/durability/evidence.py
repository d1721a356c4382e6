"""What is left after a run: the database as its administrator sees it, what each client was promised, what the partners hold.

Each `check_` raises AssertionError naming what is lost, double, half there or unaudited. Nothing here asks the hub.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson

from tests.integration.durability.records import read_journal

__all__ = [
    "CHECKS",
    "Evidence",
    "Row",
    "check_effects_are_audited",
    "check_ledger",
    "check_promises",
    "check_transfers_are_whole",
    "check_versions",
    "postgres_rows",
    "sqlite_rows",
]

Row = tuple[Any, ...]
Version = tuple[str, str, str, int]
"""(shelf, type, id, version)"""


def sqlite_rows(path: Path) -> Callable[[str], list[Row]]:
    """Questions to a SQLite file."""

    def ask(question: str) -> list[Row]:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return database.execute(question).fetchall()
        finally:
            database.close()

    return ask


def postgres_rows(url: str) -> Callable[[str], list[Row]]:
    """Questions to PostgreSQL as its superuser, whom no policy binds."""

    async def fetch(question: str) -> list[Row]:
        session = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await session.fetch(question)]
        finally:
            await session.close()

    return lambda question: asyncio.run(fetch(question))


class Evidence:
    """Each part is read when it is first asked for, and kept: ask once everything has come to rest."""

    def __init__(self, ask: Callable[[str], list[Row]], keys: Callable[[str], list[Row]], clients: dict[str, Path], partner: Path) -> None:
        """`clients`: the journal of each, by the shelf it writes on and its name (``shelf|name``)."""
        self.ask = ask
        self.keys = keys
        self._clients = clients
        self._partner = partner

    @cached_property
    def journals(self) -> dict[str, list[dict[str, Any]]]:
        """What each client wrote down."""
        return {name: read_journal(path) for name, path in self._clients.items()}

    @cached_property
    def partner(self) -> list[dict[str, Any]]:
        """What the partners wrote down."""
        return read_journal(self._partner)

    @cached_property
    def requests(self) -> dict[tuple[str, str], list[list[Any]]]:
        """(shelf, request id) -> [[status, type, id, version], ...] as the hub remembers its answers."""
        return {(s, r): orjson.loads(a) for s, r, a in self.ask("SELECT shelf, request, answer FROM requests")}

    @cached_property
    def copies(self) -> dict[Version, Row]:
        """Every version on every shelf -> (current, thread)."""
        rows = self.ask("SELECT shelf, type, id, version, current, thread FROM copies")
        return {(shelf, type_, id_, version): tuple(more) for shelf, type_, id_, version, *more in rows}

    @cached_property
    def deliveries(self) -> list[Delivery]:
        """The ledger."""
        rows = self.ask("SELECT id, shelf, lane, place, state, transfer, parts FROM deliveries ORDER BY lane, place")
        return [Delivery(*row) for row in rows]

    @cached_property
    def audit(self) -> list[dict[str, Any]]:
        """Every entry's body."""
        return [orjson.loads(row[0]) for row in self.ask("SELECT body FROM audit_entries ORDER BY writer, seq")]

    def events(self, event: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(shelf, line) of every client's journal."""
        for name, lines in self.journals.items():
            for line in lines:
                if line["event"] == event:
                    yield name.partition("|")[0], line


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of the ledger, as far as the checks look."""

    id: str
    shelf: str
    lane: str
    place: int
    state: str
    transfer: str
    parts: str

    @property
    def versions(self) -> list[Version]:
        """What it carries."""
        return [(self.shelf, type_, id_, version) for type_, id_, version in orjson.loads(self.parts)]


def check_promises(found: Evidence) -> None:
    """Every 2xx is remembered with the versions it named, and each of those is there."""
    promised = {(shelf, line["id"]): line["stored"] for shelf, line in found.events("done")}
    assert promised, "no request was answered"
    lost = [key for key, stored in promised.items() if [entry[1:] for entry in found.requests.get(key, [])] != stored]
    assert not lost, f"{len(lost)} acknowledged requests are not remembered as they were answered"
    wrote = {(shelf, *entry[1:]) for (shelf, _), stored in found.requests.items() for entry in stored}
    missing = wrote - found.copies.keys()
    assert not missing, f"{len(missing)} versions that a request wrote are not there"


def check_nothing_unasked(found: Evidence) -> None:
    """Whatever the hub did, somebody had sent; a refused request did nothing; every other was answered in the end."""
    unanswered = [(line["id"], line["met"]) for _, line in found.events("unanswered")]
    assert not unanswered, f"sent again and again, and never answered: {unanswered}"
    sent = {(shelf, line["id"]) for shelf, line in found.events("sent")}
    refused = {(shelf, line["id"]) for shelf, line in found.events("refused")}
    assert found.requests.keys() <= sent
    assert not found.requests.keys() & refused
    answers = Counter(line["status"] for _, line in found.events("refused") if not line.get("nonsense"))
    assert not answers.keys() - {409, 412}, f"answers {dict(answers)}"  # two workers of one party may meet; nothing else is refused here
    open_ends = sent - refused - {(s, line["id"]) for event in ("done", "abandoned") for s, line in found.events(event)}
    assert not open_ends, f"{len(open_ends)} requests never came to an end"


def check_versions(found: Evidence) -> None:
    """Versions of a resource run from 1 without a gap, and the last is the current one."""
    versions: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    current: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for (shelf, type_, id_, version), (is_current, _) in found.copies.items():
        versions[shelf, type_, id_].append(version)
        if is_current:
            current[shelf, type_, id_].append(version)
    for place, numbers in versions.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), "a version is missing"
        assert current[place] == [len(numbers)], "not exactly the last version is current"


def check_transfers_are_whole(found: Evidence) -> None:
    """Sender's Task <=> transfer <=> attempt <=> receiver's copies <=> first delivery <=> release in the audit log <=> timers."""
    transfers = found.ask("SELECT id, thread, sender_shelf, sender_task, sender_request FROM transfers")
    attempts = {row[0]: row[1:] for row in found.ask("SELECT transfer, shelf, task, request, patient, consent, provenance FROM attempts")}
    assert transfers and {row[0] for row in transfers} == attempts.keys()
    heads = {version[:3] for version in found.copies}
    first = {d.transfer: d for d in found.deliveries if d.place == 1 and d.transfer in attempts}  # a duty has a lane of its own too
    released = Counter(entry["transfer"] for entry in found.audit if entry["action"] == "release")
    timed = {row[0] for row in found.ask("SELECT DISTINCT transfer FROM timers")}
    tasks: set[tuple[str, str]] = set()
    for id_, thread, shelf, task, request in transfers:
        there, their_task, *others = attempts[id_]
        assert {(shelf, "Task", task), (shelf, "ServiceRequest", request), (there, "Task", their_task)} <= heads
        assert {(there, type_, other) for type_, other in zip(_RECEIVED, others, strict=True)} <= heads
        assert {found.copies[shelf, "Task", task, 1][1], found.copies[there, "Task", their_task, 1][1]} == {thread}
        assert (there, "Task", their_task, 1) in first[id_].versions and first[id_].shelf == there
        assert released[id_] and id_ in timed
        tasks |= {(shelf, task), (there, their_task)}
    asked = {tuple(row) for row in found.ask("SELECT shelf, id FROM checks UNION SELECT shelf, id FROM duties")}
    assert tasks | asked == {(shelf, id_) for shelf, type_, id_ in heads if type_ == "Task"}, "a Task stands for nothing"
    assert released.keys() == {row[0] for row in transfers} == first.keys()


_RECEIVED: Final = ("ServiceRequest", "Patient", "Consent", "Provenance")


def check_people_are_whole(found: Evidence) -> None:
    """Threads, keys and the register agree with what lies on the shelves."""
    threads = {row[0] for row in found.ask("SELECT id FROM threads")}
    assert threads == {thread for _, thread in found.copies.values()}
    keys = {tuple(row) for row in found.keys("SELECT thread, shelf FROM keys")}
    assert {(thread, shelf) for (shelf, *_), (_, thread) in found.copies.items()} <= keys
    grants = {(row[0], row[1]) for row in found.ask("SELECT recorder, consent FROM grants")}
    made = {(row[0], row[1]) for row in found.ask("SELECT shelf, consent FROM attempts")}
    recorded = {(shelf, id_) for shelf, type_, id_, _ in found.copies if type_ == "Consent"} - made
    assert grants == recorded, "a recorded consent and the register differ"


def check_ledger(found: Evidence) -> None:
    """Every delivery came to its end; every version that somebody else caused on a shelf is announced exactly once."""
    states = Counter(delivery.state for delivery in found.deliveries)
    assert not states.keys() - {"delivered", "cancelled"}, f"the ledger holds {dict(states)}"
    announced = Counter(version for delivery in found.deliveries for version in delivery.versions)
    assert not [version for version, number in announced.items() if number > 1], "one version is announced twice"
    assert announced.keys() <= found.copies.keys()
    own = {(shelf, *entry[1:]) for (shelf, _), stored in found.requests.items() for entry in stored}
    caused = {version for version in found.copies if version[1] == "Task" and version not in own}
    assert caused <= announced.keys(), "a Task changed and its owner's system is not told"
    places = Counter((delivery.lane, delivery.place) for delivery in found.deliveries)
    assert not [place for place, number in places.items() if number > 1]
    ended = {row[0] for row in found.ask("SELECT delivery FROM sends WHERE outcome = 'delivered' AND ended IS NOT NULL")}
    assert ended == {delivery.id for delivery in found.deliveries if delivery.state == "delivered"}


def check_partners(found: Evidence) -> None:
    """What was delivered was applied, each key once, the same bytes each time it was seen, and each lane in its order."""
    applied = [line for line in found.partner if line["event"] == "applied"]
    keys = [line["key"] for line in applied]
    assert len(keys) == len(set(keys)), "a key was applied twice"
    delivered = {delivery.id: delivery for delivery in found.deliveries if delivery.state == "delivered"}
    assert set(keys) == delivered.keys(), "the ledger and the partners differ"
    for line in applied:
        if line["parts"] is not None:  # a nudge tells nothing of what is new
            assert [(line["shelf"], *part) for part in line["parts"]] == delivered[line["key"]].versions
    bytes_seen: dict[str, set[str]] = defaultdict(set)
    for line in found.partner:
        if line["event"] == "seen":
            bytes_seen[line["key"]].add(line["digest"])
    assert not [key for key, digests in bytes_seen.items() if len(digests) > 1], "a repeat had other content"
    order: dict[str, list[int]] = defaultdict(list)
    for key in keys:
        order[delivered[key].lane].append(delivered[key].place)
    assert not [lane for lane, places in order.items() if places != sorted(places)], "a lane was overtaken"


def check_effects_are_audited(found: Evidence) -> None:
    """Each effect has its entry, and each entry its effect."""
    wrote = Counter(_wrote(entry) for entry in found.audit if entry["action"] in ("create", "update"))
    answers = Counter(
        (shelf, *(f"{type_}/{id_}/{version}" for _, type_, id_, version in stored)) for (shelf, _), stored in found.requests.items()
    )
    assert wrote == answers, "what was written and what was audited differ"
    written = {entry["correlation_id"] for entry in found.audit if entry["action"] in ("create", "update")}
    acts = {entry["correlation_id"] for entry in found.audit if entry["action"] == "act"}
    assert acts <= written
    ends = Counter(
        (entry["correlation_id"], entry["detail"]["state"])
        for entry in found.audit
        if entry["action"] == "deliver" and entry["detail"]["state"] != "queued"
    )
    assert ends == Counter((delivery.id, delivery.state) for delivery in found.deliveries)
    for writer, count, last in found.ask("SELECT writer, count(*), max(seq) FROM audit_entries GROUP BY writer"):
        assert count == last, f"the chain of {writer} has a gap"


def check_moves(found: Evidence) -> None:
    """A transfer's moves follow one from another, and none is made twice."""
    state = {row[0]: row[1] for row in found.ask("SELECT id, state FROM transfers")}
    acts = [entry for entry in found.audit if entry["action"] == "act"]
    # equal where a party added to what it gave back
    moves = Counter((entry["transfer"], entry["detail"]["to"]) for entry in acts if entry["detail"]["from"] != entry["detail"]["to"])
    resumed = Counter(entry["transfer"] for entry in acts if entry["detail"]["from"] == "paused-by-survivor")
    unmoved = {(id_, now) for id_, now in state.items() if now in _BY_PARTIES} - moves.keys()
    assert not unmoved, "a transfer is in a state that no entry tells of"
    twice = [move for move, number in moves.items() if number > 1 + resumed[move[0]]]
    assert not twice, f"{len(twice)} moves were made twice"


_BY_PARTIES: Final = frozenset({"acknowledged", "accepted", "introduced", "handed-over"})
"""The states into which a party of these runs moves a transfer, each of them once."""


def _wrote(entry: dict[str, Any]) -> tuple[str, ...]:
    return (entry["actor_shelf"], *(value for name, value in sorted(entry["detail"].items()) if name.startswith("wrote.")))


CHECKS: Final[tuple[Callable[[Evidence], None], ...]] = (
    check_promises,
    check_nothing_unasked,
    check_versions,
    check_transfers_are_whole,
    check_people_are_whole,
    check_ledger,
    check_partners,
    check_effects_are_audited,
    check_moves,
)
