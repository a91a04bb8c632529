"""Create earnings, payouts and promotional credit, and forbid to owe less than nothing."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_APPEND_ONLY: Final = ("earnings", "payouts")
_CONSTRAINT: Final = "balances_owed_or_given"
_RULE: Final = (
    "balance_nusd >= 0 OR NOT (ledger_account LIKE 'supplier:%:earned'"
    " OR ledger_account LIKE 'provider_payable:%' OR ledger_account LIKE 'customer:%:promo')"
)


def upgrade() -> None:
    _create_earnings()
    _create_payouts()
    _create_promos()
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for table in _APPEND_ONLY:
        _guard(table, is_sqlite=is_sqlite)
    if is_sqlite:
        _rebuild_balances(f", CONSTRAINT {_CONSTRAINT} CHECK ({_RULE})", "")
    else:
        # Sent as it is: SQLAlchemy would take the colons for parameters.
        op.get_bind().exec_driver_sql(
            f"ALTER TABLE balances ADD CONSTRAINT {_CONSTRAINT} CHECK ({_RULE})"
        )
    op.create_index(
        "balances_below_zero",
        "balances",
        ["balance_nusd"],
        sqlite_where=sa.text("balance_nusd < 0"),
        postgresql_where=sa.text("balance_nusd < 0"),
    )


def downgrade() -> None:
    op.drop_index("balances_below_zero", "balances")
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_balances("", f", CONSTRAINT {_CONSTRAINT} CHECK ({_RULE})")
    else:
        op.drop_constraint(_CONSTRAINT, "balances")
    for table in ("promos", *_APPEND_ONLY):
        op.drop_table(table)


def _create_earnings() -> None:
    op.create_table(
        "earnings",
        sa.Column("event_id", _NAME, primary_key=True),
        *(sa.Column(name, _NAME, nullable=False) for name in ("supplier_id", "provider")),
        sa.Column("model_id", _NAME, nullable=False),
        *(_amount(name) for name in ("paid_nusd", "cost_nusd")),
        sa.Column("fee_bps", sa.Integer, nullable=True),
        *(_amount(name) for name in ("owed_nusd", "stream_seq", "unix_ms")),
        sa.Column("txn_seq", sa.BigInteger, nullable=True),
        sa.CheckConstraint(
            "paid_nusd >= 0 AND cost_nusd >= 0 AND owed_nusd >= 0"
            " AND (owed_nusd <= paid_nusd OR fee_bps IS NULL)",
            name="earnings_within_terms",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("earnings_by_txn", "earnings", ["txn_seq"])
    op.create_index("earnings_by_payee", "earnings", ["supplier_id", "provider", "event_id"])
    op.create_index("earnings_by_time", "earnings", ["unix_ms"])


def _create_payouts() -> None:
    op.create_table(
        "payouts",
        sa.Column("payout_id", _NAME, primary_key=True),
        sa.Column("payee_id", _NAME, nullable=False),
        _amount("amount_nusd"),
        *(sa.Column(name, _NAME, nullable=False) for name in ("rail", "reference")),
        *(_amount(name) for name in ("unix_ms", "txn_seq")),
        sa.CheckConstraint("amount_nusd > 0", name="payouts_are_amounts"),
    )
    op.create_index("payouts_by_reference", "payouts", ["rail", "reference"], unique=True)
    op.create_index("payouts_by_payee", "payouts", ["payee_id", "payout_id"])


def _create_promos() -> None:
    op.create_table(
        "promos",
        sa.Column("promo_id", _NAME, primary_key=True),
        sa.Column("account_id", _NAME, nullable=False),
        *(_amount(name) for name in ("granted_nusd", "spent_nusd", "ended_nusd")),
        _amount("ends_at_unix_ms"),
        sa.Column("is_open", sa.Integer, nullable=False),
        sa.CheckConstraint(
            "spent_nusd >= 0 AND ended_nusd >= 0 AND spent_nusd + ended_nusd <= granted_nusd",
            name="promos_within_grant",
        ),
    )
    op.create_index("promos_by_account", "promos", ["account_id", "is_open"])
    op.create_index("promos_by_end", "promos", ["is_open", "ends_at_unix_ms"])


def _guard(table: str, *, is_sqlite: bool) -> None:
    if not is_sqlite:
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


def _rebuild_balances(added: str, removed: str) -> None:
    """Give the table another constraint; SQLite knows no other way than a new table.

    What other migrations have added to it stays, as its own text is what is edited.
    """
    run = op.get_bind().exec_driver_sql
    (made,) = run("SELECT sql FROM sqlite_master WHERE name = 'balances'").one()
    run("ALTER TABLE balances RENAME TO balances_before")
    kept = made.replace(removed, "") if removed else made
    run(kept[: kept.rindex(")")].rstrip() + added + kept[kept.rindex(")") :])
    run("INSERT INTO balances SELECT * FROM balances_before")
    run("DROP TABLE balances_before")


def _amount(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)
