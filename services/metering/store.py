"""Statements of this room: records in once, their sums beside them, and pages out of both.

One transaction takes any number of deliveries. On SQLite the rows go straight to the driver, on
PostgreSQL through SQLAlchemy, which there groups rows into statements that return what was new.
"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    bindparam,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import Clock
from kit.db import Database
from kit.db_statements import Statement, sqlite_driver
from kit.db_writer import Writer
from services.metering.records import (
    WHOLE_BATCH,
    DeadLetter,
    Extra,
    Parcel,
    Record,
    open_parcels,
)
from services.metering.rollup import HourSum, advance, roll_up
from services.metering.settings import MeteringSettings
from services.metering.store_decisions import insert_decisions, insert_snapshots
from services.metering.store_errors import answering, first_id
from services.metering.store_statements import dual, once
from services.metering.tables import (
    DEAD_LETTERS,
    METADATA,
    STREAM_POSITION,
    USAGE_EXTRAS,
    USAGE_HOURS,
    USAGE_RECORDS,
)

__all__ = ["METADATA", "Applied", "Found", "FoundRow", "MeteringStore", "Wanted"]

FoundRow: TypeAlias = Row[*tuple[Any, ...]]
Found: TypeAlias = Sequence[FoundRow]
Insert: TypeAlias = sqlite.Insert | postgresql.Insert
_FAILED: Final = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)
_DATA_CLASSES: Final = ("22", "23")
_ID_SLACK_MS: Final = 3_600_000
_HOUR_KEY: Final = ("hour_unix_ms", "account_id", "key_id", "model_id")
_LAST_ROW: Final = "SELECT coalesce(max(rowid), 0) FROM usage_records"
_ROWS_SINCE: Final = "SELECT event_id FROM usage_records WHERE rowid > ?"


@dataclass(frozen=True, slots=True)
class Applied:
    """What deliveries brought; those whose positions are `unreadable` are no batches."""

    record_count: int
    duplicate_count: int
    dead_letter_count: int
    unreadable: frozenset[int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is listed: empty ids mean all, the times are Unix milliseconds from and before."""

    account_id: str = ""
    key_id: str = ""
    model_id: str = ""
    episode_id: str = ""
    start_unix_ms: int | None = None
    end_unix_ms: int | None = None


