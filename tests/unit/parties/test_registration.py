"""Registrations laid over what the files say: they add, never replace, and one that does not fit is left out alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.identity import ClientId, PartyId
from gateway.oauth.keys import public_jwk
from gateway.parties.load import Loaded, load_files
from gateway.parties.registration import ClientKey, Registered, Registrations, Standing, overlay
from tests.integration.world import CLIENTS

ROOT = Path(__file__).resolve().parents[3]
NOW = 1_800_000_000_000
DESK, VSDR = ClientId("desk"), PartyId("vsdr")


def jwk(kid: str) -> dict[str, Any]:
    return public_jwk(ec.generate_private_key(ec.SECP384R1()), kid, "ES384")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    file = tmp_path_factory.mktemp("registry") / "registry.yaml"
    client = {"client-id": "filed", **CLIENTS["counsellor"], "jwks": {"keys": [jwk("f")]}}
    file.write_text(yaml.safe_dump({"clients": [client], "endpoints": []}))
    return load_files(ROOT, registry=file, regions={"durham"})


def desk(*keys: ClientKey, **changes: Any) -> Registered:
    return Registered(
        "desk", "vsdr", {"client-id": "desk", **CLIENTS["counsellor"], **changes}, NOW, keys or (ClientKey("k1", jwk("k1"), NOW),)
    )


def test_a_registered_client_adds_to_those_of_the_file_and_makes_a_new_epoch(loaded: Loaded) -> None:
    laid = overlay(loaded, Registrations((desk(),)), NOW)
    assert set(laid.policy.clients) == {"desk", "filed"} and laid.left_out == ()
    assert laid.policy.epoch != loaded.policy.epoch
    assert overlay(loaded, Registrations(), NOW).policy.epoch == loaded.policy.epoch


def test_a_key_that_has_ended_does_not_count_and_its_end_is_known_beforehand(loaded: Loaded) -> None:
    registrations = Registrations((desk(ClientKey("k1", jwk("k1"), NOW, NOW + 10), ClientKey("k2", jwk("k2"), NOW)),))
    assert registrations.next_end(NOW) == NOW + 10 and registrations.next_end(NOW + 10) is None
    kids = {}
    for at in (NOW, NOW + 10):
        keys: Any = overlay(loaded, registrations, at).policy.clients[DESK].jwks
        kids[at] = {key["kid"] for key in keys["keys"]}
    assert kids == {NOW: {"k1", "k2"}, NOW + 10: {"k2"}}


def test_one_that_does_not_fit_or_is_in_the_file_is_left_out_alone(loaded: Loaded) -> None:
    gone = replace(desk(party="gone"), id="gone")
    taken = Registered("filed", "drps", {"client-id": "filed", **CLIENTS["police"]}, NOW, (ClientKey("k", jwk("k"), NOW),))
    laid = overlay(loaded, Registrations((desk(), gone, taken)), NOW)
    assert set(laid.policy.clients) == {"desk", "filed"}
    assert laid.policy.clients[ClientId("filed")].party == VSDR
    assert [mistake.file for mistake in laid.left_out] == ["registered client gone", "registered client filed"]


def test_who_is_cut_off_is_no_client_wherever_registered_and_old_tokens_stay_dead(loaded: Loaded) -> None:
    off = Registrations((desk(),), (), {("party", "vsdr"): Standing(True, 0)})
    assert overlay(loaded, off, NOW).policy.clients == {} and overlay(loaded, off, NOW).policy.suspended == {VSDR}
    one = Registrations((desk(),), (), {("client", "filed"): Standing(True, 0)})
    assert set(overlay(loaded, one, NOW).policy.clients) == {"desk"} and not overlay(loaded, one, NOW).policy.suspended
    back = Registrations((desk(),), (), {("party", "vsdr"): Standing(False, NOW + 1500)})
    assert {client.tokens_from for client in overlay(loaded, back, NOW).policy.clients.values()} == {NOW // 1000 + 1}
