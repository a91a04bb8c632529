"""The rooms' databases: which there are, and how they come into form."""

import ast
import importlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, MetaData, inspect, text

from app.settings import Settings
from app.settings_report import shown_url
from kit.db import Database, open_database, upgrade

_TABLES: Final = {
    "auth": "services.auth.store",
    "metering": "services.metering.store",
    "payment": "services.payment.store_tables",
    "router": "services.router.store_tables",
}
_REVISIONS: Final = "alembic_version"
_LINK: Final = re.compile(r"^(revision|down_revision)\b[^=\n]*=(.+)$", re.MULTILINE)


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

    def newest(self) -> set[str]:
        """Return the revisions that nothing comes after, as the scripts name them.

        Read without alembic, which costs 9 MiB and is of use only when there is something to do.
        """
        made: set[str] = set()
        passed: set[str] = set()
        for path in (self.migrations() / "versions").glob("*.py"):
            links = {name: ast.literal_eval(value) for name, value in _links(path)}
            made.add(links["revision"])
            below = links["down_revision"] or ()
            passed |= {below} if isinstance(below, str) else set(below)
        return made - passed

    def metadata(self) -> MetaData:
        """Return the tables as the room's code sees them."""
        found: MetaData = importlib.import_module(_TABLES[self.room]).METADATA
        return found


def room_databases(settings: Settings) -> dict[str, RoomDatabase]:
    """Return the databases by room; one whose URL is empty is not wanted."""
    urls = {room: getattr(settings, room).database_url for room in _TABLES}
    return {room: RoomDatabase(room, url) for room, url in urls.items() if url}


async def upgrade_database(database: RoomDatabase) -> None:
    """Bring a database to the newest form."""
    await upgrade(database.url, database.migrations(), database.metadata())


async def is_current(database: RoomDatabase) -> bool:
    """Return whether a database has the newest form; it is read only."""
    async with open_database(database.url) as opened, opened.read() as connection:
        return database.newest() == await connection.run_sync(_revisions)


@asynccontextmanager
async def open_room_database(settings: Settings, room: str) -> AsyncIterator[Database]:
    """Open a room's database, brought to the newest form first where the settings say so."""
    found = room_databases(settings)[room]
    is_wanted = settings.db.auto_upgrade
    if is_wanted is None:
        is_wanted = found.is_sqlite
    if is_wanted and (found.is_missing or not await is_current(found)):
        await upgrade_database(found)
    async with open_database(found.url) as database:
        yield database


def _revisions(connection: Connection) -> set[str]:
    if not inspect(connection).has_table(_REVISIONS):
        return set()
    return set(connection.scalars(text(f"SELECT version_num FROM {_REVISIONS}")))  # noqa: S608


def _links(path: Path) -> list[tuple[str, str]]:
    return _LINK.findall(path.read_text())
