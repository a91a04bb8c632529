"""The tables of this room, in a metadata of its own; statements live in `store.py`."""

from typing import Final

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, MetaData, String, Text
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
# Pages and the ledger's verification need one order on every engine: that of the bytes.
_NAME: Final = String().with_variant(String(collation="C"), "postgresql")
_CLUSTERED: Final = {"sqlite_with_rowid": False}


class _Rows(SQLModel, registry=registry(metadata=METADATA)):
    """Base of this room's tables, apart from those of other rooms."""


class UsageRecordRow(_Rows, table=True):
    """One finished request; `event_id` is `<request_id>:outcome`."""

    __tablename__ = "usage_records"
    __table_args__ = (
        Index(None, "account_id", "event_id"),
        Index(None, "key_id", "event_id"),
    )

    event_id: str = Field(primary_key=True, sa_type=_NAME)
    account_id: str = Field(sa_type=_NAME)
    key_id: str = Field(sa_type=_NAME)
    model_id: str = Field(sa_type=_NAME)
    deployment: str = Field(sa_type=String)
    provider: str = Field(sa_type=String)
    outcome: str = Field(sa_type=String)
    finish_reason: str = Field(sa_type=String)
    prompt_token_count: int = Field(sa_type=BigInteger)
    completion_token_count: int = Field(sa_type=BigInteger)
    cached_prompt_token_count: int = Field(sa_type=BigInteger)
    reasoning_token_count: int = Field(sa_type=BigInteger)
    usage_source: int = Field(sa_type=Integer)
    charge_nusd: int = Field(sa_type=BigInteger)
    start_unix_ms: int = Field(sa_type=BigInteger)
    duration_ms: int = Field(sa_type=BigInteger)
    ttft_ms: int = Field(sa_type=BigInteger)
    is_streaming: bool
    attempt_count: int = Field(sa_type=Integer)
    stream_seq: int = Field(sa_type=BigInteger)


class UsageExtraRow(_Rows, table=True):
    """What few requests have, by the record's event id; the others have no row here."""

    __tablename__ = "usage_extras"
    __table_args__ = (Index(None, "episode_id", "event_id"), _CLUSTERED)

    event_id: str = Field(primary_key=True, sa_type=_NAME)
    unit: str = Field(sa_type=String)
    unit_count: int = Field(sa_type=BigInteger)
    refund_nusd: int = Field(sa_type=BigInteger)
    episode_id: str = Field(sa_type=_NAME)
    is_byok: int = Field(sa_type=Integer, sa_column_kwargs={"server_default": "0"})


class UsageHourRow(_Rows, table=True):
    """The sums of the records that started in one hour."""

    __tablename__ = "usage_hours"
    __table_args__ = (Index(None, "account_id", "hour_unix_ms"), _CLUSTERED)

    hour_unix_ms: int = Field(
        primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    account_id: str = Field(primary_key=True, sa_type=_NAME)
    key_id: str = Field(primary_key=True, sa_type=_NAME)
    model_id: str = Field(primary_key=True, sa_type=_NAME)
    request_count: int = Field(sa_type=BigInteger)
    prompt_token_count: int = Field(sa_type=BigInteger)
    completion_token_count: int = Field(sa_type=BigInteger)
    charge_nusd: int = Field(sa_type=BigInteger)


class StreamPositionRow(_Rows, table=True):
    """How far a stream is stored without a gap, and a JSON list of what is stored ahead."""

    __tablename__ = "stream_position"

    stream: str = Field(primary_key=True, sa_type=String)
    applied_seq: int = Field(sa_type=BigInteger)
    ahead: str = Field(sa_type=Text)


class DeadLetterRow(_Rows, table=True):
    """What could not be stored; `position` is the event's in its batch, -1 for the whole."""

    __tablename__ = "dead_letters"

    stream_seq: int = Field(
        primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    position: int = Field(
        primary_key=True, sa_type=Integer, sa_column_kwargs={"autoincrement": False}
    )
    reason: str = Field(sa_type=String)
    data: bytes = Field(sa_type=LargeBinary)
    unix_ms: int = Field(sa_type=BigInteger)


class RouteDecisionRow(_Rows, table=True):
    """How a route was chosen, by the record's event id: a `turnpike.router.v1.Decision`."""

    __tablename__ = "route_decisions"
    __table_args__ = (_CLUSTERED,)

    event_id: str = Field(primary_key=True, sa_type=_NAME)
    data: bytes = Field(sa_type=LargeBinary)


class RouteSnapshotRow(_Rows, table=True):
    """What routes were chosen from: a `turnpike.router.v1.Snapshot`."""

    __tablename__ = "route_snapshots"

    snapshot_id: str = Field(primary_key=True, sa_type=_NAME)
    data: bytes = Field(sa_type=LargeBinary)


USAGE_RECORDS: Final = METADATA.tables["usage_records"]
USAGE_EXTRAS: Final = METADATA.tables["usage_extras"]
USAGE_HOURS: Final = METADATA.tables["usage_hours"]
STREAM_POSITION: Final = METADATA.tables["stream_position"]
DEAD_LETTERS: Final = METADATA.tables["dead_letters"]
ROUTE_DECISIONS: Final = METADATA.tables["route_decisions"]
ROUTE_SNAPSHOTS: Final = METADATA.tables["route_snapshots"]
