"""An operator changes who may call while server processes run: in force on every one of them within a second, live tokens included."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import OctKey

from gateway.oauth.client import make_assertion
from gateway.oauth.keys import public_jwk
from gateway.oauth.partner_keys import AssertionAlg
from tests.integration.durability.hub import ROOT, HubFiles, HubProcess, free_port
from tests.integration.world import CLIENTS

Json = dict[str, Any]
SECOND: Final = 1.0
SCOPE: Final = "system/Task.rs transfer.read"


@dataclass
class Stand:
    """One hub on one database, as one server process or (PostgreSQL) two, and the command line beside it."""

    files: HubFiles
    urls: list[str]
    http: httpx.Client
    processes: list[HubProcess]

    def restart(self) -> None:
        """Kill every process and start it again."""
        for process in self.processes:
            process.kill()
            process.start()

    def run(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """`gateway ...` in a process of its own."""
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "USER": "tester", **self.files.environment}
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done

    def ask_token(self, key: ec.EllipticCurvePrivateKey, client: str, kid: str, url: str | None = None) -> httpx.Response:
        """One token request at one process."""
        assertion = make_assertion(
            key, client_id=client, audience=f"{self.files.settings.base_url}/oauth/token", alg=AssertionAlg.ES384, kid=kid, now=time.time
        )
        form = {
            "grant_type": "client_credentials",
            "scope": SCOPE,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        return self.http.post(f"{url or self.urls[0]}/oauth/token", data=form)

    def token(self, key: ec.EllipticCurvePrivateKey, client: str, kid: str) -> str:
        answer = self.ask_token(key, client, kid)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def statuses(self, token: str) -> list[int]:
        """What the token is worth on each process."""
        return [self.http.get(f"{url}/fhir/Task", headers={"Authorization": f"Bearer {token}"}).status_code for url in self.urls]

    def until(self, token: str, status: int) -> float:
        """Seconds until the token has this status on every process."""
        began = time.monotonic()
        while self.statuses(token) != [status] * len(self.urls):
            assert time.monotonic() - began < 10, self.statuses(token)
            time.sleep(0.01)
        return time.monotonic() - began

    def committed(self, act: list[str], token: str, status: int) -> float:
        """Seconds from before the act's process says it is done (its own wait left out) until the token has this status everywhere."""
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "USER": "tester", **self.files.environment}
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", *act, "--json"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
        )
        while self.statuses(token) != [status] * len(self.urls):
            assert process.poll() is None or process.returncode == 0
            time.sleep(0.005)
        everywhere = time.monotonic()
        out, _ = process.communicate(timeout=20)
        said = json.loads(out)
        assert said["waiting"] == [] and len(said["taken_up"]) == len(self.urls)
        ended = time.monotonic()
        return max(float(said["seconds"]), everywhere - (ended - float(said["seconds"])))

    def register(
        self, client: str, jwk: Mapping[str, Any] | None, *more: str, ok: bool = True, **changes: Any
    ) -> subprocess.CompletedProcess[str]:
        """Write an entry like the counsellor's and add it."""
        entry = {"client-id": client, **CLIENTS["counsellor"], "jwks": {"keys": [jwk]}, **changes}
        file = self.files.folder / f"{client}.yaml"
        file.write_text(yaml.safe_dump({"clients": [entry]}))
        return self.run("party", "add", str(file), *more, ok=ok)


@pytest.fixture
def stand(tmp_path: Path, database: dict[str, str]) -> Iterator[Stand]:
    config = tmp_path / "config"
    for name in ("adapters", "consent_profiles", "mappings"):
        (config / name).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / name), str(config / name)], check=True)
    files = HubFiles.make(tmp_path / "hub", database, config_root=config)
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(httpx.Client(timeout=10))
        processes = [stack.enter_context(HubProcess(files).running())]
        urls = [files.settings.base_url]
        if database:  # the same hub a second time, on another port
            port = free_port()
            folder = tmp_path / "second"
            folder.mkdir()
            env = (files.folder / "hub.env").read_text().replace(f"GATEWAY_PORT='{files.settings.port}'", f"GATEWAY_PORT='{port}'")
            (folder / "hub.env").write_text(env)
            second = HubFiles(folder, files.settings.model_copy(update={"port": port}))
            processes.append(stack.enter_context(HubProcess(second).running()))
            urls.append(f"http://127.0.0.1:{port}")
        yield Stand(files, urls, http, processes)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def test_a_party_is_registered_cut_off_and_let_in_within_a_second_everywhere(stand: Stand) -> None:
    key = new_key()
    stand.register("desk", public_jwk(key, "k1", "ES384"), "--by", "Ann Operator")
    token = stand.token(key, "desk", "k1")
    assert set(stand.statuses(token)) == {200}

    cut = stand.committed(["party", "disable", "vsdr"], token, 401)
    assert [stand.ask_token(key, "desk", "k1", url).json()["error"] for url in stand.urls] == ["invalid_client"] * len(stand.urls)
    stand.run("party", "enable", "vsdr")
    again = stand.token(key, "desk", "k1")
    assert set(stand.statuses(again)) == {200}
    assert set(stand.statuses(token)) == {401}, "a token from before the cut came back to life"

    one = stand.committed(["party", "disable", "vsdr", "--client", "desk"], again, 401)
    print(f"cut off everywhere after {cut:.3f} s (party) and {one:.3f} s (client), {len(stand.urls)} processes")
    assert cut < SECOND and one < SECOND


