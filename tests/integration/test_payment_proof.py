"""Verification on both engines: it is clean after work, and names what was tampered with."""

import random
from collections.abc import AsyncIterator
from functools import partial

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, TextClause, inspect, text

from kit.db import downgrade, open_database
from services.payment.room import MIGRATIONS
from services.payment.store_tables import METADATA
from tests.unit.payment.play import play, random_turns
from tests.unit.payment.rig import Rig, intent, open_rig, outcome
from turnpike.metering.v1 import metering_pb2

_UNGUARDED = ("transactions", "entries", "account_chain", "charges")


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        await opened.credit("a", 1_000)
        await opened.credit("b", 500)
        lease_id, _ = await opened.lease("a", 100)
        await opened.settle(
            outcome("r1", lease_id, hold_nusd=60, charge_nusd=20),
            outcome("r2", lease_id, hold_nusd=30, charge_nusd=40),
            intent("r3", lease_id, 5),
        )
        yield opened


async def test_clean_books_report_their_sums(rig: Rig) -> None:
    answer = await rig.verify()

    assert answer.is_clean
    assert [] == list(answer.findings)
    assert (4, 2) == (answer.transaction_count, answer.charge_count)
    assert (50, 10) == (answer.charged_nusd, answer.writeoff_nusd)
    assert (1, 1, 50) == (answer.open_lease_count, answer.open_hold_count, answer.held_nusd)
    assert 1 == answer.compared_stream_seq


@pytest.mark.parametrize(
    ("statement", "check", "subject"),
    [
        ("UPDATE entries SET amount_nusd = amount_nusd + 1 WHERE txn_seq = 2", "zero_sum", "2"),
        ("UPDATE transactions SET reference = 'x' WHERE seq = 2", "chain", "2"),
        ("UPDATE transactions SET kind = 'x' WHERE seq = 3", "chain", "3"),
        ("DELETE FROM entries WHERE txn_seq = 2; DELETE FROM transactions WHERE seq = 2",
         "chain", "3"),
        ("DELETE FROM entries WHERE txn_seq = 4; DELETE FROM transactions WHERE seq = 4",
         "chain", "3"),
        ("UPDATE account_chain SET hash = transactions.hash FROM transactions"
         " WHERE account_seq = 1 AND transactions.seq = 2", "chain", "a:1"),
        ("DELETE FROM account_chain WHERE account_id = 'a' AND account_seq = 3", "chain", "4"),
        ("UPDATE balances SET balance_nusd = balance_nusd + 1"
         " WHERE ledger_account = 'customer\\:a\\:available'", "projection",
         "customer:a:available"),
        ("DELETE FROM balances WHERE ledger_account = 'revenue'", "projection", "revenue"),
        ("UPDATE accounts SET charged_nusd = 0 WHERE account_id = 'a'", "projection", "a"),
        ("UPDATE leases SET released_nusd = 1", "lease", "customer:a:held"),
        ("UPDATE charges SET charge_nusd = 21, charged_nusd = 21"
         " WHERE event_id = 'r1\\:outcome'", "usage", "4"),
        ("UPDATE charges SET event_id = 'r9\\:outcome' WHERE event_id = 'r1\\:outcome'",
         "usage", "4"),
        ("UPDATE charges SET txn_seq = NULL WHERE event_id = 'r1\\:outcome'", "usage",
         "r1:outcome"),
        ("UPDATE charges SET txn_seq = 1 WHERE event_id = 'r1\\:outcome'", "usage", "1"),
    ],
)  # fmt: skip
async def test_verification_names_what_was_tampered_with(
    rig: Rig, statement: str, check: str, subject: str
) -> None:
    await rig.transactions.write(_drop_guards)
    for part in statement.split(";"):
        await rig.transactions.write(partial(_execute, text(part)))

    answer = await rig.verify()

    assert not answer.is_clean
    assert (check, subject) in {(found.check, found.subject) for found in answer.findings}


async def test_charge_that_metering_lacks_is_a_finding(rig: Rig) -> None:
    del rig.metering.charges["r1:outcome"]

    answer = await rig.verify()

    assert [("usage", "r1:outcome")] == [(f.check, f.subject) for f in answer.findings]


async def test_charge_that_the_ledger_lacks_is_a_finding(rig: Rig) -> None:
    rig.metering.charges["r9:outcome"] = metering_pb2.Charge(
        event_id="r9:outcome", account_id="a", charge_nusd=1, stream_seq=1
    )

    answer = await rig.verify()

    assert [("usage", "r9:outcome")] == [(f.check, f.subject) for f in answer.findings]


async def test_charge_of_another_amount_is_a_finding(rig: Rig) -> None:
    rig.metering.charges["r1:outcome"].charge_nusd = 21

    answer = await rig.verify()

    assert [("usage", "r1:outcome")] == [(f.check, f.subject) for f in answer.findings]


async def test_charges_beyond_what_both_sides_applied_are_not_compared(rig: Rig) -> None:
    ahead = metering_pb2.Charge(event_id="r9:outcome", account_id="a", charge_nusd=1, stream_seq=2)
    rig.metering.charges["r9:outcome"] = ahead
    rig.metering.applied_seq = 2

    answer = await rig.verify()

    assert answer.is_clean
    assert 1 == answer.compared_stream_seq


async def test_rebuild_corrects_every_balance(rig: Rig) -> None:
    before = await rig.balances()
    await rig.transactions.write(
        lambda connection: (
            connection.execute(text("UPDATE balances SET balance_nusd = balance_nusd * 2")),
            connection.execute(text("DELETE FROM accounts")),
        )
    )

    corrected, count = await rig.store.rebuild()

    assert (len(before), len(before)) == (corrected, count)
    assert before == await rig.balances()
    assert (await rig.verify()).is_clean
    assert (0, len(before)) == await rig.store.rebuild()


async def test_books_go_on_after_a_rebuild(rig: Rig) -> None:
    await rig.store.rebuild()
    await rig.credit("a", 5)

    assert (await rig.verify()).is_clean


@pytest.mark.parametrize("seed", range(3))
async def test_same_traffic_gives_the_same_ledger_on_both_engines(
    sqlite_url: str, postgres_url: str, seed: int
) -> None:
    turns = random_turns(random.Random(seed), count=120)

    found = []
    for url in (sqlite_url, postgres_url):
        async with open_rig(url) as rig:
            await play(rig, turns)
            async with rig.store.snapshot() as snapshot:
                found.append((await rig.balances(), await snapshot.head()))

    assert found[0] == found[1]
    assert found[0][1][0] > 20


async def test_migrated_schema_is_the_one_the_statements_use(rig: Rig) -> None:
    differences = await rig.transactions.read(
        lambda connection: compare_metadata(MigrationContext.configure(connection), METADATA)
    )

    assert [] == differences


async def test_migration_can_be_taken_back(database_url: str) -> None:
    async with open_rig(database_url):
        pass

    await downgrade(database_url, MIGRATIONS, METADATA, "base")

    async with open_database(database_url) as database, database.read() as connection:
        tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    assert ["alembic_version"] == tables


def _execute(statement: TextClause, connection: Connection) -> None:
    connection.execute(statement)


def _drop_guards(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        for table in _UNGUARDED:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
        return
    for table in _UNGUARDED:
        for verb in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER {table}_refuses_{verb}"))
