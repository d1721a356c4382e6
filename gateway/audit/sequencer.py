"""Turns the chains of all writers into one tree and signs what it has become.

One sequencer works at a time (the store holds a lease); two at once can't fork the log all the same, because a leaf is
committed at an index that must be the next one, and a checkpoint is only ever signed over leaves that are committed.

    unsequenced entries --step--> leaves, committed in order --seal--> checkpoint, signed, stored

What may go wrong, and what then happens (`run` lets all of it out; whoever supervises it starts it again)::

    LogDamaged           stored entries, leaves and checkpoint contradict each other: nothing is signed, a person must look
    SequencerConflict    another sequencer was here, or the lease is gone: start again from what is stored
    anything else        the store's own trouble; a commit may or may not have happened: start again from what is stored
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import orjson

from gateway.audit import checkpoint as notes
from gateway.audit.entry import genesis
from gateway.audit.merkle import HASH_SIZE, Frontier, leaf_hash

__all__ = [
    "AuditStore",
    "Head",
    "Leaf",
    "LogDamaged",
    "Pending",
    "Sequencer",
    "SequencerConflict",
    "StoredCheckpoint",
    "plan",
    "run",
]

BATCH: Final = 256
"""Entries taken at a time: about 2 ms of hashing between two awaits."""

_READ: Final = 4096
"""Leaf hashes read at a time when the tree is rebuilt."""


class LogDamaged(Exception):
    """What is stored contradicts itself. The message names entries by index, writer and number only."""


class SequencerConflict(Exception):
    """The store has moved on under this sequencer, or its lease has ended. Raised by stores."""


class Pending(NamedTuple):
    """A committed entry that has no place in the tree yet."""

    writer: str
    seq: int
    hash: bytes
    body: bytes


class Leaf(NamedTuple):
    """An entry's place in the tree is the index it is appended at."""

    writer: str
    seq: int
    hash: bytes


class Head(NamedTuple):
    """The newest entry of a writer that is in the tree."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint with the frontier (subtree roots, largest first, joined) of the tree it was signed over."""

    size: int
    note: str
    frontier: bytes


class AuditStore(Protocol):
    """What the sequencer needs of the database. All of it sees committed rows only."""

    async def newest_checkpoint(self) -> StoredCheckpoint | None:
        """The checkpoint of the greatest size."""
        ...

    async def leaves(self, start: int, limit: int) -> Sequence[bytes]:
        """Leaf hashes from index `start` on, in order, at most `limit`; empty past the end."""
        ...

    async def heads(self) -> Mapping[str, Head]:
        """For each writer that has entries in the tree, the newest of them."""
        ...

    async def unsequenced(self, limit: int) -> Sequence[Pending]:
        """Entries not in the tree: those of one writer by number, without a gap after its head; oldest first across
        writers, so that a busy writer doesn't keep a quiet one waiting."""
        ...

    async def append_leaves(self, first_index: int, leaves: Sequence[Leaf]) -> None:
        """Commit leaves at `first_index` and on, all or none, durably.

        SequencerConflict when the tree's size isn't `first_index` or the lease is not held. A row once written is never
        changed.
        """
        ...

    async def put_checkpoint(self, stored: StoredCheckpoint) -> None:
        """Commit a checkpoint durably. SequencerConflict when one of this size or a greater one is there, or the lease
        is not held."""
        ...


def plan(heads: Mapping[str, Head], pending: Sequence[Pending]) -> list[Leaf]:
    """The leaves for `pending`, in its order. LogDamaged when an entry doesn't continue its writer's chain.

    Recomputes each hash from the body, so that nothing enters the tree that a verifier would reject.
    """
    newest = dict(heads)
    leaves = []
    for entry in pending:
        head = newest.get(entry.writer) or Head(0, genesis(entry.writer))
        if entry.seq != head.seq + 1:
            raise LogDamaged(f"writer {entry.writer}: entry {head.seq + 1} is not there, entry {entry.seq} is")
        if leaf_hash(entry.body) != entry.hash:
            raise LogDamaged(f"writer {entry.writer}: entry {entry.seq} is not what its hash was made from")
        if orjson.loads(entry.body).get("prev") != head.hash.hex():
            raise LogDamaged(f"writer {entry.writer}: entry {entry.seq} does not continue entry {head.seq}")
        newest[entry.writer] = Head(entry.seq, entry.hash)
        leaves.append(Leaf(entry.writer, entry.seq, entry.hash))
    return leaves


