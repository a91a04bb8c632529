"""Any number of gateways, whatever befalls them and their calls, never run more than the limit."""

import asyncio
from dataclasses import dataclass, field
from typing import Final, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.principal import Principal
from gateway.settings import GatewaySettings
from gateway.slots import SlotDraw, Slots
from kit.clock import ManualClock
from kit.errors import TurnpikeError
from services.auth.slots import Sightings, Sign, SlotsAsk, SlotTerms, divide
from tests.fakes.slot_auth import Fault, SlotAuth, SlotBook
from turnpike.auth.v1 import auth_pb2_grpc

LEASE_S: Final = 10.0
KEY: Final = "key"
Step = tuple[str, int]
FAULTS: Final = {"deaf": Fault.DEAF, "mute": Fault.MUTE, "late": Fault.LATE, "well": Fault.NONE}
OFTEN: Final = ("draw", "draw", "settle", "tick")
NAMES: Final = (*OFTEN, *FAULTS, "draw", "crowd", "settle", "recall", "sleep", "kill", "close")
STEPS: Final = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 2)), min_size=5, max_size=80
)


@dataclass(eq=False)
class Gateway:
    """One gateway and the requests that run in it; a killed one's run until its time is over."""

    book: SlotBook
    running: list[SlotDraw] = field(default_factory=list)
    ghosts: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.auth = SlotAuth(self.book)
        self.slots = Slots(
            auth=cast("auth_pb2_grpc.AuthServiceAsyncStub", self.auth),
            settings=GatewaySettings(lease_margin_s=1.0),
            clock=self.book.clock,
            end_key=lambda _key_id, _error: self.end_all(),
        )

    def end_all(self) -> None:
        draws, self.running = self.running, []
        for draw in draws:
            self.slots.settle(draw)

    def kill(self) -> None:
        """Forget everything; what ran may go on for as long as the holder thought it could."""
        holding = self.slots._holding
        if holding is not None:
            self.ghosts.append((holding.ends_s, len(self.running)))
        self.running = []
        self.begin()

    @property
    def running_count(self) -> int:
        now_s = self.book.clock.monotonic_s()
        return len(self.running) + sum(n for ends_s, n in self.ghosts if now_s < ends_s)

    async def draw(self) -> None:
        caller = Principal("", KEY, concurrent_requests=self.book.limit)
        try:
            self.running.append(self.slots.try_draw(caller) or await self.slots.draw(caller))
        except TurnpikeError:
            return


async def pass_time(gateways: list[Gateway], seconds: int) -> None:
    """Let time pass; loops look every quarter of a second, here they come late."""
    for _ in range(seconds):
        gateways[0].book.clock.advance(1.0)
        for each in gateways:
            await each.slots.renew()
            await each.slots.tidy()


async def crowd(gateways: list[Gateway]) -> None:
    """Let requests and recalls come at once, so that calls are under way beside each other."""
    recalls = [each.slots.recall(KEY) for each in gateways]
    await asyncio.gather(*recalls, *(each.draw() for each in gateways for _ in range(3)))


async def take(name: str, here: Gateway, gateways: list[Gateway]) -> None:
    if name in FAULTS:
        here.auth.fault = FAULTS[name]
    elif name == "draw":
        await here.draw()
    elif name == "crowd":
        await crowd(gateways)
    elif name == "settle" and here.running:
        here.slots.settle(here.running.pop())
    elif name == "recall":
        await here.slots.recall(KEY)
    elif name == "kill":
        here.kill()
    elif name == "close":
        here.end_all()
        await here.slots.close()
    else:
        await pass_time(gateways, 12 if name == "sleep" else 1)


async def play(limit: int, steps: list[Step]) -> None:
    book = SlotBook(ManualClock(), limit=limit, lease_s=LEASE_S)
    gateways = [Gateway(book) for _ in range(3)]
    for name, index in steps:
        await take(name, gateways[index], gateways)
        assert sum(each.running_count for each in gateways) <= limit
    await check_nothing_is_lost(book, gateways)


async def check_nothing_is_lost(book: SlotBook, gateways: list[Gateway]) -> None:
    """Once everybody is well and two leases have passed, any one can use the whole limit."""
    for each in gateways:
        each.auth.fault = Fault.NONE
        each.end_all()
    for _ in range(2):
        book.bury()
        await pass_time(gateways, round(LEASE_S))
    for _ in range(book.limit + 1):
        await gateways[0].draw()
    assert book.limit == len(gateways[0].running)


@given(st.integers(1, 20), STEPS)
def test_holders_never_run_more_than_the_limit_and_lose_no_slot_for_ever(
    limit: int, steps: list[Step]
) -> None:
    asyncio.run(play(limit, steps))


@given(
    st.integers(1, 50),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(0, 30)), max_size=40),
)
def test_what_is_granted_never_exceeds_the_limit_and_adds_up_to_it(
    limit: int, replicas: int, asks: list[tuple[int, int, int]]
) -> None:
    held = dict.fromkeys(range(4), 0)

    for sequence, (holder, kept, needed) in enumerate(asks):
        own, others = held[holder], sum(held.values()) - held[holder]
        ask = SlotsAsk(str(holder), sequence, min(kept, own), needed)
        slots = divide(SlotTerms(limit, replicas), ask, own=own, others=others)
        held[holder] = slots.held

        assert sum(held.values()) + slots.free == limit
        assert slots.held >= ask.kept
        assert slots.given_up == own - ask.kept
        assert not needed or slots.held > ask.kept or limit == others + ask.kept


def test_limit_that_became_smaller_takes_nothing_away_and_grants_nothing() -> None:
    ask = SlotsAsk("a", 1, kept=5, needed=3)

    slots = divide(SlotTerms(4, 1), ask, own=5, others=2)

    assert (5, 0) == (slots.held, slots.free)


def test_without_a_limit_everything_is_granted_and_nothing_counted() -> None:
    slots = divide(SlotTerms(0, 1), SlotsAsk("a", 1, kept=5, needed=300), own=0, others=0)

    assert (305, 0, 0) == slots


def test_what_a_holder_claims_beyond_its_own_is_not_believed() -> None:
    slots = divide(SlotTerms(10, 1), SlotsAsk("a", 1, kept=9, needed=0), own=2, others=8)

    assert (2, 0) == (slots.held, slots.free)


def sign(beat: int) -> Sign:
    return Sign(beat, lease_ms=10_000)


def test_holder_is_dead_when_it_stood_still_for_a_lease_since_it_was_seen() -> None:
    sightings = Sightings()
    sightings.see({"still": sign(1), "moving": sign(1)}, 0.0)
    sightings.note("noted", sign(7), 1.0)
    sightings.note("noted", sign(7), 5.0)
    sightings.see({"still": sign(1), "moving": sign(2), "noted": sign(7), "new": sign(1)}, 9.0)

    assert [] == sightings.dead(9.9)
    assert ["still"] == sightings.dead(10.0)
    assert ["still", "noted"] == sightings.dead(11.0)


def test_holder_lives_for_what_it_was_promised_whatever_is_promised_now() -> None:
    sightings = Sightings()
    sightings.see({"long": Sign(1, 60_000), "short": Sign(1, 5_000)}, 0.0)

    assert ["short"] == sightings.dead(59.9)
    assert ["long", "short"] == sightings.dead(60.0)


def test_holder_that_is_gone_is_forgotten() -> None:
    sightings = Sightings()
    sightings.see({"gone": sign(1)}, 0.0)
    sightings.see({}, 1.0)
    sightings.see({"gone": sign(1)}, 9.0)

    assert [] == sightings.dead(18.0)
