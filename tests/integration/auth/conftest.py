"""Fixtures: an auth room on an empty, migrated database of each engine."""

from collections.abc import AsyncIterator

import pytest

from kit.clock import ManualClock
from services.auth.room import MIGRATIONS
from services.auth.store import METADATA
from tests.fixtures.migrated import migrate
from tests.integration.auth.rooms import Room, opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def migrated_url(database_url: str) -> str:
    await migrate(database_url, MIGRATIONS, METADATA)
    return database_url


@pytest.fixture
async def room(migrated_url: str, clock: ManualClock) -> AsyncIterator[Room]:
    async with opened(migrated_url, clock) as room:
        yield room
