"""`gateway keys init` makes what a new hub needs, once; and a hub starts on it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from gateway.app import open_hub
from gateway.settings import Settings
from tests.integration.durability.hub import ROOT


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = {"SIGNING_KEYS": "keys/signing", "SECRET_KEY": "keys/secret.key", "AUDIT_KEY": "keys/audit.pem"}
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "GATEWAY_BASE_URL": "https://hub.example"}
    env |= {f"GATEWAY_{name}": str(folder / path) for name, path in paths.items()}
    return subprocess.run([sys.executable, "-m", "gateway.cli", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


async def test_the_first_keys_are_made_once_for_their_owner_alone_and_a_hub_starts_on_them(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "init")
    assert made.returncode == 0 and "coalition-hub.example/audit+" in made.stdout
    files = sorted(path for path in (tmp_path / "keys").rglob("*") if path.is_file())
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600] * 3
    content = [path.read_bytes() for path in files]

    again = run(tmp_path, "keys", "init")
    assert again.returncode == 1 and "secret.key" in again.stderr
    assert [path.read_bytes() for path in files] == content

    settings = Settings(
        base_url="https://hub.example",
        database_url=f"sqlite:///{tmp_path / 'hub.db'}",
        signing_keys=tmp_path / "keys" / "signing",
        secret_key=tmp_path / "keys" / "secret.key",
        audit_key=tmp_path / "keys" / "audit.pem",
    )
    async with open_hub(settings) as hub:
        assert hub.parts.policy().clients == {}
