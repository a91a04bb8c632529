"""Promotional credit on SQLite and PostgreSQL: spent first, never money, gone when it ends."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import Connection, text

from kit.errors import Reason, TurnpikeError
from services.payment.ledger import (
    REVENUE,
    WRITEOFF,
    Draft,
    Posting,
    available,
    balanced,
    debt,
    funding,
)
from services.payment.promos.marks import GRANTED, SPENT, mark
from services.payment.promos.store import PromoTerms
from services.payment.store_books import Books
from services.payment.suppliers.earnings import earned
from tests.unit.payment.rig import Rig, open_rig, outcome, refunded, shared

DAY_S = 86_400.0


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        yield opened


async def spend(rig: Rig, request_id: str, amount_nusd: int, *, is_refunded: bool = False) -> None:
    lease_id, granted = await rig.lease("a", amount_nusd)
    made = refunded if is_refunded else outcome
    await rig.settle(made(request_id, lease_id, hold_nusd=amount_nusd, charge_nusd=amount_nusd))
    await rig.give_back(lease_id, granted - amount_nusd)


async def sweep(rig: Rig) -> int:
    await rig.settle()
    return (await rig.store.sweep()).ended_promos_nusd


async def test_gift_is_spent_before_money_and_counted_apart(rig: Rig) -> None:
    await rig.credit("a", 100)
    answer = await rig.give("a", 50)
    assert (150, 50) == (answer["available_nusd"], answer["promo_nusd"])

    await spend(rig, "r1", 30)
    assert 20 == (await rig.store.balance("a"))["promo_nusd"]
    await spend(rig, "r2", 30)

    balances = await rig.balances()
    assert (90, 0, 50) == (balances[available("a")], balances[mark("a")], balances[SPENT])
    assert (60, -50) == (balances[REVENUE], balances[funding("promo")])
    assert (await rig.verify()).is_clean


async def test_supplier_is_paid_for_what_a_gift_paid(rig: Rig) -> None:
    await rig.give("a", 100)
    lease_id, _ = await rig.lease("a", 100)

    await rig.settle(shared(outcome("r1", lease_id, hold_nusd=100, charge_nusd=100)))

    balances = await rig.balances()
    assert (90, 10) == (balances[earned("acme")], balances[REVENUE])
    assert (-100, 100) == (balances[funding("promo")], balances[SPENT])
    assert (await rig.verify()).is_clean


async def test_refund_never_turns_a_gift_into_money(rig: Rig) -> None:
    await rig.give("a", 50)

    await spend(rig, "r1", 30, is_refunded=True)

    found = await rig.store.balance("a")
    assert (50, 50) == (found["available_nusd"], found["promo_nusd"])
    assert (await rig.verify()).is_clean


async def test_repeated_gift_is_given_once_and_its_id_is_for_nothing_else(rig: Rig) -> None:
    terms = PromoTerms("a", 50, 0, "gift")

    first = await rig.store.give(terms)
    assert first == await rig.store.give(terms)

    with pytest.raises(TurnpikeError) as raised:
        await rig.store.give(PromoTerms("a", 50, 10**12, "gift"))
    assert Reason.ALREADY_EXISTS == raised.value.reason
    assert 50 == (await rig.store.balance("a"))["available_nusd"]


async def test_gift_that_ends_takes_what_is_left_of_it_and_no_money(rig: Rig) -> None:
    end = rig.clock.unix_ms() + 1_000 * int(DAY_S)
    await rig.give("a", 40)
    await rig.give("a", 50, ends_at_unix_ms=end)
    await rig.credit("a", 100)
    await spend(rig, "r1", 20)
    assert 0 == await sweep(rig)

    rig.clock.advance(DAY_S)

    assert 30 == await sweep(rig)
    found = await rig.store.balance("a")
    assert (140, 40) == (found["available_nusd"], found["promo_nusd"])
    assert (0, 0) == (await sweep(rig), (await rig.balances())[GRANTED] + 60)
    assert (await rig.verify()).is_clean


async def test_gift_in_a_lease_ends_when_it_comes_back(rig: Rig) -> None:
    await rig.give("a", 50, ends_at_unix_ms=rig.clock.unix_ms() + 1_000)
    lease_id, _ = await rig.lease("a", 50)
    rig.clock.advance(2.0)
    assert 0 == await sweep(rig)

    await rig.give_back(lease_id, 50)

    assert 50 == await sweep(rig)
    assert 0 == (await rig.store.balance("a"))["available_nusd"]
    assert (await rig.verify()).is_clean


async def test_gifts_that_end_sooner_are_used_first(rig: Rig) -> None:
    await rig.give("a", 50)
    await rig.give("a", 50, ends_at_unix_ms=rig.clock.unix_ms() + 1_000)
    await spend(rig, "r1", 50)

    rig.clock.advance(2.0)

    assert 0 == await sweep(rig)
    assert 50 == (await rig.store.balance("a"))["promo_nusd"]


async def test_gift_pays_a_debt_and_only_the_rest_is_one(rig: Rig) -> None:
    await rig.transactions.write(partial(_post, Posting(debt("a"), -30), Posting("x", 30)))

    found = await rig.give("a", 50)

    assert (20, 20, 0) == (found["available_nusd"], found["promo_nusd"], found["debt_nusd"])
    assert (await rig.verify()).is_clean
    await spend(rig, "r1", 20)
    assert (await rig.verify()).is_clean


async def test_mark_without_money_behind_it_counts_as_spent_when_it_ends(rig: Rig) -> None:
    await rig.give("a", 50, ends_at_unix_ms=rig.clock.unix_ms() + 1_000)
    taken = (Posting(available("a"), -20), Posting("taken:back", 20))
    await rig.transactions.write(partial(_post, *taken))
    rig.clock.advance(2.0)

    assert 30 == await sweep(rig)

    balances = await rig.balances()
    assert (0, 0, 20) == (balances[available("a")], balances[mark("a")], balances[SPENT])
    assert (await rig.verify()).is_clean


async def test_mark_that_is_not_what_the_gifts_have_left_is_a_finding(rig: Rig) -> None:
    await rig.give("a", 50)
    await rig.transactions.write(
        lambda connection: connection.execute(text("UPDATE promos SET spent_nusd = 1"))
    )

    answer = await rig.verify()

    assert [("promo", mark("a"))] == [(f.check, f.subject) for f in answer.findings]


async def test_sweep_says_what_is_lost_and_owed_in_all(rig: Rig) -> None:
    await rig.credit("a", 10)
    lease_id, _ = await rig.lease("a", 10)
    await rig.settle(outcome("r1", lease_id, hold_nusd=10, charge_nusd=25))
    await rig.transactions.write(partial(_post, Posting(debt("b"), -30), Posting("x", 30)))

    swept = await rig.store.sweep()

    assert (15, 1, 30) == (swept.writeoff_nusd, swept.debtor_count, swept.debt_nusd)
    answer = await rig.verify()
    assert (15, 30) == (answer.writeoff_nusd, answer.debt_nusd)
    assert -15 == (await rig.balances())[WRITEOFF]


def _post(*lines_and_connection: object) -> None:
    *lines, connection = lines_and_connection
    assert isinstance(connection, Connection)
    books = Books(connection)
    postings = balanced(*(line for line in lines if isinstance(line, Posting)))
    books.post(Draft("correction", "test", 1, postings))
    books.flush()
