"""Time as a dependency: a port, the system's clock, and one for tests that stands still."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Durations come from `monotonic_s`, timestamps from `unix_ms`."""

    def unix_ms(self) -> int:
        """Return Unix time in milliseconds."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment; never goes back."""


class SystemClock:
    """The machine's clock."""

    # Asked ten times for each request: no frame of ours around it.
    monotonic_s = staticmethod(time.monotonic)

    def unix_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that moves when told to."""

    def __init__(self, unix_ms: int = 1_760_000_000_000) -> None:
        self._unix_ms = unix_ms
        self._monotonic_s = 0.0

    def unix_ms(self) -> int:
        """Return the set Unix time in milliseconds."""
        return self._unix_ms

    def monotonic_s(self) -> float:
        """Return seconds advanced so far."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._unix_ms += round(seconds * 1000)
        self._monotonic_s += seconds
