"""What every `Bucket` does, on the bus in memory and on a real nats-server."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.bus.memory import MemoryBus
from kit.bus.nats import open_nats_bus
from kit.bus.port import Bucket, BucketSpec, Bus, BusUnavailableError, ValueTooBigError
from tests.fixtures.gateway import until
from tests.fixtures.nats import NatsServer

OpenBus = Callable[[], AbstractAsyncContextManager[Bus]]
WAIT_S = 5.0


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
def spec() -> BucketSpec:
    return BucketSpec(f"B{secrets.token_hex(6)}", ttl_s=60.0, value_bytes_max=1000)


@pytest.fixture
def bucket(bus: Bus, spec: BucketSpec) -> Bucket:
    return bus.bucket(spec)


async def put(bucket: Bucket, key: str, value: bytes) -> None:
    await bucket.put(key, value, timeout_s=WAIT_S)


async def get(bucket: Bucket, key: str) -> bytes | None:
    return await bucket.get(key, timeout_s=WAIT_S)


async def test_value_is_found_by_everybody_on_the_bus(
    open_bus: OpenBus, bucket: Bucket, spec: BucketSpec
) -> None:
    await put(bucket, "a.b-c_1", b"one")

    async with open_bus() as other:
        found = await get(other.bucket(spec), "a.b-c_1")

    assert b"one" == found


async def test_nothing_is_found_that_was_not_put(bucket: Bucket) -> None:
    before = await get(bucket, "a")
    await put(bucket, "b", b"other")

    assert (None, None) == (before, await get(bucket, "a"))


async def test_later_value_takes_the_place_of_the_earlier_one(bucket: Bucket) -> None:
    await put(bucket, "a", b"one")
    await put(bucket, "a", b"two")

    assert b"two" == await get(bucket, "a")


async def test_empty_value_is_a_value(bucket: Bucket) -> None:
    await put(bucket, "a", b"")

    assert b"" == await get(bucket, "a")


async def test_buckets_know_nothing_of_each_other(
    bus: Bus, bucket: Bucket, spec: BucketSpec
) -> None:
    other = bus.bucket(BucketSpec(spec.name + "x", ttl_s=60.0))
    await put(bucket, "a", b"one")
    await put(other, "b", b"two")

    assert (None, None) == (await get(other, "a"), await get(bucket, "b"))


async def test_value_that_is_too_big_is_refused_and_keeps_the_old_one(bucket: Bucket) -> None:
    await put(bucket, "a", bytes(1000))

    with pytest.raises(ValueTooBigError):
        await put(bucket, "a", bytes(1001))

    assert bytes(1000) == await get(bucket, "a")


async def test_full_bucket_forgets_what_is_oldest(bus: Bus, spec: BucketSpec) -> None:
    small = bus.bucket(BucketSpec(spec.name, ttl_s=60.0, bytes_max=5000))
    for number in range(10):
        await put(small, f"k{number}", bytes(900))

    found = [await get(small, f"k{number}") is not None for number in range(10)]

    assert found == sorted(found)
    assert [False, True] == [found[0], found[9]]


async def test_value_is_gone_when_its_time_is_over(bus: Bus, spec: BucketSpec) -> None:
    short = bus.bucket(BucketSpec(spec.name, ttl_s=0.2))
    await put(short, "a", b"one")

    async def is_gone() -> bool:
        return await get(short, "a") is None

    await until(is_gone)


async def test_bucket_is_brought_to_its_new_form(bus: Bus, spec: BucketSpec) -> None:
    await put(bus.bucket(BucketSpec(spec.name, ttl_s=60.0)), "a", b"one")
    short = bus.bucket(BucketSpec(spec.name, ttl_s=0.2))
    await put(short, "b", b"two")

    async def is_gone() -> bool:
        return await get(short, "b") is None

    await until(is_gone)


async def test_many_ask_at_the_same_time(bucket: Bucket) -> None:
    await put(bucket, "a", b"one")
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(get(bucket, "ab"[n % 2])) for n in range(40)]

    assert [b"one", None] * 20 == [task.result() for task in asked]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(value=st.binary(max_size=1000))
async def test_value_comes_back_byte_for_byte(bucket: Bucket, value: bytes) -> None:
    await put(bucket, "a", value)

    assert value == await get(bucket, "a")


async def test_bucket_in_memory_fails_during_an_outage() -> None:
    bus = MemoryBus()
    bucket = bus.bucket(BucketSpec("B", ttl_s=60.0))
    bus.disconnect()

    with pytest.raises(BusUnavailableError):
        await put(bucket, "a", b"one")
    with pytest.raises(BusUnavailableError):
        await get(bucket, "a")


async def test_bucket_is_made_again_after_nats_lost_everything(
    nats_server: Callable[..., NatsServer], spec: BucketSpec
) -> None:
    server = nats_server()
    async with open_nats_bus(server.url, name="test") as bus:
        bucket = bus.bucket(spec)
        await put(bucket, "a", b"one")
        server.kill()
        for path in sorted(server.store_dir.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        server.start()

        async def is_kept() -> bool:
            try:
                await put(bucket, "b", b"two")
            except BusUnavailableError:
                return False
            return True

        await until(is_kept)

        assert (None, b"two") == (await get(bucket, "a"), await get(bucket, "b"))


async def test_bucket_fails_in_time_when_nats_does_not_answer(
    nats_server: Callable[..., NatsServer], spec: BucketSpec
) -> None:
    server = nats_server()
    async with open_nats_bus(server.url, name="test") as bus:
        bucket = bus.bucket(spec)
        await put(bucket, "a", b"one")
        server.freeze()
        try:
            with pytest.raises(BusUnavailableError):
                await bucket.get("a", timeout_s=0.05)
        finally:
            server.thaw()
