"""The life of the hub's own keys: published, signing, accepted, gone; by the clock alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.oauth.keys import (
    ACCEPT_AFTER,
    JWKS_AGE,
    PUBLISH_AHEAD,
    FolderKeys,
    KeyFolderError,
    SigningKey,
    SigningKeys,
    generate_signing_key,
    key_name,
    key_states,
)
from gateway.oauth.tokens import LONGEST_LIFETIME

NOW = 1_800_000_000.0


def key(signs_from: float) -> SigningKey:
    return SigningKey.of(ec.generate_private_key(ec.SECP256R1()), signs_from)


@pytest.mark.parametrize(
    ("starts", "states"),
    [
        ([0], ["signing"]),
        ([0, 0], ["retiring", "signing"]),  # nobody knows since when the first does not sign
        ([NOW + 60], ["signing"]),  # a hub without any other key signs with the one it has
        ([0, NOW + 1], ["signing", "upcoming"]),
        ([0, NOW], ["retiring", "signing"]),
        ([0, NOW - ACCEPT_AFTER + 1], ["retiring", "signing"]),
        ([0, NOW - ACCEPT_AFTER], ["retired", "signing"]),
        ([NOW - 9000, NOW - 400, NOW - 100, NOW + 100], ["retired", "retiring", "signing", "upcoming"]),
    ],
)
def test_the_state_of_each_key_follows_from_the_clock(starts: list[float], states: list[str]) -> None:
    assert [state.value for state in key_states([key(start) for start in starts], NOW)] == states


def test_the_overlap_fits_the_published_age_and_the_life_of_a_token() -> None:
    assert PUBLISH_AHEAD > JWKS_AGE
    assert ACCEPT_AFTER > LONGEST_LIFETIME


def test_a_rotation_swaps_once_at_each_step_and_publishes_no_retired_key() -> None:
    old, new = key(0), key(NOW + PUBLISH_AHEAD)
    keys = SigningKeys((old,))
    assert keys.follow([old, new], NOW) and keys.current is old and len(keys.jwks["keys"]) == 2
    before = keys.jwks
    assert not keys.follow([old, new], NOW + PUBLISH_AHEAD - 1) and keys.jwks is before
    assert keys.follow([old, new], NOW + PUBLISH_AHEAD) and keys.current is new and keys.by_kid(old.kid) is old
    assert keys.follow([old, new], NOW + PUBLISH_AHEAD + ACCEPT_AFTER) and keys.by_kid(old.kid) is None
    assert [jwk["kid"] for jwk in keys.jwks["keys"]] == [new.kid]


def test_a_folder_says_from_when_a_key_signs_by_its_name(tmp_path: Path) -> None:
    generate_signing_key(tmp_path, "first")
    timed = generate_signing_key(tmp_path, key_name(NOW))
    assert [each.signs_from for each in FolderKeys(tmp_path).keys()] == [0.0, NOW]
    assert FolderKeys(tmp_path).files()[timed.kid].name == f"{key_name(NOW)}.pem"
    (tmp_path / "20269999T000000Z.pem").write_bytes((tmp_path / "first.pem").read_bytes())
    (tmp_path / "20269999T000000Z.pem").chmod(0o600)
    with pytest.raises(KeyFolderError, match="no time"):
        FolderKeys(tmp_path).keys()


def test_a_folder_reads_a_file_once(tmp_path: Path) -> None:
    generate_signing_key(tmp_path, key_name(time.time()))
    folder = FolderKeys(tmp_path)
    assert folder.keys()[0] is folder.keys()[0]
