"""Clients and endpoints: one token names one shelf, and a registry holds no secret and leaks none."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.identity import ClientId, ShelfId
from gateway.parties.errors import ConfigurationError
from gateway.parties.load import load_policy
from gateway.parties.model import SmartAuth, Transport
from tests.unit.parties.conftest import ROOT, line_of

KEY = "{kty: EC, kid: k1, crv: P-384, x: AAAA, y: BBBB, alg: ES384}"
GOOD = f"""
clients:
  - client-id: htu
    party: drps
    unit: htu
    role: police-officer
    device-owner: police
    purposes: [COC, victim-support]
    scopes: [system/Task.crus, system/ServiceRequest.c, transfer.offer, consent.record-outward, consent.withdraw, directory.read]
    jwks: {{keys: [{KEY}]}}
  - client-id: counsellors
    party: vsdr
    role: ht-cic
    device-owner: victim-services
    purposes: [COC, victim-support, ERTREAT, ELIGDTRM]
    scopes: [system/Task.rus, transfer.accept, consent.record]
    jwks-url: https://vsdr.example/jwks
endpoints:
  - {{shelf: vsdr, transport: fhir-push, address: "https://vsdr.example/fhir"}}
  - {{shelf: drps/htu, transport: nudge, address: "http://127.0.0.1:9001/nudge"}}
"""


def load(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "registry.yaml"
    file.write_text(text)
    return file


def test_clients_and_endpoints_are_registered(tmp_path: Path) -> None:
    policy = load_policy(ROOT, registry=load(tmp_path, GOOD))

    client = policy.clients[ClientId("htu")]
    assert (client.party, client.unit, client.jwks_url) == ("drps", "htu", None)
    assert "transfer.offer" in client.scopes
    endpoint = policy.endpoints[ShelfId("drps/htu")]
    assert (endpoint.id, endpoint.transport) == ("drps.htu", Transport.NUDGE)


def test_the_registry_is_part_of_the_epoch(tmp_path: Path) -> None:
    with_it = load_policy(ROOT, registry=load(tmp_path, GOOD))

    assert with_it.epoch != load_policy(ROOT, registry=None).epoch


SMART = (
    '{shelf: vsdr, transport: fhir-push, address: "https://vsdr.example/fhir", '
    "auth: {kind: smart-backend, token-url: https://login.vsdr.example/token, client-id: hub, scope: system/Bundle.c, key-file: hub.pem}}"
)


def with_smart(tmp_path: Path, mode: int = 0o600, *, curve: ec.EllipticCurve | None = None) -> Path:
    """A registry whose first endpoint has a token server of its own, and the hub's key for it beside it."""
    key = ec.generate_private_key(curve or ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "hub.pem").write_bytes(key)
    (tmp_path / "hub.pem").chmod(mode)
    return load(tmp_path, GOOD.replace('{shelf: vsdr, transport: fhir-push, address: "https://vsdr.example/fhir"}', SMART))


def test_an_endpoint_may_have_a_token_server_of_its_own(tmp_path: Path) -> None:
    endpoints = load_policy(ROOT, registry=with_smart(tmp_path)).endpoints

    auth = SmartAuth("https://login.vsdr.example/token", "hub", "system/Bundle.c", str(tmp_path / "hub.pem"))
    assert endpoints[ShelfId("vsdr")].auth == auth
    assert endpoints[ShelfId("drps/htu")].auth is None


def test_a_key_of_the_hub_that_cannot_be_used_stops_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="readable by others"):
        load_policy(ROOT, registry=with_smart(tmp_path, 0o604))
    file = with_smart(tmp_path, curve=ec.SECP256R1())
    with pytest.raises(ConfigurationError, match="neither an EC key on P-384"):
        load_policy(ROOT, registry=file)
    file.with_name("hub.pem").unlink()
    with pytest.raises(ConfigurationError, match="is not there"):
        load_policy(ROOT, registry=file)


