"""Create the keys that accounts bring along for providers."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "provider_keys",
        sa.Column("account_id", _NAME, nullable=False),
        sa.Column("provider", _NAME, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("hint", sa.String, nullable=False),
        sa.Column("has_fallback", sa.Boolean, nullable=False),
        sa.Column("create_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("rotate_unix_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "provider", name="pk_provider_keys"),
    )


def downgrade() -> None:
    op.drop_table("provider_keys")
