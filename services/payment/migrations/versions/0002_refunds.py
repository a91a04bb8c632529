"""Create refunds, append-only as the ledger they belong to."""

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
        "refunds",
        sa.Column("event_id", _NAME, primary_key=True),
        sa.Column("account_id", _NAME, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("refund_nusd", sa.BigInteger, nullable=False),
        sa.Column("refunded_nusd", sa.BigInteger, nullable=False),
        sa.Column("stream_seq", sa.BigInteger, nullable=False),
        sa.Column("unix_ms", sa.BigInteger, nullable=False),
        sa.Column("txn_seq", sa.BigInteger, nullable=True),
        sa.CheckConstraint(
            "refunded_nusd >= 0 AND refunded_nusd <= refund_nusd", name="refunds_within_charge"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("refunds_by_txn", "refunds", ["txn_seq"])
    op.create_index("refunds_by_key", "refunds", ["key_id", "unix_ms"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER refunds_refuses_{verb.lower()} BEFORE {verb} ON refunds"
                " BEGIN SELECT RAISE(ABORT, 'refunds is append-only'); END"
            )
    else:
        op.execute(
            "CREATE TRIGGER refunds_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON refunds"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.drop_table("refunds")
