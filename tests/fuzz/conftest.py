"""Fixtures of a whole site for the fuzz tier, and of what its runs show at their end."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest

from tests.fixtures.gateway import migrated_rooms
from tests.fixtures.summaries import FUZZED

__all__ = ["migrated_rooms", "note", "tally"]
Note: TypeAlias = Callable[[str], None]


@dataclass(slots=True)
class Tally:
    """Answers to one operation by status, and the slowest of them, seconds."""

    operation: str = ""
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def add(self, operation: str, status: int, took_s: float) -> None:
        """Count one answer."""
        self.operation = operation
        self.statuses[status] += 1
        self.slowest_s = max(self.slowest_s, took_s)


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Add a line to what is shown at the end of the run."""
    return lambda line: request.node.user_properties.append((FUZZED, line))


@pytest.fixture
def tally(note: Note) -> Iterator[Tally]:
    """What is shown of this test's answers."""
    counted = Tally()
    yield counted
    statuses = ", ".join(f"{count} x {code}" for code, count in sorted(counted.statuses.items()))
    note(f"{counted.operation:22} {statuses}; slowest {counted.slowest_s * 1000:.0f} ms")
