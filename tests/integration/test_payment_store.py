"""The ledger on SQLite and PostgreSQL: leases, settlement and the sweep, statement by statement."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.exc import IntegrityError

from kit.errors import Reason, TurnpikeError
from services.payment.ledger import Draft, Posting, available, debt, funding, held
from services.payment.store_books import Books
from services.payment.store_leases import Grant, Shortage
from services.payment.store_tables import account_chain, charges, entries, transactions
from tests.unit.payment.rig import Rig, checkpoint, intent, open_rig, outcome

HOUR_S = 3600.0


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        yield opened


async def test_lease_moves_part_of_the_balance_and_a_repeat_returns_the_first(rig: Rig) -> None:
    await rig.credit("a", 1_000)
    terms = rig.terms("a", 10, 200)

    first = await rig.store.lease(terms)
    again = await rig.store.lease(terms)

    assert first == again
    assert (800, 200, 0) == await rig.balance("a")


async def test_request_id_of_another_request_is_refused(rig: Rig) -> None:
    await rig.credit("a", 1_000)

    with pytest.raises(TurnpikeError) as refused:
        await rig.store.credit(
            account_id="a", amount_nusd=5, source="manual", request_id="id-000001"
        )

    assert Reason.ALREADY_EXISTS == refused.value.reason
    assert (1_000, 0, 0) == await rig.balance("a")


async def test_repeated_credit_is_added_once(rig: Rig) -> None:
    answers = [
        await rig.store.credit(account_id="a", amount_nusd=5, source="promo", request_id="r")
        for _ in range(3)
    ]

    assert [5, 5, 5] == [answer["available_nusd"] for answer in answers]
    assert {available("a"): 5, funding("promo"): -5} == await rig.balances()


async def test_lease_beyond_the_balance_is_a_shortage_that_names_what_is_held(rig: Rig) -> None:
    await rig.credit("a", 100)
    await rig.lease("a", 70)

    answer = await rig.store.lease(rig.terms("a", 31))

    assert Shortage(30, 70) == answer


async def test_account_that_owes_gets_no_lease_until_a_credit_pays_the_debt(rig: Rig) -> None:
    await rig.credit("a", 100)
    postings = (Posting(debt("a"), -30), Posting(funding("manual"), 30))
    refund = Draft("refund", "dispute", 0, postings)
    await rig.transactions.write(lambda connection: _post(Books(connection), refund))

    with pytest.raises(TurnpikeError) as refused:
        await rig.lease("a", 1)
    after = await rig.credit("a", 50)

    assert Reason.BILLING_NOT_ACTIVE == refused.value.reason
    assert (120, 0) == (after["available_nusd"], after["debt_nusd"])
    await rig.lease("a", 1)


async def test_two_hundred_parallel_leases_on_a_balance_for_ten_grant_exactly_ten(
    rig: Rig,
) -> None:
    await rig.credit("a", 70)

    answers = await asyncio.gather(*(rig.store.lease(rig.terms("a", 7)) for _ in range(200)))

    granted = [answer for answer in answers if isinstance(answer, Grant)]
    assert [7] * 10 == [answer.granted_nusd for answer in granted]
    assert (0, 70, 0) == await rig.balance("a")
    assert (await rig.verify()).is_clean


async def test_return_does_not_wait_for_outcomes_that_are_on_their_way(rig: Rig) -> None:
    await rig.credit("a", 1_000)
    lease_id, _ = await rig.lease("a", 100)
    await rig.settle(intent("r1", lease_id, 60))

    returned = await rig.give_back(lease_id, 90)
    await rig.settle(outcome("r1", lease_id, hold_nusd=60, charge_nusd=10))

    assert 90 == returned
    assert (990, 0, 10) == await rig.balance("a")


async def test_return_gives_back_no_more_than_the_lease_has_left(rig: Rig) -> None:
    await rig.credit("a", 1_000)
    lease_id, _ = await rig.lease("a", 100)

    first = await rig.give_back(lease_id, 70)
    second = await rig.give_back(lease_id, 70)

    assert (70, 30) == (first, second)
    assert (1_000, 0, 0) == await rig.balance("a")


async def test_repeated_return_counts_once(rig: Rig) -> None:
    await rig.credit("a", 1_000)
    lease_id, _ = await rig.lease("a", 100)

    answers = [
        await rig.store.give_back(lease_id=lease_id, undrawn_nusd=30, request_id="r")
        for _ in range(2)
    ]

    assert [("a", 30), ("a", 30)] == answers
    assert (930, 70, 0) == await rig.balance("a")


async def test_return_of_an_unknown_lease_is_not_found(rig: Rig) -> None:
    with pytest.raises(TurnpikeError) as refused:
        await rig.give_back("nowhere", 1)

    assert Reason.NOT_FOUND == refused.value.reason


async def test_lease_closes_when_all_of_it_is_accounted_for(rig: Rig) -> None:
    await rig.credit("a", 1_000)
    lease_id, _ = await rig.lease("a", 100)

    await rig.settle(outcome("r1", lease_id, hold_nusd=60, charge_nusd=20))
    open_count = (await rig.verify()).open_lease_count
    await rig.give_back(lease_id, 80)

    assert (1, 0) == (open_count, (await rig.verify()).open_lease_count)
    assert (980, 0, 20) == await rig.balance("a")


async def test_event_delivered_again_and_again_is_charged_once(rig: Rig) -> None:
    await rig.credit("a", 1_000)
    lease_id, _ = await rig.lease("a", 100)
    named = rig.parcel(intent("r1", lease_id, 60))
    ended = rig.parcel(outcome("r1", lease_id, hold_nusd=60, charge_nusd=20))

    await rig.deliver(ended)
    await rig.deliver(named, ended, ended)
    await rig.deliver(ended, named)

    assert (900, 80, 20) == await rig.balance("a")
    assert 0 == (await rig.verify()).open_hold_count


async def test_hundreds_of_events_with_some_known_among_them_are_charged_once_each(
    rig: Rig,
) -> None:
    await rig.credit("a", 10_000)
    leases = [(await rig.lease("a", 1_000))[0] for _ in range(3)]
    ended = [
        outcome(f"r{number:03d}", leases[number % 3], hold_nusd=9, charge_nusd=number % 7)
        for number in range(300)
    ]
    named = [intent(f"r{number:03d}", leases[number % 3], 9) for number in range(310)]

    await rig.settle(*named[:150], *ended[100:103])
    applied = await rig.settle(*ended, *named)

    assert (297, 3) == (applied.charge_count, applied.duplicate_count)
    costs = [number % 7 for number in range(300) if number % 7]
    proof = await rig.verify()
    assert proof.is_clean
    assert (len(costs), 10) == (proof.charge_count, proof.open_hold_count)
    assert (7_000, 3_000 - sum(costs), sum(costs)) == await rig.balance("a")


async def test_late_outcome_is_charged_to_the_balance_and_marked(rig: Rig) -> None:
    await rig.credit("a", 100)
    lease_id, _ = await rig.lease("a", 60)
    await rig.give_back(lease_id, 60)

    applied = await rig.settle(outcome("r1", lease_id, hold_nusd=60, charge_nusd=40))

    assert (1, 40, 0) == (applied.late_count, applied.charged_nusd, applied.writeoff_nusd)
    assert (60, 0, 40) == await rig.balance("a")


async def test_what_a_late_outcome_does_not_find_is_written_off(rig: Rig) -> None:
    await rig.credit("a", 100)
    lease_id, _ = await rig.lease("a", 60)
    await rig.give_back(lease_id, 60)
    await rig.lease("a", 90)

    applied = await rig.settle(outcome("r1", lease_id, hold_nusd=60, charge_nusd=40))

    assert (10, 30) == (applied.charged_nusd, applied.writeoff_nusd)
    assert (await rig.verify()).is_clean


async def test_sweep_waits_while_no_router_is_known(rig: Rig) -> None:
    await rig.credit("a", 100)
    await rig.lease("a", 60)
    rig.clock.advance(HOUR_S)

    swept = await rig.store.sweep()

    assert 0 == swept.released_nusd


async def test_sweep_waits_for_the_report_of_every_living_router(rig: Rig) -> None:
    await rig.credit("a", 100)
    await rig.lease("a", 60)
    before_end = rig.clock.unix_ms() + 1_000
    rig.clock.advance(HOUR_S)
    await rig.deliver(rig.parcel(watermark_unix_ms=before_end))

    early = await rig.store.sweep()
    await rig.settle()
    swept = await rig.store.sweep()

    assert (0, 60) == (early.released_nusd, swept.released_nusd)
    assert (100, 0, 0) == await rig.balance("a")


async def test_sweep_leaves_a_lease_alone_until_its_holds_had_time_to_report(rig: Rig) -> None:
    await rig.credit("a", 100)
    await rig.lease("a", 60)
    rig.clock.advance(rig.settings.lease_s + rig.settings.hold_ttl_s)
    await rig.settle()

    early = await rig.store.sweep()
    rig.clock.advance(1.0)
    await rig.settle()
    swept = await rig.store.sweep()

    assert (0, 60) == (early.released_nusd, swept.released_nusd)


async def test_sweep_releases_what_no_living_hold_names(rig: Rig) -> None:
    await rig.credit("a", 100)
    lease_id, _ = await rig.lease("a", 60)
    await rig.settle(intent("r1", lease_id, 25))
    rig.clock.advance(HOUR_S)
    await rig.settle(checkpoint("r1", lease_id, 25))

    swept = await rig.store.sweep()

    assert (35, ()) == (swept.released_nusd, swept.expired_requests)
    assert (75, 25, 0) == await rig.balance("a")


async def test_hold_without_a_sign_of_life_expires_and_its_outcome_is_late(rig: Rig) -> None:
    await rig.credit("a", 100)
    lease_id, _ = await rig.lease("a", 60)
    await rig.settle(intent("r1", lease_id, 25))
    rig.clock.advance(HOUR_S)
    await rig.settle()

    swept = await rig.store.sweep()
    applied = await rig.settle(outcome("r1", lease_id, hold_nusd=25, charge_nusd=20))

    assert (60, ("r1",)) == (swept.released_nusd, swept.expired_requests)
    assert 1 == applied.late_count
    assert (80, 0, 20) == await rig.balance("a")
    assert (await rig.verify()).is_clean


async def test_rest_of_a_hold_goes_back_after_its_lease_ended(rig: Rig) -> None:
    await rig.credit("a", 100)
    lease_id, _ = await rig.lease("a", 60)
    await rig.settle(intent("r1", lease_id, 60))
    rig.clock.advance(HOUR_S)
    await rig.settle(outcome("r1", lease_id, hold_nusd=60, charge_nusd=1))

    await rig.store.sweep()

    assert (99, 0, 1) == await rig.balance("a")
    assert 0 == (await rig.verify()).open_lease_count


async def test_sweep_forgets_old_leases_and_answers_but_never_a_credit(rig: Rig) -> None:
    credit = {"account_id": "a", "amount_nusd": 100, "source": "manual", "request_id": "c"}
    await rig.store.credit(**credit)  # type: ignore[arg-type]
    lease_id, _ = await rig.lease("a", 60)
    await rig.give_back(lease_id, 60)
    rig.clock.advance(rig.settings.answers_keep_s + HOUR_S)
    await rig.settle()
    await rig.store.sweep()

    with pytest.raises(TurnpikeError):
        await rig.give_back(lease_id, 60)
    again = await rig.store.credit(**credit)  # type: ignore[arg-type]

    assert 100 == again["available_nusd"]


@pytest.mark.parametrize("table", [transactions, entries, account_chain, charges])
@pytest.mark.parametrize("verb", ["update", "delete"])
async def test_ledger_is_append_only_by_trigger(rig: Rig, table: object, verb: str) -> None:
    await _settled(rig)
    statement = table.delete() if verb == "delete" else table.update().values(txn_seq=1)  # type: ignore[attr-defined]
    if table is transactions and verb == "update":
        statement = transactions.update().values(kind="x")

    with pytest.raises(IntegrityError, match="append-only"):
        await rig.transactions.write(lambda connection: connection.execute(statement))

    assert (await rig.verify()).is_clean


@pytest.mark.parametrize("seq_ahead", [1, 2])
async def test_database_refuses_a_transaction_that_is_unbalanced_or_not_next(
    rig: Rig, seq_ahead: int
) -> None:
    seq = (await rig.verify()).transaction_count + seq_ahead
    line = {"txn_seq": seq, "ledger_account": "revenue", "amount_nusd": 1}
    row = {"seq": seq, "kind": "x", "reference": "", "unix_ms": 0, "detail_hash": b"", "hash": b""}

    with pytest.raises(IntegrityError, match="does not sum to zero"):
        await rig.transactions.write(
            lambda connection: (
                connection.execute(entries.insert(), line),
                connection.execute(transactions.insert(), row),
            )
        )


async def test_database_refuses_an_entry_added_to_a_sealed_transaction(rig: Rig) -> None:
    await _settled(rig)
    line = {"txn_seq": 1, "ledger_account": "revenue", "amount_nusd": 1}

    with pytest.raises(IntegrityError, match="sealed"):
        await rig.transactions.write(lambda c: c.execute(entries.insert(), line))


async def test_database_refuses_an_entry_without_a_transaction(rig: Rig) -> None:
    line = {"txn_seq": 99, "ledger_account": "revenue", "amount_nusd": 1}

    with pytest.raises(IntegrityError):
        await rig.transactions.write(lambda c: c.execute(entries.insert(), line))


@pytest.mark.parametrize("account", [available("a"), held("a")])
async def test_database_refuses_an_overdrawn_customer(rig: Rig, account: str) -> None:
    draft = Draft("x", "", 0, (Posting(account, -1), Posting("revenue", 1)))

    with pytest.raises(IntegrityError, match="never_overdrawn"):
        await rig.transactions.write(lambda connection: _post(Books(connection), draft))


async def _settled(rig: Rig) -> None:
    await rig.credit("a", 1_000)
    lease_id, _ = await rig.lease("a", 100)
    await rig.settle(outcome("r1", lease_id, hold_nusd=60, charge_nusd=20))


def _post(books: Books, draft: Draft) -> None:
    books.post(draft)
    books.flush()
