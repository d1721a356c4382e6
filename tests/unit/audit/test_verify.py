"""Every way to tamper with an export is found, and the entry is named."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.checkpoint import SignatureType, Signer, cosign
from gateway.audit.entry import Chain, SealedEntry
from gateway.audit.merkle import leaf_hash
from gateway.audit.report import ExitCode, Fault, FaultKind, KeySource, VerifyReport
from gateway.audit.verify import verify_export
from tests.unit.audit.making import OTHER_KEY, PLAIN, VKEY, Log, export, make_log

WRITERS = ["a", "b", "a", "c", "b", "a", "a", "b", "c", "a", "b", "a"]
LOG = make_log(WRITERS, seal_at=[5, 12])
LINES = LOG.lines()
ENTRIES_AT = 3  # header and two checkpoints come first
writers = st.lists(st.sampled_from("abc"), min_size=2, max_size=12)


def check(lines: list[bytes], since: str | None = None) -> VerifyReport:
    return verify_export(lines, trusted_keys=[VKEY], since=since)


def covers(fault: Fault, index: int) -> bool:
    return fault.index is not None and fault.index <= index < (fault.until or fault.index + 1)


def named(report: VerifyReport, kind: FaultKind, index: int, entry: SealedEntry | None = None) -> bool:
    """Whether a fault of this kind names the entry: its index alone, and its writer and number when they are asked for."""
    return any(
        fault.kind is kind
        and fault.index == index
        and fault.until is None
        and (entry is None or (fault.writer, fault.seq) == (entry.writer, entry.seq))
        for fault in report.faults
    )


def is_last_of_its_writer(index: int, entries: list[SealedEntry]) -> bool:
    return all(entry.writer != entries[index].writer for entry in entries[index + 1 :])


def split_again(data: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+\Z", data)


# sound exports


def test_a_sound_export_is_sound() -> None:
    report = check(LINES)
    assert report.exit_code is ExitCode.SOUND
    assert (report.entries, report.sealed, report.unsealed, report.writers) == (12, 12, 0, 3)
    assert [(c.size, c.trusted, c.matches) for c in report.checkpoints] == [(5, True, True), (12, True, True)]
    assert report.key_source is KeySource.GIVEN
    assert not report.warnings
    assert report.newest == LOG.notes[-1]


@given(writers, st.data())
def test_every_log_verifies_and_grows_from_every_checkpoint(order: list[str], data: st.DataObject) -> None:
    seals = data.draw(st.sets(st.integers(0, len(order)), min_size=1))
    log = make_log(order, sorted(seals))
    for since in [None, *log.notes]:
        report = check(log.lines(), since)
        assert report.ok, report.lines()
        assert report.sealed == max(seals)


def test_entries_after_the_newest_checkpoint_are_not_yet_sealed_and_no_fault() -> None:
    report = check(make_log(WRITERS, seal_at=[5]).lines())
    assert report.ok
    assert (report.sealed, report.unsealed) == (5, 7)
    assert any("not sealed yet" in warning for warning in report.warnings)


def test_a_key_taken_from_the_export_is_said_loudly() -> None:
    report = verify_export(LINES)
    assert report.ok
    assert report.key_source is KeySource.EXPORT
    assert report.lines()[0].startswith("WARNING: THE KEY WAS TAKEN FROM THE EXPORT ITSELF")


def test_an_old_checkpoint_pins_the_key() -> None:
    report = verify_export(LINES, since=LOG.notes[0])
    assert report.ok
    assert report.key_source is KeySource.PINNED
    assert "since the old checkpoint of size 5 the log only grew" in report.lines()


def test_cosigned_checkpoints_verify_with_either_key() -> None:
    witness = Signer.of("partner.example/w", OTHER_KEY._private, SignatureType.COSIGNATURE)
    notes = [cosign(note, witness, 1_700_000_000) for note in LOG.notes]
    lines = export(LOG.entries, notes)
    report = verify_export(lines, trusted_keys=[VKEY, str(witness.verifier)])
    assert report.ok
    assert [c.vouched_by for c in report.checkpoints] == [2, 2]
    assert verify_export(lines, trusted_keys=[str(witness.verifier)]).ok


# changes


@settings(max_examples=400)
@given(st.integers(0, len(b"".join(LINES)) * 8 - 1))
def test_any_flipped_bit_is_found_and_the_entry_named(bit: int) -> None:
    data = bytearray(b"".join(LINES))
    data[bit // 8] ^= 1 << bit % 8
    report = check(split_again(bytes(data)))
    assert report.exit_code is not ExitCode.SOUND
    line = bytes(b"".join(LINES)[: bit // 8]).count(b"\n")
    if 0 <= (index := line - ENTRIES_AT) < len(LOG.entries):
        assert any(fault.index == index and fault.until is None for fault in report.faults), report.lines()
    elif 0 < line < ENTRIES_AT:
        assert any(fault.line == line + 1 for fault in report.faults), report.lines()


@pytest.mark.parametrize("claimed", [7, 9, 11])
def test_a_wrong_index_beside_proven_content_is_named_by_where_the_line_stands(claimed: int) -> None:
    lines = list(LINES)
    lines[ENTRIES_AT + 8] = re.sub(rb'"index":8\b', b'"index":%d' % claimed, lines[ENTRIES_AT + 8])
    report = check(lines)
    assert [(fault.kind, fault.index) for fault in report.faults if fault.line == ENTRIES_AT + 9] == [(FaultKind.LABEL, 8)]


@given(writers, st.data())
def test_changed_content_is_named_with_writer_and_number(order: list[str], data: st.DataObject) -> None:
    log = make_log(order, [len(order)])
    index = data.draw(st.integers(0, len(order) - 1))
    lines = log.lines()
    lines[2 + index] = re.sub(rb'"correlation_id":"a-', rb'"correlation_id":"b-', lines[2 + index])
    report = check(lines)
    assert named(report, FaultKind.CHANGED, index, log.entries[index])
    assert not any(f.kind in (FaultKind.MISSING, FaultKind.MOVED, FaultKind.ADDED, FaultKind.CHAIN) for f in report.faults)


@pytest.mark.parametrize(
    ("pattern", "replacement"), [(rb'"writer":"b"', rb'"writer":"z"'), (rb'"seq":2', rb'"seq":9'), (rb'"prev":".', b'"prev":"x')]
)
def test_an_entry_whose_own_name_was_changed_is_named_by_what_its_chain_misses(pattern: bytes, replacement: bytes) -> None:
    lines = list(LINES)
    lines[ENTRIES_AT + 4] = re.sub(pattern, replacement, lines[ENTRIES_AT + 4])  # writer b, number 2; b goes on after it
    assert lines != LINES
    assert named(check(lines), FaultKind.CHANGED, 4, LOG.entries[4])


def test_content_changed_with_its_hash_is_named_by_its_successor() -> None:
    forged = LOG.entries[5].body.replace(b'"a-5"', b'"b-5"')
    entries = list(LOG.entries)
    entries[5] = replace(entries[5], body=forged, hash=leaf_hash(forged))
    report = check(export(entries, LOG.notes))
    assert named(report, FaultKind.CHAIN, 5, LOG.entries[5])
    assert any(f.kind is FaultKind.DIFFERS and (f.index, f.until) == (5, 12) for f in report.faults)


def test_a_whole_chain_remade_is_narrowed_to_what_the_first_failing_checkpoint_added() -> None:
    remade = make_log(WRITERS[:5], code="a").entries[:5]
    chains = {name: Chain(name) for name in "abc"}
    forged = [chains[w].append(replace(PLAIN, correlation_id=f"{'a' if i < 5 else 'b'}-{i}")) for i, w in enumerate(WRITERS)]
    assert forged[:5] == remade == LOG.entries[:5]
    report = check(export(forged, LOG.notes))
    assert [(f.kind, f.index, f.until) for f in report.faults] == [(FaultKind.DIFFERS, 5, 12)]


def test_a_wrong_hash_or_index_beside_proven_content_is_called_that() -> None:
    lines = list(LINES)
    lines[ENTRIES_AT + 4] = re.sub(rb'"index":4', rb'"index":7', lines[ENTRIES_AT + 4])
    lines[ENTRIES_AT + 8] = re.sub(rb'"hash":"....', b'"hash":"0000', lines[ENTRIES_AT + 8])
    report = check(lines)
    assert Counter(f.kind for f in report.faults) == {FaultKind.LABEL: 2}
    assert {f.line for f in report.faults} == {ENTRIES_AT + 5, ENTRIES_AT + 9}


def test_an_entry_in_a_second_spelling_is_not_accepted_even_with_its_hash() -> None:
    body = LOG.entries[11].body.replace(b'{"action"', b'{"action":"erase","action"')
    entries = [*LOG.entries[:11], replace(LOG.entries[11], body=body, hash=leaf_hash(body))]
    log = Log(entries)
    log.seal()
    assert named(check(log.lines()), FaultKind.DAMAGED, 11)


def test_a_chain_that_does_not_start_where_its_writer_starts_is_named() -> None:
    body = LOG.entries[0].body.replace(LOG.entries[0].prev.hex().encode(), b"0" * 64)
    log = Log([replace(LOG.entries[0], body=body, hash=leaf_hash(body))])
    log.seal()
    assert named(check(log.lines()), FaultKind.CHAIN, 0, LOG.entries[0])


# missing, moved, added


@given(writers, st.data())
def test_a_deleted_entry_is_named(order: list[str], data: st.DataObject) -> None:
    log = make_log(order, [len(order)])
    index = data.draw(st.integers(0, len(order) - 1))
    lines = log.lines()
    del lines[2 + index]
    report = check(lines)
    assert not report.ok
    if index < len(order) - 1:
        assert named(report, FaultKind.MISSING, index, None if is_last_of_its_writer(index, log.entries) else log.entries[index])
    else:
        assert any(f.kind is FaultKind.MISSING and covers(f, index) for f in report.faults)


@given(writers, st.data())
def test_a_deletion_hidden_by_new_indexes_is_named_by_its_chain_or_narrowed(order: list[str], data: st.DataObject) -> None:
    log = make_log(order, [len(order)])
    index = data.draw(st.integers(0, len(order) - 1))
    gone = log.entries[index]
    report = check(export(log.entries[:index] + log.entries[index + 1 :], log.notes))
    assert not report.ok
    if not is_last_of_its_writer(index, log.entries):
        assert any(f.kind is FaultKind.MISSING and (f.writer, f.seq) == (gone.writer, gone.seq) for f in report.faults)


@given(writers, st.data())
def test_swapped_entries_are_named(order: list[str], data: st.DataObject) -> None:
    log = make_log(order, [len(order)])
    first, second = sorted(data.draw(st.lists(st.integers(0, len(order) - 1), min_size=2, max_size=2, unique=True)))
    lines = log.lines()
    lines[2 + first], lines[2 + second] = lines[2 + second], lines[2 + first]
    report = check(lines)
    assert not report.ok
    moved = {f.index for f in report.faults if f.kind is FaultKind.MOVED}
    assert moved <= {first, second}
    assert moved, report.lines()
    if second - first > 1:
        assert moved == {first, second}
    for f in report.faults:
        if f.kind is FaultKind.MOVED and f.index is not None:
            assert (f.writer, f.seq) == (log.entries[f.index].writer, log.entries[f.index].seq)


@given(writers, st.data())
def test_a_swap_hidden_by_new_indexes_is_found(order: list[str], data: st.DataObject) -> None:
    log = make_log(order, [len(order)])
    first, second = sorted(data.draw(st.lists(st.integers(0, len(order) - 1), min_size=2, max_size=2, unique=True)))
    entries = list(log.entries)
    entries[first], entries[second] = entries[second], entries[first]
    report = check(export(entries, log.notes))
    assert not report.ok
    assert any(covers(f, first) and covers(f, second) for f in report.faults)
    if log.entries[first].writer == log.entries[second].writer:
        assert any((f.kind, f.writer, f.seq) == (FaultKind.MOVED, log.entries[first].writer, log.entries[first].seq) for f in report.faults)


@given(writers, st.data())
def test_a_second_copy_is_named(order: list[str], data: st.DataObject) -> None:
    log = make_log(order, [len(order)])
    index = data.draw(st.integers(0, len(order) - 1))
    place = data.draw(st.integers(index + 1, len(order)))
    lines = log.lines()
    lines.insert(2 + place, lines[2 + index])
    assert named(check(lines), FaultKind.ADDED, index, log.entries[index])
    entries = list(log.entries)
    entries.insert(place, entries[index])
    report = check(export(entries, log.notes))
    assert any((f.kind, f.writer, f.seq) == (FaultKind.ADDED, entries[index].writer, entries[index].seq) for f in report.faults)


@given(writers, st.data())
def test_an_inserted_entry_of_a_writer_of_its_own_is_found(order: list[str], data: st.DataObject) -> None:
    log = make_log(order, [len(order)])
    place = data.draw(st.integers(0, len(order) - 1))
    stranger = Chain("stranger").append(PLAIN)
    report = check(export([*log.entries[:place], stranger, *log.entries[place:]], log.notes))
    assert not report.ok
    assert any(f.kind is FaultKind.DIFFERS and covers(f, place) for f in report.faults)
    lines = log.lines()
    lines.insert(2 + place, export([stranger], [])[1].replace(b'"index":0', b'"index":%d' % place))
    assert named(check(lines), FaultKind.ADDED, place, stranger)


@given(writers, st.data())
def test_a_cut_tail_is_found(order: list[str], data: st.DataObject) -> None:
    log = make_log(order, [len(order)])
    lines = log.lines()
    kept = data.draw(st.integers(1, len(lines) - 1))
    report = check(lines[:kept])
    assert report.exit_code is ExitCode.BROKEN
    assert any("cut off" in f.say for f in report.faults)
    missing = kept - 2
    if 0 <= missing < len(order):
        assert any(f.kind is FaultKind.MISSING and (f.index, f.until) == (missing, len(order)) for f in report.faults)


def test_a_file_cut_within_the_unsealed_tail_is_not_taken_for_whole() -> None:
    lines = make_log(WRITERS, seal_at=[5]).lines()
    assert not check(lines[:-3]).ok
    assert not check([*lines[:-3], lines[-1]]).ok


# history rewritten, by someone who holds the log's key


@given(writers, st.data())
def test_history_rewritten_after_an_old_checkpoint_is_found(order: list[str], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(order)))
    old = make_log(order, [size]).notes[0]
    forged = make_log(order, [len(order)], code="b")
    assert check(forged.lines()).ok
    report = check(forged.lines(), old)
    assert report.exit_code is ExitCode.BROKEN
    assert [(f.kind, f.index, f.until) for f in report.faults] == [(FaultKind.REWRITTEN, 0, size)]


@given(writers, st.data())
def test_a_log_that_shrank_is_found(order: list[str], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(order) - 1))
    old = make_log(order, [len(order)]).notes[0]
    report = check(make_log(order[:kept], [kept]).lines(), old)
    assert [(f.kind, f.index, f.until) for f in report.faults] == [(FaultKind.SHRANK, kept, len(order))]


def test_a_log_signed_anew_by_another_key_is_found() -> None:
    forged = make_log(WRITERS, code="b")
    forged.key = OTHER_KEY
    forged.seal()
    assert verify_export(forged.lines()).key_source is KeySource.EXPORT
    assert any(f.kind is FaultKind.SIGNATURE for f in check(forged.lines()).faults)
    report = verify_export(forged.lines(), since=LOG.notes[0])
    assert {f.kind for f in report.faults} >= {FaultKind.SIGNATURE, FaultKind.REWRITTEN}


def test_a_checkpoint_of_another_log_is_not_taken() -> None:
    other = Signer.of("other.example/log", OTHER_KEY._private)
    lines = list(LINES)
    lines[0] = json.dumps(
        {"format": "gateway-audit-export/1", "keys": [VKEY], "origin": "other.example/log"}, separators=(",", ":")
    ).encode()
    report = verify_export([lines[0] + b"\n", *lines[1:]], trusted_keys=[VKEY, str(other.verifier)])
    assert {f.kind for f in report.faults} == {FaultKind.ORIGIN}
    assert report.sealed == 0


def test_an_export_without_checkpoints_proves_nothing() -> None:
    assert [f.kind for f in check(make_log(WRITERS).lines()).faults] == [FaultKind.UNSEALED]


# what can't be judged, and what is never repeated


@pytest.mark.parametrize("lines", [[], [b""], [b"{}\n"], [b"\xff\n"], LINES[1:], [b"[1]\n"], [b'{"format":"x","keys":[],"origin":"o"}\n']])
def test_what_is_not_an_export_is_not_judged(lines: list[bytes]) -> None:
    assert check(lines).exit_code is ExitCode.UNUSABLE


def test_a_second_spelling_of_a_line_is_not_read() -> None:
    assert check([LINES[0].replace(b'":', b'": '), *LINES[1:]]).exit_code is ExitCode.UNUSABLE
    report = check([LINES[0], LINES[1].replace(b'{"checkpoint"', b'{"checkpoint":"","checkpoint"'), *LINES[2:]])
    assert any(f.kind is FaultKind.DAMAGED and f.line == 2 for f in report.faults)


def test_nothing_may_follow_the_end() -> None:
    longer = make_log([*WRITERS, "a"], seal_at=[5, 12])
    report = check([*LINES, longer.lines()[-2]])
    assert [(f.kind, f.line) for f in report.faults] == [(FaultKind.DAMAGED, len(LINES) + 1)]


def test_unreadable_keys_and_old_checkpoints_are_not_passed_over() -> None:
    assert verify_export(LINES, trusted_keys=["nonsense"]).exit_code is ExitCode.UNUSABLE
    assert verify_export(LINES, trusted_keys=[]).exit_code is ExitCode.UNUSABLE
    assert verify_export(LINES, since="nonsense").exit_code is ExitCode.UNUSABLE


def test_nothing_a_forger_wrote_is_repeated() -> None:
    lines = [re.sub(rb'"writer":"."', b'"writer":"\\\\u001b[2Jcanary"', line) for line in LINES]
    body = b'{"prev":"%b","seq":1,"v":1,"writer":"canary \\u001b[2J"}' % (b"0" * 64)
    lines.insert(4, b'{"entry":%b,"hash":"%b","index":1}\n' % (body, leaf_hash(body).hex().encode()))
    lines.insert(5, b'canary {"entry"\n')
    lines.insert(1, b'{"canary":1}\n')
    report = check(lines)
    assert not report.ok
    assert "canary" not in "\n".join(report.lines()) + report.to_json().decode()


@settings(max_examples=200)
@given(st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=40)), max_size=14))
def test_the_verifier_never_fails_on_anything(lines: list[bytes]) -> None:
    report = check([LINES[0], *lines])
    assert report.ok == (lines == LINES[1:]) or report.exit_code is ExitCode.SOUND
    json.loads(report.to_json())


def test_the_json_report_says_what_the_text_says() -> None:
    lines = list(LINES)
    del lines[ENTRIES_AT + 2]
    report = check(lines)
    document = json.loads(report.to_json())
    assert document["ok"] is False
    assert document["exit_code"] == 1
    assert {"kind": "missing", "say": "not in the export", "index": 2, "writer": "a", "seq": 2} in document["faults"]
    assert any(line == "MISSING: entry 2, writer a number 2: not in the export" for line in report.lines())
