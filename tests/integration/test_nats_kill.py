"""The bus against a nats-server that dies, freezes, is away, forgets or wants a login."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kit.bus.nats import NatsBus, open_nats_bus
from kit.bus.nats_binary import find_nats_server
from kit.bus.port import Bus, BusUnavailableError, Consumer, Delivery, StreamSpec
from tests.fakes.nats_key import NatsKey
from tests.fixtures.nats import NatsServer

_STREAM = StreamSpec("USAGE", ("usage.>",), bytes_max=50_000_000)
_ROOT = Path(__file__).parents[2]

Maker = Callable[..., NatsServer]


async def eventually(predicate: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait until a state is reached."""
    async with asyncio.timeout(within_s):
        while not predicate():
            await asyncio.sleep(0.01)


async def publish_until_stored(bus: Bus, message_id: str) -> int:
    """Publish with one id until it is acknowledged."""
    while True:
        try:
            return await bus.publish_durable("usage.a", message_id.encode(), message_id=message_id)
        except BusUnavailableError:
            await asyncio.sleep(0.01)


async def drain(consumer: Consumer) -> list[Delivery]:
    """Fetch and acknowledge until nothing comes."""
    got: list[Delivery] = []
    while deliveries := await consumer.fetch(count_max=256, wait_s=0.3):
        for delivery in deliveries:
            await delivery.ack()
        got.extend(deliveries)
    return got


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[NatsBus]:
    async with open_nats_bus(url, name="test", **options) as bus:  # type: ignore[arg-type]
        yield bus


async def test_no_acknowledged_message_is_lost_or_stored_twice_when_the_server_is_killed(
    nats_server: Maker,
) -> None:
    server = nats_server()
    acknowledged: dict[str, int] = {}

    async def publisher(bus: Bus, number: int) -> None:
        for index in range(100):
            message_id = f"{number}-{index}"
            acknowledged[message_id] = await publish_until_stored(bus, message_id)

    async with opened(server.url, publish_timeout_s=0.5) as bus:
        await bus.ensure_stream(_STREAM)
        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(publisher(bus, number))
            for mark in (300, 900):
                await eventually(lambda mark=mark: len(acknowledged) >= mark)  # type: ignore[misc]
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
        async with bus.consume(_STREAM, durable="reader") as consumer:
            stored = await drain(consumer)

    counts = Counter(delivery.data.decode() for delivery in stored)
    assert set(acknowledged) == set(counts)
    assert {1} == set(counts.values())
    positions = {delivery.data.decode(): delivery.stream_seq for delivery in stored}
    assert positions == acknowledged


async def test_fetch_resumes_after_the_server_was_killed(nats_server: Maker) -> None:
    server = nats_server()

    async with (
        opened(server.url) as bus,
        bus.consume(_STREAM, durable="reader") as consumer,
        asyncio.TaskGroup() as group,
    ):
        await publish_until_stored(bus, "before")
        first = await drain(consumer)
        waiting = group.create_task(consumer.fetch(count_max=10, wait_s=30.0))
        await asyncio.to_thread(server.kill)
        await eventually(lambda: not bus.is_connected)
        assert [] == await bus_away_fetch(bus)
        await asyncio.to_thread(server.start)
        await publish_until_stored(bus, "after")
        got = await waiting

    assert [b"before"] == [delivery.data for delivery in first]
    assert [b"after"] == [delivery.data for delivery in got]


async def bus_away_fetch(bus: Bus) -> Sequence[Delivery]:
    """Fetch by a consumer that is opened while the server is away."""
    async with bus.consume(_STREAM, durable="other") as consumer:
        return await consumer.fetch(count_max=10, wait_s=0.1)


async def test_subscription_outlives_the_server(nats_server: Maker) -> None:
    server = nats_server()

    async with opened(server.url) as bus, bus.subscribe("light") as messages:
        await asyncio.to_thread(server.kill)
        await eventually(lambda: not bus.is_connected)
        await bus.publish("light", b"lost")
        await asyncio.to_thread(server.start)
        await eventually(lambda: bus.is_connected)
        await bus.publish("light", b"heard")
        got = await anext(messages)

    assert b"heard" == got
    assert 1 == bus.dropped_count


async def test_bus_opens_without_a_server_and_connects_when_it_comes(nats_server: Maker) -> None:
    server = nats_server()
    await asyncio.to_thread(server.stop)

    async with opened(server.url, connect_timeout_s=0.2, publish_timeout_s=0.2) as bus:
        was_connected = bus.is_connected
        with pytest.raises(BusUnavailableError):
            await bus.publish_durable("usage.a", b"x", message_id="1")
        async with bus.consume(_STREAM, durable="reader") as consumer:
            await asyncio.to_thread(server.start)
            await eventually(lambda: bus.is_connected)
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(consumer.fetch(count_max=10, wait_s=30.0))
                await publish_until_stored(bus, "late")
                got = await waiting

    assert not was_connected
    assert [b"late"] == [delivery.data for delivery in got]


