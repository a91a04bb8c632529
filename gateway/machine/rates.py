"""Rate limits of payers without a key: nobody but this worker counts them.

It stands where auth does for keys, so that limits, headers and refusals are the same.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from gateway.machine.settings import MachinePaymentSettings
from gateway.rates import RateGranter
from kit.clock import Clock
from turnpike.auth.v1 import auth_pb2

PAYER: Final = "tempo:"
"""What the key ids of payers begin with; those of keys are UUIDs."""
_WINDOW_MS: Final = 60_000


@dataclass(slots=True, eq=False)
class _Minute:
    """What is left of one payer's minute."""

    number: int
    requests_left: int
    tokens_left: int


class RateGrants:
    """Grants the rates of payers by itself, and asks auth for those of keys."""

    def __init__(
        self,
        *,
        auth: RateGranter,
        settings: MachinePaymentSettings,
        clock: Clock,
    ) -> None:
        self._auth = auth
        self._settings = settings
        self._clock = clock
        self._minutes: OrderedDict[str, _Minute] = OrderedDict()

    async def LeaseRate(  # noqa: N802 - auth's name for it
        self, request: auth_pb2.LeaseRateRequest, *, timeout: float
    ) -> auth_pb2.LeaseRateResponse:
        """Answer as auth does; `timeout` is in seconds."""
        if not request.key_id.startswith(PAYER):
            return await self._auth.LeaseRate(request, timeout=timeout)
        number, spent_ms = divmod(self._clock.unix_ms(), _WINDOW_MS)
        minute = self._minute(request.key_id, number)
        limits = self._settings
        is_token_limited = bool(limits.tokens_per_minute) and (
            request.token_count > minute.tokens_left
        )
        is_granted = not is_token_limited and not (
            limits.requests_per_minute and request.request_count > minute.requests_left
        )
        if is_granted:
            minute.requests_left -= request.request_count
            minute.tokens_left -= request.token_count
        answer = auth_pb2.LeaseRateResponse(
            is_granted=is_granted,
            granted_request_count=request.request_count if is_granted else 0,
            granted_token_count=request.token_count if is_granted else 0,
            remaining_request_count=max(0, minute.requests_left),
            remaining_token_count=max(0, minute.tokens_left),
            is_token_limited=is_token_limited,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
        )
        answer.window_left.FromMilliseconds(_WINDOW_MS - spent_ms)
        return answer

    def _minute(self, key_id: str, number: int) -> _Minute:
        minute = self._minutes.get(key_id)
        if minute is None or minute.number != number:
            limits = self._settings
            minute = _Minute(number, limits.requests_per_minute, limits.tokens_per_minute)
            self._minutes[key_id] = minute
        self._minutes.move_to_end(key_id)
        while len(self._minutes) > self._settings.payers_max:
            self._minutes.popitem(last=False)
        return minute
