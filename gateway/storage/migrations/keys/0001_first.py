"""The key store's first schema: frozen. A store made before it had revisions holds the same two tables already."""

from alembic import op
from sqlalchemy import BigInteger, Column, LargeBinary, PrimaryKeyConstraint, Text

revision = "0001"
down_revision = None


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _whole(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _octets(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def upgrade() -> None:
    op.create_table(
        "keys",
        _text("thread"),
        _text("shelf"),
        _octets("wrapped"),
        PrimaryKeyConstraint("thread", "shelf"),
        if_not_exists=True,
    )
    op.create_table(
        "tombstones",
        _text("thread"),
        _text("shelf"),
        _whole("destroyed"),
        PrimaryKeyConstraint("thread", "shelf"),
        if_not_exists=True,
    )
