"""Rate limits as shares of auth's one-minute windows, drawn in memory."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import grpc

from gateway.limit_headers import Reading
from gateway.principal import Principal
from gateway.settings import GatewaySettings
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc
from turnpike.auth.v1 import auth_pb2

_ASKS_MAX = 3
_HALF_WINDOW_S = 30.0


@dataclass(slots=True)
class Window:
    """One key's share of its current window; `*_left` is ours, `*_elsewhere` nobody's yet.

    A limit of 0 means that there is none; then nothing is counted.
    """

    ends_s: float = 0.0
    requests_left: int = 0
    tokens_left: int = 0
    requests_elsewhere: int = 0
    tokens_elsewhere: int = 0
    requests_limit: int = 0
    tokens_limit: int = 0
    reset_unix_s: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiter_count: int = 0
    failure_count: int = 0


class RateDraw(NamedTuple):
    """What one request took; given back in part when it used fewer tokens."""

    window: Window
    ends_s: float
    tokens: int


class RateGranter(Protocol):
    """Who grants parts of rate windows: auth, or what stands before it."""

    @property
    def LeaseRate(self) -> Callable[..., Awaitable[auth_pb2.LeaseRateResponse]]:  # noqa: N802
        """Ask for a part of a window, as `AuthService.LeaseRate`."""


class Rates:
    """Draws requests and tokens from rate leases."""

    def __init__(
        self,
        *,
        auth: RateGranter,
        settings: GatewaySettings,
        clock: Clock,
        holder_id: str,
    ) -> None:
        self._auth = auth
        self._settings = settings
        self._clock = clock
        self._holder_id = holder_id
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def try_draw(self, principal: Principal, tokens: int) -> RateDraw | None:
        """Take from what is held already; None when auth has to be asked."""
        window = self._windows.get(principal.key_id)
        return None if window is None else self._take_in_time(window, tokens)

    async def draw(self, principal: Principal, tokens: int) -> RateDraw:
        """Take, asking auth for more of the window when it may have more.

        Raises:
            TurnpikeError: `RATE_LIMIT_EXCEEDED` or `TOKENS_LIMIT_EXCEEDED` with `retry_after_s`;
                `AUTH_UNAVAILABLE`; `OVERLOADED` when too many requests of the key wait already.
        """
        window = self._windows.setdefault(principal.key_id, Window())
        self._windows.move_to_end(principal.key_id)
        self._evict()
        if window.waiter_count >= self._settings.waiters_max:
            raise _crowded()
        window.waiter_count += 1
        failure_count = window.failure_count
        try:
            async with window.lock:
                if window.failure_count != failure_count:
                    # Who waited while auth failed to answer fails with it, not one by one.
                    raise _unavailable()
                return await self._draw_alone(principal, window, tokens)
        finally:
            window.waiter_count -= 1

    async def _draw_alone(self, principal: Principal, window: Window, tokens: int) -> RateDraw:
        for _ in range(_ASKS_MAX):
            drawn = self._take_in_time(window, tokens)
            if drawn is not None:
                return drawn
            self._check_hope(principal, window, tokens)
            asked_s = self._clock.monotonic_s()
            answer = await self._lease(principal, window, tokens)
            self._note(window, answer, asked_s)
            if not answer.is_granted:
                raise self._exceeded(window, is_token_limited=answer.is_token_limited)
            # Others may have drawn meanwhile, or a new minute has begun: then what came is short.
            drawn = self._take(window, tokens)
            if drawn is not None:
                return drawn
        raise _crowded()

    def settle(self, draw: RateDraw, tokens: int) -> None:
        """Give back what the request did not use, if its window still runs."""
        window = draw.window
        if window.ends_s == draw.ends_s and tokens < draw.tokens and window.tokens_limit:
            window.tokens_left += draw.tokens - tokens

    def reading(self, principal: Principal) -> Reading | None:
        """Return what is left of the tighter limit; None without one."""
        window = self._windows.get(principal.key_id)
        if window is None or not (window.requests_limit or window.tokens_limit):
            return None
        limit, left = window.requests_limit, window.requests_left + window.requests_elsewhere
        tokens_left = window.tokens_left + window.tokens_elsewhere
        if window.tokens_limit and (not limit or tokens_left * limit < left * window.tokens_limit):
            limit, left = window.tokens_limit, tokens_left
        reset_unix_s = window.reset_unix_s
        if self._clock.monotonic_s() >= window.ends_s:
            left, reset_unix_s = limit, math.ceil(self._clock.unix_ms() / 1000)
        return Reading(limit, max(0, left), reset_unix_s)

    def _take_in_time(self, window: Window, tokens: int) -> RateDraw | None:
        if self._clock.monotonic_s() >= window.ends_s:
            return None
        return self._take(window, tokens)

    def _take(self, window: Window, tokens: int) -> RateDraw | None:
        if window.requests_limit and window.requests_left < 1:
            return None
        if window.tokens_limit and window.tokens_left < tokens:
            return None
        if window.requests_limit:
            window.requests_left -= 1
        if window.tokens_limit:
            window.tokens_left -= tokens
        return RateDraw(window, window.ends_s, tokens)

    def _check_hope(self, principal: Principal, window: Window, tokens: int) -> None:
        """Refuse at once what auth would refuse: what nobody holds only shrinks within a window."""
        if self._clock.monotonic_s() >= window.ends_s or (
            (principal.requests_per_minute, principal.tokens_per_minute)
            != (window.requests_limit, window.tokens_limit)
        ):
            return
        if window.requests_limit and 1 - window.requests_left > window.requests_elsewhere:
            raise self._exceeded(window, is_token_limited=False)
        if window.tokens_limit and tokens - window.tokens_left > window.tokens_elsewhere:
            raise self._exceeded(window, is_token_limited=True)

    async def _lease(
        self, principal: Principal, window: Window, tokens: int
    ) -> auth_pb2.LeaseRateResponse:
        is_over = self._clock.monotonic_s() >= window.ends_s
        requests_left = 0 if is_over else window.requests_left
        tokens_left = 0 if is_over else window.tokens_left
        # The verdict may be older than what auth last said of the limits.
        has_requests_limit = principal.requests_per_minute or window.requests_limit
        has_tokens_limit = principal.tokens_per_minute or window.tokens_limit
        request = auth_pb2.LeaseRateRequest(
            key_id=principal.key_id,
            request_count=max(0, 1 - requests_left) if has_requests_limit else 0,
            token_count=max(0, tokens - tokens_left) if has_tokens_limit else 0,
            holder_id=self._holder_id,
        )
        try:
            return await self._auth.LeaseRate(request, timeout=self._settings.rpc_timeout_s)
        except grpc.RpcError as rpc_error:
            error = error_from_rpc(rpc_error)
            if error.outward.http_status < 500:
                raise error from rpc_error
            window.failure_count += 1
            raise _unavailable() from rpc_error

    def _note(self, window: Window, answer: auth_pb2.LeaseRateResponse, asked_s: float) -> None:
        ends_s = asked_s + answer.window_left.ToMilliseconds() / 1000
        # The minute may turn while auth is asked; its end is then far behind the one known.
        if asked_s >= window.ends_s or ends_s > window.ends_s + _HALF_WINDOW_S:
            window.requests_left = window.tokens_left = 0
            window.ends_s = ends_s
            wait_s = ends_s - self._clock.monotonic_s()
            window.reset_unix_s = math.ceil(self._clock.unix_ms() / 1000 + wait_s)
        window.requests_left += answer.granted_request_count
        window.tokens_left += answer.granted_token_count
        window.requests_elsewhere = answer.remaining_request_count
        window.tokens_elsewhere = answer.remaining_token_count
        window.requests_limit = answer.requests_per_minute
        window.tokens_limit = answer.tokens_per_minute

    def _evict(self) -> None:
        while len(self._windows) > self._settings.verdicts_max:
            self._windows.popitem(last=False)

    def _exceeded(self, window: Window, *, is_token_limited: bool) -> TurnpikeError:
        wait_s = max(1, math.ceil(window.ends_s - self._clock.monotonic_s()))
        reason, limit, what = Reason.RATE_LIMIT_EXCEEDED, window.requests_limit, "requests"
        if is_token_limited:
            reason, limit, what = Reason.TOKENS_LIMIT_EXCEEDED, window.tokens_limit, "tokens"
        return TurnpikeError(
            reason,
            f"The limit is {limit} {what} per minute; try again in {wait_s} s.",
            retry_after_s=str(wait_s),
            rate_limit=str(limit),
            rate_reset_unix_s=str(window.reset_unix_s),
        )


def _unavailable() -> TurnpikeError:
    return TurnpikeError(
        Reason.AUTH_UNAVAILABLE,
        "The rate limit cannot be checked right now.",
        retry_after_s="1",
    )


def _crowded() -> TurnpikeError:
    return TurnpikeError(
        Reason.OVERLOADED,
        "Too many requests of this key wait for their rate limit.",
        retry_after_s="1",
    )
