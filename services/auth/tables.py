"""The tables of this room, in a metadata of its own; statements live in `store.py`."""

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Index, LargeBinary, MetaData, Text, false, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_ID_CHARS: Final = 36


class _Rows(SQLModel, registry=registry(metadata=METADATA)):
    """Base of this room's tables, apart from those of other rooms."""


class AccountRow(_Rows, table=True):
    """An account; `request_id` makes its creation repeatable."""

    __tablename__ = "accounts"

    account_id: str = Field(primary_key=True, max_length=_ID_CHARS)
    name: str = Field(max_length=120)
    request_id: str | None = Field(unique=True, max_length=_ID_CHARS)
    create_unix_ms: int = Field(sa_type=BigInteger)
    routing_strategy: str = Field(max_length=40, sa_column_kwargs={"server_default": text("''")})
    is_external_allowed: bool | None = Field(sa_type=Boolean)


class KeyRow(_Rows, table=True):
    """A key; limits are null where its tier's apply."""

    __tablename__ = "keys"
    __table_args__ = (Index(None, "account_id", "key_id"),)

    key_id: str = Field(primary_key=True, max_length=_ID_CHARS)
    account_id: str = Field(foreign_key="accounts.account_id", max_length=_ID_CHARS)
    name: str = Field(max_length=120)
    scopes: list[str] = Field(sa_type=JSON)
    models: list[str] = Field(sa_type=JSON)
    tier: str = Field(max_length=120)
    dialect: str = Field(max_length=40)
    expire_unix_ms: int | None = Field(sa_type=BigInteger)
    requests_per_minute: int | None = Field(sa_type=BigInteger)
    tokens_per_minute: int | None = Field(sa_type=BigInteger)
    concurrent_requests: int | None = Field(sa_type=BigInteger)
    is_strict: bool = Field(sa_type=Boolean, sa_column_kwargs={"server_default": false()})
    routing_strategy: str = Field(max_length=40, sa_column_kwargs={"server_default": text("''")})
    is_external_allowed: bool | None = Field(sa_type=Boolean)
    hint: str = Field(max_length=40)
    request_id: str | None = Field(unique=True, max_length=_ID_CHARS)
    create_unix_ms: int = Field(sa_type=BigInteger)
    revoke_unix_ms: int | None = Field(sa_type=BigInteger)


class SecretRow(_Rows, table=True):
    """The HMAC of one secret of a key; nothing else of it is kept."""

    __tablename__ = "secrets"
    __table_args__ = (Index(None, "key_id", "generation", unique=True),)

    secret_hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    key_id: str = Field(foreign_key="keys.key_id", max_length=_ID_CHARS)
    generation: int = Field(sa_type=BigInteger)
    create_unix_ms: int = Field(sa_type=BigInteger)
    expire_unix_ms: int | None = Field(sa_type=BigInteger)


class RateWindowRow(_Rows, table=True):
    """What was granted of a key's newest window; older ones are overwritten."""

    __tablename__ = "rate_windows"

    key_id: str = Field(primary_key=True, foreign_key="keys.key_id", max_length=_ID_CHARS)
    minute: int = Field(sa_type=BigInteger)
    request_count: int = Field(sa_type=BigInteger)
    token_count: int = Field(sa_type=BigInteger)


class HolderRow(_Rows, table=True):
    """A gateway worker that may hold slots.

    `beat` grows with each sign of life, and `lease_ms` is what it was promised then.
    """

    __tablename__ = "slot_holders"

    holder_id: str = Field(primary_key=True, max_length=_ID_CHARS)
    beat: int = Field(sa_type=BigInteger)
    lease_ms: int = Field(sa_type=BigInteger)


class SlotsRow(_Rows, table=True):
    """How many of a key's slots a holder has; `sequence` is that of its newest ask."""

    __tablename__ = "slots"
    __table_args__ = (Index(None, "holder_id"),)

    key_id: str = Field(primary_key=True, foreign_key="keys.key_id", max_length=_ID_CHARS)
    holder_id: str = Field(
        primary_key=True, foreign_key="slot_holders.holder_id", max_length=_ID_CHARS
    )
    slot_count: int = Field(sa_type=BigInteger)
    sequence: int = Field(sa_type=BigInteger)


class AuditRow(_Rows, table=True):
    """One change, append-only; triggers refuse anything else."""

    __tablename__ = "audit"

    seq: int = Field(
        primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    action: str = Field(max_length=40)
    subject_id: str = Field(index=True, max_length=_ID_CHARS)
    unix_ms: int = Field(sa_type=BigInteger)
    before: str = Field(sa_type=Text)
    after: str = Field(sa_type=Text)
    previous_hash: bytes = Field(sa_type=LargeBinary)


class AuditHeadRow(_Rows, table=True):
    """Where the audit chain ends: one row, whose lock puts changes in order."""

    __tablename__ = "audit_head"

    head_id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    seq: int = Field(sa_type=BigInteger)
    entry_hash: bytes = Field(sa_type=LargeBinary)


ACCOUNTS: Final = METADATA.tables["accounts"]
KEYS: Final = METADATA.tables["keys"]
SECRETS: Final = METADATA.tables["secrets"]
RATE_WINDOWS: Final = METADATA.tables["rate_windows"]
SLOT_HOLDERS: Final = METADATA.tables["slot_holders"]
SLOTS: Final = METADATA.tables["slots"]
AUDIT: Final = METADATA.tables["audit"]
AUDIT_HEAD: Final = METADATA.tables["audit_head"]
