"""`gateway consent`: why something was decided, and what somebody would see. For the privacy officer; prints codes and ids."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.clock import instant, millis

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


@consent_app.command("simulate")
def simulate(
    bundle: Annotated[Path, typer.Argument(help="The referral: the transaction Bundle that its sender would post.")],
    sender: Annotated[str, typer.Option("--from", metavar="SHELF", help="Who sends it: a party, or party/unit.")],
    to: Annotated[list[str] | None, typer.Option(help="An address or a party, in place of each Task's owner. May be repeated.")] = None,
    consent: Annotated[list[Path] | None, typer.Option(help="A Consent to count in place of the Bundle's. May be repeated.")] = None,
    root: Annotated[Path, typer.Option(help="The configuration's folder.")] = Path("."),
    purpose: Annotated[list[str] | None, typer.Option(help="A purpose of the token; all there are when not given.")] = None,
    state: Annotated[str, typer.Option(help="The state that the transfer has reached.")] = "offered",
    basis: Annotated[str | None, typer.Option(help="A legal basis that a named person states.")] = None,
    at: Annotated[str | None, typer.Option(help="When, as 2026-03-14T02:00:00Z; the time of the first Consent when not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """What would each receiver see of this referral, under that consent? From files: no database, no effect, nothing recorded.

    Exit code 0: told, whatever the answer. 2: the files or the options can't be used.
    """
    from gateway.cli import explained
    from gateway.disclosure.minimize import compile_plan
    from gateway.disclosure.simulate import NotSimulated, Setting
    from gateway.disclosure.simulate import simulate as ask
    from gateway.fhir.validate import validate
    from gateway.identity import ShelfId, shelf_party
    from gateway.parties.load import load_policy
    from gateway.problems import Problem
    from gateway.transfers.model import State

    def stop(*lines: str) -> typer.Exit:
        typer.echo("\n".join(lines), err=True)
        return typer.Exit(2)

    with explained():
        policy = load_policy(root, registry=None)
        shelf = ShelfId(sender)
        if shelf_party(shelf) not in policy.parties or shelf not in policy.parties[shelf_party(shelf)].shelves:
            raise stop("--from: there is no such party, or that part of it has no shelf of its own.")
        if state not in {each.value for each in State}:
            raise stop("--state: there is no such state.")
        try:
            read = [_read(path) for path in (bundle, *(consent or ()))]
        except Problem as problem:
            raise stop(f"A file is not JSON as FHIR has it ({problem}).") from None
        faults = [
            f"{path}: {f.code} at {f.expression}" for path, one in zip((bundle, *(consent or ())), read, strict=True) for f in validate(one)
        ]
        if faults:
            raise stop("Not valid FHIR R4:", *faults)
        referral, consents = read[0], read[1:] if consent else None
        when = _when(at, referral, consents)
        if when is None:
            raise stop("--at: say when, as 2026-03-14T02:00:00Z.")
        purposes = frozenset(purpose) if purpose else None
        setting = Setting(policy, compile_plan(policy.classes), shelf, when, purposes, state, basis)
        try:
            found = ask(referral, setting, receivers=to or (), consents=consents)
        except NotSimulated as why:
            raise stop(f"{why}.") from None
    if as_json:
        typer.echo(orjson.dumps([_shown(each) for each in found], option=orjson.OPT_INDENT_2).decode())
        return
    for each in found:
        _tell(each)


def _read(path: Path) -> dict[str, Any]:
    from gateway.fhir.parse import parse_json

    return parse_json(path.read_bytes())


def _when(at: str | None, referral: Mapping[str, Any], consents: Sequence[Mapping[str, Any]] | None) -> int | None:
    """The time asked about: as given, or when the first Consent was given, so that a file needs no clock."""
    given = list(consents or ()) or [e["resource"] for e in referral.get("entry") or () if e["resource"]["resourceType"] == "Consent"]
    said = at or next((c["dateTime"] for c in given if isinstance(c.get("dateTime"), str)), None)
    try:
        moment = datetime.fromisoformat(said) if said else None
    except ValueError:
        return None
    return millis(moment) if moment is not None and moment.tzinfo is not None else None


def _shown(each: Any) -> dict[str, Any]:
    from gateway.decision.record import sentences

    document = orjson.loads(each.why.text)
    told = [{"gate": gate, "found": found} for gate, found in sentences(document)]
    return {
        **{"to": each.address.id, "shelf": each.address.shelf, "service": each.service, "outcome": document["outcome"]},
        **{"sentences": told, "consents-refused": each.refused, "decision": document, "resources": each.resources},
    }


def _tell(each: Any) -> None:
    from gateway.decision.decide import Permit
    from gateway.decision.explain import Note, sentence
    from gateway.decision.record import sentences

    document = orjson.loads(each.why.text)
    outcome = "may go" if isinstance(each.answer, Permit) else f"refused: {each.answer.refusal.value}"
    typer.echo(f"{document['from']} -> {each.address.id} (shelf {each.address.shelf}), {each.service}: {outcome}")
    for line in each.refused:
        typer.echo(f"  {line}")
    for gate, found in sentences(document):
        if gate != "class":
            typer.echo(f"  {gate:<9}  {found}")
    if isinstance(each.answer, Permit):
        for name, rule in each.answer.classes.items():
            typer.echo(f"  goes       {name}" + (f", only {' '.join(sorted(rule.only))}" if rule.only is not None else ""))
        for name, note in each.answer.withheld.items():
            typer.echo(f"  stays      {name}. {sentence(Note(note))}")
        typer.echo("  As it would lie on the receiver's shelf:")
        for resource in each.resources:
            text = orjson.dumps(resource, option=orjson.OPT_INDENT_2).decode()
            typer.echo("\n".join(f"    {line}" for line in text.splitlines()))
    typer.echo("")
