"""Statements of a write transaction at the price of their driver.

A statement is written once, in SQLAlchemy. On SQLite it is compiled once and handed to the driver
as it is, many rows to a step: each step gives the interpreter to other threads and waits to have it
back, which under load costs more than the row. On PostgreSQL SQLAlchemy runs it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Select,
    Update,
    bindparam,
)
from sqlalchemy.dialects import sqlite

Values: TypeAlias = Sequence[Any]
Core: TypeAlias = Select[Any] | Insert | Update | Delete
_Filtered: TypeAlias = Select[Any] | Update | Delete
STEP_ROWS_MAX: Final = 64
_ROWS: Final = (STEP_ROWS_MAX, 16, 4)
_KEYS: Final = (4, 16, STEP_ROWS_MAX)
_SQLITE: Final = "sqlite"


class Statement:
    """A statement and the names of its parameters, in the order in which values are given.

    `on_sqlite` is the form for SQLite when that is another one. Driver errors reach the caller of
    the writer as SQLAlchemy's.
    """

    def __init__(self, core: Core, *names: str, on_sqlite: Core | None = None) -> None:
        self._names = names
        self._core = core
        self._core_sqlite = core if on_sqlite is None else on_sqlite
        self._sql, order = _compiled(self._core_sqlite)
        if sorted(order) != sorted(names):
            raise ValueError(f"The statement takes {order}; {names} are named.")
        self._arrange = itemgetter(*map(names.index, order)) if order != list(names) else None
        self._steps = [(size, _repeated(self._sql, len(names), size)) for size in _ROWS]

    def rows(self, connection: Connection, *values: Any) -> list[Values]:  # noqa: ANN401 - of a row
        """Return what a query finds."""
        if (driver := sqlite_driver(connection)) is not None:
            return driver.execute(self._sql, self._arranged(values)).fetchall()
        return [*connection.execute(self._of(connection), self._named(values))]

    def run(self, connection: Connection, *values: Any) -> int:  # noqa: ANN401 - those of a row
        """Run it for one row and return how many rows changed."""
        if (driver := sqlite_driver(connection)) is not None:
            return driver.execute(self._sql, self._arranged(values)).rowcount
        return connection.execute(self._of(connection), self._named(values)).rowcount

    def run_all(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Run it for each row; no row is none."""
        if not rows:
            return
        if (driver := sqlite_driver(connection)) is not None:
            self.run_on_sqlite(driver, rows)
        else:
            connection.execute(self._of(connection), [self._named(row) for row in rows])

    def run_on_sqlite(self, driver: sqlite3.Connection, rows: Sequence[Values]) -> int:
        """Run it for each row and return how many rows changed."""
        if self._arrange is not None:
            rows = [self._arrange(row) for row in rows]
        changed = done = 0
        for size, sql in self._steps:
            while sql and len(rows) - done >= size:
                values: list[Any] = []
                for row in rows[done : done + size]:
                    values += row
                changed += driver.execute(sql, values).rowcount
                done += size
        if done < len(rows):
            changed += driver.executemany(self._sql, rows[done:]).rowcount
        return changed

    def _arranged(self, values: Values) -> Values:
        return values if self._arrange is None else self._arrange(values)

    def _named(self, values: Values) -> dict[str, Any]:
        return dict(zip(self._names, values, strict=True))

    def _of(self, connection: Connection) -> Core:
        return self._core_sqlite if connection.dialect.name == _SQLITE else self._core


class KeyedStatement:
    """A query, change or deletion of the rows whose `column` is one of given keys."""

    def __init__(self, core: _Filtered, column: ColumnElement[str]) -> None:
        # A few forms that a repeated key fills up: each number of keys would be a new statement.
        self._steps = [(size, _of_keys_alone(core, column, size)) for size in _KEYS]
        self._core = core.where(column.in_(bindparam("keys", expanding=True)))

    def rows(self, connection: Connection, keys: Iterable[str]) -> list[Values]:
        """Return what a query finds, in no order; a row once, as long as no key is repeated."""
        if (driver := sqlite_driver(connection)) is not None:
            return [row for sql, step in self._filled(keys) for row in driver.execute(sql, step)]
        chosen = [*keys]
        return [*connection.execute(self._core, {"keys": chosen})] if chosen else []

    def run(self, connection: Connection, keys: Iterable[str]) -> None:
        """Run a change or a deletion."""
        if (driver := sqlite_driver(connection)) is not None:
            for sql, step in self._filled(keys):
                driver.execute(sql, step)
        elif chosen := [*keys]:
            connection.execute(self._core, {"keys": chosen})

    def _filled(self, keys: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
        left = [*keys]
        while left:
            size, sql = next(
                (step for step in self._steps if step[0] >= len(left)), self._steps[-1]
            )
            step, left = left[:size], left[size:]
            yield sql, step + step[-1:] * (size - len(step))


def sqlite_driver(connection: Connection) -> sqlite3.Connection | None:
    """Return the driver's own connection when it is the standard library's."""
    driver = connection.connection.driver_connection
    return driver if isinstance(driver, sqlite3.Connection) else None


def _compiled(core: Core) -> tuple[str, list[str]]:
    compiled = core.compile(dialect=sqlite.dialect())
    return str(compiled), list(compiled.positiontup or ())


def _of_keys_alone(core: _Filtered, column: ColumnElement[str], count: int) -> str:
    keys: list[BindParameter[str]] = [bindparam(f"key_{number}") for number in range(count)]
    sql, order = _compiled(core.where(column.in_(keys)))
    if len(order) != count:
        raise ValueError(f"The statement takes {order}; only keys are given.")
    return sql


def _repeated(sql: str, value_count: int, row_count: int) -> str | None:
    """Return an insert for several rows, None when it is another kind of statement."""
    one = f"({', '.join('?' * value_count)})"
    head, values, tail = sql.partition(f"VALUES {one}")
    return f"{head}{values}{f', {one}' * (row_count - 1)}{tail}" if values else None