BAD = [
    (
        "token server in the clear",
        '"https://vsdr.example/fhir"}',
        '"https://vsdr.example/fhir", auth: {kind: smart-backend, token-url: "http://x.example/t", client-id: a, scope: b, key-file: c}}',
        "absolute https",
        "x.example",
    ),
    (
        "key in the registry",
        '"https://vsdr.example/fhir"}',
        '"https://vsdr.example/fhir", auth: {kind: smart-backend, key: c2VjcmV0}}',
        "'token-url' is missing",
        "c2VjcmV0",
    ),
    ("unit missing", "    unit: htu\n", "", "must name a unit", "client-id: htu"),
    ("unit unknown", "unit: htu", "unit: hq", "is not a unit of this party", "unit: hq"),
    ("party unknown", "party: drps", "party: care", "is not a party of this hub", "party: care"),
    ("role of another kind", "role: police-officer", "role: ht-cic", "is not a role of this kind", "role: ht-cic"),
    (
        "scope of another kind",
        "transfer.offer, consent.record-outward",
        "transfer.accept, consent.record-outward",
        "is not an action scope",
        "transfer.accept, consent.r",
    ),
    ("wildcard scope", "system/Task.crus", "system/*.read", "must match", "system/*.read"),
    ("scope for a patient", "system/Task.crus", "patient/Task.rs", "must match", "patient/Task"),
    ("purpose unknown", "purposes: [COC, victim-support]\n", "purposes: [CURIOSITY]\n", "is not a purpose of use", "CURIOSITY"),
    ("device of nobody", "device-owner: police", "device-owner: cafe", "must be the kind of party", "device-owner: cafe"),
    ("company of nobody", "unit: htu", "unit: htu\n    colocated: cafe", "is not a kind of party whose company", "colocated: cafe"),
    (
        "in a room with police",
        "role: ht-cic",
        "role: ht-cic\n    colocated: police",
        "needs a unit with its own shelf",
        "colocated: police",
    ),
    (
        "on a device of police",
        "device-owner: victim-services",
        "device-owner: police",
        "needs a unit with its own shelf",
        "device-owner: police",
    ),
    ("binding unknown", "unit: htu", "unit: htu\n    binding: cookie", "must be one of none, dpop, mtls", "binding: cookie"),
    ("client twice", "client-id: counsellors", "client-id: htu", "registered twice", "client-id: htu"),
    ("no keys", f"    jwks: {{keys: [{KEY}]}}\n", "", "is none of the forms", "client-id: htu"),
    (
        "keys twice",
        "    jwks-url: https://vsdr.example/jwks",
        f"    jwks-url: https://vsdr.example/jwks\n    jwks: {{keys: [{KEY}]}}",
        "is none of the forms",
        "counsellors",
    ),
    ("one kid twice", f"keys: [{KEY}]", f"keys: [{KEY}, {KEY.replace('AAAA', 'CCCC')}]", "two keys with one kid", "jwks:"),
    ("private key", "y: BBBB", "y: BBBB, d: c2VjcmV0", "'d'", "c2VjcmV0"),
    ("keys in the clear", "https://vsdr.example/jwks", "http://vsdr.example/jwks", "absolute https", "http://vsdr.example/jwks"),
    ("address in the clear", "https://vsdr.example/fhir", "http://vsdr.example/fhir", "absolute https", "http://vsdr.example/fhir"),
    ("address with a query", "https://vsdr.example/fhir", "https://vsdr.example/fhir?token=c2VjcmV0", "must match", "c2VjcmV0"),
    ("address with a login", "https://vsdr.example/fhir", "https://me:c2VjcmV0@vsdr.example/fhir", "must match", "c2VjcmV0"),
    ("transport of another", "transport: fhir-push", "transport: nudge", "the manifest of this party says fhir-push", "shelf: vsdr"),
    ("shelf unknown", "shelf: drps/htu", "shelf: drps", "is not a shelf of this hub", "shelf: drps,"),
    ("shelf twice", "shelf: drps/htu, transport: nudge", "shelf: vsdr, transport: fhir-push", "has an endpoint already", "9001"),
]


@pytest.mark.parametrize(("name", "old", "new", "reason", "at"), BAD, ids=[case[0].replace(" ", "-") for case in BAD])
def test_a_mistake_in_the_registry_stops_the_hub(name: str, old: str, new: str, reason: str, at: str, tmp_path: Path) -> None:
    assert old in GOOD
    file = load(tmp_path, GOOD.replace(old, new, 1))

    with pytest.raises(ConfigurationError) as caught:
        load_policy(ROOT, registry=file)

    fitting = [mistake for mistake in caught.value.mistakes if reason in mistake.reason]
    assert fitting, str(caught.value)
    lines = [number for number, line in enumerate(file.read_text().splitlines(), 1) if at in line]
    assert fitting[0].line in lines or fitting[0].line == line_of(file, at)
    assert "c2VjcmV0" not in str(caught.value)
