"""Whether a database has the newest form is known without alembic."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.databases import RoomDatabase, is_current, room_databases, upgrade_database
from app.settings import Settings
from kit.db import open_database
from tests.house.tree import ROOT

ROOMS = tuple(room_databases(Settings()))
START = """
import asyncio, sys
from app.databases import open_room_database
from app.settings import load_settings

async def start():
    for room in ("auth", "metering", "payment", "router"):
        async with open_room_database(settings, room):
            pass

settings = load_settings(flags={"state_dir": sys.argv[1]}).settings
asyncio.run(start())
print("alembic" in sys.modules)
"""


def database(folder: Path, room: str) -> RoomDatabase:
    return RoomDatabase(room, f"sqlite+aiosqlite:///{folder}/{room}.db")


def started_with_alembic(state_dir: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", START, str(state_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip() == "True"


@pytest.mark.parametrize("room", ROOMS)
def test_newest_revision_is_the_one_that_alembic_finds(room: str, tmp_path: Path) -> None:
    found = database(tmp_path, room)

    assert set(ScriptDirectory(str(found.migrations())).get_heads()) == found.newest()


async def test_database_is_current_from_its_upgrade_on(tmp_path: Path) -> None:
    found = database(tmp_path, "auth")

    before = await is_current(found)
    await upgrade_database(found)

    assert not before
    assert await is_current(found)


async def test_database_of_another_revision_is_not_current(tmp_path: Path) -> None:
    found = database(tmp_path, "auth")
    await upgrade_database(found)

    async with open_database(found.url) as opened, opened.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))

    assert not await is_current(found)


def test_only_a_start_that_migrates_loads_alembic(tmp_path: Path) -> None:
    first, second = started_with_alembic(tmp_path), started_with_alembic(tmp_path)

    assert first
    assert not second
