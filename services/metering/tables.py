"""The tables of this room, in a metadata of its own; statements live in `store.py`."""

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

METADATA: Final = MetaData()
# Names sort by code point on both engines, so that pages and merges agree.
_NAME: Final = String().with_variant(String(collation="C"), "postgresql")


def _name(name: str, *, is_key: bool = False) -> Any:  # noqa: ANN401 - sqlmodel fields are typed so
    return Field(sa_column=Column(name, _NAME, primary_key=is_key, nullable=False))


class _Rows(SQLModel, registry=registry(metadata=METADATA)):
    """Base of this room's tables, apart from those of other rooms."""


class UsageRecordRow(_Rows, table=True):
    """One finished request; its event id makes it unique for ever."""

    __tablename__ = "usage_records"
    __table_args__ = (
        Index("usage_records_by_start", "start_unix_ms", "event_id"),
        Index("usage_records_by_account", "account_id", "start_unix_ms", "event_id"),
        Index("usage_records_by_key", "key_id", "start_unix_ms", "event_id"),
    )

    event_id: str = _name("event_id", is_key=True)
    account_id: str = _name("account_id")
    key_id: str = _name("key_id")
    model_id: str = _name("model_id")
    deployment: str
    provider: str
    outcome: str
    finish_reason: str
    prompt_token_count: int = Field(sa_type=BigInteger)
    completion_token_count: int = Field(sa_type=BigInteger)
    cached_prompt_token_count: int = Field(sa_type=BigInteger)
    reasoning_token_count: int = Field(sa_type=BigInteger)
    usage_source: int
    charge_nusd: int = Field(sa_type=BigInteger)
    start_unix_ms: int = Field(sa_type=BigInteger)
    duration_ms: int = Field(sa_type=BigInteger)
    ttft_ms: int = Field(sa_type=BigInteger)
    is_streaming: bool
    attempt_count: int
    stream_seq: int = Field(sa_type=BigInteger)


class UsageHourRow(_Rows, table=True):
    """The sum of one key's records of one model in one hour."""

    __tablename__ = "usage_hours"
    __table_args__ = (Index("usage_hours_by_account", "account_id", "hour_unix_ms"),)

    hour_unix_ms: int = Field(
        primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    account_id: str = _name("account_id", is_key=True)
    key_id: str = _name("key_id", is_key=True)
    model_id: str = _name("model_id", is_key=True)
    request_count: int = Field(sa_type=BigInteger)
    prompt_token_count: int = Field(sa_type=BigInteger)
    completion_token_count: int = Field(sa_type=BigInteger)
    charge_nusd: int = Field(sa_type=BigInteger)


class StreamPositionRow(_Rows, table=True):
    """How far the stream is applied: all up to `applied_seq`, and a JSON list of what is ahead."""

    __tablename__ = "stream_position"

    stream: str = Field(primary_key=True)
    applied_seq: int = Field(sa_type=BigInteger)
    ahead: str = Field(sa_type=Text)


class DeadLetterRow(_Rows, table=True):
    """What could not be stored: an event, or a whole batch at position -1."""

    __tablename__ = "dead_letters"

    stream_seq: int = Field(
        primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    position: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    reason: str
    data: bytes = Field(sa_type=LargeBinary)
    unix_ms: int = Field(sa_type=BigInteger)


USAGE_RECORDS: Final = METADATA.tables["usage_records"]
USAGE_HOURS: Final = METADATA.tables["usage_hours"]
STREAM_POSITION: Final = METADATA.tables["stream_position"]
DEAD_LETTERS: Final = METADATA.tables["dead_letters"]
