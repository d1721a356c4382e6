"""`gateway audit`: verify an export offline. Reads files, needs no settings and no hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from gateway.audit.checkpoint import NOTE_LIMIT
from gateway.audit.export import LINE_LIMIT
from gateway.audit.report import ExitCode
from gateway.audit.verify import verify_export

__all__ = ["audit_app"]

audit_app = typer.Typer(no_args_is_help=True, help="The audit log: verify an export of it, offline.")


@audit_app.callback()
def _audit() -> None:
    """Keeps `verify` a sub-command when this app runs on its own."""


@audit_app.command()
def verify(
    export: Annotated[Path, typer.Argument(help="The export; - for standard input.", allow_dash=True)],
    since: Annotated[Path | None, typer.Option(help="A checkpoint kept from earlier: proves that the log only grew.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="A verifier key to trust, or a file with one a line. May be repeated.")] = None,
    keep: Annotated[Path | None, typer.Option(help="When all is sound, write the newest checkpoint here, for the next --since.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Recompute an audit export and hold it against its signed checkpoints.

    Exit code 0: sound. 1: something is wrong, and named. 2: the input can't be judged.
    """
    try:
        keys = None if key is None else [text for given in key for text in _keys(given)]
        old = _note(since) if since is not None else None
        if str(export) == "-":
            report = verify_export(_lines(sys.stdin.buffer), trusted_keys=keys, since=old)
        else:
            with export.open("rb") as file:
                report = verify_export(_lines(file), trusted_keys=keys, since=old)
        if keep is not None and report.ok and report.newest is not None:
            keep.write_bytes(report.newest.encode())
    except OSError as error:
        typer.echo(f"CANNOT BE JUDGED: a file can't be used ({type(error).__name__})", err=True)
        raise typer.Exit(ExitCode.UNUSABLE) from None
    typer.echo(report.to_json() if as_json else "\n".join(report.lines()))
    raise typer.Exit(report.exit_code)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, none longer than an export's can be: a longer one comes in pieces, which no reader accepts."""
    while line := file.readline(LINE_LIMIT):
        yield line


def _note(path: Path) -> str:
    """A checkpoint file; what is not UTF-8 or too long becomes a text that is no note."""
    with path.open("rb") as file:
        return file.read(4 * NOTE_LIMIT + 1).decode("utf-8", "replace")


def _keys(given: str) -> list[str]:
    """A verifier key as given (it holds two plus signs), or the lines of a file."""
    if given.count("+") >= 2 and not Path(given).is_file():
        return [given]
    lines = Path(given).read_bytes().decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
