"""The tree against the vectors that Certificate Transparency implementations publish, and against RFC 6962's own definition."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway.audit.merkle as module
from gateway.audit.merkle import EMPTY_ROOT, Frontier, Tree, leaf_hash, verify_consistency, verify_inclusion

# The inputs and roots that certificate-transparency and transparency-dev/merkle test against.
INPUTS = [
    bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 2): ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"],
    (1, 2): ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


def defined_root(data: list[bytes]) -> bytes:
    """MTH, written down as RFC 6962, 2.1 has it."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\x01" + defined_root(data[:k]) + defined_root(data[k:])).digest()


def tree_of(data: list[bytes]) -> Tree:
    return Tree(leaf_hash(d) for d in data)


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    frontier = Frontier()
    for data in INPUTS[:size]:
        frontier.append(leaf_hash(data))
    assert frontier.root().hex() == ROOTS[size] == tree_of(INPUTS).root(size).hex()


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int) -> None:
    proof = tree_of(INPUTS).inclusion_proof(index, size)
    assert [p.hex() for p in proof] == INCLUSION[index, size]
    assert verify_inclusion(index, size, leaf_hash(INPUTS[index]), proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_published_consistency_proofs(first: int, second: int) -> None:
    proof = tree_of(INPUTS).consistency_proof(first, second)
    assert [p.hex() for p in proof] == CONSISTENCY[first, second]
    assert verify_consistency(first, second, bytes.fromhex(ROOTS[first]), bytes.fromhex(ROOTS[second]), proof)


@given(st.lists(st.binary(max_size=3), max_size=70))
def test_roots_are_what_the_rfc_defines(data: list[bytes]) -> None:
    frontier, tree = Frontier(), Tree()
    for i, entry in enumerate(data):
        assert frontier.root() == tree.root() == defined_root(data[:i])
        frontier.append(leaf_hash(entry))
        tree.append(leaf_hash(entry))
    assert frontier.root() == tree.root() == defined_root(data)
    assert len(frontier.subtrees) == frontier.size.bit_count()
    assert all(tree.root(size) == defined_root(data[:size]) for size in range(len(data) + 1))


def test_every_proof_up_to_forty_leaves_holds_and_for_nothing_else() -> None:
    data = [bytes([i]) for i in range(40)]
    tree = tree_of(data)
    for size in range(1, 41):
        root = defined_root(data[:size])
        for index in range(size):
            proof = tree.inclusion_proof(index, size)
            assert verify_inclusion(index, size, leaf_hash(data[index]), proof, root)
            assert not verify_inclusion((index + 1) % (size + 1), size, leaf_hash(data[index]), proof, root)
            assert not verify_inclusion(index, size, leaf_hash(b"other"), proof, root)
            assert not verify_inclusion(index, 2 * size, leaf_hash(data[index]), proof, root)
            assert not verify_inclusion(index, size, leaf_hash(data[index]), [*proof, root], root)
            assert not proof or not verify_inclusion(index, size, leaf_hash(data[index]), proof[:-1], root)
        for first in range(1, size + 1):
            proof = tree.consistency_proof(first, size)
            old = defined_root(data[:first])
            assert verify_consistency(first, size, old, root, proof)
            assert not verify_consistency(first, size, defined_root([*data[: first - 1], b"other"]), root, proof)
            assert not verify_consistency(first, size, old, leaf_hash(b"other"), proof)
            assert not verify_consistency(first, size, old, root, [*proof, root])
            assert not proof or not verify_consistency(first, size, old, root, proof[:-1])


@given(st.integers(2, 60), st.data())
def test_a_changed_history_has_no_consistency_proof(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, size - 1))
    changed = data.draw(st.integers(0, first - 1))
    before = [bytes([i]) for i in range(size)]
    after = [*before[:changed], b"changed", *before[changed + 1 :]]
    proof = tree_of(after).consistency_proof(first, size)
    assert not verify_consistency(first, size, defined_root(before[:first]), defined_root(after), proof)


def test_edges_of_verification() -> None:
    root = tree_of(INPUTS).root()
    assert verify_consistency(0, 8, EMPTY_ROOT, root, [])
    assert not verify_consistency(0, 8, root, root, [])
    assert not verify_consistency(8, 7, root, root, [])
    assert not verify_consistency(3, 8, root, root, [])
    assert verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    assert not verify_inclusion(8, 8, root, [], root)
    assert not verify_inclusion(-1, 8, root, [], root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3), (0, 9)])
def test_no_proof_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="tree"):
        tree_of(INPUTS).inclusion_proof(index, size)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (4, 3), (1, 9)])
def test_no_consistency_proof_backwards(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="tree"):
        tree_of(INPUTS).consistency_proof(first, second)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=20), st.lists(st.binary(min_size=32, max_size=32), max_size=20))
def test_a_frontier_can_be_put_away_and_taken_up(start: list[bytes], rest: list[bytes]) -> None:
    whole, first = Frontier(), Frontier()
    for leaf in start:
        whole.append(leaf)
        first.append(leaf)
    resumed = Frontier(first.size, first.subtrees)
    for leaf in rest:
        whole.append(leaf)
        resumed.append(leaf)
    assert resumed.root() == whole.root()
    assert first.size == len(start)


@pytest.mark.parametrize(("size", "count"), [(1, 0), (3, 1), (-1, 1), (0, 1)])
def test_a_frontier_that_does_not_fit_is_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="frontier"):
        Frontier(size, [bytes(32)] * count)
    with pytest.raises(ValueError, match="frontier"):
        Frontier(1, [bytes(31)])


def test_the_module_is_pure() -> None:
    source = Path(module.__file__).read_text(encoding="utf-8")
    imported = {
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {"__future__", "collections.abc", "hashlib", "typing"}
