"""Rate limits are drawn from auth's grants, never above them, and a refusal costs no call."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from google.protobuf.duration_pb2 import Duration

from gateway.limit_headers import limit_headers
from gateway.principal import Principal
from gateway.rates import Rates
from gateway.settings import GatewaySettings
from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import rpc_error
from tests.fakes.openai_calls import eventually
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc

WINDOW_S = 60.0


class Minutes:
    """Auth's windows of one key: grants a share of what is left, as auth does."""

    def __init__(self, clock: ManualClock, *, requests: int, tokens: int) -> None:
        self.clock = clock
        self.requests, self.tokens = requests, tokens
        self.used_requests = self.used_tokens = 0
        self.minute = 0
        self.share = 1
        self.asked: list[auth_pb2.LeaseRateRequest] = []
        self.error: TurnpikeError | None = None
        self.before_answer: Callable[[], object] = lambda: None
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def LeaseRate(
        self, request: auth_pb2.LeaseRateRequest, *, timeout: float
    ) -> auth_pb2.LeaseRateResponse:
        assert timeout > 0
        self.asked.append(request)
        await asyncio.sleep(0)
        await self.is_open.wait()
        self.before_answer()
        if self.error is not None:
            raise rpc_error(self.error)
        self._turn()
        free_requests = self.requests - self.used_requests
        free_tokens = self.tokens - self.used_tokens
        has_requests = not self.requests or request.request_count <= free_requests
        has_tokens = not self.tokens or request.token_count <= free_tokens
        is_granted = has_requests and has_tokens
        requests = self._share(request.request_count, free_requests) if is_granted else 0
        tokens = self._share(request.token_count, free_tokens) if is_granted else 0
        self.used_requests += requests if self.requests else 0
        self.used_tokens += tokens if self.tokens else 0
        left = Duration()
        left.FromMilliseconds(round((WINDOW_S - self.clock.monotonic_s() % WINDOW_S) * 1000))
        return auth_pb2.LeaseRateResponse(
            is_granted=is_granted,
            granted_request_count=requests,
            granted_token_count=tokens,
            remaining_request_count=self.requests - self.used_requests if self.requests else 0,
            remaining_token_count=self.tokens - self.used_tokens if self.tokens else 0,
            window_left=left,
            is_token_limited=has_requests and not has_tokens,
            requests_per_minute=self.requests,
            tokens_per_minute=self.tokens,
        )

    def _turn(self) -> None:
        minute = int(self.clock.monotonic_s() // WINDOW_S)
        if minute != self.minute:
            self.minute, self.used_requests, self.used_tokens = minute, 0, 0

    def _share(self, needed: int, free: int) -> int:
        return max(needed, min(free, self.share)) if needed else 0


class Desk:
    """Rates over auth's windows."""

    def __init__(self, *, requests: int = 0, tokens: int = 0, share: int = 1) -> None:
        self.clock = ManualClock()
        self.auth = Minutes(self.clock, requests=requests, tokens=tokens)
        self.auth.share = share
        self.caller = Principal(
            account_id="", key_id="key", requests_per_minute=requests, tokens_per_minute=tokens
        )
        self.rates = Rates(
            auth=cast("auth_pb2_grpc.AuthServiceAsyncStub", self.auth),
            settings=GatewaySettings(waiters_max=60, verdicts_max=2),
            clock=self.clock,
            holder_id="worker",
        )

    async def draw(self, tokens: int = 1) -> object:
        return self.rates.try_draw(self.caller, tokens) or await self.rates.draw(
            self.caller, tokens
        )

    async def refusal(self, tokens: int = 1) -> TurnpikeError:
        with pytest.raises(TurnpikeError) as caught:
            await self.draw(tokens)
        return caught.value


async def test_requests_never_exceed_the_limit_of_a_window_however_many_come_at_once() -> None:
    desk = Desk(requests=10, share=3)

    outcomes = await asyncio.gather(*(desk.draw() for _ in range(50)), return_exceptions=True)

    refusals = [each for each in outcomes if isinstance(each, TurnpikeError)]
    assert 40 == len(refusals)
    assert {Reason.RATE_LIMIT_EXCEEDED} == {each.reason for each in refusals}
    assert 10 == desk.auth.used_requests


async def test_tokens_never_exceed_the_limit_of_a_window() -> None:
    desk = Desk(requests=100, tokens=1_000, share=50)

    outcomes = await asyncio.gather(*(desk.draw(90) for _ in range(20)), return_exceptions=True)

    refusals = [each for each in outcomes if isinstance(each, TurnpikeError)]
    assert 9 == len(refusals)
    assert {Reason.TOKENS_LIMIT_EXCEEDED} == {each.reason for each in refusals}


async def test_grant_is_used_up_before_auth_is_asked_again() -> None:
    desk = Desk(requests=100, share=10)

    for _ in range(20):
        await desk.draw()

    assert 2 == len(desk.auth.asked)
    assert "worker" == desk.auth.asked[0].holder_id


async def test_refusals_say_the_limit_and_when_to_come_back_and_cost_no_call() -> None:
    desk = Desk(requests=2)
    await desk.draw()
    await desk.draw()
    desk.clock.advance(29.5)

    refusals = [await desk.refusal() for _ in range(5)]

    assert "The limit is 2 requests per minute; try again in 31 s." == refusals[0].message
    assert {
        "retry_after_s": "31",
        "rate_limit": "2",
        "rate_reset_unix_s": str(1_760_000_000 + 60),
    } == refusals[4].metadata
    assert 2 == len(desk.auth.asked)


async def test_too_many_tokens_are_refused_while_fewer_still_fit() -> None:
    desk = Desk(tokens=100)
    await desk.draw(60)

    refusal = await desk.refusal(50)
    await desk.draw(40)

    assert Reason.TOKENS_LIMIT_EXCEEDED is refusal.reason
    assert "The limit is 100 tokens per minute; try again in 60 s." == refusal.message


async def test_new_window_starts_afresh_and_keeps_nothing_of_the_old_one() -> None:
    desk = Desk(requests=3, share=3)
    await desk.draw()
    desk.clock.advance(60)

    for _ in range(3):
        await desk.draw()

    assert Reason.RATE_LIMIT_EXCEEDED is (await desk.refusal()).reason


async def test_minute_that_turns_while_auth_is_asked_starts_the_new_window() -> None:
    desk = Desk(requests=9, tokens=100)

    def turn() -> None:
        if desk.clock.monotonic_s() < WINDOW_S:
            desk.clock.advance(2)

    await desk.draw(50)
    desk.rates.settle(await desk.rates.draw(desk.caller, 10), 0)
    desk.clock.advance(59)
    desk.auth.before_answer = turn

    await desk.draw(40)
    await desk.draw(60)
    refusal = await desk.refusal(1)

    assert Reason.TOKENS_LIMIT_EXCEEDED is refusal.reason
    assert (2, 100) == (desk.auth.used_requests, desk.auth.used_tokens)


async def test_what_others_take_meanwhile_is_asked_for_again() -> None:
    desk = Desk(tokens=100)
    desk.auth.share = 50
    first = await desk.rates.draw(desk.caller, 10)
    taken: list[object] = []
    desk.auth.before_answer = lambda: taken.append(desk.rates.try_draw(desk.caller, 40))

    await desk.draw(50)

    assert 10 == first.tokens
    assert taken[0] is not None
    assert 100 == desk.auth.used_tokens


async def test_unused_tokens_come_back_while_the_window_runs() -> None:
    desk = Desk(tokens=100)
    first = await desk.rates.draw(desk.caller, 100)

    desk.rates.settle(first, 30)
    second = await desk.rates.draw(desk.caller, 70)
    desk.clock.advance(60)
    third = await desk.rates.draw(desk.caller, 100)
    desk.rates.settle(second, 0)

    assert 1 + 1 == len(desk.auth.asked)
    assert desk.rates.try_draw(desk.caller, 1) is None
    assert 100 == third.tokens


async def test_usage_above_the_estimate_takes_nothing_back() -> None:
    desk = Desk(tokens=100)
    drawn = await desk.rates.draw(desk.caller, 50)

    desk.rates.settle(drawn, 500)

    await desk.draw(50)


async def test_kind_without_a_limit_is_not_counted() -> None:
    desk = Desk(requests=1_000, share=1_000)
    for _ in range(100):
        await desk.draw(1_000_000)
    desk.auth.tokens = 100
    desk.caller.tokens_per_minute = 100
    desk.clock.advance(60)

    await desk.draw(100)

    assert 100 == desk.auth.used_tokens


async def test_limit_that_auth_knows_and_the_verdict_does_not_is_kept() -> None:
    desk = Desk(tokens=1_000, share=100)
    desk.auth.requests = 2

    await desk.draw()
    await desk.draw()

    assert Reason.RATE_LIMIT_EXCEEDED is (await desk.refusal()).reason


async def test_raised_limit_counts_at_once() -> None:
    desk = Desk(requests=1)
    await desk.draw()
    await desk.refusal()
    desk.auth.requests = desk.caller.requests_per_minute = 2

    await desk.draw()

    assert 2 == desk.auth.used_requests


async def test_auth_away_is_said_so_and_nothing_is_let_through() -> None:
    desk = Desk(requests=10)
    desk.auth.error = TurnpikeError(Reason.UNAVAILABLE, "Away.")

    refusal = await desk.refusal()
    desk.auth.error = None
    await desk.draw()

    assert Reason.AUTH_UNAVAILABLE is refusal.reason
    assert {"retry_after_s": "1"} == refusal.metadata


async def test_refusal_of_auth_itself_is_passed_on() -> None:
    desk = Desk(requests=10)
    desk.auth.error = TurnpikeError(Reason.KEY_REVOKED, "The API key was revoked.")

    assert Reason.KEY_REVOKED is (await desk.refusal()).reason


async def test_cancelled_waiter_lets_the_next_one_ask() -> None:
    desk = Desk(requests=10)
    desk.auth.is_open.clear()
    async with asyncio.TaskGroup() as group:
        given_up = group.create_task(desk.draw())
        patient = group.create_task(desk.draw())
        await eventually(lambda: len(desk.auth.asked) == 1)
        given_up.cancel()
        desk.auth.is_open.set()

    assert given_up.cancelled()
    assert patient.result() is not None
    assert 0 == desk.rates._windows["key"].waiter_count


async def test_too_many_waiters_of_one_key_are_refused() -> None:
    desk = Desk(requests=1_000)

    outcomes = await asyncio.gather(*(desk.draw() for _ in range(61)), return_exceptions=True)

    refusals = [each for each in outcomes if isinstance(each, TurnpikeError)]
    assert [Reason.OVERLOADED] == [each.reason for each in refusals]


async def test_headers_show_the_tightest_limit_and_the_end_of_the_window() -> None:
    desk = Desk(requests=10, tokens=100)
    await desk.draw(80)
    desk.clock.advance(20.5)
    reset = str(1_760_000_000 + 60)

    during = desk.rates.reading(desk.caller)
    desk.clock.advance(40)
    after = desk.rates.reading(desk.caller)

    assert during is not None
    assert after is not None
    assert {
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "20",
        "X-RateLimit-Reset": reset,
    } == limit_headers(during)
    assert 100 == after.left


async def test_key_without_limits_has_no_headers() -> None:
    desk = Desk()

    assert desk.rates.reading(desk.caller) is None


async def test_windows_of_few_keys_are_kept() -> None:
    desk = Desk(requests=10)
    for key_id in ("a", "b", "c"):
        await desk.rates.draw(Principal("", key_id, requests_per_minute=10), 1)

    assert ["b", "c"] == list(desk.rates._windows)
