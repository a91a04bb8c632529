"""Statements of a write transaction: the same rows and the same errors on both engines."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from kit.db import open_database
from kit.db_statements import KeyedStatement, Statement
from kit.db_writer import Writer, open_writer

METADATA = MetaData()
ROWS = Table(
    "rows",
    METADATA,
    Column("name", String, primary_key=True),
    Column("amount", Integer, nullable=False),
    CheckConstraint("amount >= 0", name="never_negative"),
)
ADD = Statement(ROWS.insert(), "name", "amount")
ADD_ONCE = Statement(
    postgresql.insert(ROWS).on_conflict_do_nothing(),
    "name",
    "amount",
    on_sqlite=sqlite.insert(ROWS).on_conflict_do_nothing(),
)
CHANGE = Statement(
    update(ROWS).where(ROWS.c.name == bindparam("which")).values(amount=bindparam("new")),
    "which",
    "new",
)
FIND = Statement(select(ROWS.c.amount).where(ROWS.c.name == bindparam("which")), "which")
FIND_ALL = KeyedStatement(select(ROWS.c.name, ROWS.c.amount), ROWS.c.name)
EMPTY = KeyedStatement(update(ROWS).values(amount=literal_column("0")), ROWS.c.name)
DROP = KeyedStatement(delete(ROWS), ROWS.c.name)


@pytest.fixture
async def write(database_url: str) -> AsyncIterator[Writer]:
    async with open_database(database_url) as database:
        async with database.write() as connection:
            await connection.run_sync(METADATA.create_all)
        async with open_writer(database, name="rows") as opened:
            yield opened


def some(count: int) -> list[tuple[str, int]]:
    return [(f"n{number:03d}", number) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 63, 64, 65, 151])
async def test_any_number_of_rows_is_written_found_changed_and_dropped(
    write: Writer, count: int
) -> None:
    names = [name for name, _ in some(count)]

    await write(lambda connection: ADD.run_all(connection, some(count)))
    found = await write(lambda connection: FIND_ALL.rows(connection, [*names, "absent"]))
    await write(lambda connection: EMPTY.run(connection, names))
    emptied = await write(lambda connection: FIND_ALL.rows(connection, names))
    await write(lambda connection: DROP.run(connection, names[:-1]))
    left = await write(lambda connection: FIND_ALL.rows(connection, names))

    assert some(count) == sorted(tuple(row) for row in found)
    assert [(name, 0) for name in names] == sorted(tuple(row) for row in emptied)
    assert names[-1:] == [name for name, _ in left]


async def test_row_that_is_there_stays_as_it_is(write: Writer) -> None:
    await write(lambda connection: ADD.run_all(connection, [("n002", 7), ("n070", 7)]))

    await write(lambda connection: ADD_ONCE.run_all(connection, some(80)))
    found = await write(lambda connection: FIND_ALL.rows(connection, ["n002", "n003", "n070"]))

    assert [("n002", 7), ("n003", 3), ("n070", 7)] == sorted(tuple(row) for row in found)


async def test_values_go_where_they_are_named_and_changed_rows_are_counted(write: Writer) -> None:
    await write(lambda connection: ADD.run(connection, "a", 1))

    changed = await write(lambda connection: CHANGE.run(connection, "a", 5))
    missed = await write(lambda connection: CHANGE.run(connection, "b", 5))
    found = await write(lambda connection: FIND.rows(connection, "a"))

    assert (1, 0) == (changed, missed)
    assert [(5,)] == [tuple(row) for row in found]


@pytest.mark.parametrize("wrong", [("n001", 1), ("new", -1)])
async def test_broken_rule_is_an_integrity_error_and_leaves_nothing_of_its_transaction(
    write: Writer, wrong: tuple[str, int]
) -> None:
    with pytest.raises(IntegrityError):
        await write(lambda connection: ADD.run_all(connection, [*some(70), wrong]))
    found = await write(lambda connection: FIND_ALL.rows(connection, ["n000", "n001"]))

    assert [] == found


def test_statement_whose_parameters_are_not_those_that_are_named_is_refused() -> None:
    with pytest.raises(ValueError, match="are named"):
        Statement(ROWS.insert(), "name")
    with pytest.raises(ValueError, match="only keys"):
        KeyedStatement(update(ROWS).values(amount=3), ROWS.c.name)