@pytest.mark.ci
def test_two_keys_count_during_a_rotation_and_a_dropped_one_takes_its_tokens_along(stand: Stand) -> None:
    old, new = new_key(), new_key()
    stand.register("desk", public_jwk(old, "k1", "ES384"))
    fresh = stand.files.folder / "k2.json"
    fresh.write_text(json.dumps(public_jwk(new, "k2", "ES384")))
    stand.run("party", "rotate-key", "desk", "--jwks", str(fresh))
    token = stand.token(old, "desk", "k1")
    assert stand.ask_token(new, "desk", "k2").status_code == 200

    took = stand.committed(["party", "rotate-key", "desk", "--drop-old"], token, 401)
    assert stand.ask_token(old, "desk", "k1").status_code == 400
    assert stand.ask_token(new, "desk", "k2").status_code == 200
    print(f"dropped everywhere after {took:.3f} s")
    assert took < SECOND
    assert "kid" in stand.run("party", "rotate-key", "desk", "--jwks", str(fresh), ok=False).stderr


@pytest.mark.ci
def test_what_was_done_is_told_and_audited(stand: Stand) -> None:
    key = new_key()
    stand.register("desk", public_jwk(key, "k1", "ES384"), "--by", "Ann Operator")
    assert stand.ask_token(key, "desk", "k1").status_code == 200
    assert stand.ask_token(new_key(), "desk", "k1").status_code == 400
    stand.run("party", "disable", "drps", "--by", "Ann Operator")
    desk: Json = {}
    for _ in range(100):
        told = json.loads(stand.run("party", "show", "vsdr", "--json").stdout)
        desk = next(client for client in told["clients"] if client["client"] == "desk")
        if desk["failures"]:
            break
        time.sleep(0.2)
    assert (desk["uses"], desk["failures"], desk["keys"][0]["uses"], desk["keys"][0]["failures"]) == (1, 1, 1, 1)
    assert desk["used"] is not None
    listed = {row["party"]: row["state"] for row in json.loads(stand.run("party", "list", "--json").stdout)}
    assert (listed["drps"], listed["vsdr"]) == ("disabled", "enabled")
    assert "desk" in stand.run("party", "show", "vsdr").stdout
    export = stand.files.folder / "export"
    time.sleep(1.5)
    stand.run("audit", "export", str(export))
    stand.run("audit", "verify", str(export))
    acts = [line for line in export.read_text().splitlines() if "Ann-Operator" in line]
    assert len(acts) == 2


@pytest.mark.ci
def test_a_new_manifest_is_taken_up_and_a_broken_one_is_not(stand: Stand) -> None:
    config = stand.files.settings.config_root
    profile, folder = config / "consent_profiles" / "durham.yaml", config / "adapters" / "new-services"
    text = (config / "adapters" / "vsdr" / "manifest.yaml").read_text()
    metadata = {url: stand.http.get(f"{url}/fhir/metadata").content for url in stand.urls}
    good = profile.read_text()
    profile.write_text(good + "\nno-such-member: 1\n")
    refused = stand.run("config", "reload", ok=False)
    assert "durham.yaml" in refused.stderr
    assert {url: stand.http.get(f"{url}/fhir/metadata").content for url in stand.urls} == metadata
    profile.write_text(good)

    folder.mkdir()
    (folder / "manifest.yaml").write_text(text.replace("party: vsdr", "party: new-services").replace("vsdr.", "new-services."))
    for file in (config / "consent_profiles").glob("*.yaml"):
        if ".cases" not in file.name:
            document = yaml.safe_load(file.read_text())
            for agreement in document["agreements"]:
                if "vsdr" in agreement["parties"]:
                    agreement["parties"].append("new-services")
            file.write_text(yaml.safe_dump(document, sort_keys=False))
    key = new_key()
    stand.register("new-desk", public_jwk(key, "k1", "ES384"), party="new-services")
    token = stand.token(key, "new-desk", "k1")
    assert stand.until(token, 200) < SECOND


