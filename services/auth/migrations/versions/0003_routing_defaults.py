"""Add how routes are chosen for requests that do not say, by account and by key."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = ("accounts", "keys")


def upgrade() -> None:
    for table in _TABLES:
        empty = sa.text("''")
        strategy = sa.Column(
            "routing_strategy", sa.String(40), nullable=False, server_default=empty
        )
        op.add_column(table, strategy)
        op.add_column(table, sa.Column("is_external_allowed", sa.Boolean))


def downgrade() -> None:
    # In place: SQLite would refuse to copy a table that others refer to.
    for table in _TABLES:
        op.drop_column(table, "is_external_allowed")
        op.drop_column(table, "routing_strategy")
