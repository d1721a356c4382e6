"""What the partner guide shows works: its example files over the hub's routes, and its shell lines against the real demo."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from joserfc.jwk import ECKey, RSAKey

from gateway.sandbox.world import free_ports
from tests.integration.world import BASE, World, open_world, settings_for

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "partner-guide.md"
EXAMPLES = ROOT / "docs" / "examples"
AFTER_THE_NIGHT = datetime(2026, 2, 11, 17, 5, tzinfo=UTC)
"""Where the demo's clock stands once its scenario is over: the examples carry dates that fit it."""

Json = dict[str, Any]


def example(name: str) -> Any:
    """An example file."""
    return json.loads((EXAMPLES / f"{name}.json").read_text())


@pytest.fixture
async def shown(tmp_path: Path, database: dict[str, str]) -> AsyncIterator[World]:
    """A hub at the time of the examples."""
    async with open_world(settings_for(tmp_path, **database), AFTER_THE_NIGHT) as opened:
        yield opened


async def offered(world: World) -> str:
    """Post the guide's offer; the id of the receiver's Task."""
    answer = await world.call("police", "POST", "/fhir", example("offer"))
    assert answer.status_code == 200, answer.text
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == ["201 Created"] * 4
    outputs = answer.json()["entry"][3]["resource"]["output"]
    assert [output["type"]["coding"][0]["code"] for output in outputs] == ["last-resort-line"]
    [task] = await world.tasks("counsellor")
    return str(task["id"])


async def test_the_offer_and_each_act_of_the_guide_are_taken(shown: World) -> None:
    task = await offered(shown)
    for act, state in (("acknowledge", "acknowledged"), ("accept", "accepted"), ("introduce", "introduced"), ("hand-over", "handed-over")):
        answer = await shown.call("counsellor", "PATCH", f"/fhir/Task/{task}", example(act))
        assert answer.status_code == 200, answer.text
        assert answer.json()["businessStatus"]["coding"][0]["code"] == state
    [sent] = await shown.tasks("police")
    assert sent["businessStatus"]["coding"][0]["code"] == "taken-over"
    assert {output["type"]["coding"][0]["code"] for output in sent["output"]} == {"last-resort-line", "eta", "contact-card"}


async def test_the_guides_withdrawal_is_recorded_and_closes_the_copy(shown: World) -> None:
    task = await offered(shown)
    patient = (await shown.call("counsellor", "GET", f"/fhir/Task/{task}")).json()["for"]["reference"]
    record = json.loads(json.dumps(example("withdraw")).replace("Patient/YOUR-PATIENT-ID", patient))
    answer = await shown.call("counsellor", "POST", "/fhir/Consent", record)
    assert answer.status_code == 201, answer.text
    assert (await shown.call("counsellor", "GET", f"/fhir/Task/{task}")).json()["status"] == "cancelled"


async def test_the_guides_decline_is_taken(shown: World) -> None:
    task = await offered(shown)
    answer = await shown.call("counsellor", "PATCH", f"/fhir/Task/{task}", example("decline"))
    assert answer.status_code == 200, answer.text
    [sent] = await shown.tasks("police")
    assert sent["businessStatus"]["coding"][0]["code"] == "not-taken"


async def test_the_guides_decision_is_taken_from_the_owner_of_the_service(shown: World) -> None:
    bundle = to_income_support(example("offer"))
    answer = await shown.call("counsellor", "POST", "/fhir", bundle)
    assert answer.status_code == 200, answer.text
    [task] = await shown.tasks("income")
    answer = await shown.call("income", "PATCH", f"/fhir/Task/{task['id']}", example("decide"))
    assert answer.status_code == 200, answer.text
    [sent] = await shown.tasks("counsellor")
    assert "decision" in {output["type"]["coding"][0]["code"] for output in sent["output"]}


