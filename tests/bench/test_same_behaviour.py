"""Both builds do the same for the two requests measured, over real HTTP: otherwise their speeds could not be compared."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.storage import tables
from tests.bench.stand import Build, Database, Server, Stand
from tests.integration.world import night_offer

Json = dict[str, Any]
_ID = re.compile(r"[0-9a-f]{32}|[0-9A-F]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Party:
    """One client of one server."""

    def __init__(self, server: Server, who: str) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{server.port}", headers={"Authorization": f"Bearer {server.token(who)}"})

    def offer(self, bundle: Json, request: str | None = None) -> httpx.Response:
        headers = {"Content-Type": "application/fhir+json", **({"X-Request-ID": request} if request else {})}
        return self._http.post("/fhir", content=json.dumps(bundle), headers=headers)

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path)

    def shelf(self, type_: str) -> list[Json]:
        """What lies on this party's shelf, oldest first."""
        answer = self.get(f"/fhir/{type_}?_count=100&_sort=_lastUpdated")
        assert answer.status_code == 200, answer.text
        return [entry["resource"] for entry in answer.json().get("entry", [])]

    def __enter__(self) -> Party:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with Stand(tmp_path_factory.mktemp("stand"), pinned=False) as stand:
        yield stand


@pytest.fixture(scope="module", params=list(Database))
def database(request: pytest.FixtureRequest) -> Database:
    assert isinstance(request.param, Database)
    return request.param


@pytest.fixture(scope="module")
def servers(stand: Stand, database: Database) -> dict[Build, Server]:
    return {build: stand.start(build, database) for build in Build}


@pytest.fixture(params=list(Build))
def server(request: pytest.FixtureRequest, servers: dict[Build, Server]) -> Server:
    return servers[request.param]


@pytest.fixture
def police(server: Server) -> Iterator[Party]:
    with Party(server, "police") as party:
        yield party


@pytest.fixture
def counsellor(server: Server) -> Iterator[Party]:
    with Party(server, "counsellor") as party:
        yield party


def offer(alias: str = "Zz-Robin") -> Json:
    return night_offer(time.time_ns() // 1_000_000, alias)


def entry(bundle: Json, type_: str) -> Json:
    found: Json = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == type_)
    return found


def refusals(answer: httpx.Response) -> set[str]:
    return {c["code"] for issue in answer.json()["issue"] for c in issue.get("details", {}).get("coding", [])}


def elements(answer: httpx.Response) -> set[str]:
    return {path for issue in answer.json()["issue"] for path in issue.get("expression", [])}


def test_an_offer_creates_five_resources_and_is_answered_with_the_task(police: Party) -> None:
    answer = police.offer(offer())
    assert answer.status_code == 200
    entries = answer.json()["entry"]
    assert [e["response"]["status"] for e in entries] == ["201 Created"] * 5
    assert [e["response"]["location"].split("/")[0] for e in entries] == ["Patient", "Consent", "Consent", "ServiceRequest", "Task"]
    assert entries[4]["resource"]["businessStatus"]["coding"][0]["code"] == "offered"
    assert any(o["type"]["coding"][0]["code"] == "last-resort-line" for o in entries[4]["resource"]["output"])


def test_the_receiver_gets_the_same_copy_from_both(servers: dict[Build, Server]) -> None:
    seen = {build: _copies(server) for build, server in servers.items()}
    assert seen[Build.NAIVE] == seen[Build.GATEWAY]
    assert {copy["resourceType"] for copy in seen[Build.GATEWAY]} == {"Patient", "ServiceRequest", "Task", "Consent", "Provenance"}


