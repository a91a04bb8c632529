"""Credit is drawn from leases, never beyond them, and what is left goes back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.leases import CreditLeases, Draw
from gateway.principal import Principal
from gateway.settings import GatewaySettings
from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from kit.tasks import TaskPool
from tests.fakes.ledger import Ledger, as_wanted, need_only
from tests.fakes.openai_calls import eventually
from turnpike.payment.v1 import payment_pb2_grpc

HOLD = 1_000
CALLER = Principal(account_id="account", key_id="key")
NEIGHBOUR = Principal(account_id="account", key_id="other key")
STRANGER = Principal(account_id="other account", key_id="third key")


class Desk:
    """Leases over a ledger, with the books that a test wants to see balanced."""

    def __init__(self, ledger: Ledger, *, tasks_max: int = 100, **limits: int) -> None:
        self.ledger = ledger
        self.clock = ManualClock()
        self.tasks = TaskPool(tasks_max=tasks_max)
        self.open: list[Draw] = []
        self.charged_nusd = 0
        self.leases = CreditLeases(
            payment=cast("payment_pb2_grpc.PaymentServiceAsyncStub", ledger),
            settings=GatewaySettings(**{"lease_requests": 4, **limits}),
            clock=self.clock,
            holder_id="worker",
            tasks=self.tasks,
        )

    async def draw(self, need_nusd: int = HOLD, caller: Principal = CALLER) -> Draw:
        drawn = self.leases.try_draw(caller, need_nusd) or await self.leases.draw(caller, need_nusd)
        self.open.append(drawn)
        return drawn

    def settle(self, drawn: Draw, charge_nusd: int) -> None:
        self.open.remove(drawn)
        self.charged_nusd += charge_nusd
        self.leases.settle(drawn, charge_nusd)

    async def quiet(self) -> None:
        await eventually(lambda: not self.tasks.count)

    def difference_nusd(self) -> int:
        """What was granted, less every place where it can be: 0 when nothing was lost or made."""
        held = [lease for purse in self.leases._purses.values() for lease in purse.leases]
        retired = [lease for lease in self.leases._retired if lease not in held]
        accounted_nusd = (
            sum(drawn.hold_nusd for drawn in self.open)
            + sum(lease.left_nusd + lease.owed_nusd for lease in [*held, *retired])
            + self.ledger.returned_nusd
            + self.charged_nusd
        )
        return self.ledger.granted_nusd - accounted_nusd


@asynccontextmanager
async def desk(ledger: Ledger, *, tasks_max: int = 100, **limits: int) -> AsyncIterator[Desk]:
    opened = Desk(ledger, tasks_max=tasks_max, **limits)
    yield opened
    await opened.tasks.close(wait_s=5)
    assert 0 == opened.difference_nusd()


def refused_with(reason: Reason, outcomes: Sequence[Draw | BaseException]) -> int:
    return sum(isinstance(each, TurnpikeError) and each.reason is reason for each in outcomes)


async def test_one_lease_covers_many_requests() -> None:
    async with desk(Ledger(1_000_000), lease_requests=256) as here:
        drawn = [await here.draw() for _ in range(100)]

        assert 1 == len(here.ledger.requests)
        assert {drawn[0].lease.lease_id} == {each.lease.lease_id for each in drawn}


async def test_draws_never_exceed_what_was_granted() -> None:
    async with desk(Ledger(10 * HOLD + 1)) as here:
        outcomes = await asyncio.gather(*(here.draw() for _ in range(50)), return_exceptions=True)

        assert 10 == len(here.open)
        assert 40 == refused_with(Reason.INSUFFICIENT_QUOTA, outcomes)
        assert here.ledger.granted_nusd <= 10 * HOLD + 1


@pytest.mark.parametrize("grants", [need_only, as_wanted])
async def test_two_hundred_requests_at_the_limit_share_exactly_what_is_there(
    grants: Callable[..., int],
) -> None:
    async with desk(Ledger(10 * HOLD, grants=grants)) as here:
        outcomes = await asyncio.gather(*(here.draw() for _ in range(200)), return_exceptions=True)

        assert 10 == len(here.open)
        assert 190 == refused_with(Reason.INSUFFICIENT_QUOTA, outcomes)
        assert len(here.ledger.requests) <= 13


async def test_refusal_says_what_payment_said_and_each_waiter_gets_its_own() -> None:
    async with desk(Ledger(HOLD - 1)) as here:
        first, second = await asyncio.gather(here.draw(), here.draw(), return_exceptions=True)

        assert isinstance(first, TurnpikeError)
        assert f"Balance is {HOLD - 1}; {HOLD} needed." == first.message
        assert {"param": "account"} == first.metadata
        assert first is not second


async def test_small_request_gets_what_a_large_one_could_not_have() -> None:
    async with desk(Ledger(HOLD)) as here:
        large, small = await asyncio.gather(
            here.draw(5 * HOLD), here.draw(HOLD // 2), return_exceptions=True
        )

        assert isinstance(large, TurnpikeError)
        assert isinstance(small, Draw)


async def test_what_a_request_did_not_use_is_drawn_again() -> None:
    async with desk(Ledger(HOLD)) as here:
        here.settle(await here.draw(), 100)

        again = await here.draw(HOLD - 100)

        assert HOLD - 100 == again.hold_nusd
        assert HOLD == here.ledger.granted_nusd


async def test_settling_twice_counts_once_and_an_overrun_takes_from_nobody() -> None:
    async with desk(Ledger(2 * HOLD, grants=as_wanted)) as here:
        drawn = await here.draw()
        await here.quiet()

        here.leases.settle(drawn, 3 * HOLD)
        here.leases.settle(drawn, 0)

        assert HOLD == drawn.lease.left_nusd
        here.open.remove(drawn)
        here.charged_nusd += HOLD


async def test_recall_returns_exactly_what_nobody_drew_of_that_account() -> None:
    async with desk(Ledger(100 * HOLD)) as here:
        drawn = await here.draw()
        await here.draw(caller=NEIGHBOUR)
        await here.draw(caller=STRANGER)
        await here.quiet()
        granted_nusd = here.ledger.granted_nusd

        await here.leases.recall("account")

        stranger = here.leases._purses["third key"]
        left_nusd = sum(lease.left_nusd for lease in stranger.leases)
        assert granted_nusd - 3 * HOLD - left_nusd == here.ledger.returned_nusd
        assert left_nusd > 0
        here.settle(drawn, HOLD // 4)
        await here.leases.tidy()
        assert granted_nusd - left_nusd - 2 * HOLD - HOLD // 4 == here.ledger.returned_nusd


async def test_ended_lease_is_not_drawn_from_and_goes_back() -> None:
    async with desk(Ledger(100 * HOLD, lease_s=60)) as here:
        drawn = await here.draw()
        await here.quiet()
        here.clock.advance(55)

        after_end = here.leases.try_draw(CALLER, HOLD)
        here.settle(drawn, 0)
        await here.leases.tidy()

        assert after_end is None
        assert here.ledger.granted_nusd == here.ledger.returned_nusd
        assert {} == here.leases._purses
        assert [] == here.leases._retired


async def test_too_small_leftovers_go_back_before_more_is_asked_for() -> None:
    async with desk(Ledger(2 * HOLD)) as here:
        await here.draw(HOLD // 2)
        await here.quiet()

        await here.draw(2 * HOLD - HOLD // 2)

        assert here.ledger.granted_nusd - here.ledger.returned_nusd == 2 * HOLD


async def test_payment_away_is_said_so_and_found_again() -> None:
    async with desk(Ledger(100 * HOLD)) as here:
        here.ledger.is_down = True
        with pytest.raises(TurnpikeError) as caught:
            await here.draw()
        here.ledger.is_down = False

        await here.draw()

        assert Reason.LEDGER_UNAVAILABLE is caught.value.reason
        assert {"retry_after_s": "1"} == caught.value.metadata


@pytest.mark.parametrize("lease_s", [0.0, 4.0])
async def test_lease_that_is_over_when_it_comes_goes_back_and_is_not_asked_for_again(
    lease_s: float,
) -> None:
    async with desk(Ledger(100 * HOLD, lease_s=lease_s)) as here:
        with pytest.raises(TurnpikeError) as caught:
            await here.draw()

        assert Reason.LEDGER_UNAVAILABLE is caught.value.reason
        assert 1 == len(here.ledger.requests)
        assert here.ledger.granted_nusd == here.ledger.returned_nusd


async def test_lease_smaller_than_asked_for_goes_back_and_is_not_asked_for_again() -> None:
    async with desk(Ledger(100 * HOLD, grants=lambda request, _: request.need_nusd - 1)) as here:
        with pytest.raises(TurnpikeError) as caught:
            await here.draw()

        assert Reason.LEDGER_UNAVAILABLE is caught.value.reason
        assert HOLD - 1 == here.ledger.returned_nusd


async def test_low_lease_is_refilled_before_it_is_empty() -> None:
    async with desk(Ledger(1_000 * HOLD)) as here:
        await here.draw()
        await here.quiet()
        asked = len(here.ledger.requests)

        for _ in range(5):
            assert here.leases.try_draw(CALLER, 1) is not None
        here.clock.advance(1)
        drawn = here.leases.try_draw(CALLER, HOLD)
        await here.quiet()

        assert drawn is not None
        assert asked + 1 == len(here.ledger.requests)
        here.open.append(drawn)
        here.charged_nusd += 5


async def test_cancelled_waiter_leaks_nothing_and_leaves_the_others_waiting() -> None:
    async with desk(Ledger(100 * HOLD)) as here:
        here.ledger.is_open.clear()
        async with asyncio.TaskGroup() as group:
            given_up = group.create_task(here.draw())
            patient = group.create_task(here.draw())
            await eventually(lambda: len(here.ledger.requests) == 1)
            given_up.cancel()
            await eventually(given_up.done)
            here.ledger.is_open.set()

        purse = here.leases._purses["key"]
        assert given_up.cancelled()
        assert [patient.result()] == here.open
        assert (0, 0) == (purse.waiter_count, purse.waiting_nusd)


async def test_too_many_waiters_of_one_key_are_refused() -> None:
    async with desk(Ledger(100 * HOLD), waiters_max=2) as here:
        outcomes = await asyncio.gather(*(here.draw() for _ in range(3)), return_exceptions=True)

        assert 1 == refused_with(Reason.OVERLOADED, outcomes)
        assert 2 == len(here.open)


async def test_no_room_for_a_refill_is_said_so() -> None:
    async with desk(Ledger(100 * HOLD), tasks_max=0) as here:
        with pytest.raises(TurnpikeError) as caught:
            await here.draw()

        assert Reason.LEDGER_UNAVAILABLE is caught.value.reason
        assert here.leases._purses["key"].refill is None


async def test_closing_returns_everything_also_what_is_still_on_its_way() -> None:
    async with desk(Ledger(100 * HOLD)) as here:
        await here.draw()
        await here.quiet()
        here.ledger.is_open.clear()
        late = asyncio.gather(here.draw(50 * HOLD), return_exceptions=True)
        await eventually(lambda: len(here.ledger.requests) == 2)
        await here.leases.close()
        here.ledger.is_open.set()
        outcomes = await late

        assert 1 == refused_with(Reason.LEDGER_UNAVAILABLE, outcomes)
        assert here.ledger.granted_nusd - HOLD == here.ledger.returned_nusd


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.integers(1, 3 * HOLD)),
        st.tuples(st.just("cancelled"), st.integers(1, 3 * HOLD)),
        st.tuples(st.just("settle"), st.integers(0, HOLD)),
        st.tuples(st.sampled_from(["recall", "tidy", "away", "back"]), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, available_nusd=st.integers(0, 30 * HOLD), is_near=st.booleans())
def test_money_is_neither_lost_nor_made_whatever_happens(
    steps: list[tuple[str, int]], available_nusd: int, is_near: bool
) -> None:
    async def play() -> None:
        ledger = Ledger(available_nusd, grants=need_only if is_near else as_wanted)
        async with desk(ledger) as here:
            for name, number in steps:
                await step(here, name, number)
                await here.quiet()

                assert 0 == here.difference_nusd()
                assert ledger.granted_nusd - ledger.returned_nusd <= available_nusd

    asyncio.run(play())


async def step(here: Desk, name: str, number: int) -> None:
    if name == "draw":
        await asyncio.gather(here.draw(number), here.draw(number), return_exceptions=True)
    elif name == "cancelled":
        async with asyncio.TaskGroup() as group:
            task = group.create_task(here.draw(number))
            await asyncio.sleep(0)
            task.cancel()
    elif name == "settle" and here.open:
        drawn = here.open[number % len(here.open)]
        here.settle(drawn, min(number, drawn.hold_nusd))
    elif name == "recall":
        await here.leases.recall("account")
    elif name == "tidy":
        await here.leases.tidy()
    elif name == "wait":
        here.clock.advance(number)
    elif name in ("away", "back"):
        here.ledger.is_down = name == "away"
