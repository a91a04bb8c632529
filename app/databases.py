"""The rooms' databases: which there are, and how they come into form."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, MetaData

from app.settings import Settings
from app.settings_report import shown_url
from kit.db import Database, open_database, upgrade

_TABLES: Final = {
    "auth": "services.auth.store",
    "metering": "services.metering.store",
    "payment": "services.payment.store_tables",
}


@dataclass(frozen=True, slots=True)
class RoomDatabase:
    """One room's database and what forms it."""

    room: str
    url: str

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.url.startswith("sqlite")

    @property
    def is_missing(self) -> bool:
        """Whether it is a file that is not there yet."""
        return self.is_sqlite and not Path(self.url.partition(":///")[2]).exists()

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return shown_url(self.url)

    def migrations(self) -> Path:
        """Return the folder of the room's alembic scripts."""
        found: Path = importlib.import_module(f"services.{self.room}.room").MIGRATIONS
        return found

    def metadata(self) -> MetaData:
        """Return the tables as the room's code sees them."""
        found: MetaData = importlib.import_module(_TABLES[self.room]).METADATA
        return found


def room_databases(settings: Settings) -> dict[str, RoomDatabase]:
    """Return the databases by room."""
    return {room: RoomDatabase(room, getattr(settings, room).database_url) for room in _TABLES}


async def upgrade_database(database: RoomDatabase) -> None:
    """Bring a database to the newest form."""
    await upgrade(database.url, database.migrations(), database.metadata())


async def is_current(database: RoomDatabase) -> bool:
    """Return whether a database has the newest form; it is read only."""
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - slow to import
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    def heads(connection: Connection) -> set[str]:
        return set(MigrationContext.configure(connection).get_current_heads())

    newest = set(ScriptDirectory(str(database.migrations())).get_heads())
    async with open_database(database.url) as opened, opened.read() as connection:
        return newest == await connection.run_sync(heads)


@asynccontextmanager
async def open_room_database(settings: Settings, room: str) -> AsyncIterator[Database]:
    """Open a room's database, brought to the newest form first where the settings say so."""
    found = room_databases(settings)[room]
    is_wanted = settings.db.auto_upgrade
    if found.is_sqlite if is_wanted is None else is_wanted:
        await upgrade_database(found)
    async with open_database(found.url) as database:
        yield database
