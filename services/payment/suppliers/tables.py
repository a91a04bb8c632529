"""The tables of what is owed to others, both append-only, by trigger."""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, String, Table, or_

from services.payment.store_tables import METADATA, balances

_Name: Final = String().with_variant(String(collation="C"), "postgresql")

earnings: Final = Table(
    "earnings",
    METADATA,
    Column("event_id", _Name, primary_key=True),
    Column("supplier_id", _Name, nullable=False),
    Column("provider", _Name, nullable=False),
    Column("model_id", _Name, nullable=False),
    Column("paid_nusd", BigInteger, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("fee_bps", Integer, nullable=True),
    Column("owed_nusd", BigInteger, nullable=False),
    Column("stream_seq", BigInteger, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Column("txn_seq", BigInteger, nullable=True),
    CheckConstraint(
        "paid_nusd >= 0 AND cost_nusd >= 0 AND owed_nusd >= 0"
        " AND (owed_nusd <= paid_nusd OR fee_bps IS NULL)",
        name="earnings_within_terms",
    ),
    Index("earnings_by_txn", "txn_seq"),
    Index("earnings_by_payee", "supplier_id", "provider", "event_id"),
    Index("earnings_by_time", "unix_ms"),
    sqlite_with_rowid=False,
)

payouts: Final = Table(
    "payouts",
    METADATA,
    Column("payout_id", _Name, primary_key=True),
    Column("payee_id", _Name, nullable=False),
    Column("amount_nusd", BigInteger, nullable=False),
    Column("rail", _Name, nullable=False),
    Column("reference", _Name, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Column("txn_seq", BigInteger, nullable=False),
    CheckConstraint("amount_nusd > 0", name="payouts_are_amounts"),
    Index("payouts_by_reference", "rail", "reference", unique=True),
    Index("payouts_by_payee", "payee_id", "payout_id"),
)

IS_OWED: Final = or_(
    balances.c.ledger_account.like("supplier:%:earned"),
    balances.c.ledger_account.like("provider_payable:%"),
)
"""Whether a ledger account is what a supplier or a provider is owed."""
