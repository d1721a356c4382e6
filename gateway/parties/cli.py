"""`gateway party` and `gateway config`: who may call, changed while the hub runs. Prints tables for a person, `--json` for a program."""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from gateway.parties.durations import duration

__all__ = ["config_app", "party_app"]

party_app = typer.Typer(no_args_is_help=True, help="Parties and their clients: register, replace keys, cut off, let in again.")
config_app = typer.Typer(no_args_is_help=True, help="The configuration's files: check them, let running hubs take them up.")

By = Annotated[str | None, typer.Option("--by", help="Who does this, for the audit log; the system's user when not given.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]
_KEEP: Final = "24h"


@party_app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="Clients and addresses, in the form of the registry file.")],
    replace: Annotated[bool, typer.Option("--replace", help="Change what is registered already under the same names.")] = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Register clients and addresses. Running hubs read the configuration anew, so a manifest that was just added counts too."""
    _run(by, as_json, lambda registrar: registrar.add(file.resolve(), replacing=replace))


@party_app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every party: its kind, its clients, whether it is cut off, when it was last seen."""
    rows = _read(lambda told: [party | {"clients": len(party["clients"])} for party in told])
    if as_json:
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    _table(
        ("party", "kind", "state", "clients", "last used", "failures"),
        [(r["party"], r["kind"], r["state"], str(r["clients"]), r["used"] or "never", str(r["failures"])) for r in rows],
    )


@party_app.command("show")
def show(party: Annotated[str, typer.Argument(help="The party's id.")], as_json: AsJson = False) -> None:
    """One party: its clients, their keys, and how often each was used and failed."""
    found = _read(lambda told: [each for each in told if each["party"] == party])
    if not found:
        typer.echo("There is no such party.", err=True)
        raise typer.Exit(1)
    one = found[0]
    if as_json:
        typer.echo(orjson.dumps(one, option=orjson.OPT_INDENT_2).decode())
        return
    typer.echo(f"{one['party']}: {one['name']} ({one['kind']}), {one['state']}")
    rows: list[tuple[str, ...]] = []
    for client in one["clients"]:
        use = (client["used"] or "never", str(client["failures"]))
        rows.append((client["client"], client["state"], client["role"], client["from"], "", *use))
        for key in client["keys"]:
            ends = f"until {key['ends']}" if key["ends"] else ""
            rows.append(("", "", "", ends, key["kid"], key["used"] or "never", str(key["failures"])))
    _table(("client", "state", "role", "from", "key", "last used", "failures"), rows)


@party_app.command("rotate-key")
def rotate_key(
    client: Annotated[str, typer.Argument(help="The client's id.")],
    jwks: Annotated[Path | None, typer.Option(help="The new public key: a JWK or a JWK Set.")] = None,
    keep: Annotated[str, typer.Option(help="How long the keys it has still count: 30m, 24h, 7d.")] = _KEEP,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="The keys it has, and its access tokens, stop counting now.")] = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Give a client a new key. Both count for a while; `--drop-old`, now or later, ends that."""
    from gateway.parties.registrar import Refused, Registrar, read_keys

    async def act(registrar: Registrar) -> Any:
        try:
            seconds = int(duration(keep).total_seconds())
        except ValueError:
            raise Refused("--keep: a number and m, h or d") from None
        new = read_keys(jwks) if jwks is not None else []
        return await registrar.rotate_key(client, new, keep_seconds=seconds, drop_old=drop_old)

    _run(by, as_json, act)


@party_app.command("disable")
def disable(
    party: Annotated[str, typer.Argument(help="The party's id.")],
    client: Annotated[str | None, typer.Option(help="Only this client of it.")] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Cut a party off: no new token, none that it has counts, nothing is sent to it. What is due to it waits."""
    _run(by, as_json, lambda registrar: registrar.cut_off(party, client, disabled=True))


@party_app.command("enable")
def enable(
    party: Annotated[str, typer.Argument(help="The party's id.")],
    client: Annotated[str | None, typer.Option(help="Only this client of it.")] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Let a party in again. Access tokens from before do not count."""
    _run(by, as_json, lambda registrar: registrar.cut_off(party, client, disabled=False))


@config_app.command("check")
def check() -> None:
    """Check the files, and what is registered against them. Changes nothing."""
    from gateway.parties.registration import overlay

    async def look(registrar: Any) -> int:
        left_out = overlay(registrar.loaded, registrar.registrations, int(time.time() * 1000)).left_out
        for mistake in left_out:
            typer.echo(f"{mistake.file}: {mistake.reason}", err=True)
        return len(left_out)

    if _with(None, look):
        raise typer.Exit(1)
    typer.echo("The configuration is valid.")


@config_app.command("reload")
def reload(by: By = None, as_json: AsJson = False) -> None:
    """Check the files, then let every running hub take them up: all of them, or none."""
    _run(by, as_json, lambda registrar: registrar.reload())


def _run(by: str | None, as_json: bool, act: Callable[[Any], Awaitable[Any]]) -> None:
    effect = _with(by, act)
    said = {
        "seconds": round(effect.seconds, 3),
        "taken_up": list(effect.taken_up),
        "waiting": list(effect.waiting),
        "problems": list(effect.problems),
    }
    if as_json:
        typer.echo(orjson.dumps(said).decode())
    elif not effect.taken_up and not effect.waiting:
        typer.echo("Done. No server process is running; it counts from the next start on.")
    else:
        every = len(effect.taken_up) + len(effect.waiting)
        typer.echo(f"Done. In force on {len(effect.taken_up)} of {every} server processes after {effect.seconds:.2f} s.")
    for problem in effect.problems:
        typer.echo(f"A server process keeps the configuration it had:\n{problem}", err=True)
    if effect.waiting or effect.problems:
        raise typer.Exit(1)


def _with(by: str | None, act: Callable[[Any], Awaitable[Any]]) -> Any:
    from gateway.cli import business_clock, explained
    from gateway.parties.registrar import Refused, open_registrar
    from gateway.settings import load_settings

    async def go() -> Any:
        settings = load_settings()
        async with open_registrar(settings, by or _user(), business_clock(settings), time.time) as registrar:
            return await act(registrar)

    with explained():
        try:
            return asyncio.run(go())
        except Refused as refused:
            typer.echo("\n  ".join(("Nothing was changed:", *refused.reasons)), err=True)
            raise typer.Exit(1) from None


def _read(choose: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    from gateway.parties.accounts import accounts

    async def look(registrar: Any) -> list[dict[str, Any]]:
        return choose(await accounts(registrar))

    found: list[dict[str, Any]] = _with(None, look)
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=True).print(table)
