"""Fixtures of a whole site for the rows."""

from _pytest.terminal import TerminalReporter

from tests.fixtures.gateway import migrated_rooms, open_site
from tests.rows.table import ELSEWHERE, ROWS
from tests.rows.test_rows_complete import covered

__all__ = ["migrated_rooms", "open_site"]


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """List the rows of the feature table that are covered, and those that others build."""
    found = covered()
    terminalreporter.section("rows of the feature table")
    terminalreporter.line("covered: " + " ".join(row for row in ROWS if row in found))
    terminalreporter.line("elsewhere: " + " ".join(f"{r} ({why})" for r, why in ELSEWHERE.items()))
