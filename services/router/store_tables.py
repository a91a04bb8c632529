"""The table of this room, in a metadata of its own; statements live in `store.py`."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, LargeBinary, MetaData, String
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

METADATA: Final = MetaData(naming_convention={"pk": "pk_%(table_name)s"})
# Pages need one order on every engine: that of the bytes.
_NAME: Final = String().with_variant(String(collation="C"), "postgresql")


class _Rows(SQLModel, registry=registry(metadata=METADATA)):
    """Base of this room's tables, apart from those of other rooms."""


class ProviderKeyRow(_Rows, table=True):
    """An account's own key for a provider, sealed; `hint` is all of it that may be shown."""

    __tablename__ = "provider_keys"

    account_id: str = Field(primary_key=True, sa_type=_NAME)
    provider: str = Field(primary_key=True, sa_type=_NAME)
    key_id: str = Field(sa_type=String)
    nonce: bytes = Field(sa_type=LargeBinary)
    ciphertext: bytes = Field(sa_type=LargeBinary)
    hint: str = Field(sa_type=String)
    has_fallback: bool = Field(sa_type=Boolean)
    create_unix_ms: int = Field(sa_type=BigInteger)
    rotate_unix_ms: int = Field(sa_type=BigInteger)


PROVIDER_KEYS: Final = METADATA.tables["provider_keys"]
