"""The tables of machine payments.

`channel_vouchers` and `used_transfers` only grow; the rest is state whose money lies in the ledger.
Amounts are base units of the token unless a name says nano-USD.
"""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, LargeBinary, String, Table

from services.payment.store_tables import METADATA

channels: Final = Table(
    "channels",
    METADATA,
    Column("channel_id", String, primary_key=True),
    Column("payer", String, nullable=False),
    Column("payee", String, nullable=False),
    Column("operator", String, nullable=False),
    Column("token", String, nullable=False),
    Column("salt", String, nullable=False),
    Column("authorized_signer", String, nullable=False),
    Column("expiring_nonce_hash", String, nullable=False),
    Column("open_tx_hash", String, nullable=False),
    Column("state", String, nullable=False),
    Column("deposit", BigInteger, nullable=False),
    Column("accepted", BigInteger, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("accepted_challenge_id", String, nullable=False),
    Column("settled", BigInteger, nullable=False),
    Column("close_tx_hash", String, nullable=False),
    Column("close_accepted", BigInteger, nullable=False),
    Column("grace_end_unix_s", BigInteger, nullable=False),
    Column("checked_unix_ms", BigInteger, nullable=False),
    Column("used_unix_ms", BigInteger, nullable=False),
    Column("settled_unix_ms", BigInteger, nullable=False),
    CheckConstraint(
        "0 <= settled AND settled <= accepted AND accepted <= deposit", name="channels_in_order"
    ),
    Index("channels_by_state", "state", "used_unix_ms"),
)

channel_vouchers: Final = Table(
    "channel_vouchers",
    METADATA,
    Column("channel_id", String, primary_key=True),
    Column("cumulative", BigInteger, primary_key=True, autoincrement=False),
    Column("signature", LargeBinary, nullable=False),
)

used_challenges: Final = Table(
    "used_challenges",
    METADATA,
    Column("challenge_id", String, primary_key=True),
    Column("request_id", String, nullable=False),
    Column("expires_unix_s", BigInteger, nullable=False),
    Index("used_challenges_by_end", "expires_unix_s"),
)

used_transfers: Final = Table(
    "used_transfers",
    METADATA,
    Column("tx_hash", String, primary_key=True),
    Column("payer", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("challenge_id", String, nullable=False),
    Column("state", String, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Index("used_transfers_by_state", "state", "unix_ms"),
    Index("used_transfers_by_challenge", "challenge_id"),
    Index("used_transfers_by_payer", "payer", "unix_ms"),
)

noted_charges: Final = Table(
    "noted_charges",
    METADATA,
    Column("lease_id", String, primary_key=True),
    Column("account_id", String, nullable=False),
    Column("event_id", String, nullable=False),
    Column("charge_nusd", BigInteger, nullable=False),
    CheckConstraint("charge_nusd >= 0", name="noted_charges_not_negative"),
    Index("noted_charges_by_account", "account_id"),
)

chain_intents: Final = Table(
    "chain_intents",
    METADATA,
    Column("tx_hash", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("raw", String, nullable=False),
    Column("cumulative", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("unix_ms", BigInteger, nullable=False),
    Index("chain_intents_by_state", "state", "unix_ms"),
    Index("chain_intents_by_subject", "subject"),
)

chain_cursors: Final = Table(
    "chain_cursors",
    METADATA,
    Column("name", String, primary_key=True),
    Column("next_block", BigInteger, nullable=False),
)
