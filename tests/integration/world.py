"""A hub in this process over its real routes, with a registry of four parties; and the messages of a night, as builders."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from starlette.applications import Starlette

from gateway import vocabulary as v
from gateway.app import Hub, open_hub
from gateway.clock import instant
from gateway.identity import ClientId
from gateway.oauth.keys import generate_signing_key, public_jwk
from gateway.settings import Settings
from gateway.testing.clock import ClockFile

Json = dict[str, Any]
BASE = "http://127.0.0.1:9"
NIGHT = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)

_FHIR = ["system/Patient.crus", "system/Consent.crus", "system/ServiceRequest.crus", "system/Task.crus", "system/Communication.crs"]
_READ = [
    "system/Provenance.rs",
    "system/Organization.rs",
    "system/HealthcareService.rs",
    "system/PractitionerRole.rs",
    "system/Endpoint.rs",
]
_COMMON = ["consent.withdraw", "directory.read"]
CLIENTS: Mapping[str, Json] = {
    "police": {
        **{
            "party": "drps",
            "unit": "htu",
            "role": "police-officer",
            "device-owner": "police",
            "purposes": ["COC", "victim-support", "ELIGDTRM", "HCOMPL", "missing-person", "HLEGAL"],
        },
        "scopes": [*_FHIR, *_READ, *_COMMON, "transfer.offer", "transfer.read-own", "consent.record-outward", "report.send"],
    },
    "police-svu": {
        **{"party": "drps", "unit": "svu", "role": "police-officer", "device-owner": "police", "purposes": ["COC", "victim-support"]},
        "scopes": [*_FHIR, *_READ, *_COMMON, "transfer.offer", "transfer.read-own", "consent.record-outward", "report.send"],
    },
    "counsellor": {
        **{
            "party": "vsdr",
            "role": "ht-cic",
            "device-owner": "victim-services",
            "purposes": ["COC", "victim-support", "ERTREAT", "ELIGDTRM", "HCOMPL", "law-enforcement"],
        },
        "scopes": [
            *(*_FHIR, *_READ, *_COMMON, "transfer.offer", "transfer.accept", "transfer.read", "consent.record", "message.send"),
            *("report.send", "offer.write"),
        ],
    },
    "manager": {
        **{
            "party": "vsdr",
            "role": "program-manager",
            "device-owner": "victim-services",
            "purposes": ["COC", "victim-support", "THREAT", "HCOMPL"],
        },
        "scopes": [
            *(*_FHIR, *_READ, *_COMMON, "transfer.offer", "transfer.accept", "transfer.read", "consent.record", "report.send"),
            "emergency.request",
        ],
    },
    "privacy": {
        **{"party": "vsdr", "role": "privacy-officer", "device-owner": "victim-services", "purposes": ["victim-support"]},
        "scopes": ["system/Task.rus", "emergency.review", "audit.read-own-party"],
    },
    "society": {
        **{
            "party": "dcas",
            "role": "intake-worker",
            "device-owner": "child-protection",
            "purposes": ["victim-support", "child-protection"],
        },
        "scopes": [
            *(*_FHIR, *_READ, *_COMMON, "transfer.offer", "transfer.accept", "transfer.read", "consent.record-outward"),
            *("report.receive", "report.acknowledge"),
        ],
    },
    "society-joint": {
        **{"party": "dcas", "unit": "joint", "role": "community-worker", "device-owner": "police", "purposes": ["victim-support"]},
        "scopes": [
            *(*_FHIR, *_READ, *_COMMON, "transfer.offer", "transfer.accept", "transfer.read", "consent.record-outward"),
            *("report.receive", "report.acknowledge"),
        ],
    },
    "nurse": {
        **{"party": "lakeridge", "role": "dvsacc-nurse", "device-owner": "hospital", "purposes": ["ERTREAT", "COC"]},
        "scopes": [*_FHIR, *_READ, *_COMMON, "transfer.offer", "transfer.accept", "transfer.read", "consent.record-outward", "report.send"],
    },
    "income": {
        **{
            "party": "ow-durham",
            "unit": "oshawa",
            "role": "ow-caseworker",
            "device-owner": "income-support",
            "purposes": ["ELIGDTRM", "victim-support"],
        },
        "scopes": [
            *(*_FHIR, *_READ, *_COMMON, "transfer.offer", "transfer.accept", "transfer.read", "consent.record-outward", "decision.write"),
            *("offer.write", "message.send", "report.send"),
        ],
    },
}


@dataclass
class World:
    """One hub and a client for each party."""

    hub: Hub
    clock: ClockFile
    settings: Settings
    http: httpx.AsyncClient
    tokens: dict[str, str] = field(default_factory=dict)
    after: Callable[[World], Awaitable[None]] | None = None  # run after each write that a party makes

    async def call(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request as one party. A dict is sent as FHIR JSON, a list as a JSON Patch, bytes as they are."""
        sent = {"Authorization": f"Bearer {self.token(who)}", **{k.replace("_", "-"): x for k, x in headers.items()}}
        content: bytes | None = None
        if isinstance(body, bytes):
            content = body
            sent.setdefault("Content-Type", "application/fhir+json")
        elif body is not None:
            content = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json-patch+json" if isinstance(body, list) else "application/fhir+json")
        response = await self.http.request(method, path, content=content, headers=sent)
        if self.after is not None and method != "GET":
            await self.after(self)
        return response

    def token(self, who: str) -> str:
        """A fresh token for a registered client, with everything it may have."""
        if who not in self.tokens:
            client = self.hub.parts.policy().clients[ClientId(who)]
            self.tokens[who] = self.hub.tokens.issue(client, client.scopes).token
        return self.tokens[who]

    def narrowed(self, who: str, *without: str, purposes: frozenset[str] | None = None) -> str:
        """The name of a caller like `who` whose token lacks some scopes, or has other purposes."""
        client = self.hub.parts.policy().clients[ClientId(who)]
        kept = frozenset(scope for scope in client.scopes if not scope.startswith(tuple(without)))
        name = f"{who} without {' '.join(without)} for {sorted(purposes or ())}"
        asked = client if purposes is None else replace(client, purposes=purposes)
        self.tokens[name] = self.hub.tokens.issue(asked, kept).token
        return name

    async def tasks(self, who: str) -> list[Json]:
        """The Tasks on a party's shelf, oldest first."""
        response = await self.call(who, "GET", "/fhir/Task?_sort=_lastUpdated&_count=100")
        assert response.status_code == 200, response.text
        return [entry["resource"] for entry in response.json().get("entry", ())]

    async def move(self, who: str, task: str, status: str, *output: Json, worker: str | None = None, **extra: Any) -> httpx.Response:
        """One act on a Task, by JSON Patch."""
        patch: list[Json] = [{"op": "add", "path": "/businessStatus", "value": coded(v.BUSINESS_STATUS, status)}]
        if output:
            patch.append({"op": "add", "path": "/output", "value": list(output)})
        if worker:
            patch.append({"op": "add", "path": "/extension", "value": [{"url": v.EXT_ACTING_WORKER, "valueString": worker}]})
        patch += [{"op": "add", "path": f"/{name}", "value": value} for name, value in extra.items()]
        return await self.call(who, "PATCH", f"/fhir/Task/{task}", patch)


