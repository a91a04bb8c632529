"""Create accounts, keys, secrets, rate windows and the audit chain."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQLITE_TRIGGERS: Final = (
    "CREATE TRIGGER audit_is_never_updated BEFORE UPDATE ON audit"
    " BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END",
    "CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit"
    " BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END",
)
_POSTGRES_TRIGGERS: Final = (
    "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$",
    "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
    " FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()",
)


def upgrade() -> None:
    _create_keys()
    _create_rate_windows()
    _create_audit()


def downgrade() -> None:
    op.drop_table("audit_head")
    op.drop_table("audit")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_audit_change()")
    op.drop_table("rate_windows")
    op.drop_table("secrets")
    op.drop_table("keys")
    op.drop_table("accounts")


def _create_keys() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("request_id", sa.String(36), unique=True),
        sa.Column("create_unix_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(36), primary_key=True),
        sa.Column(
            "account_id", sa.String(36), sa.ForeignKey("accounts.account_id"), nullable=False
        ),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("tier", sa.String(120), nullable=False),
        sa.Column("dialect", sa.String(40), nullable=False),
        sa.Column("expire_unix_ms", sa.BigInteger),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("hint", sa.String(40), nullable=False),
        sa.Column("request_id", sa.String(36), unique=True),
        sa.Column("create_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("revoke_unix_ms", sa.BigInteger),
    )
    op.create_index(None, "keys", ["account_id", "key_id"])
    op.create_table(
        "secrets",
        sa.Column("secret_hash", sa.LargeBinary, primary_key=True),
        sa.Column("key_id", sa.String(36), sa.ForeignKey("keys.key_id"), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("create_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("expire_unix_ms", sa.BigInteger),
    )
    op.create_index(None, "secrets", ["key_id", "generation"], unique=True)


def _create_rate_windows() -> None:
    op.create_table(
        "rate_windows",
        sa.Column("key_id", sa.String(36), sa.ForeignKey("keys.key_id"), primary_key=True),
        sa.Column("minute", sa.BigInteger, nullable=False),
        sa.Column("request_count", sa.BigInteger, nullable=False),
        sa.Column("token_count", sa.BigInteger, nullable=False),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("subject_id", sa.String(36), nullable=False),
        sa.Column("unix_ms", sa.BigInteger, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
    )
    op.create_index(None, "audit", ["subject_id"])
    head = op.create_table(
        "audit_head",
        sa.Column("head_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("entry_hash", sa.LargeBinary, nullable=False),
    )
    op.bulk_insert(head, [{"head_id": 1, "seq": 0, "entry_hash": bytes(32)}])
    is_postgres = op.get_context().dialect.name == "postgresql"
    for statement in _POSTGRES_TRIGGERS if is_postgres else _SQLITE_TRIGGERS:
        op.execute(statement)
