"""Routers agree on who is down, over a bus of memory and a real nats-server."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from kit.bus.memory import MemoryBus
from kit.bus.nats import open_nats_bus
from kit.bus.port import Bus
from kit.tasks import background
from services.router.catalog import Deployment
from services.router.fleet import Fleet, Wanted, open_fleet
from services.router.provider_entries import TritonEntry
from services.router.providers.port import Failure, ProviderError
from services.router.shared_health import HEALTH_SUBJECT, REST_MAX_S, SharedHealth
from tests.fixtures.gateway import until
from tests.unit.router.scripted import PRICE, ScriptedProvider
from turnpike.events.v1 import events_pb2

PLACE = Deployment("a", "a", "a", "scripted", "scripted", "m", PRICE)


@dataclass
class Router:
    """One router's fleet."""

    fleet: Fleet

    def rest_s(self) -> float:
        member = self.fleet.member(PLACE)
        assert member is not None
        return member.breaker.rest_s(asyncio.get_running_loop().time())

    def fail(self, *, retry_after_s: float = 0.0) -> None:
        with self.fleet.attempt(PLACE) as attempt:
            attempt.failed(ProviderError(Failure.UNAVAILABLE, "no", retry_after_s=retry_after_s))

    def succeed(self) -> None:
        with self.fleet.attempt(PLACE) as attempt:
            attempt.succeeded(asyncio.get_running_loop().time())


@pytest.fixture(params=["memory", "nats"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    async with open_nats_bus(request.getfixturevalue("nats_url"), name="health") as bus:
        yield bus


@pytest.fixture
async def routers(bus: Bus) -> AsyncIterator[tuple[Router, Router]]:
    @asynccontextmanager
    async def open_provider(_item: Wanted) -> AsyncIterator[ScriptedProvider]:
        yield ScriptedProvider([])

    async with AsyncExitStack() as stack:
        found = []
        for name in ("one", "other"):
            fleet = await stack.enter_async_context(open_fleet(open_provider))
            await fleet.adopt([Wanted(PLACE, TritonEntry(kind="triton"), "mark")])
            health = SharedHealth(fleet, bus, name)
            for loop in (health.tell, health.listen):
                await stack.enter_async_context(background(loop, name=name))
            found.append(Router(fleet))
        for router in found:
            await listening(bus, router)
        yield found[0], found[1]


async def listening(bus: Bus, router: Router) -> None:
    """Wait until words arrive, and until all that were sent to find out have: they keep order."""

    async def say(rest_s: float) -> None:
        word = events_pb2.DeploymentHealth(router_id="test", deployment="a", rest_s=rest_s)
        await bus.publish(HEALTH_SUBJECT, word.SerializeToString())

    async def is_heard() -> bool:
        await say(0.01)
        await asyncio.sleep(0.02)
        return router.fleet.revision > revision

    revision = router.fleet.revision
    await until(is_heard)
    await say(77.0)
    await until(lambda: router.rest_s() > 70)
    await say(0.0)
    await until(lambda: router.rest_s() == 0)


async def test_what_one_finds_out_the_other_believes(routers: tuple[Router, Router]) -> None:
    one, other = routers
    one.fail()

    await until(lambda: other.rest_s() > 0)
    assert other.rest_s() <= one.rest_s() + 0.5


async def test_who_is_up_again_may_be_tried_at_once(routers: tuple[Router, Router]) -> None:
    one, other = routers
    one.fail(retry_after_s=50.0)
    await until(lambda: other.rest_s() > 40)

    one.succeed()

    await until(lambda: other.rest_s() == 0)


async def test_words_make_no_echo(routers: tuple[Router, Router], bus: Bus) -> None:
    one, other = routers
    heard: list[str] = []

    async def record() -> None:
        async with bus.subscribe(HEALTH_SUBJECT) as messages:
            async for data in messages:
                word = events_pb2.DeploymentHealth.FromString(data)
                heard.append(word.router_id)

    async with background(record, name="record"):
        await asyncio.sleep(0.05)
        one.fail(retry_after_s=30.0)
        await until(lambda: other.rest_s() > 0)
        await asyncio.sleep(0.05)

    assert heard == ["one"]


@pytest.mark.parametrize("rest_s", [math.inf, math.nan, 10 * REST_MAX_S, -5.0])
async def test_nonsense_is_bounded(routers: tuple[Router, Router], bus: Bus, rest_s: float) -> None:
    one, _ = routers
    word = events_pb2.DeploymentHealth(router_id="liar", deployment="a", rest_s=rest_s)
    last = events_pb2.DeploymentHealth(router_id="liar", deployment="a", rest_s=7200)

    await bus.publish(HEALTH_SUBJECT, b"\xff\xff")
    await bus.publish(HEALTH_SUBJECT, word.SerializeToString())
    await bus.publish(HEALTH_SUBJECT, last.SerializeToString())

    await until(lambda: one.rest_s() > 0)
    assert one.rest_s() <= REST_MAX_S
