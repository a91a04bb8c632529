"""Rate limits as shares of auth's one-minute windows, drawn in memory."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

import grpc
from kit.rpc.status import error_from_rpc

from gateway.settings import GatewaySettings
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc
from turnpike.type.v1 import principal_pb2


@dataclass(slots=True)
class Window:
    """One key's share of its current window; `*_left` is ours, `*_elsewhere` nobody's yet."""

    ends_s: float = 0.0
    requests_left: int = 0
    tokens_left: int = 0
    requests_elsewhere: int = 0
    tokens_elsewhere: int = 0
    requests_limit: int = 0
    tokens_limit: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class RateDraw:
    """What one request took; given back in part when it used fewer tokens."""

    window: Window
    ends_s: float
    tokens: int


class Rates:
    """Draws requests and tokens from rate leases."""

    def __init__(
        self,
        *,
        auth: "auth_pb2_grpc.AuthServiceAsyncStub",
        settings: GatewaySettings,
        clock: Clock,
        holder_id: str,
    ) -> None:
        self._auth = auth
        self._settings = settings
        self._clock = clock
        self._holder_id = holder_id
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def try_draw(self, principal: principal_pb2.Principal, tokens: int) -> RateDraw | None:
        """Take from what is held already; None when auth has to be asked."""
        window = self._windows.get(principal.key_id)
        if window is None or self._clock.monotonic_s() >= window.ends_s:
            return None
        return self._take(window, tokens)

    async def draw(self, principal: principal_pb2.Principal, tokens: int) -> RateDraw:
        """Take, asking auth for more of the window.

        Raises:
            TurnpikeError: `RATE_LIMIT_EXCEEDED` or `TOKENS_LIMIT_EXCEEDED` with `retry_after_s`;
                `AUTH_UNAVAILABLE`.
        """
        window = self._windows.setdefault(principal.key_id, Window())
        self._windows.move_to_end(principal.key_id)
        self._evict()
        async with window.lock:
            drawn = self.try_draw(principal, tokens)
            if drawn is not None:
                return drawn
            asked_s = self._clock.monotonic_s()
            answer = await self._lease(principal, window, tokens)
            self._note(window, answer, asked_s)
            if not answer.is_granted:
                raise _exceeded(window, answer)
            drawn = self._take(window, tokens)
            if drawn is None:
                raise _exceeded(window, answer)
            return drawn

    def settle(self, draw: RateDraw, tokens: int) -> None:
        """Give back what the request did not use, if its window still runs."""
        if draw.window.ends_s == draw.ends_s and tokens < draw.tokens:
            draw.window.tokens_left += draw.tokens - tokens

    def headers(self, principal: principal_pb2.Principal) -> dict[str, str]:
        """Return the X-RateLimit headers of the tightest bucket; none without a limit."""
        window = self._windows.get(principal.key_id)
        if window is None or not (window.requests_limit or window.tokens_limit):
            return {}
        limit, left = window.requests_limit, window.requests_left + window.requests_elsewhere
        tokens_left = window.tokens_left + window.tokens_elsewhere
        if window.tokens_limit and (not limit or tokens_left * limit < left * window.tokens_limit):
            limit, left = window.tokens_limit, tokens_left
        wait_s = max(0.0, window.ends_s - self._clock.monotonic_s())
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, left)),
            "X-RateLimit-Reset": str(self._clock.unix_ms() // 1000 + round(wait_s)),
        }

    def _take(self, window: Window, tokens: int) -> RateDraw | None:
        if window.requests_limit and window.requests_left < 1:
            return None
        if window.tokens_limit and window.tokens_left < tokens:
            return None
        window.requests_left -= 1
        window.tokens_left -= tokens
        return RateDraw(window, window.ends_s, tokens)

    async def _lease(
        self, principal: principal_pb2.Principal, window: Window, tokens: int
    ) -> auth_pb2.LeaseRateResponse:
        is_over = self._clock.monotonic_s() >= window.ends_s
        requests_left = 0 if is_over else window.requests_left
        tokens_left = 0 if is_over else window.tokens_left
        request = auth_pb2.LeaseRateRequest(
            key_id=principal.key_id,
            request_count=max(0, 1 - requests_left) if principal.requests_per_minute else 0,
            token_count=max(0, tokens - tokens_left) if principal.tokens_per_minute else 0,
            holder_id=self._holder_id,
        )
        try:
            return await self._auth.LeaseRate(request, timeout=self._settings.rpc_timeout_s)
        except grpc.RpcError as rpc_error:
            error = error_from_rpc(rpc_error)
            if error.outward.http_status < 500:
                raise error from rpc_error
            raise TurnpikeError(
                Reason.AUTH_UNAVAILABLE,
                "The rate limit cannot be checked right now.",
                retry_after_s="1",
            ) from rpc_error

    @staticmethod
    def _note(window: Window, answer: auth_pb2.LeaseRateResponse, asked_s: float) -> None:
        if asked_s >= window.ends_s:
            window.requests_left = window.tokens_left = 0
            window.ends_s = asked_s + answer.window_left.ToMilliseconds() / 1000
        window.requests_left += answer.granted_request_count
        window.tokens_left += answer.granted_token_count
        window.requests_elsewhere = answer.remaining_request_count
        window.tokens_elsewhere = answer.remaining_token_count
        window.requests_limit = answer.requests_per_minute
        window.tokens_limit = answer.tokens_per_minute

    def _evict(self) -> None:
        while len(self._windows) > self._settings.verdicts_max:
            self._windows.popitem(last=False)


def _exceeded(window: Window, answer: auth_pb2.LeaseRateResponse) -> TurnpikeError:
    wait_s = max(1, round(answer.window_left.ToMilliseconds() / 1000))
    if answer.is_token_limited:
        return TurnpikeError(
            Reason.TOKENS_LIMIT_EXCEEDED,
            f"The limit is {window.tokens_limit} tokens per minute; try again in {wait_s} s.",
            retry_after_s=str(wait_s),
        )
    return TurnpikeError(
        Reason.RATE_LIMIT_EXCEEDED,
        f"The limit is {window.requests_limit} requests per minute; try again in {wait_s} s.",
        retry_after_s=str(wait_s),
    )
