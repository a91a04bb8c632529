"""How fast a deployment has been: moving averages of first token and token rate; pure.

A long prompt takes longer to be read, so the time to the first token is kept by size of prompt.
"""

from bisect import bisect_left, insort
from collections import deque
from typing import Final, NamedTuple

import msgspec

from services.router.catalog import DeploymentType

WEIGHT: Final = 0.2
"""How much the newest answer counts."""

SAMPLES_MIN: Final = 20
"""Fewer answers than these say nothing; then a deployment is taken to be like its type."""

STALE_S: Final = 30.0
"""After so long without an answer a figure is old, seconds."""

PROMPT_TOKENS: Final = (1_024, 8_192, 32_768)
"""Sizes of prompts that are told apart: up to each of these, and above."""

WINDOW: Final = 128
"""So many first tokens of each kind of request are remembered, the latest."""

LATE_PERCENT: Final = 95
"""Who takes longer than so many of a hundred is late."""

UNKNOWN: Final = -1.0
PRIORS: Final = {
    DeploymentType.NATIVE: (0.2, 60.0),
    DeploymentType.QUOTA: (0.5, 50.0),
    DeploymentType.EXTERNAL: (1.0, 40.0),
}
"""Seconds to the first token, and tokens per second after it."""


def size_of(prompt_tokens: int) -> int:
    """Return the index of a prompt's size."""
    for index, most in enumerate(PROMPT_TOKENS):
        if prompt_tokens <= most:
            return index
    return len(PROMPT_TOKENS)


class Speed(msgspec.Struct):
    """One deployment's averages; `ttft_s` by size of prompt, below 0 where nothing is known."""

    ttft_s: list[float] = msgspec.field(
        default_factory=lambda: [UNKNOWN] * (len(PROMPT_TOKENS) + 1)
    )
    tokens_per_s: float = 0.0
    sample_count: int = 0
    measured_s: float = 0.0

    def measured(
        self, *, prompt_tokens: int, ttft_s: float, duration_s: float, tokens: int, now_s: float
    ) -> None:
        """Take a finished answer, at this loop time."""
        rest_s = max(duration_s - ttft_s, 0.001)
        rate = max(tokens - 1, 1) / rest_s
        size = size_of(prompt_tokens)
        known_s = self.ttft_s[size]
        self.ttft_s[size] = ttft_s if known_s < 0 else known_s + WEIGHT * (ttft_s - known_s)
        self.sample_count += 1
        self.measured_s = now_s
        if self.sample_count == 1:
            self.tokens_per_s = rate
        else:
            self.tokens_per_s += WEIGHT * (rate - self.tokens_per_s)

    def is_stale(self, now_s: float) -> bool:
        """Return whether nothing was measured for long."""
        return self.sample_count < SAMPLES_MIN or now_s - self.measured_s > STALE_S


class Kind(NamedTuple):
    """Requests whose first tokens take about as long; `size` is that of the prompt."""

    operation: int
    is_streaming: bool
    size: int


class FirstTokens:
    """How long the first tokens of one deployment took of late, by kind of request, seconds."""

    __slots__ = ("_by_kind",)

    def __init__(self) -> None:
        self._by_kind: dict[Kind, tuple[deque[float], list[float]]] = {}

    def add(self, kind: Kind, first_s: float) -> None:
        """Remember one; the oldest is forgotten when there are too many."""
        latest, ordered = self._by_kind.setdefault(kind, (deque(), []))
        if len(latest) == WINDOW:
            del ordered[bisect_left(ordered, latest.popleft())]
        latest.append(first_s)
        insort(ordered, first_s)

    def late_s(self, kind: Kind) -> float | None:
        """Return after how long a first token is late; None while too few were seen."""
        found = self._by_kind.get(kind)
        if found is None or len(found[1]) < SAMPLES_MIN:
            return None
        ordered = found[1]
        return ordered[-(-len(ordered) * LATE_PERCENT // 100) - 1]
