"""Add what limits requests at once, and the flag of keys that take no unknown field."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("concurrent_requests", sa.BigInteger))
    strict = sa.Column("is_strict", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("keys", strict)
    op.create_table(
        "slot_holders",
        sa.Column("holder_id", sa.String(36), primary_key=True),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("lease_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "slots",
        sa.Column("key_id", sa.String(36), sa.ForeignKey("keys.key_id"), primary_key=True),
        sa.Column(
            "holder_id", sa.String(36), sa.ForeignKey("slot_holders.holder_id"), primary_key=True
        ),
        sa.Column("slot_count", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_index(None, "slots", ["holder_id"])


def downgrade() -> None:
    op.drop_table("slots")
    op.drop_table("slot_holders")
    # In place: SQLite would refuse to copy a table that others refer to.
    op.drop_column("keys", "is_strict")
    op.drop_column("keys", "concurrent_requests")
