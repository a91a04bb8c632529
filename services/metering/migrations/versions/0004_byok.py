"""Tell which requests were sent with a key of the account's own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "usage_extras", sa.Column("is_byok", sa.Integer, nullable=False, server_default="0")
    )


def downgrade() -> None:
    with op.batch_alter_table("usage_extras") as table:
        table.drop_column("is_byok")
