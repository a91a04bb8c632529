"""Failures seen elsewhere, on both databases; the rows are those of facts/payments section 6."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kit.db import open_database
from kit.errors import Reason, TurnpikeError
from services.payment import store_settlement
from services.payment.caps.store_limits import Wanted
from services.payment.caps.windows import CapName, Window
from services.payment.ledger import Draft, Posting, available, funding
from services.payment.settlement import USAGE
from services.payment.store import PaymentStore
from services.payment.store_books import Books
from services.payment.store_engine import open_transactions
from services.payment.store_leases import Grant
from tests.unit.payment.rig import (
    Rig,
    account_cap,
    episode_cap,
    intent,
    key_budget,
    key_cap,
    open_rig,
    outcome,
)

FAULTS = 1_000


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        yield opened
        assert (await opened.verify()).is_clean


async def used(rig: Rig, name: CapName) -> int:
    wanted = Wanted(name.account_id, "", has_episodes=True, after=("", "", ""), count_max=100)
    return next(cap.used_nusd for cap in await rig.caps.page(wanted) if cap.name == name)


async def test_row_1_n_parallel_leases_against_a_budget_for_k_grant_k_over_two_replicas(
    rig: Rig, database_url: str
) -> None:
    await rig.credit("a", 10_000)
    await rig.cap(key_cap(Window.DAY), 70)
    async with (
        open_database(database_url) as database,
        open_transactions(database, settings=rig.settings) as transactions,
    ):
        other = PaymentStore(
            transactions, rig.settings, clock=rig.clock, new_id=lambda _: f"other-{next(rig.ids)}"
        )
        calls = [(rig.store, other)[number % 2].lease(rig.terms("a", 7)) for number in range(60)]
        answers = await asyncio.gather(*calls)

    granted = [answer for answer in answers if isinstance(answer, Grant)]
    assert 10 == len(granted)
    assert 70 == await used(rig, key_cap(Window.DAY))


async def test_row_2_first_parallel_leases_of_an_unknown_episode_keep_to_the_default(
    rig: Rig,
) -> None:
    await rig.credit("a", 10_000)
    await rig.cap(key_budget(), 21)

    answers = await asyncio.gather(
        *(rig.store.lease(rig.terms("a", 7, 700, episode_id="never-seen")) for _ in range(50))
    )

    assert 3 == sum(isinstance(answer, Grant) for answer in answers)


@pytest.mark.timeout(120)
async def test_row_3_holds_of_1000_crashed_requests_are_released(rig: Rig) -> None:
    await rig.credit("a", 50)
    await rig.cap(account_cap(Window.TOTAL), 50)

    for number in range(FAULTS // 10):
        leases = [(await rig.lease("a", 5))[0] for _ in range(10)]
        await rig.settle(
            *(intent(f"r{number}-{place}", lease, 5) for place, lease in enumerate(leases[::2]))
        )
        assert not isinstance(await rig.store.lease(rig.terms("a", 1)), Grant)
        for _ in range(3):
            rig.clock.advance(60.0)
            await rig.settle()
            await rig.store.sweep()

    assert (50, 0, 0) == await rig.balance("a")
    assert 0 == await used(rig, account_cap(Window.TOTAL))


@pytest.mark.parametrize("point", ["_write_state", "_advance"])
async def test_row_4_settlement_that_fails_halfway_counts_nothing_twice_and_loses_nothing(
    rig: Rig, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.credit("a", 1_000)
    await rig.cap(account_cap(Window.DAY), 500)
    lease_id, _ = await rig.lease("a", 100)
    parcel = rig.parcel(
        outcome("r1", lease_id, hold_nusd=60, charge_nusd=40),
        outcome("r2", "unknown", hold_nusd=60, charge_nusd=30),
    )
    with monkeypatch.context() as broken:
        broken.setattr(store_settlement, point, _fails)
        with pytest.raises(ZeroDivisionError):
            await rig.deliver(parcel)
    before = await rig.balance("a"), await used(rig, account_cap(Window.DAY))

    await rig.deliver(parcel)
    await rig.deliver(parcel)

    assert ((900, 100, 0), 100) == before
    assert (870, 60, 70) == await rig.balance("a")
    assert 130 == await used(rig, account_cap(Window.DAY))


def _fails(*_values: object, **_named: object) -> None:
    raise ZeroDivisionError


async def test_row_5_use_that_many_rebuild_at_once_is_counted_once(rig: Rig) -> None:
    await rig.credit("a", 1_000)
    lease_id, _ = await rig.lease("a", 100)
    await rig.settle(outcome("r1", lease_id, hold_nusd=100, charge_nusd=40))
    names = [account_cap(Window.MONTH), key_cap(Window.DAY)]

    await asyncio.gather(*(rig.cap(name, 200) for name in names for _ in range(10)))
    await asyncio.gather(*(rig.store.rebuild() for _ in range(5)))

    assert [100, 100] == [await used(rig, name) for name in names]


async def test_row_6_usage_redelivered_after_the_database_was_away_is_charged_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.credit("a", 1_000)
    lease_id, _ = await rig.lease("a", 100)
    parcel = rig.parcel(outcome("r1", lease_id, hold_nusd=60, charge_nusd=40))

    async def away(_work: Callable[[Connection], object]) -> object:
        raise OSError

    with monkeypatch.context() as broken:
        broken.setattr(rig.transactions, "_writer", away)
        with pytest.raises(TurnpikeError) as refused:
            await rig.store.settle([parcel], stream=USAGE)
    await rig.deliver(parcel)

    assert Reason.LEDGER_UNAVAILABLE == refused.value.reason
    assert 40 == (await rig.balance("a"))[2]


async def test_row_16_ids_of_one_tenant_mean_nothing_to_another(rig: Rig) -> None:
    for account in ("a", "b"):
        await rig.credit(account, 100)
        await rig.cap(episode_cap("same", account), 30)
        await rig.cap(key_cap(Window.DAY, "key", account), 60)
    terms = rig.terms("a", 30, episode_id="same")
    grant = await rig.store.lease(terms)
    assert isinstance(grant, Grant)

    with pytest.raises(TurnpikeError) as refused:
        await rig.store.lease(
            type(terms)("b", "key", "gateway", 30, 0, terms.request_id, episode_id="same")
        )
    other = await rig.store.lease(rig.terms("b", 30, episode_id="same"))
    await rig.settle(
        outcome("r1", grant.lease_id, hold_nusd=20, charge_nusd=20, account_id="b"),
    )

    assert Reason.ALREADY_EXISTS == refused.value.reason
    assert isinstance(other, Grant)
    assert (70, 30, 0) == await rig.balance("a")
    assert (50, 30, 20) == await rig.balance("b")
    assert (30, 50) == (
        await used(rig, key_cap(Window.DAY)),
        await used(rig, key_cap(Window.DAY, "key", "b")),
    )


async def test_row_19_database_refuses_a_negative_balance_whoever_writes_it(rig: Rig) -> None:
    await rig.credit("a", 5)
    postings = (Posting(available("a"), -6), Posting(funding("manual"), 6))
    draft = Draft("credit", "forged", 0, postings)

    with pytest.raises(IntegrityError):
        await rig.transactions.write(lambda connection: _post(Books(connection), draft))

    assert (5, 0, 0) == await rig.balance("a")


def _post(books: Books, draft: Draft) -> None:
    books.post(draft)
    books.flush()
