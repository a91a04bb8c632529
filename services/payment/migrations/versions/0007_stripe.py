"""Create what the card rail keeps: accounts, payments, reversals, charges and webhook ids."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAME: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_TABLES: Final = (
    "stripe_events",
    "stripe_charges",
    "stripe_reversals",
    "stripe_payments",
    "stripe_accounts",
)
_IS_PENDING: Final = sa.text("state = 'pending'")


def upgrade() -> None:
    op.create_table(
        "stripe_accounts",
        sa.Column("account_id", _NAME, primary_key=True),
        *_texts("customer_id", "payment_method_id"),
        *_numbers("card_unix_s", "recharge_below_nusd", "recharge_cents", "recharge_day_cents"),
        sa.Column("is_postpaid", sa.Integer, nullable=False),
        *_numbers("limit_nusd", "charge_count"),
        sa.Column("decline_count", sa.Integer, nullable=False),
        *_numbers("next_try_unix_ms"),
        sa.Column("is_suspended", sa.Integer, nullable=False),
        sa.CheckConstraint("limit_nusd >= 0", name="stripe_accounts_limit"),
    )
    op.create_table(
        "stripe_payments",
        sa.Column("intent_id", _NAME, primary_key=True),
        sa.Column("account_id", _NAME, nullable=False),
        *_numbers("paid_cents", "charge_refunded_cents", "reversed_cents", "unix_ms"),
        sa.CheckConstraint(
            "reversed_cents >= 0 AND reversed_cents <= paid_cents", name="stripe_payments_within"
        ),
    )
    op.create_index("stripe_payments_by_account", "stripe_payments", ["account_id", "unix_ms"])
    op.create_table(
        "stripe_reversals",
        sa.Column("reversal_id", _NAME, primary_key=True),
        sa.Column("intent_id", _NAME, nullable=False),
        *_texts("kind"),
        *_numbers("amount_cents"),
        *_texts("status"),
    )
    op.create_index("stripe_reversals_by_intent", "stripe_reversals", ["intent_id"])
    _create_charges()
    op.create_table(
        "stripe_events",
        sa.Column("event_id", _NAME, primary_key=True),
        *_texts("type"),
        *_numbers("unix_ms"),
    )
    op.create_index("stripe_events_by_age", "stripe_events", ["unix_ms"])


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)


def _create_charges() -> None:
    op.create_table(
        "stripe_charges",
        sa.Column("account_id", _NAME, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        *_texts("purpose"),
        *_numbers("amount_cents"),
        *_texts("customer_id", "payment_method_id", "state", "intent_id", "code"),
        *_numbers("unix_ms", "next_unix_ms"),
        sa.CheckConstraint("amount_cents > 0", name="stripe_charges_positive"),
    )
    op.create_index(
        "stripe_charges_one_pending",
        "stripe_charges",
        ["account_id"],
        unique=True,
        sqlite_where=_IS_PENDING,
        postgresql_where=_IS_PENDING,
    )
    op.create_index("stripe_charges_by_day", "stripe_charges", ["account_id", "unix_ms"])
    op.create_index("stripe_charges_by_turn", "stripe_charges", ["state", "next_unix_ms"])


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.String, nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
