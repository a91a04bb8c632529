"""How routes were chosen, on both engines: kept beside the records, listed, forgotten in time."""

from collections.abc import AsyncIterator

import pytest

from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from services.metering.room import MIGRATIONS
from services.metering.tables import METADATA
from tests.fixtures.gateway import until
from tests.fixtures.migrated import migrate
from tests.unit.metering.events import MINUTE_MS, START_MS, batch, outcome, request_id
from tests.unit.metering.rooms import SETTINGS, Room, opened
from turnpike.events.v1.events_pb2 import RouteSnapshot, UsageBatch
from turnpike.metering.v1 import metering_pb2 as pb


def snapshots(*numbers: int, word: bytes = b"snapshot") -> bytes:
    """Return what follows a batch when it also has these snapshots."""
    found = [
        RouteSnapshot(snapshot_id=request_id(number), data=b"%b-%d" % (word, number))
        for number in numbers
    ]
    return UsageBatch(snapshots=found).SerializeToString()


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    await migrate(database_url, MIGRATIONS, METADATA)
    async with opened(database_url) as room:
        events = [outcome(n, decision=b"decision-%d" % n) for n in (1, 2, 4)]
        await room.publish(batch(*events, outcome(3)) + snapshots(1, 4))
        await room.settled()
        yield room


async def listed(room: Room, **wish: object) -> pb.ListRouteDecisionsResponse:
    request = pb.ListRouteDecisionsRequest(**wish)  # type: ignore[arg-type] # a test's own fields
    return await room.metering.ListRouteDecisions(request, None)  # type: ignore[arg-type] # unused


async def snapshot(room: Room, number: int) -> bytes:
    request = pb.GetRouteSnapshotRequest(snapshot_id=request_id(number))
    return (await room.metering.GetRouteSnapshot(request, None)).data  # type: ignore[arg-type] # unused


async def test_decisions_come_with_what_was_used(room: Room) -> None:
    found = (await listed(room)).decisions

    assert [request_id(n) for n in (1, 2, 4)] == [each.request_id for each in found]
    first = found[0]
    assert (b"decision-1", 11, 101, 900, 80, "completed", "triton-a", "model-1") == (
        first.data,
        first.prompt_token_count,
        first.completion_token_count,
        first.duration_ms,
        first.ttft_ms,
        first.outcome,
        first.deployment,
        first.model_id,
    )
    (only,) = (await listed(room, request_id=request_id(2))).decisions
    assert b"decision-2" == only.data
    assert not (await listed(room, request_id=request_id(3))).decisions


async def test_pages_follow_each_other(room: Room) -> None:
    one = await listed(room, page_size=2)
    other = await listed(room, page_size=2, page_token=one.next_page_token)

    assert [b"decision-1", b"decision-2"] == [each.data for each in one.decisions]
    assert [b"decision-4"] == [each.data for each in other.decisions]
    assert "" == other.next_page_token


async def test_what_was_sent_twice_is_kept_once(room: Room) -> None:
    await room.publish(batch(outcome(1, decision=b"another")) + snapshots(1, word=b"another"))
    await room.settled()

    assert b"decision-1" == (await listed(room)).decisions[0].data
    assert b"snapshot-1" == await snapshot(room, 1)


async def test_old_ones_are_forgotten_and_records_stay(room: Room, database_url: str) -> None:
    kept_ms = round(SETTINGS.decisions_kept_s * 1000)
    later = ManualClock(START_MS + 3 * MINUTE_MS + kept_ms)

    async with opened(database_url, clock=later) as another:

        async def is_forgotten() -> bool:
            return len((await listed(another)).decisions) == 1

        await until(is_forgotten)
        assert [b"decision-4"] == [each.data for each in (await listed(another)).decisions]
        assert b"snapshot-4" == await snapshot(another, 4)
        with pytest.raises(TurnpikeError) as caught:
            await snapshot(another, 1)
        assert caught.value.reason is Reason.NOT_FOUND
        assert 4 == len(await another.records())
