"""The same tables as the product's, as ORM classes."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase

from gateway.storage import tables

__all__ = [
    "Attempt",
    "AuditRow",
    "AuditWriter",
    "Copy",
    "DataKey",
    "Delivery",
    "Epoch",
    "Grant",
    "Key",
    "Request",
    "Thread",
    "Timer",
    "Transfer",
]


class Base(DeclarativeBase):
    """The hub's database."""

    metadata = tables.metadata


class KeysBase(DeclarativeBase):
    """The key store."""

    metadata = tables.keys_metadata


class Copy(Base):
    """One version of one resource on one shelf."""

    __table__ = tables.copies


class Thread(Base):
    """One person's thread."""

    __table__ = tables.threads


class Grant(Base):
    """One grant in the consent register."""

    __table__ = tables.grants


class Transfer(Base):
    """One referral."""

    __table__ = tables.transfers


class Attempt(Base):
    """A referral put to one receiver."""

    __table__ = tables.attempts


class Timer(Base):
    """A deadline."""

    __table__ = tables.timers


class Delivery(Base):
    """Something to send."""

    __table__ = tables.deliveries


class Request(Base):
    """A request id that was used."""

    __table__ = tables.requests


class Epoch(Base):
    """The policy that is in force."""

    __table__ = tables.epochs


class AuditRow(Base):
    """One entry of the audit chain."""

    __table__ = tables.audit_entries


class Decision(Base):
    """Why something was decided."""

    __table__ = tables.decisions


class Release(Base):
    """What was disclosed, on what ground."""

    __table__ = tables.releases


class AuditWriter(Base):
    """A writer of the audit chain."""

    __table__ = tables.audit_writers


class DataKey(Base):
    """What the database knows of a data key."""

    __table__ = tables.data_keys


class Key(KeysBase):
    """A wrapped data key."""

    __table__ = tables.keys
