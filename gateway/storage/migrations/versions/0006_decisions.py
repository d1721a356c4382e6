"""Why each decision came out as it did, beside its audit entry; and the ledger of what was released to whom."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, PrimaryKeyConstraint, Text

revision = "0006"
down_revision = "0005"


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _whole(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "decisions",
        _text("writer"),
        _whole("seq"),
        _whole("number"),
        _text("at"),
        _text("correlation", null=True),
        _text("party", null=True),
        _text("target"),
        Column("denied", Boolean, nullable=False),
        _text("text"),
        PrimaryKeyConstraint("writer", "seq", "number"),
    )
    op.create_index("decisions_correlation", "decisions", ["correlation"])
    op.create_index("decisions_party", "decisions", ["party", "at"])
    op.create_index("decisions_target", "decisions", ["target", "at"])
    op.create_table(
        "releases",
        _text("id"),
        _text("thread"),
        _text("transfer"),
        _whole("attempt"),
        _whole("at"),
        _text("party", null=True),
        _text("source"),
        _text("target"),
        _text("service"),
        _text("row"),
        _text("basis"),
        _text("agreement"),
        _text("purpose"),
        _text("consents"),
        _text("classes"),
        _text("policy"),
        Column("waits", Boolean, nullable=False),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("releases_thread", "releases", ["thread", "at"])
