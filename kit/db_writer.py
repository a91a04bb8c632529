"""Writing transactions that cost little: each is one plain function over one connection.

On SQLite it runs in a thread of its own on the standard library's driver, one hop for the whole
transaction where the async driver takes one for each statement. On PostgreSQL it runs on asyncpg.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from kit.db import SQLITE_OPTIONS, Database, set_up_sqlite

T = TypeVar("T")


class Writer(Protocol):
    """Runs a function in a transaction that commits when the function returns."""

    async def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Return what `work` returns; it was committed."""


@asynccontextmanager
async def open_writer(database: Database, *, name: str) -> AsyncIterator[Writer]:
    """Open the writer of an open, migrated database; `name` is its thread's, on SQLite."""
    if not database.is_sqlite:
        yield _on_asyncpg(database)
        return
    async with database.read() as connection:
        url = connection.engine.url
    engine = _sqlite_engine(url.set(drivername="sqlite").render_as_string(hide_password=False))
    threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    try:
        # One connection for good: to take one for each transaction costs more than its statements.
        kept = await asyncio.get_running_loop().run_in_executor(threads, engine.connect)
        yield _in_thread(kept, threads)
    finally:
        await asyncio.to_thread(threads.shutdown)
        engine.dispose()


def _on_asyncpg(database: Database) -> Writer:
    async def write(work: Callable[[Connection], T], /) -> T:
        async with database.write() as connection:
            return await connection.run_sync(work)

    return write


def _in_thread(kept: Connection, threads: ThreadPoolExecutor) -> Writer:
    def transact(work: Callable[[Connection], T]) -> T:
        try:
            with kept.begin():
                return work(kept)
        except sqlite3.Error as error:
            # A statement that went straight to the driver fails as one of SQLAlchemy's does.
            raise DBAPIError.instance(
                None, None, error, sqlite3.Error, dialect=kept.dialect
            ) from error

    async def write(work: Callable[[Connection], T], /) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, transact, work)

    return write


def _sqlite_engine(url: str) -> Engine:
    # The loop's thread closes the one connection when the thread that used it has ended.
    options = {**SQLITE_OPTIONS, "check_same_thread": False}
    engine = create_engine(url, poolclass=StaticPool, connect_args=options)
    set_up_sqlite(engine)
    return engine
