"""Fixtures of a whole site for the fuzz tier, and what its runs found, shown at their end."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fixtures.gateway import migrated_rooms

__all__ = ["migrated_rooms", "tally"]
_ANSWERS = "answers"
_COVERAGE = "coverage"


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
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """What is shown of this test's answers at the end of the run."""
    counted = Tally()
    yield counted
    statuses = ", ".join(
        f"{count} x {status}" for status, count in sorted(counted.statuses.items())
    )
    line = f"{counted.operation:22} {statuses}; slowest {counted.slowest_s * 1000:.0f} ms"
    request.node.user_properties.append((_ANSWERS, line))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what the tests of this tier counted, whichever process they ran in."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    lines = {
        text
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name in (_ANSWERS, _COVERAGE)
    }
    if lines:
        terminalreporter.section("fuzzed")
        for line in sorted(lines):
            terminalreporter.line(line)
