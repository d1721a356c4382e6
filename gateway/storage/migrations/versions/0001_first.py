"""The hub's first schema: frozen. What changes later is a revision of its own."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, PrimaryKeyConstraint, Text, text

revision = "0001"
down_revision = None


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _whole(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _octets(name: str, *, null: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=null)


def upgrade() -> None:
    op.create_table(
        "copies",
        _text("shelf"),
        _text("type"),
        _text("id"),
        _whole("version"),
        _flag("current"),
        _flag("final"),
        _text("thread"),
        _text("status", null=True),
        _text("business", null=True),
        _text("owner", null=True),
        _text("patient", null=True),
        _text("target", null=True),
        _text("identifiers", null=True),
        _whole("updated"),
        _whole("readable_until", null=True),
        _octets("sealed"),
        PrimaryKeyConstraint("shelf", "type", "id", "version"),
    )
    op.create_index(
        "copies_head", "copies", ["shelf", "type", "id"], unique=True, postgresql_where=text("current"), sqlite_where=text("current")
    )
    op.create_index("copies_recent", "copies", ["shelf", "type", "updated"], postgresql_where=text("current"), sqlite_where=text("current"))
    op.create_index("copies_thread", "copies", ["thread", "shelf", "type"], postgresql_where=text("current"), sqlite_where=text("current"))
    op.create_table(
        "threads",
        _text("id"),
        _whole("epoch"),
        _whole("opened"),
        PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "grants",
        _text("id"),
        _text("thread"),
        _text("consent"),
        _whole("consent_version"),
        _text("recorder"),
        _text("receiver"),
        _text("unit", null=True),
        _text("scope"),
        _text("state"),
        _whole("starts"),
        _whole("ends", null=True),
        _text("rule"),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("grants_thread", "grants", ["thread"])
    op.create_table(
        "transfers",
        _text("id"),
        _text("thread"),
        _whole("version"),
        _text("state"),
        _text("responsible"),
        _whole("attempt"),
        _text("sender_shelf"),
        _text("sender_task"),
        _text("sender_request"),
        _text("service"),
        _text("priority"),
        _text("purposes"),
        _whole("opened"),
        _whole("closed", null=True),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("transfers_request", "transfers", ["sender_shelf", "sender_request"])
    op.create_index("transfers_task", "transfers", ["sender_shelf", "sender_task"])
    op.create_index("transfers_thread", "transfers", ["thread"])
    op.create_table(
        "attempts",
        _text("transfer"),
        _whole("number"),
        _text("shelf"),
        _text("address"),
        _text("task"),
        _text("request"),
        _text("patient"),
        _text("consent"),
        _text("provenance"),
        _text("row"),
        _text("agreement"),
        _text("basis"),
        _whole("offered"),
        _whole("acknowledged", null=True),
        _whole("accepted", null=True),
        _whole("introduced", null=True),
        _whole("ended", null=True),
        _octets("returned", null=True),
        PrimaryKeyConstraint("transfer", "number"),
    )
    op.create_index("attempts_task", "attempts", ["shelf", "task"])
    op.create_table(
        "timers",
        _text("id"),
        _text("transfer"),
        _text("clock"),
        _whole("due"),
        _text("state"),
        _whole("fired", null=True),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("timers_due", "timers", ["due"], postgresql_where=text("state = 'armed'"), sqlite_where=text("state = 'armed'"))
    op.create_index("timers_transfer", "timers", ["transfer"])
    op.create_table(
        "deliveries",
        _text("id"),
        _text("shelf"),
        _text("endpoint"),
        _text("lane"),
        _whole("place"),
        _text("kind"),
        _text("thread"),
        _text("transfer", null=True),
        _text("parts"),
        _text("priority"),
        _text("state"),
        _whole("due"),
        _whole("tries"),
        _whole("fence"),
        _whole("lease", null=True),
        _text("reason", null=True),
        _whole("made"),
        _whole("ended", null=True),
        PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "deliveries_due",
        "deliveries",
        ["due"],
        postgresql_where=text("state in ('queued','sending')"),
        sqlite_where=text("state in ('queued','sending')"),
    )
    op.create_index("deliveries_lane", "deliveries", ["lane", "place"])
    op.create_table(
        "sends",
        _text("delivery"),
        _whole("fence"),
        _whole("started"),
        _whole("ended", null=True),
        _text("outcome", null=True),
        PrimaryKeyConstraint("delivery", "fence"),
    )
    op.create_table(
        "requests",
        _text("shelf"),
        _text("request"),
        _octets("digest"),
        _text("answer"),
        _whole("made"),
        PrimaryKeyConstraint("shelf", "request"),
    )
    op.create_table(
        "assertions",
        _text("issuer"),
        _text("jti"),
        _whole("expires"),
        PrimaryKeyConstraint("issuer", "jti"),
    )
    op.create_index("assertions_expires", "assertions", ["expires"])
    op.create_table(
        "epochs",
        _text("name"),
        _whole("value"),
        PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "reviews",
        _text("id"),
        _text("party"),
        _text("kind"),
        _text("subject"),
        _text("reason"),
        _text("state"),
        _whole("made"),
        PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "audit_entries",
        _text("writer"),
        _whole("seq"),
        _text("at"),
        _text("party", null=True),
        _octets("prev"),
        _octets("hash"),
        _octets("body"),
        PrimaryKeyConstraint("writer", "seq"),
    )
    op.create_table(
        "audit_leaves",
        _whole("position"),
        _text("writer"),
        _whole("seq"),
        _octets("hash"),
        PrimaryKeyConstraint("position"),
    )
    op.create_index("audit_leaves_writer", "audit_leaves", ["writer", "seq"], unique=True)
    op.create_table(
        "audit_writers",
        _text("writer"),
        _text("started"),
        PrimaryKeyConstraint("writer"),
    )
    op.create_table(
        "audit_checkpoints",
        _whole("size"),
        _text("note"),
        _octets("frontier"),
        PrimaryKeyConstraint("size"),
    )
    if op.get_bind().dialect.name == "postgresql":  # on, and no policy yet: nobody but the owner sees a row
        op.execute("ALTER TABLE copies ENABLE ROW LEVEL SECURITY")