def settings_for(folder: Path, **changes: Any) -> Settings:
    """Keys, a registry and settings for a hub in `folder`, on SQLite unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    signing = folder / "signing"
    signing.mkdir(exist_ok=True)
    if not any(signing.iterdir()):
        generate_signing_key(signing, "0001")
        (folder / "secret.key").write_bytes(bytes(range(32)))
        pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "audit.pem").write_bytes(pem)
    endpoints = changes.pop("endpoints", [])
    key = ec.generate_private_key(ec.SECP384R1())
    registry = {
        "clients": [{"client-id": name, **entry, "jwks": {"keys": [public_jwk(key, name, "ES384")]}} for name, entry in CLIENTS.items()],
        "endpoints": endpoints,
    }
    (folder / "registry.yaml").write_text(yaml.safe_dump(registry))
    values = {
        "base_url": BASE,
        "database_url": f"sqlite:///{folder / 'hub.db'}",
        "registry": folder / "registry.yaml",
        "signing_keys": signing,
        "secret_key": folder / "secret.key",
        "audit_key": folder / "audit.pem",
        **{"rate_source": 1e6, "rate_client": 1e6, "rate_tokens": 1e8, "rate_failures": 1e8},  # everybody is one address here
        "sandbox": True,
        "sandbox_clock": folder / "clock",
        **changes,
    }
    return Settings(**values)


@contextlib.asynccontextmanager
async def open_world(settings: Settings, start: datetime = NIGHT) -> AsyncIterator[World]:
    """Open the hub and reach it through its own ASGI routes."""
    assert settings.sandbox_clock is not None
    with ClockFile(settings.sandbox_clock, start) as clock:
        async with open_hub(settings) as hub:
            app = Starlette(routes=hub.routes)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
                yield World(hub, clock, settings, http)


def coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def input_(kind: str, **value: Any) -> Json:
    return {"type": coded(v.TASK_INPUT, kind), **value}


def output(kind: str, **value: Any) -> Json:
    return {"type": coded(v.TASK_OUTPUT, kind), **value}


def patient(alias: str = "Zz-Robin", age_band: str = "18-24") -> Json:
    return {
        "resourceType": "Patient",
        "extension": [{"url": v.EXT_AGE_BAND, "valueCode": age_band}],
        "name": [{"use": "nickname", "given": [alias]}],
        "communication": [{"language": coded(v.BCP_47, "en")}],
    }


def consent(who: str, recorder: str, receiver: str, scope: str, classes: list[str], purposes: list[str], start: int, end: int) -> Json:
    evidence = [
        {"url": "mode", "valueCode": "verbal"},
        {"url": "recorder-role", "valueCode": "police-officer" if recorder == "drps" else "ht-cic"},
        {"url": "notice", "valueCode": "limits"},
        {"url": "giver", "valueCode": "survivor"},
        {"url": "evidence-id", "valueString": "e1"},
    ]
    return {
        "resourceType": "Consent",
        "extension": [{"url": v.EXT_EVIDENCE, "extension": evidence}],
        "status": "active",
        "scope": coded(v.CONSENT_SCOPE_STD, "patient-privacy"),
        "category": [coded(v.V3_ACT_CODE, "IDSCL")],
        "patient": {"reference": who},
        "dateTime": instant(start),
        "performer": [{"reference": who}],
        "organization": [{"reference": f"Organization/{recorder}"}],
        "policyRule": coded(v.V3_ACT_CODE, "OPTINR"),
        "provision": {
            "provision": [
                {
                    "type": "permit",
                    "period": {"start": instant(start), "end": instant(end)},
                    "actor": [{"role": coded(v.V3_PARTICIPATION_TYPE, "IRCP"), "reference": {"reference": receiver}}],
                    "purpose": [{"system": v.purpose_system(p), "code": p} for p in purposes],
                    "class": [{"system": v.DATA_CLASS, "code": c} for c in classes],
                    "code": [coded(v.CONSENT_SCOPE, scope)],
                }
            ]
        },
    }


def request(who: str, sender: str, service: str, owner: str, priority: str = "stat", **extra: Any) -> Json:
    return {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "priority": priority,
        "code": coded(v.SERVICE, service),
        "subject": {"reference": who},
        "requester": {"reference": f"Organization/{sender}"},
        "performer": [{"reference": owner}],
        **extra,
    }


def task(who: str, focus: str, sender: str, owner: str, inputs: list[Json], priority: str = "stat", **extra: Any) -> Json:
    return {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "priority": priority,
        "code": coded(v.TASK_CODE, "transfer"),
        "focus": {"reference": focus},
        "for": {"reference": who},
        "requester": {"reference": f"Organization/{sender}"},
        "owner": {"reference": owner},
        "input": inputs,
        **extra,
    }


def transaction(*resources: tuple[str, Json]) -> Json:
    """A transaction of creates; each resource with the urn it is known by inside."""
    entries = [
        {"fullUrl": urn, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
        for urn, resource in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


BASE_CLASSES = ["alias", "age-band", "language", "access", "cultural"]


def night_offer(now: int, alias: str = "Zz-Robin") -> Json:
    """S1 step 1: police offer crisis counselling, with the consents that the officer recorded."""
    p, c1, c2, sr, t = (f"urn:uuid:00000000-0000-4000-8000-00000000000{i}" for i in range(1, 6))
    classes = [*BASE_CLASSES, "needs", "reason", "source", "safety-flag", "scene-cleared", "meeting-place"]
    hour = 3_600_000
    owner = "PractitionerRole/vsdr.ht-cic"
    inputs = [
        input_("need", valueCodeableConcept=coded(v.NEED, "safe-bed-tonight")),
        input_("need", valueCodeableConcept=coded(v.NEED, "income")),
        input_("source", valueCodeableConcept=coded(v.SOURCE, "date-night")),
        input_("safety-flag", valueCodeableConcept=coded(v.SAFETY_FLAG, "companion-not-safe")),
        input_("scene-cleared", valueBoolean=True),
        input_("meeting-place", valueString="Hotel lobby, side door"),
    ]
    reason = [coded(v.REASON, "exploitation-suspected")]
    return transaction(
        (p, patient(alias)),
        (c1, consent(p, "drps", "Organization/vsdr", "warm-transfer", classes, ["COC", "victim-support"], now - 120_000, now + 72 * hour)),
        (
            c2,
            consent(
                *(p, "drps", "Organization/lakeridge", "hospital-fast-track", [*BASE_CLASSES, "eta", "support-person", "safety-flag"]),
                *(["ERTREAT"], now - 120_000, now + 72 * hour),
            ),
        ),
        (sr, request(p, "drps", "crisis-counselling", owner, reasonCode=reason)),
        (t, task(p, sr, "drps", owner, inputs)),
    )