def _copies(server: Server) -> list[Json]:
    """What an offer put on the receiver's shelf, without the ids and times, which are never the same."""
    with Party(server, "police") as police, Party(server, "counsellor") as counsellor:
        types = ("ServiceRequest", "Task", "Consent", "Provenance")
        before = {type_: {r["id"] for r in counsellor.shelf(type_)} for type_ in types}
        assert police.offer(offer()).status_code == 200
        found = [r for type_, known in before.items() for r in counsellor.shelf(type_) if r["id"] not in known]
        [task] = (r for r in found if r["resourceType"] == "Task")
        found.append(counsellor.get(f"/fhir/{task['for']['reference']}").json())
    return [json.loads(_TIME.sub("time", _ID.sub("id", json.dumps(r, sort_keys=True)))) for r in found]


def test_a_code_outside_a_required_binding_is_refused_with_its_element(police: Party) -> None:
    bundle = offer()
    entry(bundle, "ServiceRequest")["priority"] = "at-once"
    answer = police.offer(bundle)
    assert answer.status_code == 422
    assert "Bundle.entry[3].resource.priority" in elements(answer)
    assert "at-once" not in answer.text


def test_an_element_that_may_not_be_sent_is_refused(police: Party) -> None:
    bundle = offer()
    entry(bundle, "Patient")["gender"] = "female"
    answer = police.offer(bundle)
    assert answer.status_code == 422
    assert refusals(answer) == {"forbidden-element"}
    assert elements(answer) == {"Bundle.entry[0].resource.gender"}


def test_an_offer_without_a_consent_for_it_is_refused(police: Party) -> None:
    bundle = offer()
    del bundle["entry"][1]
    answer = police.offer(bundle)
    assert answer.status_code == 403
    assert refusals(answer) == {"no-consent"}


def test_without_a_token_nothing_is_answered(server: Server) -> None:
    answer = httpx.post(f"http://127.0.0.1:{server.port}/fhir", json=offer())
    assert answer.status_code == 401


def test_a_repeated_request_gets_the_same_answer_and_another_body_a_conflict(police: Party, counsellor: Party) -> None:
    bundle, request = offer("Zz-Repeat"), f"r-{time.time_ns()}"
    first = police.offer(bundle, request)
    held = len(counsellor.shelf("Task"))
    again = police.offer(bundle, request)
    locations = [[e["response"]["location"] for e in answer.json()["entry"]] for answer in (first, again)]
    assert locations[0] == locations[1]
    assert len(counsellor.shelf("Task")) == held
    other = police.offer(offer("Zz-Other"), request)
    assert other.status_code == 409
    assert refusals(other) == {"duplicate"}


def test_a_task_is_read_by_its_shelf_alone(police: Party, counsellor: Party) -> None:
    assert police.offer(offer()).status_code == 200
    received, sent = counsellor.shelf("Task")[-1]["id"], police.shelf("Task")[-1]["id"]
    own = counsellor.get(f"/fhir/Task/{received}")
    assert own.status_code == 200
    assert own.headers["etag"] == 'W/"1"'
    for party, foreign in ((police, received), (counsellor, sent), (counsellor, "0" * 32)):
        assert party.get(f"/fhir/Task/{foreign}").status_code == 404


def test_both_write_the_same_rows(stand: Stand, servers: dict[Build, Server]) -> None:
    assert _rows_of_an_offer(stand, servers[Build.NAIVE]) == _rows_of_an_offer(stand, servers[Build.GATEWAY])


def _rows_of_an_offer(stand: Stand, server: Server) -> dict[str, int]:
    """How many rows one offer and one read add to each table; what seals the log and the writer's beginning come at their own time."""
    later = {"audit_leaves", "audit_checkpoints", "audit_writers"}
    wanted = [table for table in (*tables.metadata.sorted_tables, *tables.keys_metadata.sorted_tables) if table.name not in later]
    with Party(server, "police") as police, Party(server, "counsellor") as counsellor:
        assert police.offer(offer()).status_code == 200
        task = counsellor.shelf("Task")[-1]["id"]
        before = stand.rows(server, wanted)
        assert police.offer(offer(), f"r-{time.time_ns()}").status_code == 200
        assert counsellor.get(f"/fhir/Task/{task}").status_code == 200
        after = stand.rows(server, wanted)
    return {name: after[name] - before[name] for name in before}
