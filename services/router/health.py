"""Passive health of one deployment: a circuit breaker over a sliding window; pure.

Opens after 5 failures in a row, or when half of at least 10 calls within 30 s failed. It stays open
5 s, doubling to 20 s while probes keep failing, and lets exactly one call through to find out.
Answers that break their constraint open no breaker, because other requests are served well; they
are counted apart.

A rest that the upstream asked for, or that another router told of, is kept: neither a free probe
nor the late success of a call that began before ends it.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 30.0
WINDOW_CALLS_MIN: Final = 10
WINDOW_CALLS_MAX: Final = 1_000
CONSECUTIVE_MAX: Final = 5
OPEN_FIRST_S: Final = 5.0
OPEN_MAX_S: Final = 20.0
FAILED_OPEN_HALF_LIFE_S: Final = 300.0
FAILED_OPEN_MAX: Final = 16.0
"""Answers that broke their constraint: how fast they are forgotten, and most that are kept."""


def _ignored() -> None:
    """Tell nobody."""


def _ignored_turn(_rest_s: float) -> None:
    """Tell nobody."""


class Breaker:
    """Says whether a deployment may be called; times are loop seconds.

    `on_change` is called whenever the answer changes but by time; `on_turn` when it does so by our
    own experience, with how long no call should be made, 0 for none.
    """

    __slots__ = (
        "_calls",
        "_failed",
        "_in_a_row",
        "_is_probing",
        "_kept_until",
        "_on_change",
        "_on_turn",
        "_open_s",
        "_open_until",
    )

    def __init__(
        self,
        on_change: Callable[[], None] = _ignored,
        on_turn: Callable[[float], None] = _ignored_turn,
    ) -> None:
        self._on_change = on_change
        self._on_turn = on_turn
        self._calls: deque[tuple[float, bool]] = deque(maxlen=WINDOW_CALLS_MAX)
        self._failed = 0
        self._in_a_row = 0
        self._open_until = 0.0
        self._open_s = 0.0
        self._kept_until = 0.0
        self._is_probing = False

    @property
    def is_closed(self) -> bool:
        """Whether calls flow freely."""
        return self._open_s == 0.0

    def may_call(self, now_s: float) -> bool:
        """Return whether a call may be made, without claiming it."""
        return self._open_s == 0.0 or (now_s >= self._open_until and not self._is_probing)

    def retry_after_s(self, now_s: float) -> float:
        """Return how long until the next call may be tried; 0 when it may be now."""
        return 0.0 if self._open_s == 0.0 else max(0.0, self._open_until - now_s)

    def rest_s(self, now_s: float) -> float:
        """Return how long no call may be made: 0 when one may, infinite while one finds out."""
        if self._open_s == 0.0:
            return 0.0
        return math.inf if self._is_probing else max(0.0, self._open_until - now_s)

    def claim(self) -> None:
        """Say that a call is being made; while open it is the one that finds out."""
        if self._open_s and not self._is_probing:
            self._is_probing = True
            self._on_change()

    def succeeded(self, now_s: float) -> None:
        """Count a good call; an open breaker closes unless its rest is kept."""
        if self._open_s and (self._is_probing or now_s >= self._kept_until):
            self._reset()
        self._in_a_row = 0
        self._count(now_s, is_failure=False)

    def probed(self, now_s: float) -> None:
        """Take a free probe's good answer: a call may be tried at once, or after a kept rest."""
        until_s = max(now_s, self._kept_until)
        if self._open_until > until_s:
            self._open_until = until_s
            self._on_change()

    def cleared(self, now_s: float) -> None:
        """Take another router's word that it was answered: the next call may be tried at once."""
        self._kept_until = 0.0
        self.probed(now_s)

    def cool(self, until_s: float) -> None:
        """Take another router's word: no call until this loop time; the longest one counts."""
        self._kept_until = max(self._kept_until, until_s)
        if self._open_s == 0.0:
            self._open_s, self._open_until = OPEN_FIRST_S, until_s
            self._on_change()
        elif until_s > self._open_until:
            self._open_until = until_s
            self._on_change()

    def abandoned(self) -> None:
        """Forget a claimed call whose end says nothing about the deployment."""
        if self._is_probing:
            self._is_probing = False
            self._on_change()

    def failed(self, now_s: float, *, cool_s: float = 0.0) -> None:
        """Count a failed call; `cool_s` is a rest that the upstream asked for, seconds."""
        self._in_a_row += 1
        self._count(now_s, is_failure=True)
        if self._open_s:
            self._open(now_s, min(2 * self._open_s, OPEN_MAX_S), cool_s)
        elif cool_s or self._is_over():
            self._open(now_s, OPEN_FIRST_S, cool_s)

    def _is_over(self) -> bool:
        total = len(self._calls)
        return self._in_a_row >= CONSECUTIVE_MAX or (
            total >= WINDOW_CALLS_MIN and 2 * self._failed >= total
        )

    def _open(self, now_s: float, open_s: float, cool_s: float) -> None:
        self._is_probing = False
        self._open_s = open_s
        self._open_until = max(self._open_until, now_s + max(open_s, cool_s))
        if cool_s:
            self._kept_until = max(self._kept_until, now_s + cool_s)
        self._on_change()
        self._on_turn(self._open_until - now_s)

    def _reset(self) -> None:
        self._open_s = 0.0
        self._open_until = 0.0
        self._kept_until = 0.0
        self._is_probing = False
        self._calls.clear()
        self._failed = 0
        self._on_change()
        self._on_turn(0.0)

    def _count(self, now_s: float, *, is_failure: bool) -> None:
        calls = self._calls
        if len(calls) == WINDOW_CALLS_MAX:
            self._failed -= calls.popleft()[1]
        calls.append((now_s, is_failure))
        self._failed += is_failure
        while calls[0][0] < now_s - WINDOW_S:
            self._failed -= calls.popleft()[1]


class OpenFailures:
    """Answers that broke their constraint, halved every five minutes."""

    __slots__ = ("_at_s", "_level")

    def __init__(self) -> None:
        self._level = 0.0
        self._at_s = 0.0

    def add(self, now_s: float) -> None:
        """Count one, at this loop time."""
        self._level = min(FAILED_OPEN_MAX, self._left(now_s) + 1.0)
        self._at_s = now_s

    def weight(self, now_s: float) -> int:
        """Return how many there were lately; one is forgotten after a half-life."""
        return round(self._left(now_s))

    def _left(self, now_s: float) -> float:
        if self._level == 0.0:
            return 0.0
        halvings = (now_s - self._at_s) / FAILED_OPEN_HALF_LIFE_S
        return float(self._level * 0.5**halvings)
