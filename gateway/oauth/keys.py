"""The hub's own signing keys: ES256 (P-256), from whoever keeps them; a folder of PEM files is built in. Never in the database.

A key is published before it signs, signs until the next one does, and is accepted until the last token that it signed has expired::

    added           signs_from          the next one's signs_from            + LONGEST_LIFE
      |-- published --|------- signs -------|-- published and accepted --------|  gone

All of that follows from `signs_from`, so that every process passes through it at the same time and nobody has to tell it. The `kid` is the
key's RFC 7638 thumbprint: a new key always has a new one, and no name can collide.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from joserfc.jwk import ECKey, RSAKey

__all__ = [
    "JWKS_AGE",
    "PUBLISH_AHEAD",
    "FolderKeys",
    "KeyFolderError",
    "KeyProvider",
    "KeyState",
    "SigningKey",
    "SigningKeys",
    "generate_signing_key",
    "key_name",
    "key_states",
    "public_jwk",
]

JWKS_AGE: Final = 300
"""Seconds for which others may keep the published key set."""

PUBLISH_AHEAD: Final = JWKS_AGE + 60
"""Seconds between a new key's publication and its first signature: by then nobody uses a key set without it."""

ACCEPT_AFTER: Final = 360
"""Seconds for which a key is still accepted when the next one signs: the longest life of a token, and a minute for clocks that differ."""

_OTHERS: Final = 0o007
_TIMED: Final = re.compile(r"(\d{8}T\d{6}Z)(?:-.*)?", re.ASCII)
_FORMAT: Final = "%Y%m%dT%H%M%SZ"


class KeyFolderError(Exception):
    """The key folder can't be used; the text names the file and what to do, never its content."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One private key of the hub and its name. `signs_from`: real seconds; 0 = from ever."""

    kid: str
    private: ec.EllipticCurvePrivateKey
    public: ec.EllipticCurvePublicKey
    signs_from: float = 0.0

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey, signs_from: float = 0.0) -> SigningKey:
        """Name a key by its thumbprint (RFC 7638)."""
        return cls(ECKey.import_key(private).thumbprint(), private, private.public_key(), signs_from)


class KeyProvider(Protocol):
    """Keeps the hub's signing keys: a folder, or a client of somebody's key service."""

    def keys(self) -> Sequence[SigningKey]:
        """All keys there are, oldest first. Called every few seconds from a thread; may block for a moment. Raises `KeyFolderError`;
        then the keys in force stay."""
        ...


class KeyState(StrEnum):
    """Where a key is in its life."""

    UPCOMING = "upcoming"  # published, not signing yet
    SIGNING = "signing"
    RETIRING = "retiring"  # published and accepted, not signing any more
    RETIRED = "retired"  # neither


def key_states(keys: Sequence[SigningKey], now: float) -> list[KeyState]:
    """Each key's state at `now` (real seconds). Keys are in order of age; of several that sign from the same time, the last does."""
    due = [place for place, key in enumerate(keys) if key.signs_from <= now]
    current = due[-1] if due else 0
    states = []
    for place, key in enumerate(keys):
        following = keys[place + 1].signs_from if place + 1 < len(keys) else None
        if place == current:
            states.append(KeyState.SIGNING)
        elif place > current and key.signs_from > now:
            states.append(KeyState.UPCOMING)
        else:  # one whose successor has no time is kept: nobody knows since when it does not sign
            known = following is not None and following > 0
            states.append(KeyState.RETIRED if known and following is not None and following + ACCEPT_AFTER <= now else KeyState.RETIRING)
    return states


@dataclass(frozen=True, slots=True)
class _Force:
    current: SigningKey
    by_kid: Mapping[str, SigningKey]
    jwks: Mapping[str, Any]

    @classmethod
    def of(cls, keys: tuple[SigningKey, ...], current: SigningKey | None = None) -> _Force:
        if not keys:
            raise KeyFolderError("no signing key: put one ES256 (P-256) private key as a .pem file into the key folder")
        jwks = {"keys": [public_jwk(key.private, key.kid, "ES256") for key in keys]}
        return cls(current or keys[-1], {key.kid: key for key in keys}, jwks)


class SigningKeys:
    """The keys in force. `replace` and `reload` swap them as one value, so that a reader never sees half a rotation."""

    def __init__(self, keys: tuple[SigningKey, ...]) -> None:
        """`keys` in order of age; the last one signs."""
        self._force = _Force.of(keys)

    @classmethod
    def load(cls, folder: Path) -> SigningKeys:
        """Read every ``*.pem`` of `folder`, oldest name first. Raises `KeyFolderError` for a key that is not P-256, is readable by
        others, or can't be read: a hub that half knows its keys does not start."""
        return cls(tuple(FolderKeys(folder).keys()))

    def replace(self, keys: tuple[SigningKey, ...]) -> None:
        """Put other keys in force, in order of age."""
        self._force = _Force.of(keys)

    def reload(self, folder: Path) -> None:
        """Take up what is in `folder` now. On an error the keys in force stay."""
        self._force = SigningKeys.load(folder)._force

    def follow(self, keys: Sequence[SigningKey], now: float) -> bool:
        """Put in force what these keys are at `now` (real seconds), if it is anything else. Tells whether it was."""
        living = [(key, state) for key, state in zip(keys, key_states(keys, now), strict=True) if state is not KeyState.RETIRED]
        made = _Force.of(tuple(key for key, _ in living), current=next((key for key, state in living if state is KeyState.SIGNING), None))
        if made.current.kid == self._force.current.kid and made.by_kid.keys() == self._force.by_kid.keys():
            return False
        self._force = made
        return True

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


class FolderKeys:
    """`KeyProvider` over a folder of ``*.pem`` files, oldest name first.

    A name such as ``20260314T020000Z.pem`` says from when a key signs; any other, that it has signed from ever.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[tuple[str, int, int], SigningKey] = {}

    def keys(self) -> Sequence[SigningKey]:
        found = {(path.name, (stat := path.stat()).st_mtime_ns, stat.st_ino): path for path in sorted(self._folder.glob("*.pem"))}
        self._read = {name: self._read.get(name) or _read(path) for name, path in found.items()}
        return sorted(self._read.values(), key=lambda key: key.signs_from)

    def files(self) -> Mapping[str, Path]:
        """The file of each key, by its kid."""
        return {_read(path).kid: path for path in sorted(self._folder.glob("*.pem"))}


def key_name(signs_from: float) -> str:
    """The name of a key that signs from then on (real seconds, cut to whole ones)."""
    return datetime.fromtimestamp(int(signs_from), UTC).strftime(_FORMAT)


def generate_signing_key(folder: Path, name: str) -> SigningKey:
    """Make a new ES256 key and write it to ``folder/name.pem``, readable by its owner only. Never replaces a file."""
    private = ec.generate_private_key(ec.SECP256R1())
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / f"{name}.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return SigningKey.of(private, _signs_from(name))


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
    return SigningKey.of(private, _signs_from(path.stem))


def _signs_from(name: str) -> float:
    match = _TIMED.fullmatch(name)
    try:
        return datetime.strptime(match[1], _FORMAT).replace(tzinfo=UTC).timestamp() if match else 0.0
    except ValueError:
        raise KeyFolderError(f"{name}: its name is no time") from None
