"""Create what machine payments keep: channels, vouchers, used challenges, transfers, intents."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES: Final = (
    "channels",
    "channel_vouchers",
    "used_challenges",
    "used_transfers",
    "noted_charges",
    "chain_intents",
    "chain_cursors",
)


def upgrade() -> None:
    _channels()
    _challenges_and_transfers()
    _charges_and_chain()


def _channels() -> None:
    op.create_table(
        "channels",
        sa.Column("channel_id", sa.String, primary_key=True),
        sa.Column("payer", sa.String, nullable=False),
        sa.Column("payee", sa.String, nullable=False),
        sa.Column("operator", sa.String, nullable=False),
        sa.Column("token", sa.String, nullable=False),
        sa.Column("salt", sa.String, nullable=False),
        sa.Column("authorized_signer", sa.String, nullable=False),
        sa.Column("expiring_nonce_hash", sa.String, nullable=False),
        sa.Column("open_tx_hash", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("deposit", sa.BigInteger, nullable=False),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("accepted_challenge_id", sa.String, nullable=False),
        sa.Column("settled", sa.BigInteger, nullable=False),
        sa.Column("close_tx_hash", sa.String, nullable=False),
        sa.Column("close_accepted", sa.BigInteger, nullable=False),
        sa.Column("grace_end_unix_s", sa.BigInteger, nullable=False),
        sa.Column("checked_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("used_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("settled_unix_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "0 <= settled AND settled <= accepted AND accepted <= deposit",
            name="channels_in_order",
        ),
    )
    op.create_index("channels_by_state", "channels", ["state", "used_unix_ms"])
    op.create_table(
        "channel_vouchers",
        sa.Column("channel_id", sa.String, primary_key=True),
        sa.Column("cumulative", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )


def _challenges_and_transfers() -> None:
    op.create_table(
        "used_challenges",
        sa.Column("challenge_id", sa.String, primary_key=True),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("expires_unix_s", sa.BigInteger, nullable=False),
    )
    op.create_index("used_challenges_by_end", "used_challenges", ["expires_unix_s"])
    op.create_table(
        "used_transfers",
        sa.Column("tx_hash", sa.String, primary_key=True),
        sa.Column("payer", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("challenge_id", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("unix_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("used_transfers_by_state", "used_transfers", ["state", "unix_ms"])
    op.create_index("used_transfers_by_challenge", "used_transfers", ["challenge_id"])
    op.create_index("used_transfers_by_payer", "used_transfers", ["payer", "unix_ms"])


def _charges_and_chain() -> None:
    op.create_table(
        "noted_charges",
        sa.Column("lease_id", sa.String, primary_key=True),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("charge_nusd", sa.BigInteger, nullable=False),
        sa.CheckConstraint("charge_nusd >= 0", name="noted_charges_not_negative"),
    )
    op.create_index("noted_charges_by_account", "noted_charges", ["account_id"])
    op.create_table(
        "chain_intents",
        sa.Column("tx_hash", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("raw", sa.String, nullable=False),
        sa.Column("cumulative", sa.BigInteger, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("unix_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("chain_intents_by_state", "chain_intents", ["state", "unix_ms"])
    op.create_index("chain_intents_by_subject", "chain_intents", ["subject"])
    op.create_table(
        "chain_cursors",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("next_block", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
