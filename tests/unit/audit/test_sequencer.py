"""From chains to one tree: order, crashes at every step, and what it refuses to sign."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.checkpoint import Checkpoint, Signer, parse, sign, verify
from gateway.audit.entry import Chain, SealedEntry
from gateway.audit.merkle import Frontier, Tree, verify_consistency
from gateway.audit.sequencer import Head, Leaf, LogDamaged, Pending, Sequencer, SequencerConflict, StoredCheckpoint, run
from gateway.audit.verify import verify_export
from tests.unit.audit.making import KEY, ORIGIN, OTHER_KEY, PLAIN, VKEY, export


class Crash(Exception):
    """The process or the database went away; what it was doing may or may not have been committed."""


@dataclass
class MemoryStore:
    """The store's contract, kept in memory. `crash_at` counts writes down and fails one, before or after it took effect."""

    entries: list[SealedEntry] = field(default_factory=list)
    tree: list[Leaf] = field(default_factory=list)
    checkpoints: list[StoredCheckpoint] = field(default_factory=list)
    crash_at: int = -1
    crash_after_commit: bool = False
    sealed_again: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def newest_checkpoint(self) -> StoredCheckpoint | None:
        return max(self.checkpoints, key=lambda c: c.size, default=None)

    async def leaves(self, start: int, limit: int) -> Sequence[bytes]:
        return [leaf.hash for leaf in self.tree[start : start + limit]]

    async def heads(self) -> Mapping[str, Head]:
        return {leaf.writer: Head(leaf.seq, leaf.hash) for leaf in self.tree}

    async def unsequenced(self, limit: int) -> Sequence[Pending]:
        taken = {(leaf.writer, leaf.seq) for leaf in self.tree}
        return [Pending(e.writer, e.seq, e.hash, e.body) for e in self.entries if (e.writer, e.seq) not in taken][:limit]

    async def append_leaves(self, first_index: int, leaves: Sequence[Leaf]) -> None:
        crash = self._crashes()
        if crash and not self.crash_after_commit:
            raise Crash
        if first_index != len(self.tree):
            raise SequencerConflict
        self.tree += leaves
        if crash:
            raise Crash

    async def put_checkpoint(self, stored: StoredCheckpoint) -> None:
        crash = self._crashes()
        if crash and not self.crash_after_commit:
            raise Crash
        if any(c.size >= stored.size for c in self.checkpoints):
            raise SequencerConflict
        async with self.sealed_again:
            self.checkpoints.append(stored)
            self.sealed_again.notify_all()
        if crash:
            raise Crash

    def _crashes(self) -> bool:
        self.crash_at -= 1
        return self.crash_at == -1

    async def reached(self, count: int) -> None:
        async with self.sealed_again:
            await self.sealed_again.wait_for(lambda: len(self.checkpoints) >= count)

    def sealed(self) -> list[SealedEntry]:
        by_place = {(e.writer, e.seq): e for e in self.entries}
        return [by_place[leaf.writer, leaf.seq] for leaf in self.tree]


def write(store: MemoryStore, chains: dict[str, Chain], writer: str, count: int = 1) -> None:
    chain = chains.setdefault(writer, Chain(writer))
    store.entries += [chain.append(PLAIN) for _ in range(count)]


def filled(count: int = 5) -> MemoryStore:
    store = MemoryStore()
    chains: dict[str, Chain] = {}
    for _ in range(count):
        write(store, chains, "a")
        write(store, chains, "b")
    return store


async def drained(store: MemoryStore) -> Sequencer:
    sequencer = await Sequencer.restore(store, KEY)
    while await sequencer.step(3):
        pass
    await sequencer.seal()
    return sequencer


async def test_entries_of_all_writers_become_one_signed_tree() -> None:
    store = filled()
    sequencer = await drained(store)
    assert sequencer.size == 10
    signed = parse(store.checkpoints[-1].note)
    assert verify(signed, [KEY.verifier])
    assert signed.checkpoint == Checkpoint(ORIGIN, 10, Tree(leaf.hash for leaf in store.tree).root())
    assert {leaf.writer: leaf.seq for leaf in store.tree} == {"a": 5, "b": 5}


