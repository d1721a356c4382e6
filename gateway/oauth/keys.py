"""The hub's own signing keys: ES256 (P-256) private keys, one PEM file each, in one folder.

The key whose file name sorts last signs; all of them verify and are published, so that a rotation is "add a file, reload" and an old
token stays valid until it expires. The `kid` is the key's RFC 7638 thumbprint: a new key always has a new one, and no name can collide.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from joserfc.jwk import ECKey, RSAKey

__all__ = ["KeyFolderError", "SigningKey", "SigningKeys", "generate_signing_key", "public_jwk"]

_OTHERS: Final = 0o007


class KeyFolderError(Exception):
    """The key folder can't be used; the text names the file and what to do, never its content."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One private key of the hub and its name."""

    kid: str
    private: ec.EllipticCurvePrivateKey
    public: ec.EllipticCurvePublicKey

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey) -> SigningKey:
        """Name a key by its thumbprint (RFC 7638)."""
        return cls(ECKey.import_key(private).thumbprint(), private, private.public_key())


@dataclass(frozen=True, slots=True)
class _Force:
    current: SigningKey
    by_kid: Mapping[str, SigningKey]
    jwks: Mapping[str, Any]

    @classmethod
    def of(cls, keys: tuple[SigningKey, ...]) -> _Force:
        if not keys:
            raise KeyFolderError("no signing key: put one ES256 (P-256) private key as a .pem file into the key folder")
        jwks = {"keys": [public_jwk(key.private, key.kid, "ES256") for key in keys]}
        return cls(keys[-1], {key.kid: key for key in keys}, jwks)


class SigningKeys:
    """The keys in force. `replace` and `reload` swap them as one value, so that a reader never sees half a rotation."""

    def __init__(self, keys: tuple[SigningKey, ...]) -> None:
        """`keys` in order of age; the last one signs."""
        self._force = _Force.of(keys)

    @classmethod
    def load(cls, folder: Path) -> SigningKeys:
        """Read every ``*.pem`` of `folder`, oldest name first. Raises `KeyFolderError` for a key that is not P-256, is readable by
        others, or can't be read: a hub that half knows its keys does not start."""
        return cls(tuple(_read(path) for path in sorted(folder.glob("*.pem"))))

    def replace(self, keys: tuple[SigningKey, ...]) -> None:
        """Put other keys in force, in order of age."""
        self._force = _Force.of(keys)

    def reload(self, folder: Path) -> None:
        """Take up what is in `folder` now. On an error the keys in force stay."""
        self._force = SigningKeys.load(folder)._force

    @property
    def current(self) -> SigningKey:
        """The key that signs new tokens."""
        return self._force.current

    def by_kid(self, kid: str) -> SigningKey | None:
        """The key that a token's header names, or None."""
        return self._force.by_kid.get(kid)

    @property
    def jwks(self) -> Mapping[str, Any]:
        """The public JWK Set (RFC 7517 section 5), for `jwks_uri`."""
        return self._force.jwks


def generate_signing_key(folder: Path, name: str) -> SigningKey:
    """Make a new ES256 key and write it to ``folder/name.pem``, readable by its owner only. Never replaces a file."""
    private = ec.generate_private_key(ec.SECP256R1())
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / f"{name}.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return SigningKey.of(private)


def public_jwk(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, kid: str | None, alg: str) -> dict[str, Any]:
    """The public half of a key as a JWK (RFC 7517 section 4) for verifying `alg`. `kid` None = the RFC 7638 thumbprint."""
    key = ECKey.import_key(private) if isinstance(private, ec.EllipticCurvePrivateKey) else RSAKey.import_key(private)
    return {**key.as_dict(private=False), "kid": kid or key.thumbprint(), "use": "sig", "alg": alg}


def _read(path: Path) -> SigningKey:
    if path.stat().st_mode & _OTHERS:
        raise KeyFolderError(f"{path.name}: readable by others than its owner and group; chmod o= it")
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, OSError):
        raise KeyFolderError(f"{path.name}: not an unencrypted PEM private key") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise KeyFolderError(f"{path.name}: not an ES256 (P-256) key")
    return SigningKey.of(private)
