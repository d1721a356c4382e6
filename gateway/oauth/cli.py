"""`gateway keys`: the hub's own keys. They lie in files (or with a provider), never in the database."""

from __future__ import annotations

import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

__all__ = ["keys_app"]

keys_app = typer.Typer(no_args_is_help=True, help="The hub's own keys: make the first ones, list them, put a new signing key in.")


@keys_app.command("init")
def init() -> None:
    """Make the keys of a new hub where the settings say: signing key, secret key, audit key. Replaces nothing."""
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from gateway.audit.checkpoint import Signer
    from gateway.cli import explained
    from gateway.oauth.keys import generate_signing_key, key_name
    from gateway.settings import load_settings

    with explained():
        settings = load_settings()
        there = [path for path in (settings.secret_key, settings.audit_key) if path.exists()]
        there += sorted(settings.signing_keys.glob("*.pem"))
        if there:
            typer.echo("Nothing was made. These are there already: " + ", ".join(map(str, there)), err=True)
            raise typer.Exit(1)
        audit = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        signing = generate_signing_key(settings.signing_keys, key_name(time.time()))
        _write(settings.secret_key, secrets.token_bytes(32))
        _write(settings.audit_key, audit)
        typer.echo(f"{settings.signing_keys}: signs access tokens ({signing.kid})")
        typer.echo(f"{settings.secret_key}: wraps the data keys; whoever loses it loses every body in the database")
        typer.echo(f"{settings.audit_key}: signs the audit log; auditors verify it with")
        typer.echo(f"  {Signer.from_pem(settings.audit_origin, audit).verifier}")


@keys_app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False) -> None:
    """The signing keys: which signs, which is published ahead, which is still accepted."""
    from gateway.cli import explained
    from gateway.oauth.keys import FolderKeys, key_states
    from gateway.settings import load_settings

    with explained():
        provider = FolderKeys(load_settings().signing_keys)
        keys, files = provider.keys(), provider.files()
        rows = [
            {"kid": key.kid, "file": files[key.kid].name, "state": state.value, "signs_from": _shown(key.signs_from)}
            for key, state in zip(keys, key_states(keys, time.time()), strict=True)
        ]
    if as_json:
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    for row in rows:
        typer.echo(f"{row['state']:9} {row['kid']}  {row['file']}  signs from {row['signs_from'] or 'ever'}")


@keys_app.command("rotate")
def rotate(
    now: Annotated[bool, typer.Option("--now", help="It signs at once; partners refuse it until they fetch the key set anew.")] = False,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="It signs at once; every other key, and so every access token, is gone.")
    ] = False,
) -> None:
    """Make a new signing key. It is published now and signs once nobody uses a key set without it; the old one is kept until then and
    for as long as tokens of its live. Running hubs follow within seconds. Keys that have done their time are removed."""
    from gateway.cli import explained
    from gateway.oauth.keys import PUBLISH_AHEAD, FolderKeys, KeyState, generate_signing_key, key_name, key_states
    from gateway.settings import load_settings

    with explained():
        folder = load_settings().signing_keys
        provider, at = FolderKeys(folder), time.time()
        keys, files = provider.keys(), provider.files()
        states = key_states(keys, at)
        starts = at if now or compromised else at + PUBLISH_AHEAD
        newest = max((key.signs_from for key in keys), default=0.0)
        if newest >= int(starts) and not compromised:
            typer.echo(f"Nothing was made: a key that signs from {_shown(newest)} is there already.", err=True)
            raise typer.Exit(1)
        done = [key for key, state in zip(keys, states, strict=True) if compromised or state is KeyState.RETIRED]
        made = generate_signing_key(folder, key_name(starts) if newest < int(starts) else f"{key_name(newest + 1)}")
        for key in done:
            files[key.kid].unlink()
        typer.echo(f"{made.kid} signs from {_shown(made.signs_from)}; {len(done)} removed")


@keys_app.command("partner")
def partner(
    file: Annotated[Path, typer.Argument(help="The key-file that the registry names for this partner; made when it is not there.")],
) -> None:
    """Print the public half of the hub's key for a partner that is a SMART server itself, as the JWK Set to hand over."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from gateway.cli import explained
    from gateway.oauth.keys import public_jwk
    from gateway.oauth.outbound import UnusableKey, read_client_key

    with explained():
        if not file.exists():
            made = ec.generate_private_key(ec.SECP384R1())
            _write(file, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        try:
            key = read_client_key(file)
        except UnusableKey as reason:
            typer.echo(f"{file} {reason}", err=True)
            raise typer.Exit(1) from None
        typer.echo(orjson.dumps({"keys": [public_jwk(key.private, None, key.alg.value)]}, option=orjson.OPT_INDENT_2).decode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _shown(at: float) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at else None
