"""What SQL alone can say is wrong with the books: two figures that should be equal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Two figures that should be equal, nano-USD; `check` and `subject` as in `Finding`."""

    check: str
    subject: str
    expected: int
    found: int


Check: TypeAlias = Callable[..., list[Discrepancy]]
"""Finds at most `count_max` discrepancies over one connection."""


def unequal(connection: Connection, check: str, query: Select[Any]) -> list[Discrepancy]:
    """Return the rows of a query as discrepancies: subject, expected and found figure."""
    return [
        Discrepancy(check, subject, int(expected), int(found))
        for subject, expected, found in connection.execute(query)
    ]
