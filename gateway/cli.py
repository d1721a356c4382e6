"""`gateway`: the command line. Every verb here is one that the documentation names (a test holds the two together)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway import __version__
from gateway.audit.cli import audit_app
from gateway.clock import Clock, SystemClock
from gateway.disclosure.cli import consent_app
from gateway.disclosure.policy_cli import policy_app
from gateway.oauth.cli import keys_app
from gateway.parties.cli import config_app, party_app

if TYPE_CHECKING:
    from gateway.settings import Settings

__all__ = ["app", "business_clock", "explained", "main"]

app = typer.Typer(name="gateway", help="The coalition gateway.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(audit_app, name="audit")
app.add_typer(party_app, name="party")
app.add_typer(config_app, name="config")
app.add_typer(keys_app, name="keys")
app.add_typer(consent_app, name="consent")
app.add_typer(policy_app, name="policy")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    """The coalition gateway: person to person, acknowledged, never dropped."""


@app.command()
def serve() -> None:
    """Run the hub. Settings come from GATEWAY_... in the environment, or the file that GATEWAY_ENV_FILE names."""
    import uvicorn

    from gateway.app import create_app
    from gateway.log import configure_logging
    from gateway.serving import TlsFileError, server_config
    from gateway.settings import load_settings

    configure_logging()
    with explained():
        settings = load_settings()
        hub = create_app(settings)
        try:
            config = server_config(hub, settings)
        except TlsFileError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
        try:
            uvicorn.Server(config).run()
        except SystemExit:  # how the server says that it did not start
            if hub.state.failure is not None:
                raise hub.state.failure from None
            typer.echo(f"The server can't listen on {settings.host} port {settings.port}.", err=True)
            raise typer.Exit(1) from None


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema, as its owner."""
    from gateway.settings import load_settings
    from gateway.storage.migrate import migrate_postgres, migrate_sqlite
    from gateway.storage.sqlite import FileLock

    with explained():
        settings = load_settings()
        path = settings.sqlite_path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            migrate_sqlite(path, path.with_suffix(".keys.db"))
            lock.release()
        elif settings.database_owner_url is None or settings.keys_owner_url is None or settings.database_reader_url is None:
            typer.echo(
                "Set GATEWAY_DATABASE_OWNER_URL and GATEWAY_KEYS_OWNER_URL: the application's own roles may not change tables.", err=True
            )
            raise typer.Exit(2)
        else:
            asyncio.run(
                migrate_postgres(
                    settings.database_owner_url,
                    settings.keys_owner_url,
                    reader=_user(settings.database_reader_url),
                    writer=_user(settings.database_url),
                )
            )
    typer.echo("The database is at the newest schema.")


@audit_app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="Where to write the export.")],
) -> None:
    """Write the audit log for an auditor. Reads the database; the verifier then needs none."""
    from gateway.audit.exporting import export_log
    from gateway.settings import load_settings

    with explained():
        entries = asyncio.run(export_log(load_settings(), file))
    typer.echo(f"{entries} entries written to {file}")


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Play the scenario and stop.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file.")] = None,
    port: Annotated[int | None, typer.Option(help="The hub's port; a free one when not given.")] = None,
) -> None:
    """Watch one night between real processes: police, victim services, the hospital, income support."""
    from gateway.sandbox.demo import run_demo

    raise typer.Exit(run_demo(once=once, json_file=json, port=port, database_url=None))


def business_clock(settings: Settings) -> Clock:
    """Business time for what the command line records."""
    if settings.sandbox_clock is None:
        return SystemClock()
    from gateway.testing.clock import RunnerClock  # the scenario runner's clock, in the sandbox only

    return RunnerClock(settings.sandbox_clock)


class explained:
    """Say what is wrong instead of a traceback: with settings or configuration (exit 2), with the database (exit 1)."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from pydantic import ValidationError

        from gateway.oauth.keys import KeyFolderError
        from gateway.parties.errors import ConfigurationError
        from gateway.problems import Problem
        from gateway.storage.revisions import WrongSchema
        from gateway.storage.sqlite import AlreadyRunning
        from gateway.storage.writer import StorageError

        if isinstance(error, ValidationError):
            for item in error.errors(include_input=False, include_url=False):
                name = "GATEWAY_" + "_".join(str(part) for part in item["loc"]).upper() if item["loc"] else "settings"
                typer.echo(f"{name}: {item['msg']}", err=True)
            raise typer.Exit(2)
        if isinstance(error, ConfigurationError):
            typer.echo(str(error), err=True)
            raise typer.Exit(2)
        if isinstance(error, FileNotFoundError):
            typer.echo(f"There is no file {error.filename}.", err=True)
            raise typer.Exit(2)
        if isinstance(error, AlreadyRunning):
            say = "One SQLite file serves one process: stop that one, or use PostgreSQL."
            typer.echo(f"Another server process has this database: {error}. {say}", err=True)
            raise typer.Exit(1)
        if isinstance(error, WrongSchema):
            typer.echo(str(error), err=True)
            raise typer.Exit(1)
        if isinstance(error, KeyFolderError):
            typer.echo(str(error), err=True)
            raise typer.Exit(2)
        if isinstance(error, StorageError | OSError | Problem) or type(error).__module__.startswith("asyncpg."):
            typer.echo(f"The database could not be opened ({type(error).__name__}).", err=True)
            raise typer.Exit(1)


def _user(url: str) -> str:
    return url.partition("://")[2].partition("@")[0].partition(":")[0]


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
