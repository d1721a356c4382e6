"""What holds from one server process to the next, and between two."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.oauth.client import make_assertion
from gateway.oauth.partner_keys import AssertionAlg
from tests.integration.durability.hub import ROOT, HubFiles, HubProcess, free_port


def token_request(files: HubFiles) -> dict[str, str]:
    """A token request with an assertion that can be used once."""
    told = files.client("nurse")
    key: Any = load_pem_private_key(Path(told["key"]).read_bytes(), None)
    audience = f"{files.settings.base_url}/oauth/token"
    assertion = make_assertion(key, client_id="nurse", audience=audience, alg=AssertionAlg.ES384, kid="nurse", now=time.time)
    return {
        "grant_type": "client_credentials",
        "scope": told["scope"],
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_assertion_used_before_a_restart_is_refused_after_it(served: HubProcess, end: str) -> None:
    url, used = f"{served.files.settings.base_url}/oauth/token", token_request(served.files)
    first = httpx.post(url, data=used)
    assert first.status_code == 200, first.text

    getattr(served, end)()
    served.start()

    again = httpx.post(url, data=used)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_client")
    assert httpx.post(url, data=token_request(served.files)).status_code == 200
    headers = {"authorization": f"Bearer {first.json()['access_token']}"}
    assert httpx.get(f"{served.files.settings.base_url}/fhir/Task", headers=headers).status_code == 200


def test_a_second_server_on_one_sqlite_file_does_not_start_and_says_why(tmp_path: Path) -> None:
    files = HubFiles.make(tmp_path / "hub", {})
    with HubProcess(files).running() as first:
        beside = HubFiles.make(tmp_path / "beside", {"database_url": files.settings.database_url})
        started = time.monotonic()

        second = serve(beside)

        assert second.returncode == 1 and time.monotonic() - started < 15
        assert "Another server process has this database" in second.stderr
        assert str(files.settings.sqlite_path) in second.stderr
        assert "Traceback" not in second.stderr
        assert httpx.get(f"{files.settings.base_url}/health/ready").status_code == 200
        first.kill()
        first.start()  # a lock whose holder was killed holds nobody up


def serve(files: HubFiles) -> subprocess.CompletedProcess[str]:
    """A server that is not expected to start."""
    command = [sys.executable, "-m", "gateway.cli", "serve"]
    return subprocess.run(command, cwd=ROOT, env=files.environment, capture_output=True, text=True, timeout=30)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    files = HubFiles.make(tmp_path / "port", {})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", files.settings.port))
        taken.listen()
        done = serve(files)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False) and f"port {files.settings.port}" in done.stderr

    nowhere = f"postgresql://someone:secret@127.0.0.1:{free_port()}/none"
    files = HubFiles.make(tmp_path / "database", {"database_url": nowhere, "database_reader_url": nowhere, "keys_url": nowhere})
    done = serve(files)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False) and "The database could not be opened" in done.stderr
    assert "secret" not in done.stderr

    files = HubFiles.make(tmp_path / "registry", {})
    (tmp_path / "registry" / "registry.yaml").write_text("clients:\n  - client-id: one\n")
    done = serve(files)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False) and "registry.yaml:2" in done.stderr


def test_a_server_told_to_stop_finishes_and_says_so(served: HubProcess) -> None:
    assert served.stop() in (0, -15)
    assert "Traceback" not in served.log()
