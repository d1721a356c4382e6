"""Checkpoints: what the log says its tree is, signed.

A checkpoint (c2sp.org/tlog-checkpoint) is a signed note (c2sp.org/signed-note) of three lines::

    coalition-hub.example/audit                            origin: which log
    20852163                                               size: how many entries
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=           root: RFC 6962 root of the tree at that size

    — coalition-hub.example/audit Az3grlgtzPICa5OS8npV...  a signature: key name, base64(key id || signature)
    — partner.example/witness jWbPPwAAAABkGFDLEZMHwSRa...  a partner's cosignature (c2sp.org/tlog-cosignature), with a time

Key names and signatures are read as the specifications say; two signature types are known, plain Ed25519 (0x01) and the
timestamped Ed25519 cosignature (0x04). The hub itself signs no extension lines, and names of its own log are ASCII.

    NoteError           the text is not a signed note, a checkpoint or a key
      UntrustedNote     it is, but no trusted key signed it, or one of their signatures is wrong

No error holds a part of the text that was read.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.audit.merkle import HASH_SIZE

__all__ = [
    "NOTE_LIMIT",
    "Checkpoint",
    "NoteError",
    "NoteSignature",
    "SignatureType",
    "SignedCheckpoint",
    "Signer",
    "UntrustedNote",
    "VerifierKey",
    "cosign",
    "parse",
    "sign",
    "verify",
]

NOTE_LIMIT: Final = 65_536
"""Longer notes are refused; room for far more than the 16 signatures that must be accepted (signed-note, Format)."""

_DASH: Final = "\u2014"
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII).fullmatch
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII).fullmatch
_OWN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}", re.ASCII).fullmatch
_SIGNATURE_LINE: Final = re.compile(r"\u2014 ([^ \n]+) ([A-Za-z0-9+/]+={0,2})").fullmatch


class NoteError(ValueError):
    """The text is not a signed note, not a checkpoint or not a key."""


class UntrustedNote(NoteError):
    """The note is well formed, but trusted keys don't vouch for it."""


class SignatureType(IntEnum):
    """The signature type bytes that are understood here (signed-note, Signature types)."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str) -> bytes:
    """Standard base64 in its one canonical form: a second spelling of the same bytes would be a change nobody sees."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise NoteError("not base64") from None
    if _b64(data) != text:
        raise NoteError("not canonical base64")
    return data


def _is_key_name(name: str) -> bool:
    """Non-empty, no Unicode spaces, no plus (signed-note, Format); nor anything else that can't be printed."""
    return name != "" and "+" not in name and name.isprintable() and not any(c.isspace() for c in name)


def _key_id(name: str, kind: SignatureType, public: bytes) -> bytes:
    """SHA-256(key name || 0x0A || signature type || public key)[:4] (signed-note, Signatures)."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key as a verifier is given it: ``<name>+<key id in hex>+<base64(type || key)>``."""

    name: str
    kind: SignatureType
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes that, with the name, tell which key made a signature."""
        return _key_id(self.name, self.kind, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_b64(bytes([self.kind]) + self.public)}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read the text form. NoteError unless it is exactly the form that `str` writes."""
        name, _, rest = text.partition("+")
        key_id, _, data = rest.partition("+")
        if not _is_key_name(name) or not _KEY_ID(key_id):
            raise NoteError("not a verifier key")
        raw = _unb64(data)
        if len(raw) != 33 or raw[0] not in (SignatureType.ED25519, SignatureType.COSIGNATURE):
            raise NoteError("not an Ed25519 verifier key")
        key = cls(name, SignatureType(raw[0]), raw[1:])
        if key.key_id.hex() != key_id:
            raise NoteError("the key id of the verifier key is not that of its key")
        try:
            Ed25519PublicKey.from_public_bytes(key.public)
        except ValueError:
            raise NoteError("not an Ed25519 verifier key") from None
        return key

    def vouches(self, text: str, signature: bytes) -> bool:
        """Whether `signature` (without its key id) is this key's over a note text."""
        message = text.encode()
        if self.kind is SignatureType.COSIGNATURE:
            if len(signature) != 72 or signature[0] & 0x80:  # the time must not exceed 2^63 - 1
                return False
            message = _cosigned(text, int.from_bytes(signature[:8], "big"))
            signature = signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def _cosigned(text: str, at: int) -> bytes:
    """The message of a timestamped cosignature (tlog-cosignature, Ed25519 signed message)."""
    return f"cosignature/v1\ntime {at}\n{text}".encode()


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A private key and the name it signs under. Its repr shows neither."""

    verifier: VerifierKey
    _private: Ed25519PrivateKey

    @classmethod
    def of(cls, name: str, private: Ed25519PrivateKey, kind: SignatureType = SignatureType.ED25519) -> Signer:
        """A signer of the log (plain) or of a partner that cosigns. The name of a log is its origin."""
        if not _OWN_NAME(name):
            raise NoteError("a key name of ours is ASCII letters, digits and ._:/-")
        return cls(VerifierKey(name, kind, private.public_key().public_bytes_raw()), private)

    @classmethod
    def from_pem(cls, name: str, pem: bytes, kind: SignatureType = SignatureType.ED25519) -> Signer:
        """A signer from an unencrypted PKCS #8 PEM file. NoteError when it holds no Ed25519 key."""
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            raise NoteError("not a PEM private key") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise NoteError("not an Ed25519 private key")
        return cls.of(name, private, kind)

    def __repr__(self) -> str:
        return "Signer()"

    def line(self, text: str, at: int | None = None) -> str:
        """The signature line for a note text; `at` (POSIX seconds) is given exactly when the key cosigns."""
        if self.verifier.kind is SignatureType.COSIGNATURE:
            if at is None or not 0 <= at < 1 << 63:
                raise NoteError("a cosignature carries the time it was made at")
            signature = at.to_bytes(8, "big") + self._private.sign(_cosigned(text, at))
        else:
            signature = self._private.sign(text.encode())
        return f"{_DASH} {self.verifier.name} {_b64(self.verifier.key_id + signature)}\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of `origin` at `size` has this `root`."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The note text (tlog-checkpoint, Note text)."""
        lines = (self.origin, str(self.size), _b64(self.root), *self.extensions)
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, not verified."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signature lines. Means nothing until `verify` has returned."""

    checkpoint: Checkpoint
    signatures: tuple[NoteSignature, ...]


