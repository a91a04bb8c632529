"""Create what few records have beside them: units, refunds, episodes."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "usage_extras",
        sa.Column("event_id", _NAME, nullable=False),
        sa.Column("unit", sa.String, nullable=False),
        sa.Column("unit_count", sa.BigInteger, nullable=False),
        sa.Column("refund_nusd", sa.BigInteger, nullable=False),
        sa.Column("episode_id", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_usage_extras"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_usage_extras_episode_id_event_id", "usage_extras", ["episode_id", "event_id"]
    )


def downgrade() -> None:
    op.drop_table("usage_extras")