async def test_frozen_server_neither_blocks_publishers_nor_the_end(nats_server: Maker) -> None:
    server = nats_server()

    async with opened(server.url, publish_timeout_s=0.2) as bus:
        await bus.ensure_stream(_STREAM)
        server.freeze()
        for _ in range(100):
            await bus.publish("light", bytes(200_000))
        with pytest.raises(BusUnavailableError):
            await bus.publish_durable("usage.a", b"x", message_id="1")
        await eventually(lambda: not bus.is_connected)

    server.thaw()
    assert 0 < bus.dropped_count


async def test_bus_comes_back_when_a_frozen_server_thaws(nats_server: Maker) -> None:
    server = nats_server()

    async with opened(server.url, publish_timeout_s=0.2) as bus:
        await bus.ensure_stream(_STREAM)
        server.freeze()
        await eventually(lambda: not bus.is_connected)
        server.thaw()
        position = await publish_until_stored(bus, "thawed")

    assert 1 == position


async def test_consumer_makes_a_vanished_stream_anew(nats_server: Maker) -> None:
    first, second = nats_server(), nats_server()

    async with opened(first.url) as bus, bus.consume(_STREAM, durable="reader") as consumer:
        await publish_until_stored(bus, "old")
        await drain(consumer)
        await asyncio.to_thread(first.kill)
        await asyncio.to_thread(second.stop)
        second.port = first.port
        await asyncio.to_thread(second.start)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(consumer.fetch(count_max=10, wait_s=30.0))
            position = await publish_until_stored(bus, "new")
            got = await waiting

    assert 1 == position
    assert [b"new"] == [delivery.data for delivery in got]


async def test_slow_subscriber_loses_the_oldest_messages(nats_server: Maker) -> None:
    server = nats_server()

    async with (
        opened(server.url, pending_messages_max=3) as bus,
        bus.subscribe("light") as slow,
        bus.subscribe("end") as end,
    ):
        for index in range(10):
            await bus.publish("light", b"%d" % index)
        await bus.publish("end", b"")
        await anext(end)
        await eventually(lambda: slow.dropped_count == 7)  # type: ignore[attr-defined]
        got = [await anext(slow) for _ in range(3)]

    assert [b"7", b"8", b"9"] == got


async def test_too_large_message_is_refused_and_the_connection_stays(nats_server: Maker) -> None:
    server = nats_server(config="max_payload: 1000")

    async with opened(server.url) as bus:
        await bus.ensure_stream(_STREAM)
        for size in (2_000, 1_000, 980):
            with pytest.raises(BusUnavailableError, match="NATS takes 1000"):
                await bus.publish_durable("usage.a", bytes(size), message_id="too large")
        await bus.publish("light", bytes(2_000))

        assert 1 == bus.dropped_count
        assert 1 == await publish_until_stored(bus, "small")


async def test_user_with_a_signed_token_gets_in_and_one_without_does_not(
    nats_server: Maker, tmp_path: Path
) -> None:
    operator, system, account, user = (NatsKey(kind) for kind in ("O", "A", "A", "U"))
    limits = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1}
    tokens = {
        "operator": operator.token(operator, {"type": "operator", "system_account": system.public}),
        "system": operator.token(system, {"type": "account", "limits": limits}),
        "account": operator.token(account, {"type": "account", "limits": limits}),
        "user": account.token(user, {"type": "user", "subs": -1, "data": -1, "payload": -1}),
    }
    server = nats_server(
        config=f"operator: {tokens['operator']}\nresolver: MEMORY\nresolver_preload: {{\n"
        f"{system.public}: {tokens['system']}\n{account.public}: {tokens['account']}\n}}\n"
    )
    credentials = tmp_path / "user.creds"
    credentials.write_text(user.credentials(tokens["user"]))

    async with opened(server.url, connect_timeout_s=0.5) as stranger:
        assert not stranger.is_connected
    async with opened(server.url, user_credentials=credentials) as known:
        assert known.is_connected


async def test_user_with_a_key_gets_in_and_one_without_does_not(
    nats_server: Maker, tmp_path: Path
) -> None:
    credentials = tmp_path / "user.nk"
    user = NatsKey("U")
    credentials.write_text(user.seed + "\n")
    server = nats_server(config=f"authorization {{ users: [ {{ nkey: {user.public} }} ] }}")

    async with opened(server.url, connect_timeout_s=0.5) as stranger:
        assert not stranger.is_connected
    async with opened(server.url, user_credentials=credentials) as known:
        assert known.is_connected


async def test_unreadable_credentials_are_told_at_once(tmp_path: Path) -> None:
    credentials = tmp_path / "user.creds"
    credentials.write_text(NatsKey("U").seed[:-2] + "AA")

    with pytest.raises(ValueError, match="mistyped"):
        async with opened("nats://127.0.0.1:1", user_credentials=credentials):
            raise AssertionError


def test_shipped_configuration_is_one_that_nats_takes() -> None:
    program = find_nats_server()
    assert program is not None

    done = subprocess.run(
        [str(program), "-t", "-c", str(_ROOT / "docker" / "nats.conf")],
        capture_output=True,
        check=False,
        timeout=20,
    )

    assert 0 == done.returncode, done.stderr.decode(errors="replace")