def to_income_support(bundle: Json) -> Json:
    """The guide's offer, made by victim services to income support."""
    receiver = {"reference": "HealthcareService/ow-durham.htrt"}
    _, consent, request, task = (entry["resource"] for entry in bundle["entry"])
    consent["organization"] = [{"reference": "Organization/vsdr"}]
    permit = consent["provision"]["provision"][0]
    permit["actor"][0]["reference"] = {"reference": "Organization/ow-durham"}
    permit["code"][0]["coding"][0]["code"] = "income-support"
    permit["purpose"] = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "ELIGDTRM"}]
    for part in consent["extension"][0]["extension"]:
        if part["url"] == "recorder-role":
            part["valueCode"] = "ht-cic"
    request["code"]["coding"][0]["code"] = "emergency-income"
    request["performer"] = [receiver]
    request["requester"] = task["requester"] = {"reference": "Organization/vsdr"}
    del request["reasonCode"]
    task["owner"] = receiver
    need = {"system": "https://coalition-hub.example/fhir/CodeSystem/need", "code": "income"}
    task["input"] = [{**task["input"][0], "valueCodeableConcept": {"coding": [need]}}]
    return bundle


@pytest.mark.parametrize("kind", ["EC", "RSA"])
async def test_the_guides_token_request_is_answered(kind: str, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    key = ECKey.generate_key("P-384", auto_kid=False) if kind == "EC" else RSAKey.generate_key(2048, auto_kid=False)
    alg = "ES384" if kind == "EC" else "RS384"
    assert settings.registry is not None
    registry = yaml.safe_load(settings.registry.read_text())
    public = {**key.as_dict(private=False), "kid": key.thumbprint(), "alg": alg, "use": "sig"}
    registry["clients"][0]["jwks"] = {"keys": [public]}
    settings.registry.write_text(yaml.safe_dump(registry))
    spec = importlib.util.spec_from_file_location("get_token", EXAMPLES / "get_token.py")
    assert spec is not None and spec.loader is not None
    guide = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(guide)

    async with open_world(settings, AFTER_THE_NIGHT) as world:
        form = guide.form(
            registry["clients"][0]["client-id"], f"{BASE}/oauth/token", key.as_dict(private=True), "system/Task.rs transfer.read-own"
        )
        answer = await world.http.post("/oauth/token", data=form)
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == "system/Task.rs transfer.read-own"


@pytest.fixture
def running_demo(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The demo as a person starts it, once it has said what to try: its port, and the folder it names."""
    [port] = free_ports(1)
    told = tmp_path / "told"
    with told.open("wb") as out:
        demo = subprocess.Popen([sys.executable, "-m", "gateway.cli", "demo", "--port", str(port)], stdout=out, cwd=ROOT)
        try:
            found = None
            for _ in range(900):
                found = re.search(r"^Tokens are renewed in (.+)/tokens\.", told.read_text(), re.M)
                if found is not None:
                    break
                with pytest.raises(subprocess.TimeoutExpired):
                    demo.wait(0.1)
            assert found is not None, told.read_text()
            yield port, Path(found[1])
        finally:
            demo.terminate()
            demo.wait(20)


@pytest.mark.ci
def test_the_shell_lines_of_the_guide_work_against_a_running_demo(running_demo: tuple[int, Path]) -> None:
    port, folder = running_demo
    blocks = re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    lines = "".join(blocks).replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}").replace(".venv/bin/python", sys.executable)
    lines = re.sub(r"^DEMO=.*$", f"DEMO={folder}", lines, count=1, flags=re.M)

    done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", lines], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    answers = read_all(done.stdout)
    assert [answer["businessStatus"]["coding"][0]["code"] for answer in answers if answer.get("resourceType") == "Task"] == [
        *("acknowledged", "accepted", "introduced", "handed-over", "offered"),
    ]
    assert answers[-1]["issue"][0]["code"] == "not-found"
    assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200


def read_all(text: str) -> list[Json]:
    """Every JSON object printed, in order, whatever stands between them."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found
