"""The card rail's tables, beside the ledger's.

`stripe_payments` and `stripe_reversals` hold what is known of each payment, `stripe_charges` each
charge that was made without anybody there. What they did to balances is in the ledger.
"""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, String, Table, text

from services.payment.store_tables import METADATA

PENDING: Final = "pending"
PAID: Final = "paid"
DECLINED: Final = "declined"
LOST: Final = "lost"
"""Stripe never learned of the charge, so nobody paid it."""

_Name: Final = String().with_variant(String(collation="C"), "postgresql")

stripe_accounts: Final = Table(
    "stripe_accounts",
    METADATA,
    Column("account_id", _Name, primary_key=True),
    Column("customer_id", String, nullable=False),
    Column("payment_method_id", String, nullable=False),
    Column("card_unix_s", BigInteger, nullable=False),
    Column("recharge_below_nusd", BigInteger, nullable=False),
    Column("recharge_cents", BigInteger, nullable=False),
    Column("recharge_day_cents", BigInteger, nullable=False),
    Column("is_postpaid", Integer, nullable=False),
    Column("limit_nusd", BigInteger, nullable=False),
    Column("charge_count", BigInteger, nullable=False),
    Column("decline_count", Integer, nullable=False),
    Column("next_try_unix_ms", BigInteger, nullable=False),
    Column("is_suspended", Integer, nullable=False),
    CheckConstraint("limit_nusd >= 0", name="stripe_accounts_limit"),
)

stripe_payments: Final = Table(
    "stripe_payments",
    METADATA,
    Column("intent_id", _Name, primary_key=True),
    Column("account_id", _Name, nullable=False),
    Column("paid_cents", BigInteger, nullable=False),
    Column("charge_refunded_cents", BigInteger, nullable=False),
    Column("reversed_cents", BigInteger, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    CheckConstraint(
        "reversed_cents >= 0 AND reversed_cents <= paid_cents", name="stripe_payments_within"
    ),
    Index("stripe_payments_by_account", "account_id", "unix_ms"),
)

stripe_reversals: Final = Table(
    "stripe_reversals",
    METADATA,
    Column("reversal_id", _Name, primary_key=True),
    Column("intent_id", _Name, nullable=False),
    Column("kind", String, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Index("stripe_reversals_by_intent", "intent_id"),
)

stripe_charges: Final = Table(
    "stripe_charges",
    METADATA,
    Column("account_id", _Name, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("purpose", String, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("customer_id", String, nullable=False),
    Column("payment_method_id", String, nullable=False),
    Column("state", String, nullable=False),
    Column("intent_id", String, nullable=False),
    Column("code", String, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Column("next_unix_ms", BigInteger, nullable=False),
    CheckConstraint("amount_cents > 0", name="stripe_charges_positive"),
    Index(
        "stripe_charges_one_pending",
        "account_id",
        unique=True,
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index("stripe_charges_by_day", "account_id", "unix_ms"),
    Index("stripe_charges_by_turn", "state", "next_unix_ms"),
)

stripe_events: Final = Table(
    "stripe_events",
    METADATA,
    Column("event_id", _Name, primary_key=True),
    Column("type", String, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Index("stripe_events_by_age", "unix_ms"),
)
