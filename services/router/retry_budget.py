"""How many upstream calls may be second tries: a share of the calls of late; pure.

When much fails at once, trying everything again elsewhere would bring down who is still up. Only
calls that cost an upstream something are counted, and what failed is told to the caller as it is.
Source: Finagle's RetryBudget and "Site Reliability Engineering" (2016), chapter 21: a retry is paid
for by first calls, and a small reserve lets little traffic try again.
"""

from collections import deque
from typing import Final

from services.router.providers.port import Failure

RESERVE_COUNT: Final = 10
"""Second tries that need no other calls to pay for them."""

RESERVE_S: Final = 10.0
"""Time in which an empty reserve fills up again, seconds."""

SLICE_S: Final = 1.0
SLICES: Final = 10
"""Calls are of late for so many slices of time."""

FREE: Final = frozenset(
    {Failure.UNSUPPORTED, Failure.NOT_FOUND, Failure.KEY_REFUSED, Failure.KEY_LIMITED}
)
"""Failures by which a route, or an account's own key, says at once that it does not serve such
requests: going on to the next one is no second try, and nobody else is to pay for it."""


class RetryBudget:
    """Counts first calls and pays for second ones; times are loop seconds.

    `refused_count` is how many second tries were not made.
    """

    __slots__ = (
        "_call_sum",
        "_calls",
        "_end_s",
        "_reserve",
        "_reserve_s",
        "_retries",
        "_retry_sum",
        "_share",
        "refused_count",
    )

    def __init__(self, share: float) -> None:
        self._share = share
        self._calls: deque[int] = deque([0] * SLICES, SLICES)
        self._retries: deque[int] = deque([0] * SLICES, SLICES)
        self._call_sum = 0
        self._retry_sum = 0
        self._end_s = 0.0
        self._reserve = float(RESERVE_COUNT)
        self._reserve_s = 0.0
        self.refused_count = 0

    def called(self, now_s: float) -> None:
        """Count a request's first call."""
        if now_s >= self._end_s:
            self._move_on(now_s)
        self._calls[-1] += 1
        self._call_sum += 1

    def take(self, now_s: float) -> bool:
        """Return whether one more call may be made for a request, and pay for it if so."""
        if now_s >= self._end_s:
            self._move_on(now_s)
        if self._retry_sum < int(self._call_sum * self._share):
            self._retries[-1] += 1
            self._retry_sum += 1
            return True
        elapsed_s = max(0.0, now_s - self._reserve_s)
        self._reserve = min(
            float(RESERVE_COUNT), self._reserve + elapsed_s * RESERVE_COUNT / RESERVE_S
        )
        self._reserve_s = now_s
        if self._reserve >= 1.0:
            self._reserve -= 1.0
            return True
        self.refused_count += 1
        return False

    def _move_on(self, now_s: float) -> None:
        """Forget slices that are no longer of late."""
        count = min(SLICES, int((now_s - self._end_s) // SLICE_S) + 1)
        for _ in range(count):
            self._call_sum -= self._calls[0]
            self._retry_sum -= self._retries[0]
            self._calls.append(0)
            self._retries.append(0)
        self._end_s = (now_s // SLICE_S + 1) * SLICE_S
