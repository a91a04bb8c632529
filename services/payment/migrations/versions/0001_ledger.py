"""Create the ledger, its chains and projections, leases, holds, charges and stream state."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_APPEND_ONLY: Final = ("transactions", "entries", "account_chain", "charges")
_TABLES: Final = (
    "dead_letters",
    "stream_position",
    "router_watermarks",
    "answers",
    "charges",
    "holds",
    "leases",
    "balances",
    "accounts",
    "account_chain",
    "entries",
    "transactions",
    "ledger_head",
)
_SEAL: Final = {
    "entries": (
        "entry of a sealed transaction",
        "NEW.txn_seq <= (SELECT COALESCE(MAX(seq), 0) FROM transactions)",
    ),
    "transactions": (
        "transaction is not next, is empty or does not sum to zero",
        "NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM transactions)"
        " OR COALESCE((SELECT SUM(amount_nusd) FROM entries WHERE txn_seq = NEW.seq), 1) <> 0",
    ),
}
_REFUSE: Final = (
    "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23000'; END $$"
)


def upgrade() -> None:
    _create_ledger()
    _create_projections()
    _create_leases()
    _create_charges()
    _create_state()
    op.execute(
        sa.table("ledger_head", sa.column("id"), sa.column("seq"), sa.column("hash"))
        .insert()
        .values(id=1, seq=0, hash=bytes(32))
    )
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgres()


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION refuse_change")
        for table in _SEAL:
            op.execute(f"DROP FUNCTION seal_{table}")


def _create_ledger() -> None:
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        _amount("seq"),
        _bytes("hash"),
    )
    op.create_table(
        "transactions",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        _text("kind"),
        _text("reference"),
        _amount("unix_ms"),
        _bytes("detail_hash"),
        _bytes("hash"),
    )
    op.create_table(
        "entries",
        sa.Column("txn_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ledger_account", _NAME, primary_key=True),
        _amount("amount_nusd"),
        sa.CheckConstraint("amount_nusd <> 0", name="entries_not_zero"),
        sa.ForeignKeyConstraint(
            ["txn_seq"],
            ["transactions.seq"],
            name="entries_sealed",
            deferrable=True,
            initially="DEFERRED",
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "account_chain",
        sa.Column("account_id", _NAME, primary_key=True),
        sa.Column("account_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        _amount("txn_seq"),
        _bytes("hash"),
        sqlite_with_rowid=False,
    )
    columns = ["txn_seq", "account_id"]
    op.create_index("account_chain_by_txn", "account_chain", columns, unique=True)


def _create_projections() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", _NAME, primary_key=True),
        _amount("chain_seq"),
        _bytes("chain_hash"),
        _amount("charged_nusd"),
    )
    op.create_table(
        "balances",
        sa.Column("ledger_account", _NAME, primary_key=True),
        _amount("balance_nusd"),
        sa.CheckConstraint(
            "balance_nusd >= 0 OR NOT (ledger_account LIKE 'customer\\:%\\:available'"
            " OR ledger_account LIKE 'customer\\:%\\:held')",
            name="balances_never_overdrawn",
        ),
        sa.CheckConstraint(
            "balance_nusd <= 0 OR ledger_account NOT LIKE 'customer\\:%\\:debt'",
            name="balances_debt_is_owed",
        ),
    )


def _create_leases() -> None:
    op.create_table(
        "leases",
        sa.Column("lease_id", _NAME, primary_key=True),
        sa.Column("account_id", _NAME, nullable=False),
        _text("key_id"),
        _text("holder_id"),
        _amount("granted_nusd"),
        _amount("captured_nusd"),
        _amount("released_nusd"),
        _amount("ends_at_unix_ms"),
        _text("state"),
        sa.CheckConstraint(
            "captured_nusd >= 0 AND released_nusd >= 0"
            " AND captured_nusd + released_nusd <= granted_nusd",
            name="leases_within_grant",
        ),
    )
    op.create_index("leases_by_end", "leases", ["state", "ends_at_unix_ms"])
    op.create_table(
        "holds",
        sa.Column("request_id", _NAME, primary_key=True),
        sa.Column("lease_id", _NAME, nullable=False),
        _amount("amount_nusd"),
        _amount("expires_at_unix_ms"),
    )
    op.create_index("holds_by_lease", "holds", ["lease_id"])


def _create_charges() -> None:
    op.create_table(
        "charges",
        sa.Column("event_id", _NAME, primary_key=True),
        _text("request_id"),
        sa.Column("account_id", _NAME, nullable=False),
        *(_text(name) for name in ("key_id", "lease_id", "model_id", "deployment")),
        *(_amount(name) for name in ("charge_nusd", "charged_nusd", "writeoff_nusd")),
        sa.Column("is_late", sa.Integer, nullable=False),
        _amount("stream_seq"),
        sa.Column("txn_seq", sa.BigInteger, nullable=True),
        sa.CheckConstraint(
            "charged_nusd >= 0 AND writeoff_nusd >= 0"
            " AND charged_nusd + writeoff_nusd = charge_nusd",
            name="charges_add_up",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("charges_by_txn", "charges", ["txn_seq"])


def _create_state() -> None:
    op.create_table(
        "answers",
        sa.Column("request_id", _NAME, primary_key=True),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        _amount("unix_ms"),
        sa.Column("is_kept", sa.Integer, nullable=False),
    )
    op.create_index("answers_by_age", "answers", ["is_kept", "unix_ms"])
    op.create_table(
        "router_watermarks",
        sa.Column("router_id", _NAME, primary_key=True),
        _amount("watermark_unix_ms"),
        _amount("seen_unix_ms"),
    )
    op.create_table(
        "stream_position",
        sa.Column("stream", sa.String, primary_key=True),
        _amount("applied_seq"),
        sa.Column("beyond", sa.Text, nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("stream_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        _text("reason"),
        _bytes("data"),
        _amount("unix_ms"),
    )


def _guard_sqlite() -> None:
    for table in _APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    for table, (message, when) in _SEAL.items():
        op.execute(
            f"CREATE TRIGGER {table}_seal BEFORE INSERT ON {table} WHEN {when}"
            f" BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )


def _guard_postgres() -> None:
    op.execute(_REFUSE)
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    for table, (message, when) in _SEAL.items():
        op.execute(
            f"CREATE FUNCTION seal_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF {when} THEN RAISE EXCEPTION '{message}' USING ERRCODE = '23000'; END IF;"
            " RETURN NEW; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_seal BEFORE INSERT ON {table}"
            f" FOR EACH ROW EXECUTE FUNCTION seal_{table}()"
        )


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String, nullable=False)


def _amount(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _bytes(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary, nullable=False)
