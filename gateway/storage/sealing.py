"""Sealing: every body is encrypted under a key of its (thread, shelf), so that destroying one key closes what it sealed.

A shelf has one key for what its own party wrote about a person, and a key for each thing that a release put there: what one transfer
brought can be closed without touching the party's own rows or another transfer's. A sealed body begins with the name of its key.

AES-256-GCM with a fresh 96-bit nonce; the place of the body (table, shelf, type, id, version) is authenticated with it, so a
sealed body can't be moved to another row. Data keys are wrapped under a key-encryption key that never enters a database, and
live in their own store, outside the database's backups; `tombstones` there says which were destroyed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.identity import ShelfId, ThreadId

__all__ = ["DataKey", "KeyDestroyed", "KeyStore", "Keyring", "NewKey", "Slot", "key_name", "key_slot", "place", "slot_shelf"]

_NONCE: Final = 12
_CACHE: Final = 4_000
_CACHE_SECONDS: Final = 1.0
"""A key is forgotten this soon, so that one destroyed by another process is gone here too within a second."""


class KeyDestroyed(Exception):
    """The copy was closed: its key no longer exists."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A wrapped data key to be made durable before anything sealed with it."""

    thread: ThreadId
    shelf: ShelfId
    wrapped: bytes


Slot = tuple[str, str]
"""A key's place in the store, which it has alone and for ever: (thread, shelf)."""


class KeyStore(Protocol):
    """Where wrapped keys live."""

    async def get(self, thread: ThreadId, shelf: ShelfId) -> bytes | None:
        """The wrapped key, or None when there is none or it was destroyed."""
        ...

    async def destroy(self, gone: Sequence[Slot]) -> None:
        """Destroy keys, again if need be, leaving a tombstone for each: its place is never used again. Raises StorageError."""
        ...

    async def bury(self) -> int:
        """Destroy what has a tombstone and came back by a restore. Returns how many did. Raises StorageError."""
        ...

    async def held(self, after: Slot, limit: int) -> list[tuple[str, str, int]]:
        """Keys in the order of their places, after one of them: thread, shelf, when made (real time). Raises StorageError."""
        ...

    async def tombstones(self, after: Slot, limit: int) -> list[Slot]:
        """The places of destroyed keys, in order, after one of them. Raises StorageError."""
        ...

    async def drop(self, slot: Slot) -> None:
        """Forget a key that seals nothing. Raises StorageError."""
        ...


def place(table: str, shelf: str, type: str, id: str, version: int) -> bytes:
    """The additional authenticated data of one sealed body."""
    return f"{table}|{shelf}|{type}|{id}|{version}".encode()


def key_slot(shelf: str, name: str) -> ShelfId:
    """Under which a named key of a shelf is stored; the party's own key has no name."""
    return ShelfId(f"{shelf}|{name}" if name else shelf)


def slot_shelf(slot: str) -> str:
    """The shelf that a key's place belongs to."""
    return slot.partition("|")[0]


def key_name(sealed: bytes) -> str:
    """The name of the key that sealed a body."""
    return sealed[1 : 1 + sealed[0]].decode("ascii")


class DataKey:
    """Seals and opens bodies of one (thread, shelf)."""

    __slots__ = ("_aead", "_head", "name")

    def __init__(self, secret: bytes, name: str = "") -> None:
        self._aead = AESGCM(secret)
        self.name = name
        self._head = bytes((len(name),)) + name.encode("ascii")

    def seal(self, body: bytes, where: bytes) -> bytes:
        """The key's name, nonce and ciphertext."""
        nonce = os.urandom(_NONCE)
        return self._head + nonce + self._aead.encrypt(nonce, body, where)

    def open(self, sealed: bytes, where: bytes) -> bytes:
        """The body. Raises KeyDestroyed when this key did not seal it here."""
        start = len(self._head)
        try:
            return self._aead.decrypt(sealed[start : start + _NONCE], sealed[start + _NONCE :], where)
        except (InvalidTag, ValueError) as error:
            raise KeyDestroyed from error


class Keyring:
    """Data keys by (thread, shelf), and the keyed hashes of searchable identifiers."""

    def __init__(self, secret: bytes, store: KeyStore) -> None:
        if len(secret) != 32:
            raise ValueError("the key-encryption key must be 32 bytes")
        self._kek = AESGCM(hmac.digest(secret, b"wrap", "sha256"))
        self._index = hmac.digest(secret, b"index", "sha256")
        self._store = store
        self._cache: OrderedDict[tuple[str, str], tuple[float, DataKey]] = OrderedDict()

    def make(self, thread: ThreadId, shelf: ShelfId, name: str = "") -> tuple[DataKey, NewKey]:
        """A new key for a (thread, shelf) that has none of that name, and what to store of it. A name is never used again."""
        secret, slot = os.urandom(32), key_slot(shelf, name)
        nonce = os.urandom(_NONCE)
        wrapped = nonce + self._kek.encrypt(nonce, secret, f"{thread}|{slot}".encode())
        return DataKey(secret, name), NewKey(thread, slot, wrapped)

    async def get(self, thread: ThreadId, shelf: ShelfId, name: str = "") -> DataKey:
        """A key of a (thread, shelf): the party's own, or the one named. Raises KeyDestroyed."""
        slot = key_slot(shelf, name)
        cached = self._cache.get((thread, slot))
        if cached is not None and time.monotonic() - cached[0] < _CACHE_SECONDS:
            return cached[1]
        wrapped = await self._store.get(thread, slot)
        if wrapped is None:
            self._cache.pop((thread, slot), None)
            raise KeyDestroyed
        try:
            secret = self._kek.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], f"{thread}|{slot}".encode())
        except InvalidTag as error:
            raise KeyDestroyed from error
        key = DataKey(secret, name)
        self.remember(thread, shelf, key)
        return key

    def forget(self, gone: Sequence[tuple[str, str]]) -> None:
        """Let go at once of keys that were just destroyed, by (thread, slot)."""
        for place_ in gone:
            self._cache.pop(place_, None)

    def remember(self, thread: ThreadId, shelf: ShelfId, key: DataKey) -> None:
        """Keep an unwrapped key for a moment (called once its NewKey is durable)."""
        slot = key_slot(shelf, key.name)
        self._cache[thread, slot] = (time.monotonic(), key)
        self._cache.move_to_end((thread, slot))
        if len(self._cache) > _CACHE:
            self._cache.popitem(last=False)

    def token(self, shelf: str, system: str, value: str) -> str:
        """The keyed hash under which an identifier is found on one shelf; the same number hashes differently on another."""
        return hmac.digest(self._index, f"{shelf}\x00{system}\x00{value}".encode(), "sha256").hex()[:32]

    def digest(self, body: bytes) -> bytes:
        """The keyed digest of a request, to tell a repeat from another request with the same id."""
        return hmac.digest(self._index, hashlib.sha256(body).digest(), "sha256")