def weak_rsa() -> Json:
    """A key of a size that no library here would write down."""
    modulus = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
    return {"kty": "RSA", "kid": "k1", "e": "AQAB", "n": base64.urlsafe_b64encode(modulus.to_bytes(128, "big")).rstrip(b"=").decode()}


@pytest.mark.ci
def test_a_key_that_is_no_good_is_refused_with_the_reason_and_nothing_changes(stand: Stand) -> None:
    good = public_jwk(new_key(), "k1", "ES384")
    private = {**good, "d": good["x"]}
    weak = {
        "it holds private": private,
        "its RSA modulus": weak_rsa(),
        "its curve is not": {**good, "crv": "P-192"},
        "symmetric": {**OctKey.generate_key(256).as_dict(), "kid": "k1"},
        "no usable kid": {name: value for name, value in good.items() if name != "kid"},
        "does not allow verifying": {**good, "alg": "RS384"},
    }
    for number, (reason, jwk) in enumerate(weak.items()):
        said = stand.register(f"weak-{number}", jwk, ok=False).stderr
        assert reason in said and ".yaml:" in said, said
    entry = {"client-id": "twice", **CLIENTS["counsellor"], "jwks": {"keys": [good, public_jwk(new_key(), "k1", "ES384")]}}
    file = stand.files.folder / "twice.yaml"
    file.write_text(yaml.safe_dump({"clients": [entry]}))
    assert "one kid" in stand.run("party", "add", str(file), ok=False).stderr
    in_file = {"client-id": "counsellor", **CLIENTS["counsellor"], "jwks": {"keys": [good]}}
    file.write_text(yaml.safe_dump({"clients": [in_file]}))
    assert "registry file" in stand.run("party", "add", str(file), ok=False).stderr
    shown = json.loads(stand.run("party", "show", "vsdr", "--json").stdout)
    assert [client["client"] for client in shown["clients"]] == [name for name, entry in CLIENTS.items() if entry["party"] == "vsdr"]


@pytest.mark.ci
def test_the_hubs_own_key_is_published_before_it_signs_and_followed_without_a_restart(stand: Stand) -> None:
    key = new_key()
    stand.register("desk", public_jwk(key, "k1", "ES384"))
    token = stand.token(key, "desk", "k1")

    def published() -> list[set[str]]:
        return [{jwk["kid"] for jwk in stand.http.get(f"{url}/oauth/jwks").json()["keys"]} for url in stand.urls]

    first = published()[0]
    answer = stand.http.get(f"{stand.urls[0]}/oauth/jwks")
    assert answer.headers["cache-control"] == "public, max-age=300"
    stand.run("keys", "rotate")
    began = time.monotonic()
    while any(len(kids) != 2 for kids in published()):
        assert time.monotonic() - began < 5
        time.sleep(0.05)
    listed = {row["state"]: row["kid"] for row in json.loads(stand.run("keys", "list", "--json").stdout)}
    assert {listed["signing"]} == first and listed["upcoming"] not in first
    assert set(stand.statuses(token)) == {200}
    stand.run("keys", "rotate", "--compromised")
    assert stand.until(token, 401) < 5
    assert set(stand.statuses(stand.token(key, "desk", "k1"))) == {200}


@pytest.mark.ci
def test_a_revoked_token_is_dead_everywhere_and_stays_so(stand: Stand) -> None:
    key = new_key()
    stand.register("desk", public_jwk(key, "k1", "ES384"))
    token = stand.token(key, "desk", "k1")
    assert set(stand.statuses(token)) == {200}
    audience = f"{stand.files.settings.base_url}/oauth/token"
    assertion = make_assertion(key, client_id="desk", audience=audience, alg=AssertionAlg.ES384, kid="k1", now=time.time)
    form = {
        "token": token,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }
    assert stand.http.post(f"{stand.urls[0]}/oauth/revoke", data=form).status_code == 200
    took = stand.until(token, 401)
    print(f"revoked everywhere after {took:.3f} s")
    assert took < SECOND
    stand.restart()
    assert set(stand.statuses(token)) == {401}
