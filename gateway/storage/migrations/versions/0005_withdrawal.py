"""Withdrawal and stop: how a transfer was ended, what was recalled, who is asked to check, which keys must go."""

from alembic import op
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Text

revision = "0005"
down_revision = "0004"


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _whole(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def upgrade() -> None:
    op.add_column("transfers", _text("ending", null=True))
    op.add_column("attempts", _whole("recalled", null=True))
    op.add_column("attempts", _whole("seen", null=True))
    op.create_table("withdrawals", _text("id"), _text("thread"), _text("shelf"), _text("terms"), _whole("made"), PrimaryKeyConstraint("id"))
    op.create_index("withdrawals_thread", "withdrawals", ["thread"])
    op.create_table(
        "checks",
        _text("id"),
        _text("thread"),
        _text("shelf"),
        _text("address"),
        _text("service"),
        _text("patient"),
        _text("cause"),
        _text("state"),
        _whole("version"),
        _whole("made"),
        PrimaryKeyConstraint("id"),
    )