async def test_nothing_new_is_not_signed_again() -> None:
    store = filled()
    sequencer = await drained(store)
    assert await sequencer.step() == 0
    assert await sequencer.seal() is None
    assert len(store.checkpoints) == 1


async def test_an_empty_log_is_not_signed() -> None:
    store = MemoryStore()
    await drained(store)
    assert not store.checkpoints


@given(
    st.lists(
        st.one_of(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), st.tuples(st.integers(0, 6), st.booleans()), st.none()),
        max_size=25,
    ),
    st.booleans(),
)
def test_a_crash_at_any_write_never_changes_what_was_signed(events: list[tuple[str | int, int] | None], whole: bool) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        chains: dict[str, Chain] = {}
        sequencer: Sequencer | None = None
        orders: list[list[Leaf]] = []
        for event in [*events, None]:
            if event is not None and isinstance(event[0], str):
                write(store, chains, event[0], event[1])
            elif event is not None:
                store.crash_at, store.crash_after_commit = int(event[0]), bool(event[1])
            else:
                try:
                    sequencer = sequencer or await Sequencer.restore(store, KEY, whole=whole)
                    while await sequencer.step(2):
                        await sequencer.seal()
                    await sequencer.seal()
                except Crash:
                    sequencer = None
            orders.append(list(store.tree))
        assert all(store.tree[: len(order)] == order for order in orders)
        store.crash_at = -1
        await drained(store)
        assert len(store.tree) == len(store.entries)
        tree = Tree(leaf.hash for leaf in store.tree)
        for c in store.checkpoints:
            signed = parse(c.note).checkpoint
            assert signed.size == 0 or verify_consistency(
                signed.size, tree.size, signed.root, tree.root(), tree.consistency_proof(signed.size)
            )

    asyncio.run(scenario())


async def test_what_is_sequenced_verifies_offline() -> None:
    store = filled(20)
    await drained(store)
    assert verify_export(await asyncio.to_thread(export, store.sealed(), [store.checkpoints[-1].note]), trusted_keys=[VKEY]).ok


# two at once


async def test_two_sequencers_can_not_fork_the_log() -> None:
    store = filled()
    first, second = await Sequencer.restore(store, KEY), await Sequencer.restore(store, KEY)
    assert await first.step(4) == 4
    with pytest.raises(SequencerConflict):
        await second.step(6)
    third = await Sequencer.restore(store, KEY)
    await third.step()
    await third.seal()
    with pytest.raises(SequencerConflict):
        await first.seal()
    assert len(store.checkpoints) == 1


# refusing to sign


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


async def test_a_changed_leaf_stops_the_sequencer() -> None:
    store = filled()
    await drained(store)
    store.tree[4] = store.tree[4]._replace(hash=flip(store.tree[4].hash))
    with pytest.raises(LogDamaged, match="not those the checkpoint was signed over"):
        await Sequencer.restore(store, KEY)


async def test_a_changed_frontier_stops_the_sequencer() -> None:
    store = filled()
    await drained(store)
    store.checkpoints[0] = replace(store.checkpoints[0], frontier=flip(store.checkpoints[0].frontier))
    with pytest.raises(LogDamaged, match="not those the checkpoint was signed over"):
        await Sequencer.restore(store, KEY, whole=False)
    store.checkpoints[0] = replace(store.checkpoints[0], frontier=b"")
    with pytest.raises(LogDamaged, match="frontier"):
        await Sequencer.restore(store, KEY, whole=False)


async def test_a_tree_restored_before_its_checkpoint_stops_the_sequencer() -> None:
    store = filled()
    await drained(store)
    del store.tree[8:]
    with pytest.raises(LogDamaged, match="covers 10 entries, the tree has 8"):
        await Sequencer.restore(store, KEY)


