"""A night in which everything that can be sent carries marks, by every route, and after which everything that left is searched."""

from __future__ import annotations

import copy
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import yaml

from gateway import vocabulary as v
from gateway.audit.exporting import export_log
from gateway.fhir.model import supported_types
from gateway.testing.canaries import Allowances, Element, Field, Leak, Spelling, elements, planted_in, spelled
from tests.integration.night import NOW, fast_track, income_request, made, resource, taken
from tests.integration.partners import Partner, partner, reply
from tests.integration.test_messages import message
from tests.integration.world import World, coded, night_offer, open_world, settings_for

__all__ = ["ACCEPTED", "every_element", "play"]

Json = dict[str, Any]

ROOT: Final = Path(__file__).resolve().parents[2]
ALLOWANCES: Final = Allowances(yaml.safe_load((ROOT / "mappings/data-classes.yaml").read_text()))
ACCEPTED: Final = ("Patient", "Consent", "ServiceRequest", "Task", "Communication")
PEOPLE: Final = ("police", "police-svu", "counsellor", "nurse", "income", "society")
"""One client for each shelf that is looked at."""
_PLACE: Final = {"Patient": 0, "Consent": 1, "ServiceRequest": 3, "Task": 4}
_ID: Final = re.compile(r"\b[0-9a-f]{32}\b")
_REFERENCE: Final = re.compile(r"\b(?:Patient|Consent|ServiceRequest|Task|Communication|Provenance)/[0-9a-f]{32}\b")


