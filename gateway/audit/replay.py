"""Replays the entry lines of an export: recomputes the tree and every writer's chain, and remembers where they disagree.

Three witnesses say what entry belongs where: the content (its hash is in the tree a checkpoint signs), the writer's
chain (number and predecessor, inside the content), and the hash and index written beside the entry. Only the first
convicts; the other two say *which* entry it is. One pass, memory for the writers and the faults only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from gateway.audit.entry import VERSION, genesis, is_writer_id
from gateway.audit.export import entry_frame
from gateway.audit.merkle import Frontier, leaf_hash
from gateway.audit.report import FAULTS_LIMIT, Fault, FaultKind

__all__ = ["Replay"]


class _Link(NamedTuple):
    """What a body says of its place in its writer's chain."""

    writer: str
    seq: int
    prev: bytes


@dataclass(slots=True)
class _Seen:
    """An entry line: where it stands in the file, and what it says it is."""

    position: int
    line: int
    index: int | None
    link: _Link | None
    place: int | None = None  # the index whose place it takes, once that is known

    def fault(self, kind: FaultKind, say: str, index: int | None = None) -> Fault:
        at = self.index if index is None else index
        writer, seq = (None, None) if self.link is None else self.link[:2]
        return Fault(kind, say, index=at, writer=writer, seq=seq, line=self.line)


@dataclass(slots=True)
class _Head:
    """A writer's newest entry. Two hashes, because an entry and the hash beside it may disagree."""

    seq: int
    content: bytes
    listed: bytes
    index: int


@dataclass(slots=True)
class _Gap:
    """Numbers that a writer skipped, and between which entries of the tree they must have been."""

    writer: str
    first: int
    until: int
    after: int
    before: int


def _read_link(body: bytes) -> _Link | None:
    """The link in a body; None when the body is not the canonical form of an entry."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or orjson.dumps(document, option=orjson.OPT_SORT_KEYS) != body:
        return None
    writer, seq, prev = document.get("writer"), document.get("seq"), document.get("prev")
    if document.get("v") != VERSION or not isinstance(writer, str) or not is_writer_id(writer):
        return None
    if type(seq) is not int or seq < 1 or not isinstance(prev, str):
        return None
    try:
        digest = bytes.fromhex(prev)
    except ValueError:
        return None
    return _Link(writer, seq, digest) if len(digest) == 32 and digest.hex() == prev else None


class _Places:
    """Follows the indexes that the lines claim. A line that claims another than the next is held back for one line: the
    one after it tells whether something is missing before it, it took another's place, or it was squeezed in."""

    __slots__ = ("_held", "_newest", "absent", "doubled", "extra", "next")

    def __init__(self) -> None:
        self.next = 0
        self.absent: list[tuple[int, int]] = []
        self.extra: list[_Seen] = []
        self.doubled: list[_Seen] = []
        self._held: _Seen | None = None
        self._newest: _Seen | None = None

    def see(self, seen: _Seen) -> None:
        held = self._held
        if held is not None:
            self._held = None
            if seen.index == self.next:
                self._squeezed_in(held)
            elif seen.index == self.next + 1:
                self._in_place_of_next(held)
            else:
                self._settle(held)
        if seen.index == self.next:
            self.next += 1
            self._newest = seen
        else:
            self._held = seen

    def close(self) -> None:
        """No more lines."""
        if self._held is not None:
            self._settle(self._held)
            self._held = None
        for seen in sorted(self.extra, key=lambda s: -1 if s.index is None else s.index):
            if seen.index == self.next:  # the last entry, which came too early
                self._lose(self.next, self.next + 1)
                self.next += 1

    def _squeezed_in(self, held: _Seen) -> None:
        newest = self._newest
        if newest is not None and held.index == newest.index:
            self.doubled += [newest, held]  # which of the two belongs there, the indexes can't say
        else:
            self._keep(held)

    def _in_place_of_next(self, held: _Seen) -> None:
        held.place = self.next
        self._keep(held)
        self._lose(self.next, self.next + 1)
        self.next += 1

    def _settle(self, held: _Seen) -> None:
        if held.index is None:
            self._in_place_of_next(held)
        elif held.index > self.next:
            self._lose(self.next, held.index)
            self.next = held.index + 1
            self._newest = held
        else:
            self._squeezed_in(held)

    def _keep(self, seen: _Seen) -> None:
        if len(self.extra) < FAULTS_LIMIT:
            self.extra.append(seen)

    def _lose(self, start: int, end: int) -> None:
        if len(self.absent) < FAULTS_LIMIT:
            self.absent.append((start, end))


