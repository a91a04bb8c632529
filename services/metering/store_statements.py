"""Inserts that are the same for both engines."""

from collections.abc import Callable
from typing import TypeAlias

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from kit.db_statements import Statement

Insert: TypeAlias = sqlite.Insert | postgresql.Insert


def once(insert: Insert) -> Insert:
    """Return an insert that leaves alone what is there."""
    return insert.on_conflict_do_nothing()


def dual(table: Table, finish: Callable[[Insert], Insert]) -> Statement:
    """Return an insert for both engines; rows are in the order of the columns."""
    return Statement(
        finish(postgresql.insert(table)),
        *table.columns.keys(),
        on_sqlite=finish(sqlite.insert(table)),
    )
