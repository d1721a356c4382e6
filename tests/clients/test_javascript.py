"""Independent JavaScript clients, unmodified: openid-client for the token, fhir-kit-client for FHIR (`javascript/backend.mjs`).

Needs node and npm. Where they are missing, `make test` says "not run: no npm"; the full run (CI set in the environment) fails instead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.hub import BOUND, RSA, SmartHub

HERE: Final = Path(__file__).resolve().parent / "javascript"
SCOPE: Final = "system/Task.rs system/Patient.crus transfer.read consent.record"


def not_run(why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Say so where it is seen; in the full run it is a failure."""
    with capsys.disabled():
        print(f"\nJavaScript clients not run: {why}")
    if os.environ.get("CI"):
        pytest.fail(f"not run: {why}")
    pytest.skip(f"not run: {why}")


@pytest.fixture
def node(capsys: pytest.CaptureFixture[str]) -> str:
    """The path of node, once what package-lock.json names is installed beside it."""
    npm, found = shutil.which("npm"), shutil.which("node")
    if npm is None or found is None:
        not_run("no npm", capsys)
    assert npm is not None and found is not None
    wanted, have = HERE / "package-lock.json", HERE / "node_modules" / ".installed.json"
    if not have.exists() or have.read_bytes() != wanted.read_bytes():
        done = subprocess.run([npm, "ci", "--prefer-offline"], cwd=HERE, capture_output=True, timeout=120, check=False)
        if done.returncode != 0:
            not_run("npm could not install what package-lock.json names", capsys)
        have.write_bytes(wanted.read_bytes())
    return found


def ran(node: str, hub: SmartHub, client: str, *, dpop: bool) -> dict[str, Any]:
    """One run of the script as one client; what it says it saw."""
    known = hub.clients[client]
    given = {
        "issuer": hub.origin,
        "fhir": hub.fhir,
        "client": client,
        "pem": known.pem.read_text(),
        "alg": known.alg,
        "kid": known.id,
        "scope": SCOPE,
        "alias": "Zz-JavaScript",
        "dpop": dpop,
    }
    done = subprocess.run([node, "backend.mjs"], input=json.dumps(given), cwd=HERE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def expected(hub: SmartHub, *, dpop: bool) -> dict[str, Any]:
    return {
        "tokenType": "dpop" if dpop else "bearer",
        "scope": " ".join(sorted(SCOPE.split())),
        "expiresIn": 300,
        "tokenEndpoint": hub.token_url,
        "fhirVersion": "4.0.1",
        "found": "Bundle",
        "made": "Patient",
        "same": True,
        "missing": 404,
        "withoutToken": 401,
        "asPlainBearer": 401 if dpop else 200,
    }


@pytest.mark.parametrize("client", ["counsellor", RSA])
def test_openid_client_and_fhir_kit_client(client: str, node: str, smart_hub: SmartHub) -> None:
    assert ran(node, smart_hub, client, dpop=False) == expected(smart_hub, dpop=False)


@pytest.mark.parametrize("client", ["counsellor", BOUND])
def test_the_same_with_tokens_bound_to_a_key(client: str, node: str, smart_hub: SmartHub) -> None:
    """RFC 9449: the token is bound to a key that the client made, every request proves it, and a plain bearer does not pass. One client
    must bind its tokens, the other may."""
    assert ran(node, smart_hub, client, dpop=True) == expected(smart_hub, dpop=True)