class Replay:
    """Feed it each entry line with `feed`, then ask for the faults."""

    _SAY_CHANGED: Final = "the content is not what its hash was made from"

    def __init__(self, sizes: Iterable[int]) -> None:
        """`sizes`: the tree sizes whose roots will be asked for."""
        self._wanted = frozenset(sizes)
        self._tree = Frontier()
        self.roots: dict[int, bytes] = {0: self._tree.root()} if 0 in self._wanted else {}
        self._places = _Places()
        self._heads: dict[str, _Head] = {}
        self._gaps: list[_Gap] = []
        self._repeated: list[_Seen] = []
        self._changed: list[tuple[_Seen, bool]] = []  # the line; whether its writer and number can be believed
        self._faults: list[Fault] = []
        self.dropped = 0

    @property
    def entries(self) -> int:
        """How many entry lines there were."""
        return self._tree.size

    @property
    def writers(self) -> int:
        """How many writers they name."""
        return len(self._heads)

    @property
    def next_index(self) -> int:
        """The index that the next entry would have, going by what the lines claim. Valid after `faults`."""
        return self._places.next

    def feed(self, line: bytes, number: int) -> None:
        """One entry line, with its number in the file."""
        position = self._tree.size
        frame = entry_frame(line)
        if frame is None:
            self._grow(leaf_hash(line))
            self._places.see(_Seen(position, number, None, None))
            return
        content = leaf_hash(frame.body)
        self._grow(content)
        link = _read_link(frame.body)
        seen = _Seen(position, number, frame.index, link)
        self._places.see(seen)
        if content != frame.hash:
            self._change(seen, content, frame.hash)
        elif link is None:
            self._add(seen.fault(FaultKind.DAMAGED, "the content is not the canonical form of an entry"))
        else:
            self._follow(seen, link, content, frame.hash)

    def _grow(self, leaf: bytes) -> None:
        self._tree.append(leaf)
        if self._tree.size in self._wanted:
            self.roots[self._tree.size] = self._tree.root()

    def _change(self, seen: _Seen, content: bytes, listed: bytes) -> None:
        """Content and listed hash disagree. Believe the link only where it fits in, so that the true one stays open."""
        link = seen.link
        believed = False
        if link is not None:
            head = self._heads.get(link.writer)
            believed = link.prev == genesis(link.writer) and link.seq == 1 if head is None else link.seq == head.seq + 1
            if believed:
                self._heads[link.writer] = _Head(link.seq, content, listed, self._index_of(seen))
        if len(self._changed) < FAULTS_LIMIT:
            self._changed.append((seen, believed))
        else:
            self.dropped += 1

    def _follow(self, seen: _Seen, link: _Link, content: bytes, listed: bytes) -> None:
        head = self._heads.get(link.writer)
        index = self._index_of(seen)
        due = 1 if head is None else head.seq + 1
        if link.seq < due:
            if len(self._repeated) < FAULTS_LIMIT:
                self._repeated.append(seen)
            return
        if link.seq > due:
            if len(self._gaps) < FAULTS_LIMIT:
                self._gaps.append(_Gap(link.writer, due, link.seq, -1 if head is None else head.index, index))
        elif head is None:
            if link.prev != genesis(link.writer):
                self._add(seen.fault(FaultKind.CHAIN, "the first entry of a writer that does not start the writer's chain"))
        elif link.prev not in (head.content, head.listed):
            say = f"the next entry of its writer (entry {index}) was made after other content than this"
            self._add(Fault(FaultKind.CHAIN, say, index=head.index, writer=link.writer, seq=head.seq))
        self._heads[link.writer] = _Head(link.seq, content, listed, index)

    def _index_of(self, seen: _Seen) -> int:
        return self._places.next if seen.index is None else seen.index

    def _add(self, fault: Fault) -> None:
        if len(self._faults) < FAULTS_LIMIT:
            self._faults.append(fault)
        else:
            self.dropped += 1

    def faults(self, proven: int) -> list[Fault]:
        """Every disagreement, by index. `proven`: so many leading lines are, by a checkpoint, the right content in order."""
        self._places.close()
        lost = [index for start, end in self._places.absent for index in range(start, min(end, start + FAULTS_LIMIT))]
        moved_numbers = self._judge_lines(lost, proven)
        unplaced = [(seen, self._index_of(seen)) for seen, believed in self._changed if not believed]
        names = self._name(lost + [index for _, index in unplaced])
        for seen, believed in self._changed:
            index = self._index_of(seen)
            if seen.position < proven:
                self._add(seen.fault(FaultKind.LABEL, "the hash beside it is wrong; the content is proven right"))
            elif believed:
                self._add(seen.fault(FaultKind.CHANGED, self._SAY_CHANGED))
            else:
                writer, seq = names.pop(index, (None, None))
                self._add(Fault(FaultKind.CHANGED, self._SAY_CHANGED, index=index, writer=writer, seq=seq, line=seen.line))
        for seen in self._places.extra:
            if seen.index is None:
                place = names.pop(seen.place, (None, None)) if seen.place is not None else (None, None)
                say = "the line can't be read as an entry"
                self._add(Fault(FaultKind.DAMAGED, say, index=seen.place, writer=place[0], seq=place[1], line=seen.line))
                if seen.place in lost:
                    lost.remove(seen.place)
        for index in lost:
            writer, seq = names.get(index, (None, None))
            self._add(Fault(FaultKind.MISSING, "not in the export", index=index, writer=writer, seq=seq))
        self._judge_numbers(moved_numbers)
        return sorted(self._faults, key=lambda fault: (fault.index is None, fault.index or 0))

    def _judge_lines(self, lost: list[int], proven: int) -> set[tuple[str, int]]:
        """Lines that claim an index out of turn. Takes out of `lost` what only moved; returns the numbers of such lines."""
        accounted: set[tuple[str, int]] = set()
        for seen in self._places.extra:
            if seen.index is None:
                continue
            if seen.link is not None:
                accounted.add(seen.link[:2])
            if seen.position < proven:
                self._add(self._wrongly_labelled(seen))
                if seen.place in lost:
                    lost.remove(seen.place)
            elif seen.index in lost:
                lost.remove(seen.index)
                self._add(seen.fault(FaultKind.MOVED, f"stands at place {seen.position if seen.place is None else seen.place}"))
            else:
                self._add(seen.fault(FaultKind.ADDED, "an entry that was not there, or a second copy"))
        for seen in self._places.doubled:
            if seen.link is not None:
                accounted.add(seen.link[:2])
            if seen.position >= proven:
                self._add(seen.fault(FaultKind.ADDED, "one of two lines that claim this index"))
            elif seen.position != seen.index:
                self._add(self._wrongly_labelled(seen))
        return accounted

    @staticmethod
    def _wrongly_labelled(seen: _Seen) -> Fault:
        """Named by where it stands, which is proven, not by the index it claims."""
        return seen.fault(FaultKind.LABEL, "the index beside it is wrong; content and order are proven right", index=seen.position)

    def _name(self, open_indexes: list[int]) -> dict[int, tuple[str | None, int | None]]:
        """Which writer's missing number belongs at which open index, where only one answer fits; fills gaps by doing so."""
        names: dict[int, tuple[str | None, int | None]] = {}
        remaining: list[_Gap] = []
        for gap in self._gaps:
            fitting = sorted(index for index in set(open_indexes) - names.keys() if gap.after < index < gap.before)
            if len(fitting) == gap.until - gap.first:
                names.update((index, (gap.writer, gap.first + i)) for i, index in enumerate(fitting))
            else:
                remaining.append(gap)
        self._gaps = remaining
        return names

    def _judge_numbers(self, accounted: set[tuple[str, int]]) -> None:
        """What only the chains show: numbers that were skipped, and numbers that came again."""
        skipped = {(gap.writer, seq) for gap in self._gaps for seq in range(gap.first, min(gap.until, gap.first + FAULTS_LIMIT))}
        for seen in self._repeated:
            if seen.link is None:
                continue
            number = seen.link[:2]
            if number in skipped:
                skipped.discard(number)
                # where the indexes show which entry of this writer moved, the ones it passed are in order
                if seen.link.writer not in {writer for writer, _ in accounted}:
                    self._add(seen.fault(FaultKind.MOVED, "comes after later entries of its writer"))
            elif number not in accounted:
                self._add(seen.fault(FaultKind.ADDED, "its writer used this number already"))
        for writer, seq in sorted(skipped):
            self._add(Fault(FaultKind.MISSING, "its writer's numbers leave it out", writer=writer, seq=seq))
