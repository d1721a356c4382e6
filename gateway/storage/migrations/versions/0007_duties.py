"""What the law, and not a sender, gives a party to do: reports that are due, decisions, reviews."""

from alembic import op
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "duties",
        *(Column(name, Text, nullable=False) for name in ("id", "thread", "shelf", "kind")),
        *(Column(name, Text) for name in ("address", "patient", "transfer")),
        *(Column(name, Text, nullable=False) for name in ("key", "state")),
        *(Column(name, BigInteger, nullable=False) for name in ("version", "made")),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("duties_thread", "duties", ["thread", "shelf"])