def sign(checkpoint: Checkpoint, key: Signer) -> str:
    """The signed note. NoteError unless the key is a plain one whose name is the checkpoint's origin."""
    if key.verifier.kind is not SignatureType.ED25519 or key.verifier.name != checkpoint.origin:
        raise NoteError("a checkpoint is signed by the key named after its log")
    if len(checkpoint.root) != HASH_SIZE or checkpoint.size < 0 or checkpoint.extensions:
        raise NoteError("not a checkpoint this log would sign")
    return f"{checkpoint.text}\n{key.line(checkpoint.text)}"


def cosign(note: str, key: Signer, at: int) -> str:
    """The same note with a partner's cosignature added.

    The partner must first have seen that the checkpoint only adds to the newest one it cosigned (`verify_consistency`).
    """
    text = parse(note).checkpoint.text
    return note + key.line(text, at)


def parse(note: str) -> SignedCheckpoint:
    """Read a signed note that is a checkpoint. NoteError for anything else; no signature is checked."""
    if len(note) > NOTE_LIMIT:
        raise NoteError("the note is too long")
    if any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in note):
        raise NoteError("the note holds a character that notes can't hold")
    head, gap, tail = note.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise NoteError("the text has no signatures")
    signatures = []
    for line in tail[:-1].split("\n"):
        match = _SIGNATURE_LINE(line)
        if match is None or not _is_key_name(match[1]):
            raise NoteError("a signature line is malformed")
        raw = _unb64(match[2])
        if len(raw) < 5:
            raise NoteError("a signature is too short")
        signatures.append(NoteSignature(match[1], raw[:4], raw[4:]))
    lines = head.split("\n")
    if len(lines) < 3 or not all(lines) or not _SIZE(lines[1]):
        raise NoteError("the note is not a checkpoint")
    root = _unb64(lines[2])
    if len(root) != HASH_SIZE:
        raise NoteError("the root hash is not a SHA-256 hash")
    return SignedCheckpoint(Checkpoint(lines[0], int(lines[1]), root, tuple(lines[3:])), tuple(signatures))


def verify(signed: SignedCheckpoint, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
    """The keys among `keys` that vouch for the checkpoint, at least one.

    Signatures of unknown keys are passed over (signed-note, Signatures: that is how keys rotate and partners cosign); a
    wrong signature of a known key spoils the whole note. UntrustedNote when that happens or no known key signed.
    """
    known = {(key.name, key.key_id): key for key in keys}
    text = signed.checkpoint.text
    vouching: dict[VerifierKey, None] = {}
    for signature in signed.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not key.vouches(text, signature.signature):
            raise UntrustedNote("a signature of a known key is wrong")
        vouching[key] = None
    if not vouching:
        raise UntrustedNote("no known key signed the checkpoint")
    return tuple(vouching)
