"""`gateway consent`: why something was decided, and what somebody would see. For the privacy officer; prints codes and ids."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer

from gateway.clock import instant

__all__ = ["consent_app"]

consent_app = typer.Typer(no_args_is_help=True, help="Consent and disclosure: why a decision came out as it did.")

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]


@consent_app.callback()
def _consent() -> None:
    """Keeps each command a sub-command."""


@consent_app.command("explain")
def explain(
    entry: Annotated[str, typer.Argument(metavar="ENTRY-ID", help="An audit entry as WRITER/NUMBER, or a correlation id.")],
    as_json: AsJson = False,
) -> None:
    """Why something was disclosed or refused: each gate, the consents and rules that decided, what went and what stayed.

    Exit code 0: told. 1: there is no such entry, or what is kept is not what the audit log says. Reads the database beside a running hub.
    """
    from gateway.audit.explaining import Explained, entry_id, find, of_correlation
    from gateway.cli import explained
    from gateway.settings import load_settings
    from gateway.storage.open import open_to_read

    async def look() -> Sequence[Explained] | None:
        database = await open_to_read(load_settings())
        try:
            asked = entry_id(entry)
            return await find(database, asked) if asked is not None else (await of_correlation(database, entry)) or None
        finally:
            await database.close()

    with explained():
        found = asyncio.run(look())
        if found is None:
            typer.echo("There is no such entry.", err=True)
            raise typer.Exit(1)
        if as_json:
            typer.echo(orjson.dumps([_said(each) for each in found], option=orjson.OPT_INDENT_2).decode())
        elif not found:
            typer.echo("Nothing was decided for this entry.")
        for each in () if as_json else found:
            _print(each)
        if not all(each.sound for each in found):
            typer.echo("What is kept of this decision is not what the audit log says.", err=True)
            raise typer.Exit(1)


def _said(each: Any) -> dict[str, Any]:
    from gateway.decision.record import sentences

    place = {"entry": f"{each.entry.writer}/{each.entry.seq}", "number": each.number, "at": each.at, "correlation": each.correlation}
    told = [{"gate": gate, "found": found} for gate, found in sentences(each.document)]
    return {**place, "action": each.audited["action"], "sound": each.sound, "decision": each.document, "sentences": told}


def _print(each: Any) -> None:
    from gateway.decision.record import sentences

    document: Mapping[str, Any] = each.document
    to = "/".join(part for part in (document["to"], document["unit"]) if part)
    outcome = "permitted" if document["outcome"] == "permit" else f"refused: {document['refusal']}"
    typer.echo(f"{each.entry.writer}/{each.entry.seq}  {each.at}  {each.audited['action']}  {outcome}")
    typer.echo(f"{document['from']} -> {to}, {document['service']}, for {' '.join(document['purposes'])}, while {document['state']}")
    rows = list(sentences(document))
    width = max((len(gate) for gate, _ in rows), default=0)
    for gate, found in rows:
        typer.echo(f"  {gate:<{width}}  {found}")
    if document["outcome"] == "permit":
        went = (name + (f" (only {' '.join(only)})" if only is not None else "") for name, only in document["classes"].items())
        typer.echo(f"  may go: {', '.join(went)}")
        if document["ends"] is not None:
            typer.echo(f"  until: {instant(document['ends'])}")
    typer.echo("")
