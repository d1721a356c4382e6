"""An independent Python client, unmodified: Authlib signs the assertion and gets the token, fhirpy searches, creates, reads and updates."""

from __future__ import annotations

import time

import pytest
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import AuthorizationError, ForbiddenError, OperationOutcome, ResourceNotFound
from joserfc.jwk import ECKey, RSAKey

from tests.clients.hub import RSA, SmartHub


def authorization(hub: SmartHub, client: str, scope: str) -> str:
    """What Authlib's stock client gets for this registration. It signs for an hour unless told otherwise, and SMART allows five minutes."""
    known = hub.clients[client]
    key = ECKey.import_key(known.key) if isinstance(known.key, EllipticCurvePrivateKey) else RSAKey.import_key(known.key)
    asked = {"exp": int(time.time()) + 240}
    signer = PrivateKeyJWT(hub.token_url, claims=asked, headers={"kid": known.id}, alg=known.alg)
    with OAuth2Client(client, key, token_endpoint_auth_method=signer) as session:
        token = session.fetch_token(hub.token_url, grant_type="client_credentials", scope=scope)
    return f"{token['token_type']} {token['access_token']}"


@pytest.mark.parametrize("client", ["counsellor", RSA])
async def test_fhirpy_searches_creates_reads_and_updates(client: str, smart_hub: SmartHub) -> None:
    fhir = AsyncFHIRClient(smart_hub.fhir, authorization=authorization(smart_hub, client, "system/*.crus consent.record transfer.read"))
    assert await fhir.resources("Task").search(status="requested").fetch() == []
    patient = fhir.resource("Patient", name=[{"use": "nickname", "given": ["Zz-Python"]}])
    await patient.save()
    read = await fhir.get("Patient", patient.id)
    assert read["name"][0]["given"] == ["Zz-Python"]
    patient["name"][0]["given"] = ["Zz-Renamed"]
    await patient.save()
    found = await fhir.resources("Patient").search(_id=patient.id).fetch()
    assert [one["name"][0]["given"] for one in found] == [["Zz-Renamed"]]


async def test_fhirpy_meets_the_refusals_it_knows(smart_hub: SmartHub) -> None:
    narrow = AsyncFHIRClient(smart_hub.fhir, authorization=authorization(smart_hub, "counsellor", "system/Task.rs transfer.read"))
    with pytest.raises(ResourceNotFound):
        await narrow.get("Task", "0" * 32)
    with pytest.raises(ForbiddenError):
        await narrow.resources("Consent").fetch()
    with pytest.raises(OperationOutcome):
        await narrow.resources("Task").search(colour="red").fetch()
    with pytest.raises(AuthorizationError):
        await AsyncFHIRClient(smart_hub.fhir).resources("Task").fetch()
