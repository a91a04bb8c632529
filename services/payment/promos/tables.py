"""The table of promotional credit: one row for each gift, changed as it is used or ends."""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, String, Table

from services.payment.store_tables import METADATA

_Name: Final = String().with_variant(String(collation="C"), "postgresql")

promos: Final = Table(
    "promos",
    METADATA,
    Column("promo_id", _Name, primary_key=True),
    Column("account_id", _Name, nullable=False),
    Column("granted_nusd", BigInteger, nullable=False),
    Column("spent_nusd", BigInteger, nullable=False),
    Column("ended_nusd", BigInteger, nullable=False),
    Column("ends_at_unix_ms", BigInteger, nullable=False),
    Column("is_open", Integer, nullable=False),
    CheckConstraint(
        "spent_nusd >= 0 AND ended_nusd >= 0 AND spent_nusd + ended_nusd <= granted_nusd",
        name="promos_within_grant",
    ),
    Index("promos_by_account", "account_id", "is_open"),
    Index("promos_by_end", "is_open", "ends_at_unix_ms"),
)