class MeteringStore:
    """Keeps what was used. Every method raises UNAVAILABLE when the database does not answer."""

    def __init__(
        self,
        database: Database,
        write: Writer,
        *,
        stream: str,
        settings: MeteringSettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._write = write
        self._stream = stream
        self._settings = settings
        self._clock = clock

    async def apply(self, parcels: Sequence[Parcel]) -> Applied:
        """Store deliveries, given in stream order, in one transaction.

        It may have been committed although it raises; what was stored before is not stored again.
        """
        work = partial(_apply, parcels=parcels, stream=self._stream, now_ms=self._clock.unix_ms())
        async with answering(self._settings.write_s):
            return await self._write(work)

    async def bury(self, parcel: Parcel, *, reason: str) -> None:
        """Keep a delivery that could not be stored as a dead letter and count it as applied."""
        letter = DeadLetter(parcel.stream_seq, WHOLE_BATCH, reason, parcel.data)

        def work(connection: Connection) -> None:
            _bury(connection, [letter], now_ms=self._clock.unix_ms())
            _advance(connection, self._stream, [parcel.stream_seq])

        async with answering(self._settings.write_s):
            await self._write(work)

    async def records(self, wanted: Wanted, *, before: str, count_max: int) -> Found:
        """Return records by event id, newest first, those that follow `before`; empty is the top.

        A request id is a UUIDv7 and so begins with its time; that bounds what is read for a span
        of time. Source: RFC 9562, section 5.7.
        """
        table = USAGE_RECORDS.c
        page = (
            select(USAGE_RECORDS, *_EXTRA_COLUMNS)
            .outerjoin(USAGE_EXTRAS, USAGE_EXTRAS.c.event_id == table.event_id)
            .where(*_conditions(USAGE_RECORDS, "start_unix_ms", wanted))
            .order_by(table.event_id.desc())
            .limit(count_max)
        )
        if wanted.episode_id:
            page = page.where(USAGE_EXTRAS.c.episode_id == wanted.episode_id)
        if before:
            page = page.where(table.event_id < before)
        if wanted.start_unix_ms is not None:
            page = page.where(table.event_id >= first_id(wanted.start_unix_ms - _ID_SLACK_MS))
        if wanted.end_unix_ms is not None:
            page = page.where(table.event_id < first_id(wanted.end_unix_ms + _ID_SLACK_MS))
        async with self._read() as connection:
            return (await connection.execute(page)).all()

    async def sums(
        self, wanted: Wanted, *, before: tuple[int, str, str, str] | None, count_max: int
    ) -> Found:
        """Return sums, newest hour first, those that follow `before` (hour, account, key, model).

        Ids within an hour go from the last to the first, so that an index gives the order.
        """
        columns = [USAGE_HOURS.c[name] for name in _HOUR_KEY]
        page = (
            select(USAGE_HOURS)
            .where(*_conditions(USAGE_HOURS, "hour_unix_ms", wanted))
            .order_by(*(column.desc() for column in columns))
            .limit(count_max)
        )
        if before is not None:
            page = page.where(tuple_(*columns) < before)
        async with self._read() as connection:
            return (await connection.execute(page)).all()

    async def charges(
        self, *, after: str, stream_seq_max: int, count_max: int
    ) -> tuple[Found, int]:
        """Return charges by event id, those that follow `after`, and the applied position.

        A `stream_seq_max` of 0 means all.
        """
        table = USAGE_RECORDS.c
        page = (
            select(
                table.event_id,
                table.account_id,
                table.charge_nusd,
                table.stream_seq,
                USAGE_EXTRAS.c.refund_nusd,
            )
            .outerjoin(USAGE_EXTRAS, USAGE_EXTRAS.c.event_id == table.event_id)
            .where(table.event_id > after)
            .order_by(table.event_id)
            .limit(count_max)
        )
        if stream_seq_max:
            page = page.where(table.stream_seq <= stream_seq_max)
        async with self._read() as connection:
            rows = (await connection.execute(page)).all()
            position = await connection.execute(_position(self._stream))
            applied: int = position.scalar() or 0
        return rows, applied

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        async with answering(self._settings.query_s), self._database.read() as connection:
            yield connection


def _apply(
    connection: Connection, *, parcels: Sequence[Parcel], stream: str, now_ms: int
) -> Applied:
    opened = open_parcels(parcels)
    new = _insert_new(connection, opened.records) if opened.records else []
    if new:
        _ADD.run_all(connection, roll_up(new, opened.extras))
        _insert_extras(connection, new, opened.extras)
        insert_decisions(connection, new, opened.decisions)
    insert_snapshots(connection, opened.snapshots)
    _bury(connection, opened.dead_letters, now_ms=now_ms)
    _advance(connection, stream, (parcel.stream_seq for parcel in parcels))
    return Applied(
        record_count=len(new),
        duplicate_count=len(opened.records) - len(new),
        dead_letter_count=len(opened.dead_letters),
        unreadable=frozenset(opened.unreadable),
    )


def _insert_new(connection: Connection, records: Mapping[str, Record]) -> list[Record]:
    # Sorted, so that two writers with the same events never wait for each other in a circle.
    rows = [records[event_id] for event_id in sorted(records)]
    if (driver := sqlite_driver(connection)) is not None:
        ((last,),) = driver.execute(_LAST_ROW).fetchall()
        if _INSERT.run_on_sqlite(driver, rows) == len(rows):
            return rows
        new = {event_id for (event_id,) in driver.execute(_ROWS_SINCE, (last,))}
    else:
        named = [{**row._asdict(), "is_streaming": bool(row.is_streaming)} for row in rows]
        new = set(connection.execute(_INSERT_POSTGRES, named).scalars())
    return [row for row in rows if row.event_id in new]


def _insert_extras(
    connection: Connection, new: Iterable[Record], extras: Mapping[str, Extra]
) -> None:
    if extras:
        rows = [extras[record.event_id] for record in new if record.event_id in extras]
        _INSERT_EXTRAS.run_all(connection, rows)


def _bury(connection: Connection, letters: Iterable[DeadLetter], *, now_ms: int) -> None:
    rows = [(*astuple(letter), now_ms) for letter in letters]
    _BURY.run_all(connection, rows)


def _advance(connection: Connection, stream: str, seqs: Iterable[int]) -> None:
    seqs = sorted(set(seqs))
    first, last = seqs[0], seqs[-1]
    is_gapless = last - first + 1 == len(seqs)
    # Nearly always deliveries follow those before: one statement, no look at what is there.
    if is_gapless and _STEP.run(connection, last, stream, first - 1) == 1:
        return
    row = connection.execute(_position(stream).with_for_update()).one_or_none()
    if row is None:
        # The stream may have lost its oldest messages before this room read it for the first time.
        start = _insert(connection.dialect.name, STREAM_POSITION)
        values = {"stream": stream, "applied_seq": first - 1, "ahead": "[]"}
        connection.execute(once(start), values)
        row = connection.execute(_position(stream).with_for_update()).one()
    applied, ahead = advance(row.applied_seq, json.loads(row.ahead), seqs)
    connection.execute(
        update(STREAM_POSITION).where(STREAM_POSITION.c.stream == stream),
        {"applied_seq": applied, "ahead": json.dumps(ahead)},
    )


def _position(stream: str) -> Any:  # noqa: ANN401 - the type of a select depends on its columns
    table = STREAM_POSITION.c
    return select(table.applied_seq, table.ahead).where(table.stream == stream)


def _conditions(table: Table, time_name: str, wanted: Wanted) -> list[ColumnElement[bool]]:
    moment = table.c[time_name]
    conditions = [
        table.c[name] == value
        for name in ("account_id", "key_id", "model_id")
        if (value := getattr(wanted, name))
    ]
    if wanted.start_unix_ms is not None:
        conditions.append(moment >= wanted.start_unix_ms)
    if wanted.end_unix_ms is not None:
        conditions.append(moment < wanted.end_unix_ms)
    return conditions


def _insert(dialect: str, table: Table) -> Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _adding(insert: Insert) -> Insert:
    sums = [name for name in HourSum._fields if name not in _HOUR_KEY]
    added = {name: USAGE_HOURS.c[name] + insert.excluded[name] for name in sums}
    return insert.on_conflict_do_update(index_elements=_HOUR_KEY, set_=added)


_STEP: Final = Statement(
    update(STREAM_POSITION)
    .where(
        STREAM_POSITION.c.stream == bindparam("name"),
        STREAM_POSITION.c.applied_seq == bindparam("before"),
        STREAM_POSITION.c.ahead == literal_column("'[]'"),
    )
    .values(applied_seq=bindparam("last")),
    "last",
    "name",
    "before",
)
_INSERT: Final = dual(USAGE_RECORDS, once)
_INSERT_POSTGRES: Final = once(postgresql.insert(USAGE_RECORDS)).returning(USAGE_RECORDS.c.event_id)
_INSERT_EXTRAS: Final = dual(USAGE_EXTRAS, once)
_EXTRA_COLUMNS: Final = [column for column in USAGE_EXTRAS.c if not column.primary_key]
_ADD: Final = dual(USAGE_HOURS, _adding)
_BURY: Final = dual(DEAD_LETTERS, once)
