"""The tables of spend caps.

`caps` has limits, `capped_accounts` who has any, `cap_use` what is used of them: of each lease that
was granted in the window what it was granted, less what it gave back, and `folded_nusd` for leases
that are no longer kept. Working state: all of it follows from caps, leases and charges.
"""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, String, Table

from services.payment.store_tables import COMPACT, METADATA, NAME

capped_accounts: Final = Table(
    "capped_accounts",
    METADATA,
    Column("account_id", NAME, primary_key=True),
    Column("cap_count", Integer, nullable=False),
    Column("episode_cap_count", Integer, nullable=False),
    CheckConstraint(
        "episode_cap_count >= 0 AND episode_cap_count <= cap_count", name="capped_accounts_count"
    ),
    **COMPACT,
)

caps: Final = Table(
    "caps",
    METADATA,
    Column("account_id", NAME, primary_key=True),
    Column("scope", NAME, primary_key=True),
    Column("subject", NAME, primary_key=True),
    Column("window", String, primary_key=True),
    Column("limit_nusd", BigInteger, nullable=False),
    CheckConstraint("limit_nusd >= 0", name="caps_not_negative"),
    **COMPACT,
)

cap_use: Final = Table(
    "cap_use",
    METADATA,
    Column("account_id", NAME, primary_key=True),
    Column("scope", NAME, primary_key=True),
    Column("subject", NAME, primary_key=True),
    Column("window", String, primary_key=True),
    Column("start_unix_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("end_unix_ms", BigInteger, nullable=False),
    Column("used_nusd", BigInteger, nullable=False),
    Column("folded_nusd", BigInteger, nullable=False),
    Column("touched_unix_ms", BigInteger, nullable=False),
    CheckConstraint("used_nusd >= 0", name="cap_use_not_negative"),
    Index("cap_use_by_age", "touched_unix_ms"),
    **COMPACT,
)
