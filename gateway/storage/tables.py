"""The hub's tables. Times are integers (ms since 1970), ids are text, bodies are sealed bytes.

`copies` is what the shelves hold; everything else is the hub's own: the facts of transfers, the consent register, the
ledger of deliveries, timers and the audit log. Row-level security applies to `copies` (PostgreSQL): the reading role sees the
rows of one shelf, the writing role never reads a body.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, MetaData, PrimaryKeyConstraint, Table, Text, text

__all__ = ["metadata"]

metadata: Final = MetaData()


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _int(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _bytes(name: str, *, null: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=null)


copies: Final = Table(
    "copies",
    metadata,
    _text("shelf"),
    _text("type"),
    _text("id"),
    _int("version"),
    _flag("current"),
    _flag("final"),  # never rendered again
    _text("thread"),
    _text("status", null=True),
    _text("business", null=True),
    _text("owner", null=True),
    _text("patient", null=True),
    _text("target", null=True),
    _text("identifiers", null=True),  # keyed hashes, space separated
    _int("updated"),
    _int("readable_until", null=True),
    _bytes("sealed"),
    PrimaryKeyConstraint("shelf", "type", "id", "version"),
)
Index(
    "copies_head", copies.c.shelf, copies.c.type, copies.c.id, unique=True, postgresql_where=text("current"), sqlite_where=text("current")
)
Index("copies_recent", copies.c.shelf, copies.c.type, copies.c.updated, postgresql_where=text("current"), sqlite_where=text("current"))
Index("copies_thread", copies.c.thread, copies.c.shelf, copies.c.type, postgresql_where=text("current"), sqlite_where=text("current"))

threads: Final = Table("threads", metadata, _text("id"), _int("epoch"), _int("opened"), PrimaryKeyConstraint("id"))

grants: Final = Table(
    "grants",
    metadata,
    _text("id"),
    _text("thread"),
    _text("consent"),
    _int("consent_version"),
    _text("recorder"),  # shelf
    _text("receiver"),  # party
    _text("unit", null=True),
    _text("scope"),
    _text("state"),
    _int("starts"),
    _int("ends", null=True),
    _text("rule"),  # JSON: classes, purposes, compiled exceptions
    PrimaryKeyConstraint("id"),
)
Index("grants_thread", grants.c.thread)

transfers: Final = Table(
    "transfers",
    metadata,
    _text("id"),
    _text("thread"),
    _int("version"),
    _text("state"),
    _text("responsible"),  # party
    _int("attempt"),
    _text("sender_shelf"),
    _text("sender_task"),
    _text("sender_request"),
    _text("service"),
    _text("priority"),
    _text("purposes"),  # the sender's, as asked, space separated
    _int("opened"),
    _int("closed", null=True),
    _text("ending", null=True),  # how it was ended from outside its course: by her stop, or by a withdrawal
    PrimaryKeyConstraint("id"),
)
Index("transfers_thread", transfers.c.thread)
Index("transfers_task", transfers.c.sender_shelf, transfers.c.sender_task)
Index("transfers_request", transfers.c.sender_shelf, transfers.c.sender_request)

attempts: Final = Table(
    "attempts",
    metadata,
    _text("transfer"),
    _int("number"),
    _text("shelf"),
    _text("address"),  # who it is offered to now
    _text("task"),
    _text("request"),
    _text("patient"),
    _text("consent"),
    _text("provenance"),
    _text("row"),  # matrix row that allowed it
    _text("agreement"),
    _text("basis"),
    _int("offered"),
    _int("acknowledged", null=True),
    _int("accepted", null=True),
    _int("introduced", null=True),
    _int("ended", null=True),
    _bytes("returned", null=True),  # sealed: what the receiver gave back (eta, decision, offer, worker)
    _int("recalled", null=True),  # since when nothing flows to or from this receiver any more
    _int("seen", null=True),  # when a human there had dealt with the ending
    PrimaryKeyConstraint("transfer", "number"),
)
Index("attempts_task", attempts.c.shelf, attempts.c.task)

timers: Final = Table(
    "timers",
    metadata,
    _text("id"),
    _text("transfer"),
    _text("clock"),
    _int("due"),
    _text("state"),  # armed, fired, cancelled
    _int("fired", null=True),
    PrimaryKeyConstraint("id"),
)
Index("timers_due", timers.c.due, postgresql_where=text("state = 'armed'"), sqlite_where=text("state = 'armed'"))
Index("timers_transfer", timers.c.transfer)

deliveries: Final = Table(
    "deliveries",
    metadata,
    _text("id"),
    _text("shelf"),
    _text("endpoint"),
    _text("lane"),
    _int("place"),  # order within the lane
    _text("kind"),  # copies, text
    _text("thread"),
    _text("transfer", null=True),
    _text("parts"),  # JSON: [[type, id, version], ...]
    _text("priority"),
    _text("state"),  # queued, sending, delivered, cancelled, dead
    _int("due"),
    _int("tries"),
    _int("fence"),
    _int("lease", null=True),  # real time, ms
    _text("reason", null=True),
    _int("made"),
    _int("ended", null=True),
    PrimaryKeyConstraint("id"),
)
Index(
    "deliveries_due",
    deliveries.c.due,
    postgresql_where=text("state in ('queued','sending')"),
    sqlite_where=text("state in ('queued','sending')"),
)
Index("deliveries_lane", deliveries.c.lane, deliveries.c.place)

sends: Final = Table(
    "sends",
    metadata,
    _text("delivery"),
    _int("fence"),
    _int("started"),
    _int("ended", null=True),
    _text("outcome", null=True),
    PrimaryKeyConstraint("delivery", "fence"),
)

requests: Final = Table(
    "requests",
    metadata,
    _text("shelf"),
    _text("request"),
    _bytes("digest"),
    _text("answer"),  # JSON: status, ids, versions; never a body
    _int("made"),
    PrimaryKeyConstraint("shelf", "request"),
)

assertions: Final = Table(
    "assertions",
    metadata,
    _text("issuer"),
    _text("jti"),
    _int("expires"),
    PrimaryKeyConstraint("issuer", "jti"),
)
Index("assertions_expires", assertions.c.expires)

epochs: Final = Table("epochs", metadata, _text("name"), _int("value"), PrimaryKeyConstraint("name"))

registrations: Final = Table(
    "registrations",
    metadata,
    _text("kind"),  # client, endpoint
    _text("id"),  # client id, or shelf
    _text("party"),
    _text("entry"),  # JSON, as the registry file has it; public keys are rows of their own
    _int("changed"),  # real time
    PrimaryKeyConstraint("kind", "id"),
)

registration_keys: Final = Table(
    "registration_keys",
    metadata,
    _text("client"),
    _text("kid"),
    _text("jwk"),  # JSON, public
    _int("added"),  # real time
    _int("ends", null=True),  # real time: not accepted from then on
    PrimaryKeyConstraint("client", "kid"),
)

standings: Final = Table(
    "standings",
    metadata,
    _text("kind"),  # party, client
    _text("id"),
    _text("state"),  # enabled, disabled
    _int("tokens_from"),  # real time: older access tokens do not count
    _int("changed"),  # real time
    PrimaryKeyConstraint("kind", "id"),
)

client_uses: Final = Table(
    "client_uses",
    metadata,
    _text("client"),
    _text("kid"),  # "" when no key of the client was named
    _int("used"),  # real time; 0 = never
    _int("uses"),
    _int("failed"),  # real time; 0 = never
    _int("failures"),
    PrimaryKeyConstraint("client", "kid"),
)

revoked_tokens: Final = Table(
    "revoked_tokens",
    metadata,
    _text("token"),  # jti, never the token
    _int("expires"),  # real time
    _int("number"),  # the epoch "revocations" when it was written
    PrimaryKeyConstraint("token"),
)
Index("revoked_tokens_number", revoked_tokens.c.number)

workers: Final = Table(
    "workers",
    metadata,
    _text("id"),
    _int("seen"),  # real time
    _int("registrations"),  # epochs that it has taken up
    _int("configuration"),
    _text("policy"),  # version in force there
    _text("problem", null=True),  # why it did not take up the newest files
    PrimaryKeyConstraint("id"),
)

reviews: Final = Table(
    "reviews",
    metadata,
    _text("id"),
    _text("party"),  # whose human must look
    _text("kind"),
    _text("subject"),  # what it is about: an id, never a value
    _text("reason"),
    _text("state"),  # open, done
    _int("made"),
    PrimaryKeyConstraint("id"),
)

withdrawals: Final = Table(
    "withdrawals",
    metadata,
    _text("id"),  # of the record on the shelf of whoever took it
    _text("thread"),
    _text("shelf"),
    _text("terms"),  # JSON: scopes, classes, receivers
    _int("made"),
    PrimaryKeyConstraint("id"),
)
Index("withdrawals_thread", withdrawals.c.thread)

checks: Final = Table(
    "checks",
    metadata,
    _text("id"),  # of the Task that asks for it
    _text("thread"),
    _text("shelf"),  # of the lead worker's unit
    _text("address"),  # who is asked now
    _text("service"),
    _text("patient"),
    _text("cause"),  # stopped-by-survivor, consent-withdrawn, held-for-review
    _text("state"),  # open, seen, done
    _int("version"),
    _int("made"),
    PrimaryKeyConstraint("id"),
)

audit_entries: Final = Table(
    "audit_entries",
    metadata,
    _text("writer"),
    _int("seq"),
    _text("at"),
    _text("party", null=True),
    _bytes("prev"),
    _bytes("hash"),
    _bytes("body"),
    PrimaryKeyConstraint("writer", "seq"),
)

decisions: Final = Table(
    "decisions",
    metadata,
    _text("writer"),  # of the audit entry that it explains
    _int("seq"),
    _int("number"),
    _text("at"),  # the entry's
    _text("correlation", null=True),
    _text("party", null=True),  # whose own request was decided
    _text("target"),
    _flag("denied"),
    _text("text"),  # JSON: codes and ids
    PrimaryKeyConstraint("writer", "seq", "number"),
)
Index("decisions_correlation", decisions.c.correlation)
Index("decisions_party", decisions.c.party, decisions.c.at)
Index("decisions_target", decisions.c.target, decisions.c.at)

releases: Final = Table(
    "releases",
    metadata,
    _text("id"),
    _text("thread"),
    _text("transfer"),
    _int("attempt"),
    _int("at"),
    _text("party", null=True),  # whose act brought it about; null = the hub's own
    _text("source"),  # shelf
    _text("target"),  # shelf
    _text("service"),
    _text("row"),
    _text("basis"),
    _text("agreement"),
    _text("purpose"),
    _text("consents"),  # JSON: [[consent, version, scope], ...]
    _text("classes"),  # space separated
    _text("policy"),
    _flag("waits"),  # not shown to her before a named human has said that it may be
    PrimaryKeyConstraint("id"),
)
Index("releases_thread", releases.c.thread, releases.c.at)

audit_leaves: Final = Table(
    "audit_leaves",
    metadata,
    _int("position"),
    _text("writer"),
    _int("seq"),
    _bytes("hash"),
    PrimaryKeyConstraint("position"),
)
Index("audit_leaves_writer", audit_leaves.c.writer, audit_leaves.c.seq, unique=True)

audit_writers: Final = Table("audit_writers", metadata, _text("writer"), _text("started"), PrimaryKeyConstraint("writer"))

audit_checkpoints: Final = Table(
    "audit_checkpoints", metadata, _int("size"), _text("note"), _bytes("frontier"), PrimaryKeyConstraint("size")
)

data_keys: Final = Table(
    "data_keys",
    metadata,
    _text("thread"),
    _text("slot"),  # the key's place in the key store
    _int("made"),  # real time, as all here
    _int("doomed", null=True),  # when it was committed that it goes
    _int("done", null=True),  # when the key store had done it
    PrimaryKeyConstraint("thread", "slot"),
)
_DOOMED: Final = "doomed IS NOT NULL"
_LEFT: Final = "doomed IS NOT NULL AND done IS NULL"
Index("data_keys_doomed", data_keys.c.thread, data_keys.c.slot, postgresql_where=text(_DOOMED), sqlite_where=text(_DOOMED))
Index("data_keys_left", data_keys.c.doomed, postgresql_where=text(_LEFT), sqlite_where=text(_LEFT))

installed: Final = Table("installed", metadata, _text("name"), _text("digest"), PrimaryKeyConstraint("name"))

duties: Final = Table(
    "duties",
    metadata,
    _text("id"),  # also its Task's id on the shelf
    _text("thread"),
    _text("shelf"),
    _text("kind"),  # task-code
    _text("address", null=True),  # who has it now
    _text("patient", null=True),  # on that shelf
    _text("transfer", null=True),
    _text("key"),  # name of the key of its Task; "" = the shelf's own
    _text("state"),  # open, done
    _int("version"),
    _int("made"),
    PrimaryKeyConstraint("id"),
)
Index("duties_thread", duties.c.thread, duties.c.shelf)

keys_metadata: Final = MetaData()

keys: Final = Table(
    "keys",
    keys_metadata,
    _text("thread"),
    _text("shelf"),
    _bytes("wrapped"),
    Column("made", BigInteger, nullable=False, server_default=text("0")),  # real time
    PrimaryKeyConstraint("thread", "shelf"),
)

tombstones: Final = Table(
    "tombstones", keys_metadata, _text("thread"), _text("shelf"), _int("destroyed"), PrimaryKeyConstraint("thread", "shelf")
)
