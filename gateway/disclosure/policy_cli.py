"""`gateway policy`: what a configuration lets flow, compared with another one and with what was approved."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

if TYPE_CHECKING:
    from gateway.decision.flows import Flow
    from gateway.parties.approvals import Lock

__all__ = ["policy_app"]

policy_app = typer.Typer(no_args_is_help=True, help="What the configuration lets flow: compare, check, record.")

_PARTS = ("mappings", "consent_profiles", "adapters")
Root = Annotated[Path, typer.Option(help="The configuration's folder.")]


@policy_app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(help="A configuration's folder, or a git revision of the folder this runs in.")],
    new: Annotated[str, typer.Argument(help="The same.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """List each element that newly flows or stops flowing between two configurations, by pair of parties.

    Exit code 0: nothing flows that did not. 1: something does. 2: a configuration can't be read.
    """
    from gateway.cli import explained
    from gateway.decision.flows import flows_of
    from gateway.parties.approvals import change, describe
    from gateway.parties.load import load_policy

    with explained(), _folder(old) as before, _folder(new) as after:
        made = change(flows_of(load_policy(before, registry=None)), flows_of(load_policy(after, registry=None)))
    if as_json:
        found = {name: [flow._asdict() for flow in flows] for name, flows in (("widens", made.widens), ("narrows", made.narrows))}
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        for line in (*describe(made.widens, sign="+ "), *describe(made.narrows, sign="- ")):
            typer.echo(line)
        typer.echo(f"{len(made.widens)} flows more, {len(made.narrows)} fewer.")
    raise typer.Exit(1 if made.widens else 0)


@policy_app.command("check")
def check(
    root: Root = Path("."),
    write: Annotated[
        bool, typer.Option("--write", help="Record what flows now, if all that widens is approved; else write the form.")
    ] = False,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Record what flows now as the beginning: before anybody relies on it.")
    ] = False,
) -> None:
    """Compare what flows with what was recorded and approved. Exit code 0: the same. 1: it differs, or an approval is not whole."""
    from gateway.cli import explained
    from gateway.decision.flows import flows_of
    from gateway.parties import approvals
    from gateway.parties.load import load_policy

    with explained():
        flows = flows_of(load_policy(root, registry=None))
        after = approvals.digest_of(flows)
        try:
            lock = approvals.read_lock(root)
            if baseline:
                approvals.write_lock(root, flows, [{"flows": after, "approval": approvals.BASELINE}])
            elif write and lock is not None and lock.flows != flows:
                _record(root, flows, lock)
            faults = approvals.faults(root, flows)
        except approvals.LockError as error:
            faults = [str(error)]
    for line in faults:
        typer.echo(line, err=True)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"{len(flows)} flows, as recorded; every widening is approved.")


def _record(root: Path, flows: frozenset[Flow], lock: Lock) -> None:
    """The next step of the history, when it needs no approval or has one; otherwise the form of one. Raises Exit."""
    from gateway.parties import approvals

    made = approvals.change(lock.flows, flows)
    before, after = approvals.digest_of(lock.flows), approvals.digest_of(flows)
    step = {"flows": after, "approval": "narrows"}
    if made.widens:
        lacking = approvals.approved(root, made, before, after)
        if lacking:
            if not (root / approvals.APPROVALS / f"{after[:12]}.yaml").exists():
                typer.echo(f"This widens what flows. Have it approved: {approvals.draft(root, made, before, after)}", err=True)
            for line in (*lacking, *approvals.describe(made.widens, sign="+ ")):
                typer.echo(line, err=True)
            raise typer.Exit(1)
        step = {"flows": after, "widens": approvals.digest_of(made.widens), "approval": after[:12]}
    approvals.write_lock(root, flows, [*lock.history, step])


@contextmanager
def _folder(named: str) -> Iterator[Path]:
    """A folder as it is, or a git revision's configuration in a folder of its own."""
    if Path(named).is_dir():
        yield Path(named)
        return
    with tempfile.TemporaryDirectory() as folder:
        if named.startswith("-"):
            raise typer.BadParameter("neither a folder nor a git revision")
        packed = subprocess.run(["git", "archive", named, *_PARTS], capture_output=True, check=False)
        if packed.returncode != 0:
            typer.echo("A configuration is neither a folder nor a git revision here.", err=True)
            raise typer.Exit(2)
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)
