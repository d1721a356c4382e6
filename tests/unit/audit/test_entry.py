"""What may be in an entry, its one byte form, and the chain."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.entry import AuditEntry, Chain, Mark, canonical, genesis
from tests.unit.audit.making import FULL, PLAIN

TEXT_FIELDS = [f.name for f in dataclasses.fields(AuditEntry) if f.type == "str | None"]
NOT_CODES = ["two words", "a@b", "caf\u00e9", 'a"b', "a\nb", "a\n", "\n", "x" * 129, "a,b", "(905)", "\ud800", "a\\b", "+1", "\x00"]


@pytest.mark.parametrize("name", TEXT_FIELDS)
@pytest.mark.parametrize("value", NOT_CODES, ids=range(len(NOT_CODES)))
def test_no_field_takes_free_text(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"audit entry: {name} is not code-like") as caught:
        dataclasses.replace(PLAIN, **{name: value})  # type: ignore[arg-type]  # all the fields named here are texts
    assert value not in str(caught.value) or value == "\n"


@pytest.mark.parametrize("value", NOT_CODES, ids=range(len(NOT_CODES)))
def test_no_list_takes_free_text(value: str) -> None:
    for change in ({"consents": ("ok", value)}, {"classes": (value,)}, {"detail": (("k", value),)}, {"detail": ((value, "v"),)}):
        with pytest.raises(ValueError, match=f"audit entry: {next(iter(change))}"):
            dataclasses.replace(PLAIN, **change)


def test_a_newline_does_not_hide_beside_an_empty_value() -> None:
    with pytest.raises(ValueError, match="classes"):
        dataclasses.replace(PLAIN, actor_party="", classes=("a\nb",))


@pytest.mark.parametrize("at", ["2026-01-05", "2026-01-05T02:03:04Z", "2026-01-05T02:03:04.005+00:00", "\u0662026-01-05T02:03:04.005Z"])
def test_time_is_utc_with_milliseconds(at: str) -> None:
    with pytest.raises(ValueError, match="at is not"):
        dataclasses.replace(PLAIN, at=at)


def test_detail_keys_are_distinct() -> None:
    with pytest.raises(ValueError, match="distinct"):
        dataclasses.replace(PLAIN, detail=(("k", "1"), ("k", "2")))


def test_everything_but_what_is_absent_is_in_the_body() -> None:
    body = json.loads(canonical(FULL, "w1", 7, b"\x01" * 32))
    expected = {name: value for name, value in dataclasses.asdict(FULL).items() if value not in (None, ())}
    expected |= {"detail": dict(FULL.detail), "consents": list(FULL.consents), "classes": list(FULL.classes)}
    assert body == expected | {"v": 1, "writer": "w1", "seq": 7, "prev": "01" * 32}
    assert set(json.loads(canonical(PLAIN, "w1", 1, bytes(32)))) == {"action", "at", "outcome", "prev", "seq", "v", "writer"}


def test_the_body_is_sorted_compact_ascii() -> None:
    body = canonical(FULL, "w1", 7, b"\x01" * 32)
    assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()


def test_chain_links_and_hashes_as_documented() -> None:
    chain = Chain("w1")
    first, second = chain.append(PLAIN), chain.append(FULL)
    assert (first.seq, second.seq) == (1, 2)
    assert first.prev == hashlib.sha256(b"gateway audit chain v1\nw1").digest() == genesis("w1")
    assert first.hash == hashlib.sha256(b"\x00" + first.body).digest()
    assert second.prev == first.hash
    assert json.loads(second.body)["prev"] == first.hash.hex()


def test_two_writers_never_share_a_hash() -> None:
    assert Chain("w1").append(PLAIN).hash != Chain("w2").append(PLAIN).hash


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
def test_rolled_back_batches_leave_no_gap(batches: list[tuple[int, bool]]) -> None:
    chain, control = Chain("w"), Chain("w")
    for size, committed in batches:
        mark = chain.mark()
        made = [chain.append(PLAIN) for _ in range(size)]
        if committed:
            assert made == [control.append(PLAIN) for _ in range(size)]
        else:
            chain.rewind(mark)
    assert chain.mark() == control.mark()


def test_a_chain_does_not_rewind_forward() -> None:
    chain = Chain("w")
    chain.append(PLAIN)
    ahead = chain.mark()
    chain.rewind(Mark(0, genesis("w")))
    with pytest.raises(ValueError, match="earlier"):
        chain.rewind(ahead)


@pytest.mark.parametrize("writer", ["", "a b", "w\n", "-w", "x" * 65, "\u00e9"])
def test_writer_ids_are_safe_to_print(writer: str) -> None:
    with pytest.raises(ValueError, match="writer id"):
        Chain(writer)
