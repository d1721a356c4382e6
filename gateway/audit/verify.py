"""The offline verifier: an export in, a report out. No database, no hub, no network, no clock.

Everything is recomputed from content: each entry's hash, each writer's chain, the tree's root at the size of every
checkpoint in the export and of the old checkpoint the auditor kept. That old one is what makes the log accountable: if
the content no longer leads to it, history was rewritten, whoever signed the new one.

A key is trusted because it was given, or because it signed the old checkpoint; failing both, the export's own keys are
used and the report says so first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.audit import checkpoint as notes
from gateway.audit.export import FORMAT, ExportHeader, plain_line, read_line
from gateway.audit.replay import Replay
from gateway.audit.report import FAULTS_LIMIT, CheckpointSeen, Fault, FaultKind, KeySource, VerifyReport

__all__ = ["verify_export"]

_ORIGIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}", re.ASCII).fullmatch


@dataclass(slots=True)
class _Signed:
    """A checkpoint that was read, whether or not anyone vouches for it."""

    signed: notes.SignedCheckpoint
    note: str
    line: int | None  # None: the old checkpoint
    vouching: tuple[notes.VerifierKey, ...] = ()


@dataclass(slots=True)
class _Reading:
    """The lines of an export, read to the point where the entries start, and the faults so far."""

    lines: Iterator[bytes]
    number: int = 0
    ahead: bytes | None = None
    header: ExportHeader | None = None
    checkpoints: list[_Signed] = field(default_factory=list)
    checkpoint_lines: int = 0
    faults: list[Fault] = field(default_factory=list)

    def take(self) -> bytes | None:
        """The next line."""
        if self.ahead is not None:
            line, self.ahead = self.ahead, None
            return line
        self.number += 1
        return next(self.lines, None)


def verify_export(lines: Iterable[bytes], *, trusted_keys: Sequence[str] | None = None, since: str | None = None) -> VerifyReport:
    """Verify an export given as its lines, each with its newline, as iterating over a binary file yields them.

    `trusted_keys` are verifier keys in text form, `since` the text of a checkpoint note kept from earlier. Never raises
    for what the input holds; an unreadable key or note makes a report with exit code 2.
    """
    reading = _Reading(iter(lines))
    try:
        given = None if trusted_keys is None else [notes.VerifierKey.parse(text) for text in trusted_keys]
    except notes.NoteError as error:
        return _unusable(f"a key that was given can't be used: {error}")
    if given == []:
        return _unusable("keys to trust were asked for, but none was given")
    try:
        old = None if since is None else _Signed(notes.parse(since), since, None)
    except notes.NoteError as error:
        return _unusable(f"the old checkpoint can't be used: {error}")
    _read_header(reading)
    if reading.header is None:
        return _unusable("the first line is not the header of an audit export")
    _read_checkpoints(reading)
    keys, source = _trust(reading, given, old)
    for seen in [*reading.checkpoints, *([old] if old else [])]:
        _vouch(reading, seen, keys)
    replay = Replay(s.signed.checkpoint.size for s in [*reading.checkpoints, *([old] if old else [])])
    _read_entries(reading, replay)
    return _judge(reading, replay, old, source)


def _unusable(say: str) -> VerifyReport:
    return VerifyReport(origin=None, entries=0, sealed=0, writers=0, key_source=None, faults=(Fault(FaultKind.UNUSABLE, say),))


def _read_header(reading: _Reading) -> None:
    line = reading.take()
    document = read_line(line) if line is not None else None
    if document is None or document.keys() != {"format", "keys", "origin"} or document["format"] != FORMAT:
        return
    origin, texts = document["origin"], document["keys"]
    if not isinstance(origin, str) or not _ORIGIN(origin) or not isinstance(texts, list):
        return
    keys = []
    for text in texts:
        try:
            keys.append(notes.VerifierKey.parse(text if isinstance(text, str) else ""))
        except notes.NoteError:
            reading.faults.append(Fault(FaultKind.DAMAGED, "a key in the header can't be read", line=1))
    reading.header = ExportHeader(origin, tuple(keys))


def _looks_like_entry(line: bytes) -> bool:
    return b'"entry"' in line or b'"hash":"' in line or b'"index":' in line


def _read_checkpoints(reading: _Reading) -> None:
    while (line := reading.take()) is not None:
        document = read_line(line)
        if document is not None and document.keys() == {"checkpoint"} and isinstance(document["checkpoint"], str):
            reading.checkpoint_lines += 1
            try:
                note = document["checkpoint"]
                reading.checkpoints.append(_Signed(notes.parse(note), note, reading.number))
            except notes.NoteError:
                reading.faults.append(Fault(FaultKind.DAMAGED, "the line is not a signed checkpoint", line=reading.number))
        elif _looks_like_entry(line) or document is not None:
            reading.ahead = line
            return
        else:
            reading.checkpoint_lines += 1
            reading.faults.append(Fault(FaultKind.DAMAGED, "the line can't be read", line=reading.number))


def _trust(reading: _Reading, given: list[notes.VerifierKey] | None, old: _Signed | None) -> tuple[list[notes.VerifierKey], KeySource]:
    own = list(reading.header.keys) if reading.header else []
    if given is not None:
        return given, KeySource.GIVEN
    if old is not None:
        pinned = [key for key in own if _signed_by(old.signed, key)]
        if pinned:
            return pinned, KeySource.PINNED
    return own, KeySource.EXPORT


def _signed_by(signed: notes.SignedCheckpoint, key: notes.VerifierKey) -> bool:
    try:
        return bool(notes.verify(signed, [key]))
    except notes.UntrustedNote:
        return False


def _vouch(reading: _Reading, seen: _Signed, keys: list[notes.VerifierKey]) -> None:
    """Check origin and signatures of a checkpoint."""
    checkpoint = seen.signed.checkpoint
    what = "the old checkpoint" if seen.line is None else "the checkpoint"
    if reading.header is not None and checkpoint.origin != reading.header.origin:
        say = f"{what} is of another log than the export"
        reading.faults.append(Fault(FaultKind.ORIGIN, say, size=checkpoint.size, line=seen.line))
        return
    try:
        seen.vouching = notes.verify(seen.signed, keys)
    except notes.UntrustedNote as error:
        reading.faults.append(Fault(FaultKind.SIGNATURE, f"{what}: {error}", size=checkpoint.size, line=seen.line))


def _read_entries(reading: _Reading, replay: Replay) -> None:
    ended = False
    while (line := reading.take()) is not None:
        if ended:
            reading.faults.append(Fault(FaultKind.DAMAGED, "there is more after the end line", line=reading.number))
            return
        if _looks_like_entry(line):
            replay.feed(line, reading.number)
        elif line.startswith(b'{"end":'):
            ended = True
            if line != plain_line({"end": {"checkpoints": reading.checkpoint_lines, "entries": replay.entries}}):
                say = "the end line does not count what is there: the export is incomplete or has more than it was written with"
                reading.faults.append(Fault(FaultKind.DAMAGED, say, line=reading.number))
        elif len(reading.faults) < FAULTS_LIMIT:
            reading.faults.append(Fault(FaultKind.DAMAGED, "the line can't be read", line=reading.number))
    if not ended:
        reading.faults.append(Fault(FaultKind.DAMAGED, "the end line is missing: the export was cut off"))


def _matches(seen: _Signed, replay: Replay) -> bool:
    return replay.roots.get(seen.signed.checkpoint.size) == seen.signed.checkpoint.root


def _judge(reading: _Reading, replay: Replay, old: _Signed | None, source: KeySource) -> VerifyReport:
    every = sorted([*reading.checkpoints, *([old] if old else [])], key=lambda s: s.signed.checkpoint.size)
    vouched = [seen for seen in every if seen.vouching]
    good = [seen for seen in vouched if _matches(seen, replay)]
    proven = max((seen.signed.checkpoint.size for seen in good), default=0)
    faults = [*reading.faults, *replay.faults(proven)]
    faults += _against_checkpoints(vouched, good, replay)
    if old is not None and not _matches(old, replay):
        faults.append(_against_old(old, replay))
    if not reading.checkpoints:
        faults.append(Fault(FaultKind.UNSEALED, "the export holds no checkpoint: nothing shows that this is the log"))
    return VerifyReport(
        origin=reading.header.origin if reading.header else None,
        entries=replay.entries,
        sealed=proven,
        writers=replay.writers,
        key_source=source,
        checkpoints=tuple(
            CheckpointSeen(s.signed.checkpoint.size, bool(s.vouching), _matches(s, replay), len(s.vouching)) for s in every if s is not old
        ),
        since=old.signed.checkpoint.size if old else None,
        faults=tuple(faults[:FAULTS_LIMIT]),
        more_faults=max(0, len(faults) - FAULTS_LIMIT) + replay.dropped,
        newest=good[-1].note if good else None,
    )


def _against_checkpoints(vouched: list[_Signed], good: list[_Signed], replay: Replay) -> list[Fault]:
    """The first checkpoint of the export that the content doesn't lead to, and what the last one covers beyond the end."""
    faults = []
    bad = [seen for seen in vouched if seen.line is not None and not _matches(seen, replay)]
    if bad and (size := bad[0].signed.checkpoint.size) <= replay.entries:
        start = max((s.signed.checkpoint.size for s in good if s.signed.checkpoint.size < size), default=0)
        say = "something here was changed, moved, added or removed: the content is not what this checkpoint was signed over"
        faults.append(Fault(FaultKind.DIFFERS, say, index=start, until=size, size=size, line=bad[0].line))
    if bad and (size := bad[-1].signed.checkpoint.size) > replay.next_index:
        say = "the newest checkpoint covers more than the export holds"
        faults.append(Fault(FaultKind.MISSING, say, index=replay.next_index, until=size, size=size, line=bad[-1].line))
    return faults


def _against_old(old: _Signed, replay: Replay) -> Fault:
    """No newer checkpoint can narrow this down: whoever rewrote the history may have signed them too."""
    size = old.signed.checkpoint.size
    if size > replay.entries:
        say = f"the old checkpoint covers {size} entries, the export holds {replay.entries}: the log shrank"
        return Fault(FaultKind.SHRANK, say, index=replay.entries, until=size, size=size)
    say = "the old checkpoint was signed over other content: history was rewritten, or this export was altered"
    return Fault(FaultKind.REWRITTEN, say, index=0, until=size, size=size)
