"""Fixtures of a whole site for the fuzz tier, and what its runs found, shown at their end."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from tests.fixtures.gateway import migrated_rooms

__all__ = ["migrated_rooms", "note", "tally"]
_FUZZED = "fuzzed"
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
    return lambda line: request.node.user_properties.append((_FUZZED, line))


@pytest.fixture
def tally(note: Note) -> Iterator[Tally]:
    """What is shown of this test's answers."""
    counted = Tally()
    yield counted
    statuses = ", ".join(f"{count} x {code}" for code, count in sorted(counted.statuses.items()))
    note(f"{counted.operation:22} {statuses}; slowest {counted.slowest_s * 1000:.0f} ms")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what the tests of this tier noted, whichever process they ran in."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [pair for each in reports for pair in getattr(each, "user_properties", ())]
    lines = {line for name, line in properties if name == _FUZZED}
    if lines:
        terminalreporter.section(_FUZZED)
        for line in sorted(lines):
            terminalreporter.line(line)