class Course:
    """One run over the chosen elements; what may be accepted is always sent."""

    def __init__(self, world: World, field: Field) -> None:
        self.world = world
        self.field = field
        self.sent = 0
        self.wrote: dict[str, set[str]] = {}

    async def send(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Send, and search the answer: nothing of a mark in an error, and in another only what its caller may see."""
        answer = await self.world.call(who, method, path, body, **headers)
        self.sent += 1
        viewer = who if answer.status_code < 400 else ""
        self.field.search(f"answer {answer.status_code // 100}xx", viewer, answer.content, repr(sorted(answer.headers.items())))
        if viewer:
            self.wrote.setdefault(who, set()).update(_REFERENCE.findall(answer.text))
        assert answer.status_code < 500, (answer.status_code, path)
        return answer

    def allowed(self, changed: Json, element: Element, receiver: str = "counsellor") -> set[str]:
        """Who may see what stands there: its author if it may be kept at all, and the receiver whose row and consent have its class."""
        if not ALLOWANCES.kept(changed, element.path):
            return set()
        policy = self.world.hub.parts.policy()
        classes = ALLOWANCES.classes(changed, element.path)
        rows = [r for r in policy.rows if (r.sender_kind, r.receiver_kind, r.scope) == ("police", "victim-services", "warm-transfer")]
        granted = {c["code"] for c in night_offer(NOW)["entry"][1]["resource"]["provision"]["provision"][0]["class"]}
        return {"police"} | ({receiver} if any(classes & granted & r.classes.keys() for r in rows) else set())

    async def walk(self, chosen: Iterable[Element]) -> None:
        """A mark of its own in each of these elements."""
        base = night_offer(NOW)
        for element in chosen:
            if element.type in _PLACE:
                await self._in_offer(base, element)
            else:
                await self._alone(element)

    async def _in_offer(self, base: Json, element: Element) -> None:
        place = _PLACE[element.type]
        mark = self.field.plant(element.name, "transaction")
        for value in element.values(mark):
            body = copy.deepcopy(base)
            body["entry"][place]["resource"] = planted_in(base["entry"][place]["resource"], element, value)
            self.field.allow(self.allowed(body["entry"][place]["resource"], element))
            await self.send("police", "POST", "/fhir", body)

    async def _alone(self, element: Element) -> None:
        mark = self.field.plant(element.name, "create")
        start: Json = {"resourceType": element.type}
        for value in element.values(mark):
            await self.send("counsellor", "POST", f"/fhir/{element.type}", planted_in(start, element, value))

    async def texts(self, spellings: Iterable[Spelling]) -> None:
        """What may be accepted, in each spelling: kept by its author, and by whom its class may reach."""
        for spelling in spellings:
            await self._person(spelling)

    async def _person(self, spelling: Spelling) -> None:
        def mark(where: str, *allowed: str) -> str:
            return spelled(self.field.plant(where, spelling, {"police", *allowed}), spelling)

        offer = night_offer(NOW, mark("Patient.name.given", "counsellor", "nurse", "income"))
        person, _, _, asked, task = (entry["resource"] for entry in offer["entry"])
        person["name"].append({"use": "official", "family": mark("Patient.name.family"), "given": [mark("Patient.name.given, official")]})
        person["telecom"] = [{"system": "phone", "value": mark("Patient.telecom.value")}]
        number = {"type": coded(v.V2_0203, "PLAC"), "system": "urn:example:numbers"}
        task["identifier"] = [{**number, "value": mark("Task.identifier.value")}]
        asked["identifier"] = [{**number, "value": mark("ServiceRequest.identifier.value")}]
        place = next(i for i in task["input"] if "valueString" in i)
        place["valueString"] = mark("Task.input.valueString, meeting-place", "counsellor")
        asked["code"]["coding"][0]["display"] = spelled(self.field.plant("ServiceRequest.code.coding.display", spelling), spelling)
        asked["subject"]["display"] = spelled(self.field.plant("ServiceRequest.subject.display", spelling), spelling)
        asked["requester"]["display"] = spelled(self.field.plant("ServiceRequest.requester.display", spelling), spelling)
        before = {t["id"] for t in await self.world.tasks("counsellor")}
        ids = made(await self.send("police", "POST", "/fhir", offer))
        [received] = [t for t in await self.world.tasks("counsellor") if t["id"] not in before]
        who = received["for"]["reference"]
        await taken(self.world, "counsellor", received["id"])
        her_id = who.partition("/")[2]
        made(await self.send("counsellor", "POST", "/fhir", fast_track(her_id)))
        made(await self.send("counsellor", "POST", "/fhir", income_request(her_id)))
        await self._refused(who, ids, received, spelling)

    async def _refused(self, who: str, ids: Mapping[str, str], received: Json, spelling: Spelling) -> None:
        """The other routes: what is refused says nothing, and is kept nowhere."""

        def mark(where: str) -> str:
            return spelled(self.field.plant(where, spelling), spelling)

        await self.send("counsellor", "POST", "/fhir/Communication", message(who, mark("Communication.payload, without her consent")))
        person = await resource(self.world, "counsellor", who)
        await self.send(
            "counsellor", "PUT", f"/fhir/{who}", {**person, "text": {"status": "generated", "div": mark("Patient.text, update")}}
        )
        for path in ("description", "note", "statusReason", "businessStatus", mark("a path")):
            patch = [
                {"op": "add", "path": f"/{path}", "value": mark(f"Task.{'?' if path not in ('note', 'description') else path}, patch")}
            ]
            await self.send("counsellor", "PATCH", f"/fhir/Task/{received['id']}", patch)
        for name in ("_id", "identifier", "status", "patient", "_sort", "_count", "_include"):
            await self.send("police", "GET", f"/fhir/Task?{name}={quote(mark('a search'))}")
        await self.send("police", "GET", f"/fhir/Task?{quote(mark('a parameter'))}=1")
        for type_ in (*ACCEPTED, "Organization"):
            await self.send("police", "GET", f"/fhir/{type_}/{quote(mark('an id'))}")
        await self.send("police", "GET", f"/fhir/{quote(mark('a type'))}/{ids['Task']}")
        await self.send("police", "GET", f"/fhir/Task/{ids['Task']}/_history/{quote(mark('a version'))}")
        await self.send("police", "POST", "/fhir", mark("no JSON").encode())
        for header in ("If_Match", "If_None_Exist", "Prefer", "Content_Type", "Accept", "X_Request_ID", "DPoP", "User_Agent"):
            value = quote(mark(f"the header {header}"))
            await self.send("police", "POST" if header == "If_None_Exist" else "PUT", f"/fhir/Task/{ids['Task']}", b"{}", **{header: value})
        for form in ("grant_type", "scope", "client_assertion", "client_assertion_type", "resource"):
            answer = await self.world.http.post("/oauth/token", data={"grant_type": "client_credentials", form: mark(f"the field {form}")})
            self.field.search("token endpoint", "", answer.content)

    async def read_all(self) -> None:
        """Every party reads all that it can find, what that refers to, and earlier versions; and how much there is of each type."""
        for who in PEOPLE:
            waiting, known = sorted(self.wrote.get(who, ())), set(self.wrote.get(who, ()))
            for type_ in ("Task", "ServiceRequest", "Consent", "Communication", "Provenance"):
                count = 0
                for page in [p async for p in self._pages(who, type_)]:
                    self.field.search("reads", who, page.content, repr(sorted(page.headers.items())))
                    entries = [f"{type_}/{entry['resource']['id']}" for entry in page.json().get("entry", ())]
                    count += len(entries)
                    waiting += [entry for entry in entries if entry not in known]
                    known.update(entries)
                told = (await self.world.call(who, "GET", f"/fhir/{type_}?_count=1")).json().get("total", count)
                if told != count:
                    self.field.leaks.add(Leak(f"{type_}: a total", "search", "totals", who))
            ids: set[str] = set()
            while waiting:
                at = waiting.pop()
                for path, egress in ((f"/fhir/{at}", "reads"), (f"/fhir/{at}/_history/1", "versions")):
                    found = await self.world.call(who, "GET", path)
                    self.field.search(egress, who if found.status_code < 400 else "", found.content, repr(sorted(found.headers.items())))
                    if found.status_code < 400:
                        ids.update(_ID.findall(found.text))
                        named = set(_REFERENCE.findall(found.text)) - known
                        known |= named
                        waiting += sorted(named)
            self.field.note_ids(who, ids)
        for path in ("/health/live", "/health/ready", "/metrics", "/fhir/metadata", "/.well-known/smart-configuration"):
            self.field.search("health and metadata", "", (await self.world.http.get(path)).content)

    async def _pages(self, who: str, type_: str) -> AsyncIterator[httpx.Response]:
        path: str | None = f"/fhir/{type_}?_count=100"
        while path is not None:
            page = await self.world.call(who, "GET", path)
            if page.status_code >= 400:
                return
            yield page
            links = {link["relation"]: link["url"] for link in page.json().get("link", ())}
            path = links.get("next")


def every_element() -> list[Element]:
    """Every element of every type that R4 defines and the hub knows, those that it accepts first."""
    types = (*ACCEPTED, *sorted(supported_types() - set(ACCEPTED)))
    return [element for type_ in types for element in elements(type_)]


async def play(
    folder: Path, logged: Callable[[], str], chosen: Sequence[Element], spellings: Sequence[Spelling] = tuple(Spelling)
) -> tuple[Field, Course]:
    """Plant, let the partners be told, read, stop the hub, and search what is left behind."""
    field = Field()
    async with partner(reply(200, {})) as pushed, partner(reply(200, {})) as told:
        endpoints = [
            {"shelf": "vsdr", "transport": "fhir-push", "address": f"{pushed.origin}/fhir"},
            {"shelf": "drps/htu", "transport": "nudge", "address": f"{told.origin}/notice"},
        ]
        settings = settings_for(folder, endpoints=endpoints, sweep_seconds=0.02)
        async with open_world(settings) as world:
            course = Course(world, field)
            await course.texts(spellings)
            await course.walk(chosen)
            await world.hub.runner.stop()
            await course.read_all()
            export = folder / "audit.jsonl"
            await export_log(settings, export)
    field.search("pushes", "counsellor", *_heard(pushed))
    field.search("notices", "", *_heard(told))
    field.search("audit export", "", export.read_bytes())
    field.search("logs", "", logged())
    field.search("files", "", *_left_in(folder))
    return field, course


def _heard(server: Partner) -> Iterable[bytes]:
    return [heard.body + repr((heard.target, heard.headers)).encode() for heard in server.heard]


def _left_in(folder: Path) -> list[bytes]:
    """Both databases with their journals, and whatever else the hub wrote."""
    configured = (".yaml", ".pem", ".key")
    return [file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.suffix not in configured]
