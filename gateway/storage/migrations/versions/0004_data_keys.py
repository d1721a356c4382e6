"""The hub's own record of data keys: which write set made them is committed, which must be destroyed, which are."""

from alembic import op
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Text, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "data_keys",
        Column("thread", Text, nullable=False),
        Column("slot", Text, nullable=False),
        Column("made", BigInteger, nullable=False),
        Column("doomed", BigInteger),
        Column("done", BigInteger),
        PrimaryKeyConstraint("thread", "slot"),
    )
    doomed, left = text("doomed IS NOT NULL"), text("doomed IS NOT NULL AND done IS NULL")
    op.create_index("data_keys_doomed", "data_keys", ["thread", "slot"], postgresql_where=doomed, sqlite_where=doomed)
    op.create_index("data_keys_left", "data_keys", ["doomed"], postgresql_where=left, sqlite_where=left)
    op.execute("INSERT INTO data_keys (thread, slot, made) SELECT DISTINCT thread, shelf, 0 FROM copies")
