"""Create receipts and signed roots, append-only as the ledger they prove."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_APPEND_ONLY: Final = ("receipts", "roots")


def upgrade() -> None:
    op.create_table(
        "receipts",
        sa.Column("txn_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("receipt_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("event_id", _NAME, nullable=False),
        sa.Column("account_id", _NAME, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    by_account = ["account_id", "receipt_seq"]
    op.create_index("receipts_by_account", "receipts", by_account, unique=True)
    op.create_table(
        "receipt_heads",
        sa.Column("account_id", _NAME, primary_key=True),
        sa.Column("receipt_seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "roots",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_index("roots_by_seq", "roots", ["kind", "last_seq"], unique=True)
    op.create_index("roots_by_day", "roots", ["kind", "day"])
    for table in _APPEND_ONLY:
        _guard(table)


def downgrade() -> None:
    for table in ("roots", "receipt_heads", "receipts"):
        op.drop_table(table)


def _guard(table: str) -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table}"
            f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
