"""Merkle hash trees as RFC 6962 section 2.1 (and RFC 9162 section 2.1) define them, over SHA-256.

Pure: no I/O, no clock, no framework. Two shapes of the same tree::

    Frontier   what a log needs to grow: the roots of its complete subtrees, O(log n) memory, O(1) amortised append
    Tree       every complete subtree, so that any proof can be made in O(log^2 n)

Leaves come in as *leaf hashes* (`leaf_hash` of the entry), because that is what a log stores beside each entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "Frontier",
    "Tree",
    "leaf_hash",
    "node_hash",
    "verify_consistency",
    "verify_inclusion",
]

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
"""MTH({}) = SHA-256() (RFC 6962, 2.1)."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data): the prefix keeps a leaf from ever passing as a node (RFC 6962, 2.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right) (RFC 6962, 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def _root_of(subtrees: Sequence[bytes]) -> bytes:
    """The root over complete subtrees given largest first: each smaller one hangs to the right of all before it."""
    if not subtrees:
        return EMPTY_ROOT
    root = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        root = node_hash(left, root)
    return root


class Frontier:
    """A growing tree reduced to the roots of its complete subtrees, largest first.

    There is exactly one for each 1 bit of `size`. Appending touches as many of them as `size` has trailing 1 bits.
    """

    __slots__ = ("_size", "_subtrees")

    def __init__(self, size: int = 0, subtrees: Iterable[bytes] = ()) -> None:
        """A frontier as `size` and `subtrees` of an earlier one describe it; ValueError if the two don't fit."""
        self._size = size
        self._subtrees = list(subtrees)
        if size < 0 or len(self._subtrees) != size.bit_count() or any(len(h) != HASH_SIZE for h in self._subtrees):
            raise ValueError("a frontier has one 32-byte hash for each 1 bit of its size")

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    @property
    def subtrees(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, largest first: all that is needed to go on growing."""
        return tuple(self._subtrees)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        size = self._size
        stack = self._subtrees
        while size & 1:
            leaf = node_hash(stack.pop(), leaf)
            size >>= 1
        stack.append(leaf)
        self._size += 1

    def root(self) -> bytes:
        """The root hash at the present size."""
        return _root_of(self._subtrees)

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        return Frontier(self._size, self._subtrees)


class Tree:
    """A whole tree in memory, for proofs. `levels[k][i]` is the root of the leaves from ``i * 2**k`` to ``(i + 1) * 2**k``."""

    __slots__ = ("_levels",)

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        level = 0
        self._levels[0].append(leaf)
        while len(self._levels[level]) % 2 == 0:
            parent = node_hash(self._levels[level][-2], self._levels[level][-1])
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(parent)

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves (all of them when not given)."""
        end = self._size_or_all(size)
        return self._range(0, end)

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH(index, D[size]): proves that leaf `index` is in the tree of `size` (RFC 6962, 2.1.1; RFC 9162, 2.1.3.1)."""
        end = self._size_or_all(size)
        if not 0 <= index < end:
            raise ValueError("the leaf is not in a tree of that size")
        start = 0
        proof: list[bytes] = []
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start = middle
        proof.reverse()
        return proof

    def consistency_proof(self, first: int, second: int | None = None) -> list[bytes]:
        """PROOF(first, D[second]): proves that the tree of `second` only adds to that of `first` (RFC 6962, 2.1.2; RFC 9162, 2.1.4.1)."""
        end = self._size_or_all(second)
        if not 0 < first <= end:
            raise ValueError("a consistency proof goes from a non-empty tree to one at least as large")
        start, known = 0, True
        proof: list[bytes] = []
        while first != end:
            middle = start + _split(end - start)
            if first <= middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start, known = middle, False
        if not known:
            proof.append(self._range(start, end))
        proof.reverse()
        return proof

    def _size_or_all(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ValueError("the tree is smaller than that")
        return size

    def _range(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]) where `start` is a multiple of the largest power of two below the length."""
        subtrees: list[bytes] = []
        while start < end:
            level = (end - start).bit_length() - 1
            subtrees.append(self._levels[level][start >> level])
            start += 1 << level
        return _root_of(subtrees)


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (k in RFC 6962, 2.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that `leaf` is leaf `index` of the tree with this `size` and `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the second tree only adds to the first (RFC 9162, 2.1.4.2).

    An empty first tree is consistent with every tree and needs no proof; RFC 9162 leaves it out.
    """
    if first < 0 or first > second:
        return False
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof and first_root == EMPTY_ROOT
    path = list(proof)
    if not path:
        return False
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root
