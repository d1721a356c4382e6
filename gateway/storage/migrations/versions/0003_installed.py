"""What the owner last installed beside the tables: roles' rights, policies and routines, by digest."""

from alembic import op
from sqlalchemy import Column, PrimaryKeyConstraint, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "installed",
        Column("name", Text, nullable=False),
        Column("digest", Text, nullable=False),
        PrimaryKeyConstraint("name"),
    )
