"""How the ledger's transactions run: as functions over one connection, again when it broke."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kit.db import Database
from kit.db_writer import Writer, open_writer
from kit.errors import Reason, TurnpikeError
from services.payment.settings import PaymentSettings

_log = structlog.get_logger("services.payment")
_T = TypeVar("_T")
_RETRY_S: Final = 0.1
# A lost connection passes by itself; a broken rule of the books or of SQL does not.
_BROKEN: Final = (DBAPIError, OSError, PoolTimeoutError)
_RULES: Final = (IntegrityError, ProgrammingError, DataError)
# Data exception, integrity violation, syntax or access rule. Source: PostgreSQL 18, appendix A.
_RULE_CLASSES: Final = ("22", "23", "42")


class Reader(Protocol):
    """Runs a function over a connection."""

    async def __call__(self, work: Callable[[Connection], _T]) -> _T:
        """Return what `work` returns."""


class Transactions:
    """Runs functions in transactions, again when the connection broke.

    A function may run more than once, so it must be repeatable: every write of this room is
    made so by an id that it stores.
    """

    def __init__(self, database: Database, writer: Writer, *, settings: PaymentSettings) -> None:
        self._database = database
        self._writer = writer
        self._attempts_max = settings.database_attempts_max
        self._deadline_s = settings.database_s

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in a transaction that commits when it returns.

        Raises:
            TurnpikeError: LEDGER_UNAVAILABLE; it may or may not have been committed.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._write(work)
        except TimeoutError as error:
            raise _unavailable() from error

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on one consistent snapshot.

        Raises:
            TurnpikeError: LEDGER_UNAVAILABLE.
        """
        async with self.snapshot() as run:
            return await run(work)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        """Open one snapshot that several functions read.

        Raises:
            TurnpikeError: LEDGER_UNAVAILABLE.
        """
        try:
            async with self._database.read() as connection:

                async def run(work: Callable[[Connection], _T]) -> _T:
                    async with asyncio.timeout(self._deadline_s):
                        return await connection.run_sync(work)

                yield run
        except _BROKEN as error:
            if _is_rule(error):
                raise
            raise _unavailable() from error

    async def _write(self, work: Callable[[Connection], _T]) -> _T:
        attempt = 1
        while True:
            try:
                return await self._writer(work)
            except _BROKEN as error:
                if _is_rule(error):
                    raise
                _log.warning("ledger_write_failed", attempt=attempt, error=type(error).__name__)
                if attempt == self._attempts_max:
                    raise _unavailable() from error
            await asyncio.sleep(_RETRY_S * attempt)
            attempt += 1


@asynccontextmanager
async def open_transactions(
    database: Database, *, settings: PaymentSettings
) -> AsyncIterator[Transactions]:
    """Open what runs the room's transactions on an open, migrated database."""
    async with open_writer(database, name="ledger") as writer:
        yield Transactions(database, writer, settings=settings)


def _is_rule(error: Exception) -> bool:
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return isinstance(error, _RULES) or state.startswith(_RULE_CLASSES)


def _unavailable() -> TurnpikeError:
    return TurnpikeError(Reason.LEDGER_UNAVAILABLE, "The ledger cannot be reached; try again.")