class Sequencer:
    """The log as one sequencer sees it: the tree so far, each writer's head, the size last signed.

    After any exception out of `step` or `seal` the object no longer knows what is stored: drop it and `restore` another.
    """

    __slots__ = ("_heads", "_key", "_signed", "_store", "_tree")

    def __init__(self, store: AuditStore, key: notes.Signer, tree: Frontier, heads: Mapping[str, Head], signed: int | None) -> None:
        self._store = store
        self._key = key
        self._tree = tree
        self._heads = dict(heads)
        self._signed = signed

    @classmethod
    async def restore(
        cls, store: AuditStore, key: notes.Signer, *, former: Sequence[notes.VerifierKey] = (), whole: bool = True
    ) -> Sequencer:
        """Rebuild the tree from what is stored and hold it against the newest checkpoint.

        LogDamaged when the checkpoint isn't of this log (`key`, or a `former` key of it), the leaves it covers are not
        all there, or they give another root: signing on would put the log's name under two histories. With `whole` every
        leaf is read; without, the tree starts from the stored frontier and only leaves after the checkpoint are read.
        """
        stored = await store.newest_checkpoint()
        tree = Frontier()
        if stored is None:
            await _grow(store, tree, None)
        else:
            signed = _trusted(stored, key, former)
            if whole:
                await _grow(store, tree, stored.size)
            else:
                tree = _thaw(stored)
            if tree.size != stored.size:
                raise LogDamaged(f"the checkpoint covers {stored.size} entries, the tree has {tree.size}")
            if tree.root() != signed.root:
                raise LogDamaged(f"the {stored.size} entries in the tree are not those the checkpoint was signed over")
            await _grow(store, tree, None)
        heads = await store.heads()
        if sum(head.seq for head in heads.values()) != tree.size:
            size = tree.size
            await _grow(store, tree, None)
            if tree.size != size:
                raise SequencerConflict("leaves were added while the tree was being rebuilt")
            raise LogDamaged("the writers' entries in the tree are not as many as its leaves")
        return cls(store, key, tree, heads, None if stored is None else stored.size)

    @property
    def size(self) -> int:
        """How many leaves are committed."""
        return self._tree.size

    @property
    def grown(self) -> bool:
        """Whether there is something to sign."""
        return self._tree.size > (self._signed or 0)

    async def step(self, limit: int = BATCH) -> int:
        """Take up to `limit` entries into the tree; how many there were."""
        pending = await self._store.unsequenced(limit)
        if not pending:
            return 0
        try:
            leaves = plan(self._heads, pending)
        except LogDamaged:
            if await self._store.leaves(self._tree.size, 1):  # not a gap: another sequencer took what seems to be missing
                raise SequencerConflict("leaves were added by another sequencer") from None
            raise
        await self._store.append_leaves(self._tree.size, leaves)
        for leaf in leaves:
            self._tree.append(leaf.hash)
            self._heads[leaf.writer] = Head(leaf.seq, leaf.hash)
        return len(leaves)

    async def seal(self) -> str | None:
        """Sign and store a checkpoint of the tree as committed; the note, or None when the tree has not grown."""
        if not self.grown:
            return None
        size = self._tree.size
        note = notes.sign(notes.Checkpoint(self._key.verifier.name, size, self._tree.root()), self._key)
        await self._store.put_checkpoint(StoredCheckpoint(size, note, b"".join(self._tree.subtrees)))
        self._signed = size
        return note


def _trusted(stored: StoredCheckpoint, key: notes.Signer, former: Sequence[notes.VerifierKey]) -> notes.Checkpoint:
    try:
        signed = notes.parse(stored.note)
        notes.verify(signed, [key.verifier, *former])
    except notes.NoteError:
        raise LogDamaged("the newest checkpoint is not signed by this log's key") from None
    if signed.checkpoint.origin != key.verifier.name or signed.checkpoint.size != stored.size:
        raise LogDamaged("the newest checkpoint is of another log or another size than its row says")
    return signed.checkpoint


def _thaw(stored: StoredCheckpoint) -> Frontier:
    raw = stored.frontier
    try:
        return Frontier(stored.size, (raw[i : i + HASH_SIZE] for i in range(0, len(raw), HASH_SIZE)))
    except ValueError:
        raise LogDamaged("the stored frontier does not fit the checkpoint's size") from None


async def _grow(store: AuditStore, tree: Frontier, until: int | None) -> None:
    """Append stored leaves to the tree, up to the size `until` or to the end."""
    while until is None or tree.size < until:
        limit = _READ if until is None else min(_READ, until - tree.size)
        hashes = await store.leaves(tree.size, limit)
        if not hashes:
            return
        for digest in hashes:
            tree.append(digest)


async def run(
    store: AuditStore,
    key: notes.Signer,
    *,
    stop: asyncio.Event,
    interval: float = 1.0,
    former: Sequence[notes.VerifierKey] = (),
    whole: bool = True,
) -> None:
    """Sequence and sign until `stop` is set, then once more, so that a clean shutdown leaves nothing unsealed.

    While entries arrive, at most `interval` seconds of real time pass between two checkpoints; while none do, none is
    signed. Returns only after `stop`; every error comes out (see the module's list).
    """
    sequencer = await Sequencer.restore(store, key, former=former, whole=whole)
    loop = asyncio.get_running_loop()
    last = loop.time()
    while True:
        stopping = stop.is_set()
        full = await sequencer.step() == BATCH
        if not full or loop.time() - last >= interval / 2:
            await sequencer.seal()
            last = loop.time()
        if full:
            continue
        if stopping:
            return
        try:
            await asyncio.wait_for(stop.wait(), interval / 2)
        except TimeoutError:
            continue
