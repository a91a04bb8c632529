"""A room's database: SQLite by default, PostgreSQL by URL, and its migrations.

`Database.write` is a transaction that may change things, `Database.read` one consistent snapshot.
SQL itself lives in each room's `store.py`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, MetaData, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

_SQLITE_BUSY_TIMEOUT_MS: Final = 10_000
_SQLITE_CACHE_KIB: Final = 512
SQLITE_OPTIONS: Final = {"cached_statements": 32}
"""For the driver. A statement holds up to 100 KiB, and each size of a batch is one of its own."""
_POSTGRES_STATEMENT_TIMEOUT_MS: Final = 10_000
_READ: Final = "turnpike_read"


class Database:
    """An engine with two kinds of transaction."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite; the few statements that differ ask this."""
        return self._engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits at the end and rolls back on an error.

        On SQLite it holds the write lock from the start.
        """
        async with self._engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a read-only snapshot: every statement in it sees the same state."""
        async with self._engine.connect() as connection:
            if self.is_sqlite:
                connection = await connection.execution_options(**{_READ: True})  # noqa: PLW2901
            else:
                connection = await connection.execution_options(  # noqa: PLW2901
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            async with connection.begin():
                yield connection


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open a database by SQLAlchemy URL (`sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`)."""
    if url.startswith("sqlite"):
        engine = _sqlite_engine(url)
    else:
        options = {"statement_timeout": str(_POSTGRES_STATEMENT_TIMEOUT_MS)}
        engine = create_async_engine(
            url,
            pool_size=8,
            max_overflow=8,
            pool_pre_ping=True,
            connect_args={"server_settings": options},
        )
    try:
        yield Database(engine)
    finally:
        await engine.dispose()


async def upgrade(url: str, migrations: Path, metadata: MetaData, revision: str = "head") -> None:
    """Bring a database to `revision` by the alembic scripts in `migrations`."""
    async with open_database(url) as database, database.write() as connection:
        await connection.run_sync(_run_alembic, "upgrade", migrations, metadata, revision)


async def downgrade(url: str, migrations: Path, metadata: MetaData, revision: str) -> None:
    """Bring a database back to `revision`."""
    async with open_database(url) as database, database.write() as connection:
        await connection.run_sync(_run_alembic, "downgrade", migrations, metadata, revision)


def run_migrations() -> None:
    """What every room's alembic `env.py` does: run the scripts on the connection it was given."""
    from alembic import context  # noqa: PLC0415 - loaded on first use, it is slow to import

    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"],
        target_metadata=attributes["metadata"],
        render_as_batch=True,
    )
    context.run_migrations()


def _run_alembic(
    connection: Connection, verb: str, migrations: Path, metadata: MetaData, revision: str
) -> None:
    from alembic import command  # noqa: PLC0415 - loaded on first use, it is slow to import
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["metadata"] = metadata
    getattr(command, verb)(config, revision)


def set_up_sqlite(engine: Engine) -> None:
    """Give every connection of an SQLite engine our journal, and begin transactions ourselves.

    The driver would begin late and commit by itself; a write takes its lock from the start.
    """

    @event.listens_for(engine, "connect")
    def _set_up(dbapi_connection: Any, _record: object) -> None:  # noqa: ANN401 - driver object
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA cache_size={-_SQLITE_CACHE_KIB}")
        cursor.execute(f"PRAGMA busy_timeout={_SQLITE_BUSY_TIMEOUT_MS}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        is_read = connection.get_execution_options().get(_READ, False)
        connection.exec_driver_sql("BEGIN" if is_read else "BEGIN IMMEDIATE")


def _sqlite_engine(url: str) -> AsyncEngine:
    path = url.partition(":///")[2]
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url, connect_args=SQLITE_OPTIONS)
    set_up_sqlite(engine.sync_engine)
    return engine
