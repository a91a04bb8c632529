"""Statements about how routes were chosen: kept beside the records for some days."""

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import Connection, delete, select

from kit.clock import Clock
from kit.db import Database
from kit.db_writer import Writer
from services.metering.records import Record, RouteDecision, RouteSnapshot
from services.metering.settings import MeteringSettings
from services.metering.store_errors import answering, first_id
from services.metering.store_statements import dual, once
from services.metering.tables import ROUTE_DECISIONS, ROUTE_SNAPSHOTS, USAGE_RECORDS

_INSERT_DECISIONS: Final = dual(ROUTE_DECISIONS, once)
_INSERT_SNAPSHOTS: Final = dual(ROUTE_SNAPSHOTS, once)


def insert_decisions(
    connection: Connection, new: Iterable[Record], decisions: Mapping[str, RouteDecision]
) -> None:
    """Keep the decisions of records that are new."""
    if decisions:
        rows = [decisions[record.event_id] for record in new if record.event_id in decisions]
        _INSERT_DECISIONS.run_all(connection, rows)


def insert_snapshots(connection: Connection, snapshots: Mapping[str, RouteSnapshot]) -> None:
    """Keep snapshots."""
    if snapshots:
        # Sorted, so that two writers never wait for each other in a circle.
        _INSERT_SNAPSHOTS.run_all(connection, [snapshots[key] for key in sorted(snapshots)])


class DecisionStore:
    """Reads decisions and forgets old ones.

    Every method raises UNAVAILABLE when the database does not answer.
    """

    def __init__(
        self, database: Database, write: Writer, *, settings: MeteringSettings, clock: Clock
    ) -> None:
        self._database = database
        self._write = write
        self._settings = settings
        self._clock = clock

    async def decisions(
        self, *, event_id: str, after: str, count_max: int
    ) -> list[Mapping[str, object]]:
        """Return decisions with their records, by event id, those that follow `after`.

        An `event_id` that is not empty asks for this one alone.
        """
        table = ROUTE_DECISIONS.c
        page = (
            select(USAGE_RECORDS, table.data)
            .join(ROUTE_DECISIONS, table.event_id == USAGE_RECORDS.c.event_id)
            .where(table.event_id > after)
            .order_by(table.event_id)
            .limit(count_max)
        )
        if event_id:
            page = page.where(table.event_id == event_id)
        async with answering(self._settings.query_s), self._database.read() as connection:
            return [dict(row) for row in (await connection.execute(page)).mappings()]

    async def snapshot(self, snapshot_id: str) -> bytes | None:
        """Return a snapshot; None when it is not there, or no longer."""
        table = ROUTE_SNAPSHOTS.c
        query = select(table.data).where(table.snapshot_id == snapshot_id)
        async with answering(self._settings.query_s), self._database.read() as connection:
            found: bytes | None = (await connection.execute(query)).scalar()
        return found

    async def forget_old(self) -> None:
        """Delete what is older than it is kept; both ids begin with their time."""
        until_ms = self._clock.unix_ms() - round(self._settings.decisions_kept_s * 1000)
        before = first_id(until_ms)

        def work(connection: Connection) -> None:
            connection.execute(delete(ROUTE_DECISIONS).where(ROUTE_DECISIONS.c.event_id < before))
            connection.execute(
                delete(ROUTE_SNAPSHOTS).where(ROUTE_SNAPSHOTS.c.snapshot_id < before)
            )

        async with answering(self._settings.write_s):
            await self._write(work)
