"""What the bus in memory does by the clock, and the outage that tests play on it."""

import asyncio

import pytest

from kit.bus.limits import ACK_PENDING_MAX, ACK_WAIT_S
from kit.bus.memory import MemoryBus
from kit.bus.memory_stream import is_match
from kit.bus.port import BusUnavailableError, StreamSpec
from kit.clock import ManualClock

_STREAM = StreamSpec("S", ("s.>",), age_max_s=1_000.0, duplicate_window_s=10.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bus(clock: ManualClock) -> MemoryBus:
    return MemoryBus(clock=clock, pending_messages_max=3)


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "b.c", False),
        ("*.b.>", "a.b.c", True),
        (">", "a", True),
    ],
)
def test_subjects_match_by_token(pattern: str, subject: str, expected: bool) -> None:
    assert expected == is_match(pattern, subject)


async def test_unacknowledged_message_comes_again_after_the_ack_wait(
    bus: MemoryBus, clock: ManualClock
) -> None:
    async with bus.consume(_STREAM, durable="d") as consumer:
        await bus.publish_durable("s.a", b"x", message_id="1")
        (first,) = await consumer.fetch(count_max=10, wait_s=0.0)
        clock.advance(ACK_WAIT_S - 1.0)
        early = await consumer.fetch(count_max=10, wait_s=0.0)
        clock.advance(1.0)

        (again,) = await consumer.fetch(count_max=10, wait_s=0.0)

    assert [] == early
    assert (1, 2) == (first.delivery_count, again.delivery_count)


async def test_waiting_fetch_notices_that_the_clock_moved(
    bus: MemoryBus, clock: ManualClock
) -> None:
    async with bus.consume(_STREAM, durable="d") as consumer, asyncio.TaskGroup() as group:
        await bus.publish_durable("s.a", b"x", message_id="1")
        await consumer.fetch(count_max=1, wait_s=0.0)
        waiting = group.create_task(consumer.fetch(count_max=1, wait_s=30.0))
        clock.advance(ACK_WAIT_S)

        assert 1 == len(await waiting)


async def test_message_is_handed_out_until_it_is_dealt_with(
    bus: MemoryBus, clock: ManualClock
) -> None:
    async with bus.consume(_STREAM, durable="d") as consumer:
        await bus.publish_durable("s.a", b"x", message_id="1")
        counts: list[int] = []
        for _ in range(20):
            counts.extend(d.delivery_count for d in await consumer.fetch(count_max=1, wait_s=0.0))
            clock.advance(ACK_WAIT_S)

    assert list(range(1, 21)) == counts


async def test_no_more_is_handed_out_than_may_be_unacknowledged(bus: MemoryBus) -> None:
    async with bus.consume(_STREAM, durable="d") as consumer:
        for index in range(ACK_PENDING_MAX + 5):
            await bus.publish_durable("s.a", b"x", message_id=str(index))
        first = await consumer.fetch(count_max=2 * ACK_PENDING_MAX, wait_s=0.0)
        nothing = await consumer.fetch(count_max=10, wait_s=0.0)
        await first[0].ack()

        rest = await consumer.fetch(count_max=10, wait_s=0.0)

    assert (ACK_PENDING_MAX, 0) == (len(first), len(nothing))
    assert [ACK_PENDING_MAX + 1] == [delivery.stream_seq for delivery in rest]


async def test_id_is_forgotten_after_the_duplicate_window(
    bus: MemoryBus, clock: ManualClock
) -> None:
    await bus.ensure_stream(_STREAM)
    first = await bus.publish_durable("s.a", b"x", message_id="1")
    clock.advance(10.0)
    within = await bus.publish_durable("s.a", b"x", message_id="1")
    clock.advance(0.1)

    after = await bus.publish_durable("s.a", b"x", message_id="1")

    assert (1, 1, 2) == (first, within, after)


async def test_old_message_leaves_the_stream(bus: MemoryBus, clock: ManualClock) -> None:
    await bus.ensure_stream(_STREAM)
    await bus.publish_durable("s.a", b"old", message_id="1")
    clock.advance(1_000.1)
    await bus.publish_durable("s.a", b"new", message_id="2")

    async with bus.consume(_STREAM, durable="d") as consumer:
        got = await consumer.fetch(count_max=10, wait_s=0.0)

    assert [(2, b"new")] == [(delivery.stream_seq, delivery.data) for delivery in got]


async def test_full_subscriber_loses_the_oldest_message(bus: MemoryBus) -> None:
    async with bus.subscribe("light") as messages:
        for index in range(5):
            await bus.publish("light", b"%d" % index)

        got = [await anext(messages) for _ in range(3)]

    assert [b"2", b"3", b"4"] == got


async def test_subscription_ends_with_its_context(bus: MemoryBus) -> None:
    async with bus.subscribe("light") as messages:
        await bus.publish("light", b"unread")

    assert [] == [message async for message in messages]


async def test_during_an_outage_nothing_passes_and_afterwards_all_does(
    bus: MemoryBus, clock: ManualClock
) -> None:
    async with bus.consume(_STREAM, durable="d") as consumer, bus.subscribe("light") as messages:
        await bus.publish_durable("s.a", b"x", message_id="1")
        (taken,) = await consumer.fetch(count_max=1, wait_s=0.0)

        bus.disconnect()
        await taken.ack()
        await bus.publish("light", b"lost")
        with pytest.raises(BusUnavailableError):
            await bus.publish_durable("s.a", b"y", message_id="2")
        with pytest.raises(BusUnavailableError):
            await bus.ensure_stream(_STREAM)
        clock.advance(ACK_WAIT_S)
        away = await consumer.fetch(count_max=10, wait_s=0.0)
        was_connected = bus.is_connected

        bus.reconnect()
        again = await consumer.fetch(count_max=10, wait_s=0.0)
        await bus.publish("light", b"heard")
        heard = await anext(messages)

    assert (False, [], [b"x"]) == (was_connected, away, [d.data for d in again])
    assert (b"heard", 1) == (heard, bus.dropped_count)


async def test_waiting_fetch_is_served_when_the_outage_ends(bus: MemoryBus) -> None:
    async with bus.consume(_STREAM, durable="d") as consumer, asyncio.TaskGroup() as group:
        await bus.publish_durable("s.a", b"x", message_id="1")
        bus.disconnect()
        waiting = group.create_task(consumer.fetch(count_max=1, wait_s=30.0))
        await asyncio.sleep(0)
        bus.reconnect()

        assert 1 == len(await waiting)
