"""Refunds in the ledger, on SQLite and PostgreSQL: charge and refund together, once, and proven."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import IntegrityError

from services.payment.ledger import INVALID_OUTPUT, REVENUE, refund
from services.payment.settlement import Losses
from services.payment.store_refunds import FlaggedKey
from services.payment.store_tables import refunds
from tests.unit.payment.rig import Rig, open_rig, outcome, refunded

HOUR_S = 3_600.0


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        await opened.credit("a", 1_000)
        yield opened


async def test_balance_after_a_refund_is_the_one_before_the_request(rig: Rig) -> None:
    before = await rig.balance("a")
    lease_id, _ = await rig.lease("a", 60)

    applied = await rig.settle(refunded("r1", lease_id, hold_nusd=60, charge_nusd=20))
    await rig.give_back(lease_id, 40)

    assert before == await rig.balance("a")
    assert (1, 1, 20) == (applied.charge_count, applied.refund_count, applied.refunded_nusd)
    balances = await rig.balances()
    assert (20, -20) == (balances[REVENUE], balances[refund(INVALID_OUTPUT)])
    answer = await rig.verify()
    assert [] == list(answer.findings)
    assert (20, 20) == (answer.charged_nusd, answer.refunded_nusd)


async def test_redelivered_refund_is_given_once(rig: Rig) -> None:
    lease_id, _ = await rig.lease("a", 60)
    parcel = rig.parcel(refunded("r1", lease_id, hold_nusd=60, charge_nusd=20))

    await rig.deliver(parcel)
    after = await rig.balances()
    again = await rig.deliver(parcel)

    assert (0, 1) == (again.refund_count, again.duplicate_count)
    assert after == await rig.balances()


async def test_what_was_written_off_is_not_given_back(rig: Rig) -> None:
    lease_id, _ = await rig.lease("a", 60)

    await rig.settle(refunded("r1", lease_id, hold_nusd=60, charge_nusd=90))

    assert (1_000, 0, 0) == await rig.balance("a")
    answer = await rig.verify()
    assert answer.is_clean
    assert (60, 30, 60) == (answer.charged_nusd, answer.writeoff_nusd, answer.refunded_nusd)


async def test_refund_above_its_charge_becomes_a_dead_letter(rig: Rig) -> None:
    lease_id, _ = await rig.lease("a", 60)
    event = refunded("r1", lease_id, hold_nusd=60, charge_nusd=20)
    event.refund_nusd = 21

    applied = await rig.store.settle([rig.parcel(event)], stream="USAGE")

    assert (0, 1) == (applied.charge_count, applied.dead_letter_count)
    assert (940, 60, 0) == await rig.balance("a")


async def test_rebuild_knows_refunds(rig: Rig) -> None:
    lease_id, _ = await rig.lease("a", 60)
    await rig.settle(
        refunded("r1", lease_id, hold_nusd=30, charge_nusd=20),
        outcome("r2", lease_id, hold_nusd=30, charge_nusd=7),
    )

    await rig.store.rebuild()

    assert (960, 33, 7) == await rig.balance("a")
    assert (await rig.verify()).is_clean


@pytest.mark.parametrize("verb", ["update", "delete"])
async def test_refunds_are_append_only_by_trigger(rig: Rig, verb: str) -> None:
    lease_id, _ = await rig.lease("a", 60)
    await rig.settle(refunded("r1", lease_id, hold_nusd=60, charge_nusd=20))
    statement = refunds.delete() if verb == "delete" else refunds.update().values(txn_seq=1)

    with pytest.raises(IntegrityError, match="append-only"):
        await rig.transactions.write(lambda connection: connection.execute(statement))


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        ("UPDATE refunds SET refunded_nusd = 19, refund_nusd = 19", "4"),
        ("UPDATE refunds SET event_id = 'r9\\:outcome'", "4"),
        ("UPDATE refunds SET txn_seq = NULL", "r1:outcome"),
        ("UPDATE refunds SET txn_seq = 3", "3"),
        ("UPDATE refunds SET refunded_nusd = 21, refund_nusd = 21", "r1:outcome"),
        ("DELETE FROM refunds", "a"),
    ],
)
async def test_verification_names_a_refund_that_was_tampered_with(
    rig: Rig, statement: str, subject: str
) -> None:
    lease_id, _ = await rig.lease("a", 60)
    await rig.settle(refunded("r1", lease_id, hold_nusd=60, charge_nusd=20))
    await rig.transactions.write(_drop_guards)
    await rig.transactions.write(partial(_execute, text(statement)))

    answer = await rig.verify()

    assert subject in {found.subject for found in answer.findings}


async def test_refund_that_metering_does_not_have_is_a_finding(rig: Rig) -> None:
    lease_id, _ = await rig.lease("a", 60)
    await rig.settle(refunded("r1", lease_id, hold_nusd=60, charge_nusd=20))
    rig.metering.charges["r1:outcome"].refund_nusd = 0

    answer = await rig.verify()

    assert [("usage", "r1:outcome")] == [(f.check, f.subject) for f in answer.findings]


async def test_key_with_many_refunds_is_flagged_once_an_hour(rig: Rig) -> None:
    most, losses = rig.settings.refunds_per_hour_max, Losses()
    lease_id, _ = await rig.lease("a", 500)

    async def give_back(first: int, count: int) -> tuple[FlaggedKey, ...]:
        events = [
            refunded(f"r{number}", lease_id, hold_nusd=1, charge_nusd=1)
            for number in range(first, first + count)
        ]
        applied = await rig.settle(*events)
        losses.add(applied)
        return applied.flagged

    assert () == await give_back(0, most)
    assert (FlaggedKey("key", most + 2),) == await give_back(100, 2)
    assert () == await give_back(200, 2)
    rig.clock.advance(HOUR_S)
    assert () == await give_back(300, 1)
    assert (FlaggedKey("key", most + 1),) == await give_back(400, most)
    assert (2, 2 * most + 5) == (losses.flagged_count, losses.refund_count)


def _execute(statement: TextClause, connection: Connection) -> None:
    connection.execute(statement)


def _drop_guards(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(text("ALTER TABLE refunds DISABLE TRIGGER ALL"))
        return
    for verb in ("update", "delete"):
        connection.execute(text(f"DROP TRIGGER refunds_refuses_{verb}"))
