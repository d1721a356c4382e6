"""Registrations, standings, uses and revoked tokens of partners' clients, and the server processes that follow them."""

from alembic import op
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Text

revision = "0002"
down_revision = "0001"


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _whole(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def upgrade() -> None:
    op.create_table(
        "registrations",
        _text("kind"),
        _text("id"),
        _text("party"),
        _text("entry"),
        _whole("changed"),
        PrimaryKeyConstraint("kind", "id"),
    )
    op.create_table(
        "registration_keys",
        _text("client"),
        _text("kid"),
        _text("jwk"),
        _whole("added"),
        _whole("ends", null=True),
        PrimaryKeyConstraint("client", "kid"),
    )
    op.create_table(
        "standings",
        _text("kind"),
        _text("id"),
        _text("state"),
        _whole("tokens_from"),
        _whole("changed"),
        PrimaryKeyConstraint("kind", "id"),
    )
    op.create_table(
        "client_uses",
        _text("client"),
        _text("kid"),
        _whole("used"),
        _whole("uses"),
        _whole("failed"),
        _whole("failures"),
        PrimaryKeyConstraint("client", "kid"),
    )
    op.create_table(
        "revoked_tokens",
        _text("token"),
        _whole("expires"),
        _whole("number"),
        PrimaryKeyConstraint("token"),
    )
    op.create_index("revoked_tokens_number", "revoked_tokens", ["number"])
    op.create_table(
        "workers",
        _text("id"),
        _whole("seen"),
        _whole("registrations"),
        _whole("configuration"),
        _text("policy"),
        _text("problem", null=True),
        PrimaryKeyConstraint("id"),
    )
