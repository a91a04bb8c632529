"""Tables of receipts and roots; `receipts` and `roots` are append-only, by triggers."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text

from services.payment.store_tables import METADATA

_Name: Final = String().with_variant(String(collation="C"), "postgresql")

# Receipts are appended in order: a table with rowids takes that without moving what is there.
receipts: Final = Table(
    "receipts",
    METADATA,
    Column("txn_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("receipt_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("event_id", _Name, nullable=False),
    Column("account_id", _Name, nullable=False),
    # Bytes: what an upstream calls the end of an answer may hold what PostgreSQL's text cannot.
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("receipts_by_account", "account_id", "receipt_seq", unique=True),
)

receipt_heads: Final = Table(
    "receipt_heads",
    METADATA,
    Column("account_id", _Name, primary_key=True),
    Column("receipt_seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

roots: Final = Table(
    "roots",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("day", Integer, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Index("roots_by_seq", "kind", "last_seq", unique=True),
    Index("roots_by_day", "kind", "day"),
)
