"""Slots for requests at once: drawn in memory, never more than were granted, and given back."""

import asyncio
from typing import cast

import pytest

from gateway.limit_headers import limit_headers
from gateway.principal import Principal
from gateway.settings import GatewaySettings
from gateway.slots import SlotDraw, Slots
from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from tests.fakes.slot_auth import Fault, SlotAuth, SlotBook
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc

LEASE_S = 30.0
MARGIN_S = 5.0


class Desk:
    """One gateway's slots over auth's book."""

    def __init__(self, book: SlotBook) -> None:
        self.book = book
        self.clock = book.clock
        self.auth = SlotAuth(book)
        self.caller = Principal("", "key", concurrent_requests=book.limit)
        self.ended: list[tuple[str, Reason]] = []
        self.slots = Slots(
            auth=cast("auth_pb2_grpc.AuthServiceAsyncStub", self.auth),
            settings=GatewaySettings(waiters_max=60, lease_margin_s=MARGIN_S),
            clock=self.clock,
            end_key=lambda key_id, error: self.ended.append((key_id, error.reason)),
        )

    async def draw(self) -> SlotDraw:
        return self.slots.try_draw(self.caller) or await self.slots.draw(self.caller)

    async def reason(self) -> Reason | None:
        try:
            await self.draw()
        except TurnpikeError as error:
            return error.reason
        return None

    async def wait(self, seconds: float) -> None:
        """Let time pass, second by second, as the background loops see it."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            await self.slots.renew()
            await self.slots.tidy()


@pytest.fixture
def book() -> SlotBook:
    return SlotBook(ManualClock(), limit=10, lease_s=LEASE_S)


@pytest.fixture
def desk(book: SlotBook) -> Desk:
    return Desk(book)


async def test_exactly_the_limit_runs_however_many_come_at_once_and_few_calls_are_made(
    desk: Desk,
) -> None:
    outcomes = await asyncio.gather(*(desk.reason() for _ in range(50)))

    assert 10 == outcomes.count(None)
    assert 40 == outcomes.count(Reason.CONCURRENCY_EXCEEDED)
    assert len(desk.book.asked) <= 3


async def test_two_gateways_share_the_limit_to_its_last_slot(book: SlotBook) -> None:
    one, other = Desk(book), Desk(book)

    outcomes = await asyncio.gather(*(each.reason() for _ in range(15) for each in (one, other)))

    assert 10 == outcomes.count(None)


async def test_slot_that_came_back_is_drawn_again_without_a_call(desk: Desk) -> None:
    draw = await desk.draw()
    asked = len(desk.book.asked)

    for _ in range(5):
        desk.slots.settle(draw)
        again = desk.slots.try_draw(desk.caller)
        assert again is not None
        draw = again

    assert asked == len(desk.book.asked)


async def test_slot_comes_back_once_however_often_it_is_settled(desk: Desk) -> None:
    draws = [await desk.draw() for _ in range(10)]

    for _ in range(3):
        desk.slots.settle(draws[0])
    outcomes = [await desk.reason() for _ in range(2)]

    assert [None, Reason.CONCURRENCY_EXCEEDED] == outcomes


async def test_refusal_says_the_limit_and_when_to_come_back(desk: Desk) -> None:
    for _ in range(10):
        await desk.draw()

    with pytest.raises(TurnpikeError) as caught:
        await desk.draw()

    assert "The limit is 10 requests at once; try again when one has ended." == str(
        caught.value.message
    )
    assert {
        "retry_after_s": "1",
        "rate_limit": "10",
        "rate_reset_unix_s": "1760000001",
    } == caught.value.metadata


async def test_refusal_is_believed_for_a_moment_and_not_longer(book: SlotBook) -> None:
    one, other = Desk(book), Desk(book)
    draws = [await other.draw() for _ in range(10)]
    first = await one.reason()
    asked = len(book.asked)
    other.slots.settle(draws[0])
    await other.slots.recall("key")

    at_once = await one.reason()
    believed = len(book.asked) - asked
    book.clock.advance(1)
    later = await one.reason()

    assert [Reason.CONCURRENCY_EXCEEDED, Reason.CONCURRENCY_EXCEEDED, None] == [
        first,
        at_once,
        later,
    ]
    assert 1 == believed  # the slot that was given up


async def test_recall_gives_up_what_is_not_used_and_keeps_what_is(book: SlotBook) -> None:
    one, other = Desk(book), Desk(book)
    draws = [await one.draw() for _ in range(10)]
    for draw in draws[4:]:
        one.slots.settle(draw)
    assert await other.reason() is Reason.CONCURRENCY_EXCEEDED

    await one.slots.recall("key")
    book.clock.advance(1)
    outcomes = [await other.reason() for _ in range(7)]

    assert ["key"] == book.recalled[:1]
    assert 6 == outcomes.count(None)


async def test_unused_slots_go_back_after_a_while(desk: Desk) -> None:
    draws = [await desk.draw() for _ in range(4)]
    for draw in draws[1:]:
        desk.slots.settle(draw)

    await desk.wait(6)
    kept = [count for count, _ in desk.book.rows.values()]
    desk.slots.settle(draws[0])
    await desk.wait(6)

    assert [1] == kept
    assert [0] == [count for count, _ in desk.book.rows.values()]
    assert desk.slots.reading(desk.caller) is None


async def test_holder_renews_itself_while_it_holds_anything(desk: Desk) -> None:
    await desk.draw()

    await desk.wait(300)

    assert [] == desk.ended
    assert 1 == len(desk.book.beats)
    assert desk.slots.try_draw(desk.caller) is None
    renewals = [r for r in desk.book.said if r.step == auth_pb2.RenewHolderRequest.STEP_RENEW]
    assert 50 <= len(renewals) <= 61


async def test_holder_that_was_idle_for_long_serves_the_next_request(desk: Desk) -> None:
    desk.slots.settle(await desk.draw())
    await desk.wait(100)

    draw = await desk.draw()
    await desk.wait(100)

    assert not draw.is_settled
    assert [] == desk.ended


async def test_requests_end_before_their_slots_may_be_anothers(desk: Desk) -> None:
    await desk.draw()
    desk.auth.fault = Fault.DEAF

    await desk.wait(LEASE_S - MARGIN_S - 1)
    before = list(desk.ended)
    await desk.wait(1)
    taken = desk.slots.try_draw(desk.caller)

    assert [] == before
    assert [("key", Reason.AUTH_UNAVAILABLE)] == desk.ended
    assert taken is None


async def test_holder_that_auth_has_buried_begins_anew(book: SlotBook) -> None:
    desk = Desk(book)
    draw = await desk.draw()
    (holder_id,) = book.beats
    book.end(holder_id)
    await desk.wait(6)
    desk.slots.settle(draw)

    again = await desk.reason()

    assert [("key", Reason.AUTH_UNAVAILABLE)] == desk.ended
    assert again is None
    assert {holder_id}.isdisjoint(book.beats)


async def test_slots_of_a_time_that_is_over_are_not_drawn_in_the_next_one(desk: Desk) -> None:
    desk.slots.settle(await desk.draw())
    desk.clock.advance(LEASE_S)
    await desk.slots.draw(Principal("", "another", concurrent_requests=10))

    assert desk.slots.try_draw(desk.caller) is None


async def test_auth_away_is_said_so_and_nothing_is_let_through(desk: Desk) -> None:
    desk.auth.fault = Fault.DEAF
    away = await asyncio.gather(*(desk.reason() for _ in range(5)))
    desk.auth.fault = Fault.NONE

    assert {Reason.AUTH_UNAVAILABLE} == set(away)
    assert await desk.reason() is None


async def test_slots_of_a_lost_answer_are_found_and_given_back(book: SlotBook) -> None:
    one, other = Desk(book), Desk(book)
    await one.draw()
    one.auth.fault = Fault.MUTE
    lost = await one.reason()
    unknown = [count for count, _ in book.rows.values()]
    one.auth.fault = Fault.NONE

    await one.wait(1)
    outcomes = [await other.reason() for _ in range(10)]

    assert Reason.AUTH_UNAVAILABLE is lost
    assert [2] == unknown
    assert 9 == outcomes.count(None)


async def test_older_ask_that_comes_late_takes_no_slot_away(book: SlotBook) -> None:
    one, other = Desk(book), Desk(book)
    draws = [await one.draw() for _ in range(5)]
    for draw in draws:
        one.slots.settle(draw)
    one.auth.fault = Fault.LATE
    await one.slots.recall("key")  # gives all five up, and fails
    one.auth.fault = Fault.NONE
    for _ in range(5):
        await one.draw()

    outcomes = [await other.reason() for _ in range(10)]

    assert 5 == outcomes.count(None)


async def test_cancelled_waiter_leaves_no_slot_in_use(desk: Desk) -> None:
    waiting = asyncio.ensure_future(desk.draw())
    desk.auth.before_answer = waiting.cancel
    with pytest.raises(asyncio.CancelledError):
        await asyncio.gather(waiting, asyncio.sleep(0))
    desk.auth.before_answer = lambda: None

    outcomes = [await desk.reason() for _ in range(11)]

    assert 10 == outcomes.count(None)


async def test_too_many_waiters_of_one_key_are_refused(desk: Desk) -> None:
    desk.book.limit = 1_000

    outcomes = await asyncio.gather(*(desk.reason() for _ in range(61)))

    assert [Reason.OVERLOADED] == [reason for reason in outcomes if reason is not None]


async def test_closing_frees_everything_at_once(book: SlotBook) -> None:
    one, other = Desk(book), Desk(book)
    for _ in range(10):
        await one.draw()

    await one.slots.close()
    outcomes = [await other.reason() for _ in range(10)]

    assert {None} == set(outcomes)


async def test_closing_without_auth_or_slots_is_quiet(book: SlotBook) -> None:
    never, away = Desk(book), Desk(book)
    await away.draw()
    away.auth.fault = Fault.DEAF

    await never.slots.close()
    await away.slots.close()

    assert 1 == len(book.beats)


async def test_reading_counts_down_and_up_again(desk: Desk) -> None:
    desk.book.limit = 3
    draws = [await desk.draw() for _ in range(2)]

    used = desk.slots.reading(desk.caller)
    desk.slots.settle(draws[0])
    given_back = desk.slots.reading(desk.caller)

    assert used is not None
    assert given_back is not None
    assert {
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": "1760000001",
    } == limit_headers(used)
    assert 2 == given_back.left


async def test_limit_that_became_smaller_holds_once_requests_have_ended(desk: Desk) -> None:
    draws = [await desk.draw() for _ in range(10)]
    desk.book.limit = 2
    for draw in draws:
        desk.slots.settle(draw)

    await desk.slots.recall("key")
    outcomes = [await desk.reason() for _ in range(5)]

    assert 2 == outcomes.count(None)
