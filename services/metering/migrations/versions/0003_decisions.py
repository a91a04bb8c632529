"""Create what tells how routes were chosen: decisions, and the snapshots that they name."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "route_decisions",
        sa.Column("event_id", _NAME, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_route_decisions"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "route_snapshots",
        sa.Column("snapshot_id", _NAME, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("snapshot_id", name="pk_route_snapshots"),
    )


def downgrade() -> None:
    op.drop_table("route_snapshots")
    op.drop_table("route_decisions")
