"""What every `Bus` does, on the one in memory and on the one on a real nats-server."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from kit.bus.memory import MemoryBus
from kit.bus.nats import open_nats_bus
from kit.bus.port import Bus, BusUnavailableError, Consumer, StreamSpec

OpenBus = Callable[[], AbstractAsyncContextManager[Bus]]


@pytest.fixture(params=["memory", "nats"])
def open_bus(request: pytest.FixtureRequest) -> OpenBus:
    """A maker of connections to one and the same bus."""
    if request.param == "nats":
        url: str = request.getfixturevalue("nats_url")
        return lambda: open_nats_bus(url, name="test")
    bus = MemoryBus()

    @asynccontextmanager
    async def again() -> AsyncIterator[Bus]:
        yield bus

    return again


@pytest.fixture
async def bus(open_bus: OpenBus) -> AsyncIterator[Bus]:
    async with open_bus() as opened:
        yield opened


@pytest.fixture
def stream() -> StreamSpec:
    word = secrets.token_hex(6)
    return StreamSpec(f"S{word}", (f"s.{word}.>",), bytes_max=1_000_000)


def subject_of(stream: StreamSpec, last: str = "a") -> str:
    return stream.subjects[0].replace(">", last)


async def fill(bus: Bus, stream: StreamSpec, count: int) -> list[bytes]:
    """Publish `count` messages and return their bodies in order."""
    bodies = [f"m{index}".encode() for index in range(count)]
    for body in bodies:
        await bus.publish_durable(subject_of(stream), body, message_id=body.decode())
    return bodies


async def read(consumer: Consumer, count: int, *, wait_s: float = 5.0) -> list[bytes]:
    """Fetch and acknowledge until `count` messages came or a fetch came back empty."""
    bodies: list[bytes] = []
    while len(bodies) < count:
        deliveries = await consumer.fetch(count_max=count - len(bodies), wait_s=wait_s)
        if not deliveries:
            break
        for delivery in deliveries:
            bodies.append(delivery.data)
            await delivery.ack()
    return bodies


async def test_subscriber_gets_light_messages_in_order(bus: Bus, stream: StreamSpec) -> None:
    bodies = [f"m{index}".encode() for index in range(20)]

    async with bus.subscribe("light." + stream.name) as messages:
        for body in bodies:
            await bus.publish("light." + stream.name, body)
        got = [await anext(messages) for _ in bodies]

    assert bodies == got


async def test_subscription_with_wildcards_takes_matching_subjects_only(
    bus: Bus, stream: StreamSpec
) -> None:
    word = stream.name

    async with bus.subscribe(f"{word}.*.x") as one, bus.subscribe(f"{word}.>") as many:
        for subject in ("a.y", "a.x", "a.b.x", "b.x"):
            await bus.publish(f"{word}.{subject}", subject.encode())
        got_one = [await anext(one) for _ in range(2)]
        got_many = [await anext(many) for _ in range(4)]

    assert [b"a.x", b"b.x"] == got_one
    assert [b"a.y", b"a.x", b"a.b.x", b"b.x"] == got_many


async def test_light_message_without_listener_is_gone(bus: Bus, stream: StreamSpec) -> None:
    await bus.publish("light." + stream.name, b"early")

    async with bus.subscribe("light." + stream.name) as messages:
        await bus.publish("light." + stream.name, b"late")
        got = await anext(messages)

    assert b"late" == got


async def test_subscriber_hears_durable_messages_too(bus: Bus, stream: StreamSpec) -> None:
    await bus.ensure_stream(stream)

    async with bus.subscribe(stream.subjects[0]) as messages:
        await bus.publish_durable(subject_of(stream), b"kept", message_id="1")
        got = await anext(messages)

    assert b"kept" == got


async def test_durable_messages_get_gapless_positions(bus: Bus, stream: StreamSpec) -> None:
    await bus.ensure_stream(stream)

    positions = [
        await bus.publish_durable(subject_of(stream), b"x", message_id=f"id-{index}")
        for index in range(5)
    ]

    assert [1, 2, 3, 4, 5] == positions


async def test_repeated_message_id_is_stored_once(bus: Bus, stream: StreamSpec) -> None:
    await bus.ensure_stream(stream)

    first = await bus.publish_durable(subject_of(stream), b"x", message_id="same")
    again = await bus.publish_durable(subject_of(stream), b"x", message_id="same")
    other = await bus.publish_durable(subject_of(stream), b"y", message_id="other")

    assert (1, 1, 2) == (first, again, other)


async def test_durable_message_without_stream_is_refused(bus: Bus, stream: StreamSpec) -> None:
    with pytest.raises(BusUnavailableError):
        await bus.publish_durable(subject_of(stream), b"x", message_id="1")


async def test_full_stream_refuses_with_the_reason(bus: Bus, stream: StreamSpec) -> None:
    small = StreamSpec(stream.name, stream.subjects, bytes_max=4_096)
    await bus.ensure_stream(small)
    await bus.publish_durable(subject_of(small), bytes(3_000), message_id="1")

    with pytest.raises(BusUnavailableError, match="maximum bytes exceeded"):
        await bus.publish_durable(subject_of(small), bytes(3_000), message_id="2")


async def test_stream_is_made_once_and_then_brought_to_its_new_form(
    bus: Bus, stream: StreamSpec
) -> None:
    more = StreamSpec(stream.name, (*stream.subjects, "more." + stream.name), bytes_max=2_000_000)

    await bus.ensure_stream(stream)
    await bus.ensure_stream(stream)
    await bus.ensure_stream(more)
    position = await bus.publish_durable("more." + stream.name, b"x", message_id="1")

    assert 1 == position


async def test_consumer_gets_everything_in_order_and_nothing_twice(
    bus: Bus, stream: StreamSpec
) -> None:
    async with bus.consume(stream, durable="one") as consumer:
        bodies = await fill(bus, stream, 30)

        got = await read(consumer, 30)

        assert bodies == got
        assert [] == await consumer.fetch(count_max=10, wait_s=0.1)


async def test_delivery_tells_subject_position_and_count(bus: Bus, stream: StreamSpec) -> None:
    async with bus.consume(stream, durable="one") as consumer:
        await bus.publish_durable(subject_of(stream, "x"), b"x", message_id="1")
        await bus.publish_durable(subject_of(stream, "y.z"), b"yz", message_id="2")

        got = [
            *(await consumer.fetch(count_max=1, wait_s=5.0)),
            *(await consumer.fetch(count_max=1, wait_s=5.0)),
        ]

    told = [(d.subject, d.data, d.stream_seq, d.delivery_count) for d in got]
    assert [
        (subject_of(stream, "x"), b"x", 1, 1),
        (subject_of(stream, "y.z"), b"yz", 2, 1),
    ] == told


async def test_message_comes_again_after_nak(bus: Bus, stream: StreamSpec) -> None:
    async with bus.consume(stream, durable="one") as consumer:
        await fill(bus, stream, 1)
        (first,) = await consumer.fetch(count_max=1, wait_s=5.0)
        await first.nak(0.0)

        (again,) = await consumer.fetch(count_max=1, wait_s=5.0)

        assert (first.data, 1, 2) == (again.data, first.delivery_count, again.delivery_count)


async def test_message_comes_again_only_after_the_delay_of_its_nak(
    bus: Bus, stream: StreamSpec
) -> None:
    async with bus.consume(stream, durable="one") as consumer:
        await fill(bus, stream, 2)
        (first,) = await consumer.fetch(count_max=1, wait_s=5.0)
        await first.nak(0.3)

        bodies = await read(consumer, 2)

        assert [b"m1", b"m0"] == bodies


async def test_terminated_message_does_not_come_again(bus: Bus, stream: StreamSpec) -> None:
    async with bus.consume(stream, durable="one") as consumer:
        await fill(bus, stream, 2)
        first, second = await fetch_exactly(consumer, 2)
        await first.term()
        await second.nak(0.0)

        assert [second.data] == await read(consumer, 1)
        assert [] == await consumer.fetch(count_max=10, wait_s=0.1)


async def test_two_durables_each_get_everything(bus: Bus, stream: StreamSpec) -> None:
    async with (
        bus.consume(stream, durable="one") as one,
        bus.consume(stream, durable="two") as two,
    ):
        bodies = await fill(bus, stream, 10)

        assert bodies == await read(one, 10)
        assert bodies == await read(two, 10)


async def test_two_readers_of_one_durable_share_the_messages(bus: Bus, stream: StreamSpec) -> None:
    async with (
        bus.consume(stream, durable="one") as left,
        bus.consume(stream, durable="one") as right,
    ):
        bodies = await fill(bus, stream, 10)

        got = await read(left, 4) + await read(right, 6)

        assert bodies == got
        assert [] == await left.fetch(count_max=10, wait_s=0.1)


async def test_two_waiting_readers_of_one_durable_are_both_served(
    bus: Bus, stream: StreamSpec
) -> None:
    async with (
        bus.consume(stream, durable="one") as left,
        bus.consume(stream, durable="one") as right,
        asyncio.TaskGroup() as group,
    ):
        readers = [group.create_task(read(reader, 1)) for reader in (left, right)]
        bodies = await fill(bus, stream, 2)
        got = [await reader for reader in readers]

    assert bodies == sorted(body for one in got for body in one)


async def test_position_survives_reopening(open_bus: OpenBus, stream: StreamSpec) -> None:
    async with open_bus() as bus, bus.consume(stream, durable="one") as consumer:
        bodies = await fill(bus, stream, 6)
        first = await read(consumer, 3)

    async with open_bus() as bus, bus.consume(stream, durable="one") as consumer:
        rest = await read(consumer, 3)
        after = await consumer.fetch(count_max=10, wait_s=0.1)

    assert (bodies[:3], bodies[3:], 0) == (first, rest, len(after))


async def test_fetch_returns_with_the_first_message_and_not_with_a_full_batch(
    bus: Bus, stream: StreamSpec
) -> None:
    async with bus.consume(stream, durable="one") as consumer, asyncio.TaskGroup() as group:
        waiting = group.create_task(_first(consumer, wait_s=600.0))
        await fill(bus, stream, 1)

        # The test's own deadline is far below the fetch's.
        assert b"m0" == await waiting


async def test_fetch_comes_back_empty_when_nothing_comes(bus: Bus, stream: StreamSpec) -> None:
    async with bus.consume(stream, durable="one") as consumer:
        assert [] == await consumer.fetch(count_max=10, wait_s=0.1)
        assert [] == await consumer.fetch(count_max=10, wait_s=0.0)


async def test_fetch_without_waiting_returns_what_is_there(bus: Bus, stream: StreamSpec) -> None:
    async with bus.consume(stream, durable="one") as consumer:
        await fill(bus, stream, 3)

        assert 3 == len(await fetch_exactly(consumer, 3))


async def test_fetch_takes_no_more_than_asked_for(bus: Bus, stream: StreamSpec) -> None:
    async with bus.consume(stream, durable="one") as consumer:
        await fill(bus, stream, 5)

        assert 2 == len(await fetch_exactly(consumer, 2))
        assert 3 == len(await fetch_exactly(consumer, 3))


async def fetch_exactly(consumer: Consumer, count: int) -> list:  # type: ignore[type-arg]
    """Fetch until `count` deliveries came, never asking for more than are missing."""
    deliveries: list = []  # type: ignore[type-arg]
    while len(deliveries) < count:
        got = await consumer.fetch(count_max=count - len(deliveries), wait_s=5.0)
        assert 0 < len(got) <= count - len(deliveries)
        deliveries.extend(got)
    return deliveries


async def _first(consumer: Consumer, *, wait_s: float) -> bytes:
    (delivery,) = await consumer.fetch(count_max=100, wait_s=wait_s)
    await delivery.ack()
    return delivery.data
