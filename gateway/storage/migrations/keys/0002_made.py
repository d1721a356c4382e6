"""When a key was made, in real time: one that nothing was ever sealed with is not kept."""

from alembic import op
from sqlalchemy import BigInteger, Column, text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("keys", Column("made", BigInteger, nullable=False, server_default=text("0")))
