"""The payment room's tables.

`transactions`, `entries`, `account_chain`, `charges` and `refunds` are append-only; triggers made
by the migrations refuse anything else, seal a transaction once its entries sum to zero, and keep
`seq` gapless. Everything else is a projection or working state.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from kit.db_statements import Statement

Row: TypeAlias = dict[str, Any]
_Insert: TypeAlias = sqlite.Insert | postgresql.Insert

METADATA: Final = MetaData()
# Names sort by code point on both engines, so that pages and merges agree.
NAME: Final = String().with_variant(String(collation="C"), "postgresql")
_DEFERRED: Final[dict[str, Any]] = {"deferrable": True, "initially": "DEFERRED"}
COMPACT: Final[dict[str, Any]] = {"sqlite_with_rowid": False}

ledger_head: Final = Table(
    "ledger_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

transactions: Final = Table(
    "transactions",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("reference", String, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Column("detail_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

entries: Final = Table(
    "entries",
    METADATA,
    Column("txn_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("ledger_account", NAME, primary_key=True),
    Column("amount_nusd", BigInteger, nullable=False),
    CheckConstraint("amount_nusd <> 0", name="entries_not_zero"),
    ForeignKeyConstraint(["txn_seq"], ["transactions.seq"], name="entries_sealed", **_DEFERRED),
    **COMPACT,
)

account_chain: Final = Table(
    "account_chain",
    METADATA,
    Column("account_id", NAME, primary_key=True),
    Column("account_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("txn_seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("account_chain_by_txn", "txn_seq", "account_id", unique=True),
    **COMPACT,
)

accounts: Final = Table(
    "accounts",
    METADATA,
    Column("account_id", NAME, primary_key=True),
    Column("chain_seq", BigInteger, nullable=False),
    Column("chain_hash", LargeBinary, nullable=False),
    Column("charged_nusd", BigInteger, nullable=False),
)

balances: Final = Table(
    "balances",
    METADATA,
    Column("ledger_account", NAME, primary_key=True),
    Column("balance_nusd", BigInteger, nullable=False),
    CheckConstraint(
        "balance_nusd >= 0 OR NOT (ledger_account LIKE 'customer\\:%\\:available'"
        " OR ledger_account LIKE 'customer\\:%\\:held')",
        name="balances_never_overdrawn",
    ),
    CheckConstraint(
        "balance_nusd <= 0 OR ledger_account NOT LIKE 'customer\\:%\\:debt'",
        name="balances_debt_is_owed",
    ),
    CheckConstraint(
        "balance_nusd >= 0 OR NOT (ledger_account LIKE 'supplier\\:%\\:earned'"
        " OR ledger_account LIKE 'provider_payable\\:%'"
        " OR ledger_account LIKE 'customer\\:%\\:promo')",
        name="balances_owed_or_given",
    ),
    Index(
        "balances_below_zero",
        "balance_nusd",
        sqlite_where=text("balance_nusd < 0"),
        postgresql_where=text("balance_nusd < 0"),
    ),
)

leases: Final = Table(
    "leases",
    METADATA,
    Column("lease_id", NAME, primary_key=True),
    Column("account_id", NAME, nullable=False),
    Column("key_id", String, nullable=False),
    Column("holder_id", String, nullable=False),
    Column("granted_nusd", BigInteger, nullable=False),
    Column("captured_nusd", BigInteger, nullable=False),
    Column("released_nusd", BigInteger, nullable=False),
    Column("ends_at_unix_ms", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("granted_at_unix_ms", BigInteger, nullable=False),
    Column("episode_id", NAME, nullable=False),
    # Charged beside it after it had ended, less what was refunded.
    Column("adjusted_nusd", BigInteger, nullable=False),
    CheckConstraint(
        "captured_nusd >= 0 AND released_nusd >= 0"
        " AND captured_nusd + released_nusd <= granted_nusd",
        name="leases_within_grant",
    ),
    Index("leases_by_end", "state", "ends_at_unix_ms"),
)
# Only leases for one episode alone are in it; the others do not pay for it.
Index(
    "leases_by_episode",
    leases.c.account_id,
    leases.c.episode_id,
    sqlite_where=leases.c.episode_id != "",
    postgresql_where=leases.c.episode_id != "",
)

holds: Final = Table(
    "holds",
    METADATA,
    Column("request_id", NAME, primary_key=True),
    Column("lease_id", NAME, nullable=False),
    Column("amount_nusd", BigInteger, nullable=False),
    Column("expires_at_unix_ms", BigInteger, nullable=False),
    Index("holds_by_lease", "lease_id"),
)

charges: Final = Table(
    "charges",
    METADATA,
    Column("event_id", NAME, primary_key=True),
    Column("request_id", String, nullable=False),
    Column("account_id", NAME, nullable=False),
    Column("key_id", String, nullable=False),
    Column("lease_id", String, nullable=False),
    Column("model_id", String, nullable=False),
    Column("deployment", String, nullable=False),
    Column("charge_nusd", BigInteger, nullable=False),
    Column("charged_nusd", BigInteger, nullable=False),
    Column("writeoff_nusd", BigInteger, nullable=False),
    Column("is_late", Integer, nullable=False),
    Column("stream_seq", BigInteger, nullable=False),
    Column("txn_seq", BigInteger, nullable=True),
    CheckConstraint(
        "charged_nusd >= 0 AND writeoff_nusd >= 0 AND charged_nusd + writeoff_nusd = charge_nusd",
        name="charges_add_up",
    ),
    Index("charges_by_txn", "txn_seq"),
    **COMPACT,
)

refunds: Final = Table(
    "refunds",
    METADATA,
    Column("event_id", NAME, primary_key=True),
    Column("account_id", NAME, nullable=False),
    Column("key_id", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("refund_nusd", BigInteger, nullable=False),
    Column("refunded_nusd", BigInteger, nullable=False),
    Column("stream_seq", BigInteger, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Column("txn_seq", BigInteger, nullable=True),
    CheckConstraint(
        "refunded_nusd >= 0 AND refunded_nusd <= refund_nusd", name="refunds_within_charge"
    ),
    Index("refunds_by_txn", "txn_seq"),
    Index("refunds_by_key", "key_id", "unix_ms"),
    **COMPACT,
)

answers: Final = Table(
    "answers",
    METADATA,
    Column("request_id", NAME, primary_key=True),
    Column("asked", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Column("is_kept", Integer, nullable=False),
    Index("answers_by_age", "is_kept", "unix_ms"),
)

router_watermarks: Final = Table(
    "router_watermarks",
    METADATA,
    Column("router_id", NAME, primary_key=True),
    Column("watermark_unix_ms", BigInteger, nullable=False),
    Column("seen_unix_ms", BigInteger, nullable=False),
)

stream_position: Final = Table(
    "stream_position",
    METADATA,
    Column("stream", String, primary_key=True),
    Column("applied_seq", BigInteger, nullable=False),
    Column("beyond", Text, nullable=False),
)

dead_letters: Final = Table(
    "dead_letters",
    METADATA,
    Column("stream_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("reason", String, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
)


def insert(table: Table, *names: str) -> Statement:
    """Return an insert; `names` are the columns in the order of a row, all of them by default."""
    return Statement(table.insert(), *(names or table.columns.keys()))


def upsert(table: Table) -> Statement:
    """Return an insert that replaces the row of the same key; rows are in the columns' order."""
    return _insert(table, _or_replace)


def insert_once(table: Table) -> Statement:
    """Return an insert that leaves a row of the same key; rows are in the columns' order."""
    return _insert(table, lambda statement, _: statement.on_conflict_do_nothing())


def _insert(table: Table, finish: Callable[[_Insert, Table], _Insert]) -> Statement:
    return Statement(
        finish(postgresql.insert(table), table),
        *table.columns.keys(),
        on_sqlite=finish(sqlite.insert(table), table),
    )


def _or_replace(statement: _Insert, table: Table) -> _Insert:
    keys = {column.name for column in table.primary_key}
    values = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=sorted(keys), set_=values)
