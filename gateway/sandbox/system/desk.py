"""What a worker can do at a partner's system. Each act takes what she enters and gives what the hub answered and what was sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import orjson

from gateway.sandbox.system import writing
from gateway.sandbox.system.hub import Answer, Hub
from gateway.sandbox.system.records import Records

__all__ = ["Desk"]

Json = dict[str, Any]
Entered = Mapping[str, Any]


class Desk:
    """The acts of one system, on its own records and its own shelf at the hub. `now` is business time."""

    def __init__(self, party: str, hub: Hub, records: Records, now: Callable[[], datetime], *, lists_people: bool) -> None:
        """`lists_people`: whether this system's scopes let it search consents and messages, or only what it sent."""
        self._party = party
        self._hub = hub
        self._records = records
        self._now = now
        self._lists_people = lists_people
        self.acts: Final[Mapping[str, Callable[[Entered], Awaitable[Json]]]] = {
            "refer": self.refer,
            "move": self.move,
            "consent": self.consent,
            "contact": self.contact,
            "message": self.message,
            "read": self.read,
            "token": self.token,
        }

    async def refer(self, entered: Entered) -> Json:
        """Send a referral: the person (new, or one on the own shelf), her consents, the request and its Task, in one transaction."""
        now = self._now()
        person = f"Patient/{entered['patient']}" if "patient" in entered else f"urn:uuid:{uuid4()}"
        request = f"urn:uuid:{uuid4()}"
        entries: list[tuple[str, Json]] = []
        if "patient" not in entered:
            entries.append((person, writing.patient(entered["person"])))
        for given in entered.get("consents", ()):
            entries.append((f"urn:uuid:{uuid4()}", writing.consent(given, person, self._party, now)))
        service_request, task = writing.referral(entered, person, self._party, request, now)
        entries += [(request, service_request), (f"urn:uuid:{uuid4()}", task)]
        return await self._transaction([*entries])

    async def consent(self, entered: Entered) -> Json:
        """Record consents of a person on the own shelf."""
        person = f"Patient/{entered['patient']}"
        made = [writing.consent(given, person, self._party, self._now()) for given in entered["consents"]]
        return await self._transaction([(f"urn:uuid:{uuid4()}", consent) for consent in made])

    async def _transaction(self, entries: list[tuple[str, Json]]) -> Json:
        answer = await self._hub.send("POST", "", orjson.dumps(writing.bundle(entries)))
        sent = [resource for _, resource in entries]
        made: list[Json] = []
        for entry, resource in zip(answer.body.get("entry", ()), sent, strict=False):
            type_, id_, _, version = entry["response"]["location"].split("/")[-4:]
            made.append({"type": type_, "id": id_, "version": version, "status": entry["response"]["status"][:3]})
            self._records.keep(entry.get("resource") or {**resource, "id": id_, "meta": {"versionId": version}})
        status = int(made[-1]["status"]) if made and answer.status == 200 else answer.status
        return self._result(answer, sent=sent, made=made, status=status)

    async def move(self, entered: Entered) -> Json:
        """Act on a Task: say what happened, and give what goes with it. A JSON Patch on the version just read."""
        path = f"Task/{entered['task']}"
        held = await self._hub.read(path)
        if held.status != 200:
            return self._result(held)
        changed = writing.moved(held.body, entered)
        body = orjson.dumps(writing.patch(held.body, changed))
        answer = await self._hub.send("PATCH", path, body, version=held.body["meta"]["versionId"])
        return self._result(answer, sent=[{"resourceType": "Task", **changed}])

    async def contact(self, entered: Entered) -> Json:
        """Write down the channel that is safe for a person, on the own Patient."""
        path = f"Patient/{entered['patient']}"
        held = await self._hub.read(path)
        if held.status != 200:
            return self._result(held)
        person = writing.with_contact(held.body, entered, self._now())
        answer = await self._hub.send("PUT", path, orjson.dumps(person), version=held.body["meta"]["versionId"])
        return self._result(answer, sent=[{"resourceType": "Patient", "telecom": person["telecom"]}])

    async def message(self, entered: Entered) -> Json:
        """Write a text to a person. The hub sends it when it is safe, or says why not."""
        made = writing.message(f"Patient/{entered['patient']}", self._party, entered["text"])
        answer = await self._hub.send("POST", "Communication", orjson.dumps(made))
        return self._result(answer, sent=[made])

    async def read(self, entered: Entered) -> Json:
        """Read one resource by its id, whoever's it is."""
        return self._result(await self._hub.read(f"{entered['type']}/{entered['id']}"))

    async def token(self, entered: Entered) -> Json:
        """A live access token, for a person who wants to try calls by hand."""
        return {"token": await self._hub.token()}

    def _result(self, answer: Answer, *, sent: list[Json] | None = None, made: list[Json] | None = None, status: int | None = None) -> Json:
        body = answer.body
        if answer.status < 300 and body.get("resourceType") not in (None, "Bundle", "OperationOutcome"):
            self._records.keep(body)
            made = made or [
                {"type": body["resourceType"], "id": body["id"], "version": body["meta"]["versionId"], "status": str(answer.status)}
            ]
        return {
            "status": status or answer.status,
            "body": body,
            "refusals": answer.refusals,
            "elements": answer.elements,
            "says": answer.says,
            "sent": sent or [],
            "made": made or [],
        }

    # -- reading the own shelf ------------------------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """After a notice: read what is new on the own shelf, and what it refers to."""
        newest = self._records.newest()
        since = {"_lastUpdated": f"ge{newest}"} if newest is not None else {}
        for type_ in ("ServiceRequest", "Task"):
            for resource in await self._hub.search(type_, since):
                self._records.keep(resource)
                await self._follow(resource)

    async def look(self, *, earlier: bool = True) -> list[Json]:
        """Everything this system can see at the hub: its whole shelf, and with `earlier` every earlier version of what is there."""
        found: dict[str, Json] = {}
        waiting = [*await self._hub.search("ServiceRequest", {}), *await self._hub.search("Task", {})]
        people = {ref for resource in waiting for ref in _references(resource) if ref.startswith("Patient/")}
        if self._lists_people:
            for person in sorted(people):
                for type_ in ("Consent", "Communication"):
                    waiting += await self._hub.search(type_, {"patient": person})
        while waiting:
            resource = waiting.pop()
            name = f"{resource['resourceType']}/{resource['id']}"
            if name in found:
                continue
            found[name] = resource
            for number in range(1, int(resource["meta"]["versionId"]) if earlier else 1):
                before = await self._hub.read(f"{name}/_history/{number}")
                if before.status == 200:
                    found[f"{name}/_history/{number}"] = before.body
            for reference in _references(resource):
                if reference not in found and reference.partition("/")[0] in _FOLLOWED:
                    answer = await self._hub.read(reference)
                    if answer.status == 200:
                        waiting.append(answer.body)
        return list(found.values())

    async def _follow(self, resource: Json) -> None:
        for reference in _references(resource):
            if reference.partition("/")[0] in _FOLLOWED:
                answer = await self._hub.read(reference)
                if answer.status == 200:
                    self._records.keep(answer.body)


_FOLLOWED: Final = frozenset({"Patient", "ServiceRequest", "Task", "Communication", "Consent"})


def _references(value: Any) -> list[str]:
    """Every reference in a resource, at any depth."""
    if isinstance(value, dict):
        own = [value["reference"]] if isinstance(value.get("reference"), str) else []
        return own + [ref for inner in value.values() for ref in _references(inner)]
    if isinstance(value, list):
        return [ref for inner in value for ref in _references(inner)]
    return []
