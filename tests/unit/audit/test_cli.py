"""`gateway audit verify`: exit codes, options, and the export as a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.audit.cli import audit_app
from gateway.audit.export import LINE_LIMIT, ExportEntry, ExportHeader, write_export
from tests.unit.audit.making import KEY, ORIGIN, VKEY, make_log

LOG = make_log("abcabcab", seal_at=[3, 8])
RUNNER = CliRunner()


def verify(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return RUNNER.invoke(audit_app, ["verify", *map(str, arguments)], input=stdin)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(LOG.lines()))
    return path


async def test_an_export_is_written_to_a_file_that_other_tools_can_read(tmp_path: Path) -> None:
    async def stored() -> AsyncIterator[ExportEntry]:
        for entry in LOG.entries:
            yield ExportEntry(entry.hash, entry.body)

    path = tmp_path / "audit.jsonl"
    with path.open("wb") as file:
        await write_export(file, ExportHeader(ORIGIN, (KEY.verifier,)), LOG.notes, stored())
    raw = path.read_bytes().splitlines()
    documents = [json.loads(line) for line in raw]
    assert documents[0] == {"format": "gateway-audit-export/1", "keys": [VKEY], "origin": ORIGIN}
    assert documents[1] == {"checkpoint": LOG.notes[0]}
    assert documents[-1] == {"end": {"checkpoints": 2, "entries": 8}}
    body = raw[3][len(b'{"entry":') : raw[3].rindex(b',"hash"')]
    assert hashlib.sha256(b"\0" + body).hexdigest() == documents[3]["hash"]


def test_sound_is_0(export: Path) -> None:
    result = verify(export, "--key", VKEY)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "SOUND")


def test_without_a_key_the_warning_comes_first(export: Path) -> None:
    result = verify(export)
    assert result.exit_code == 0
    assert result.stdout.startswith("WARNING: THE KEY WAS TAKEN FROM THE EXPORT ITSELF")


def test_standard_input_and_a_key_file(export: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# the hub's\n{VKEY}\n")
    result = verify("-", "--key", keys, "--json", stdin=export.read_bytes())
    assert result.exit_code == 0
    assert json.loads(result.stdout)["key_source"] == "given"


def test_broken_is_1(export: Path) -> None:
    export.write_bytes(export.read_bytes().replace(b'"a-2"', b'"a-9"'))
    result = verify(export, "--key", VKEY)
    assert result.exit_code == 1
    assert "CHANGED: entry 2, writer c number 1, line 6: the content is not what its hash was made from" in result.stdout


def test_the_newest_checkpoint_is_kept_only_when_all_is_sound(export: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert verify(export, "--key", VKEY, "--keep", kept).exit_code == 0
    assert kept.read_text(encoding="utf-8") == LOG.notes[-1]
    assert verify(export, "--since", kept).exit_code == 0
    other = tmp_path / "other"
    export.write_bytes(b"".join(make_log("abcabcab", seal_at=[8], code="b").lines()))
    assert verify(export, "--since", kept, "--keep", other).exit_code == 1
    assert not other.exists()


@pytest.mark.parametrize("arguments", [("--since", "absent"), ("--key", "absent"), ("--key", "a+b+c")])
def test_what_can_not_be_judged_is_2(export: Path, arguments: tuple[str, str]) -> None:
    assert verify(export, *arguments).exit_code == 2


def test_files_that_can_not_be_read_are_2(tmp_path: Path, export: Path) -> None:
    assert verify(tmp_path / "absent").exit_code == 2
    assert verify(tmp_path).exit_code == 2
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert verify(export, "--key", empty).exit_code == 2
    assert verify(export, "--since", empty).exit_code == 2
    long = tmp_path / "long"
    long.write_bytes(b"{" * (3 * LINE_LIMIT))
    assert verify(long).exit_code == 2
