"""Units, refunds and episodes on both engines: stored once, listed and summed."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from services.metering.room import MIGRATIONS
from services.metering.tables import METADATA, USAGE_EXTRAS
from tests.fixtures.migrated import migrate
from tests.unit.metering.events import batch, outcome, request_id
from tests.unit.metering.rooms import Room, opened
from turnpike.events.v1.events_pb2 import UsageEvent

REFUNDED = outcome(2, refund_nusd=1_002, outcome=UsageEvent.OUTCOME_INVALID_OUTPUT)
SOLD_BY_UNITS = outcome(3, price={"unit": "second"}, usage={"unit_count": 61}, episode_id="e-1")


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    await migrate(database_url, MIGRATIONS, METADATA)
    async with opened(database_url) as room:
        await room.publish(batch(outcome(1), REFUNDED, SOLD_BY_UNITS, outcome(4, episode_id="e-2")))
        await room.settled()
        yield room


async def test_listing_shows_units_refunds_and_episodes(room: Room) -> None:
    found = {record.request_id: record for record in await room.records()}

    plain, refunded, by_units = (found[request_id(number)] for number in (1, 2, 3))
    assert ("", 0, 0, "") == (
        plain.unit, plain.usage.unit_count, plain.refund_nusd, plain.episode_id
    )  # fmt: skip
    assert ("invalid_output", 1_002, 1_002) == (
        refunded.outcome, refunded.charge_nusd, refunded.refund_nusd
    )  # fmt: skip
    assert ("second", 61, "e-1") == (by_units.unit, by_units.usage.unit_count, by_units.episode_id)


async def test_listing_tells_which_requests_went_with_an_own_key(room: Room) -> None:
    await room.publish(batch(outcome(6, is_byok=True)))
    await room.settled()

    found = {record.request_id: record.is_byok for record in await room.records()}

    assert {request_id(6)} == {name for name, is_byok in found.items() if is_byok}
    assert 5 == len(found)


async def test_listing_of_one_episode_has_nothing_else(room: Room) -> None:
    (record,) = await room.records(episode_id="e-1")

    assert request_id(3) == record.request_id
    assert [] == await room.records(episode_id="e-3")


async def test_sums_have_refunds_taken_off_and_charges_name_them(room: Room) -> None:
    charged = sum(summary.charge_nusd for summary in await room.summaries())
    charges = {charge.event_id: charge for charge in await room.charges()}

    assert 1_001 + 0 + 1_003 + 1_004 == charged
    assert [0, 1_002, 0, 0] == [
        charges[f"{request_id(number)}:outcome"].refund_nusd for number in (1, 2, 3, 4)
    ]
    assert 1_002 == charges[f"{request_id(2)}:outcome"].charge_nusd


async def test_extra_is_stored_once_and_plain_records_have_none(room: Room) -> None:
    await room.publish(batch(SOLD_BY_UNITS, outcome(5)))
    await room.settled()

    async with room.database.read() as connection:
        count = (await connection.execute(select(func.count()).select_from(USAGE_EXTRAS))).scalar()
    assert 3 == count