@pytest.mark.parametrize("key", [OTHER_KEY, Signer.of("other.example/log", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))])
async def test_a_checkpoint_of_another_key_or_log_stops_the_sequencer(key: Signer) -> None:
    store = filled()
    await drained(store)
    size = store.checkpoints[0].size
    note = sign(Checkpoint(key.verifier.name, size, Tree(leaf.hash for leaf in store.tree).root()), key)
    store.checkpoints[0] = replace(store.checkpoints[0], note=note)
    with pytest.raises(LogDamaged, match="not signed by this log's key"):
        await Sequencer.restore(store, KEY)


async def test_a_checkpoint_that_names_another_log_stops_the_sequencer() -> None:
    store = filled()
    await drained(store)
    text = Checkpoint("other.example/log", 10, Tree(leaf.hash for leaf in store.tree).root()).text
    store.checkpoints[0] = replace(store.checkpoints[0], note=f"{text}\n{KEY.line(text)}")
    with pytest.raises(LogDamaged, match="of another log"):
        await Sequencer.restore(store, KEY)


async def test_a_former_key_is_accepted_when_named() -> None:
    store = filled()
    await drained(store)
    with pytest.raises(LogDamaged):
        await Sequencer.restore(store, OTHER_KEY)
    assert (await Sequencer.restore(store, OTHER_KEY, former=[KEY.verifier])).size == 10


async def test_a_checkpoint_row_that_lies_about_its_size_stops_the_sequencer() -> None:
    store = filled()
    await drained(store)
    store.checkpoints[0] = replace(store.checkpoints[0], size=9)
    with pytest.raises(LogDamaged, match="another size"):
        await Sequencer.restore(store, KEY)


async def test_a_missing_head_stops_the_sequencer() -> None:
    store = filled()
    await drained(store)
    store.tree[-1] = store.tree[-1]._replace(seq=4)
    with pytest.raises(LogDamaged, match="not as many"):
        await Sequencer.restore(store, KEY)


@pytest.mark.parametrize(
    ("spoil", "say"),
    [
        (lambda entries: entries.pop(2), "entry 2 is not there, entry 3 is"),
        (lambda entries: entries.__setitem__(2, replace(entries[2], body=entries[2].body + b" ")), "not what its hash was made from"),
        (lambda entries: entries.__setitem__(0, Chain("a").append(replace(PLAIN, version="9"))), "does not continue entry 1"),
    ],
    ids=["gap", "body", "link"],
)
async def test_an_entry_that_does_not_continue_its_chain_is_not_sealed(spoil: object, say: str) -> None:
    store = filled()
    assert callable(spoil)
    spoil(store.entries)
    with pytest.raises(LogDamaged, match=say):
        await drained(store)
    assert not store.checkpoints


# running


async def test_run_seals_what_arrives_and_stops_clean() -> None:
    store, stop = MemoryStore(), asyncio.Event()
    chains: dict[str, Chain] = {}
    task = asyncio.create_task(run(store, KEY, stop=stop, interval=0.02))
    for size in (1, 2, 3):
        write(store, chains, "a")
        await asyncio.wait_for(store.reached(size), 5)
    write(store, chains, "a", 700)  # more than a batch, and the stop right behind it
    stop.set()
    await asyncio.wait_for(task, 5)
    assert store.checkpoints[-1].size == 703
    raw = store.checkpoints[-1].frontier
    frontier = Frontier(703, [raw[i : i + 32] for i in range(0, len(raw), 32)])
    assert frontier.root() == parse(store.checkpoints[-1].note).checkpoint.root


async def test_an_entry_committed_as_the_stop_comes_is_still_sealed() -> None:
    stop = asyncio.Event()

    class LateStore(MemoryStore):
        async def unsequenced(self, limit: int) -> Sequence[Pending]:
            before = await super().unsequenced(limit)
            if not stop.is_set():
                write(self, {}, "late")
                stop.set()
            return before

    store = LateStore()
    await asyncio.wait_for(run(store, KEY, stop=stop, interval=0.01), 5)
    assert [c.size for c in store.checkpoints] == [1]


async def test_run_lets_trouble_out() -> None:
    store = filled()
    store.crash_at = 0
    with pytest.raises(Crash):
        await run(store, KEY, stop=asyncio.Event(), interval=0.01)
