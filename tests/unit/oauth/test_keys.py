"""The hub's own keys on disk."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.oauth.keys import KeyFolderError, SigningKeys, generate_signing_key, public_jwk
from tests.unit.oauth.world import EC_KEY, RSA_KEY


def test_a_generated_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    generate_signing_key(folder, "2026-01")
    assert stat.S_IMODE((folder / "2026-01.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        generate_signing_key(folder, "2026-01")


def test_the_last_name_signs_and_all_are_published(tmp_path: Path) -> None:
    second, first = generate_signing_key(tmp_path, "2026-02"), generate_signing_key(tmp_path, "2026-01")
    keys = SigningKeys.load(tmp_path)
    assert keys.current.kid == second.kid
    assert [jwk["kid"] for jwk in keys.jwks["keys"]] == [first.kid, second.kid]
    assert all({"kty", "crv", "x", "y", "kid", "use", "alg"} == set(jwk) for jwk in keys.jwks["keys"])
    assert {(jwk["crv"], jwk["use"], jwk["alg"]) for jwk in keys.jwks["keys"]} == {("P-256", "sig", "ES256")}


def test_a_rotation_is_a_new_file_and_a_reload(tmp_path: Path) -> None:
    old = generate_signing_key(tmp_path, "1")
    keys = SigningKeys.load(tmp_path)
    new = generate_signing_key(tmp_path, "2")
    keys.reload(tmp_path)
    assert keys.current.kid == new.kid
    assert keys.by_kid(old.kid) is not None
    (tmp_path / "1.pem").unlink()
    keys.reload(tmp_path)
    assert keys.by_kid(old.kid) is None


def test_a_reload_that_fails_changes_nothing(tmp_path: Path) -> None:
    old = generate_signing_key(tmp_path, "1")
    keys = SigningKeys.load(tmp_path)
    (tmp_path / "2.pem").write_text("not a key")
    (tmp_path / "2.pem").chmod(0o600)
    with pytest.raises(KeyFolderError, match=r"2\.pem"):
        keys.reload(tmp_path)
    assert keys.current.kid == old.kid


def test_a_folder_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFolderError, match="no signing key"):
        SigningKeys.load(tmp_path)


def test_a_key_readable_by_others_is_refused(tmp_path: Path) -> None:
    generate_signing_key(tmp_path, "1")
    (tmp_path / "1.pem").chmod(0o644)
    with pytest.raises(KeyFolderError, match="others"):
        SigningKeys.load(tmp_path)


@pytest.mark.parametrize("kind", ["p-384", "rsa"])
def test_a_key_of_another_kind_is_refused(kind: str, tmp_path: Path) -> None:
    key: ec.EllipticCurvePrivateKey | object = EC_KEY if kind == "p-384" else RSA_KEY
    assert hasattr(key, "private_bytes")
    path = tmp_path / "1.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(KeyFolderError, match="P-256"):
        SigningKeys.load(tmp_path)


def test_a_public_key_has_nothing_private() -> None:
    for key, alg in ((EC_KEY, "ES384"), (RSA_KEY, "RS384")):
        jwk = public_jwk(key, None, alg)
        assert not {"d", "p", "q", "dp", "dq", "qi"} & set(jwk)
        assert jwk["kid"] == public_jwk(key, None, alg)["kid"]
