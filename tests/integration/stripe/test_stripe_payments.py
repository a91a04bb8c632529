"""Payments, refunds and disputes in the ledger, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from kit.errors import Reason, TurnpikeError
from services.payment import ledger
from services.payment.ledger import Draft, Kind
from services.payment.store_books import Books
from services.payment.stripe.events import read_event
from services.payment.stripe.rules import CENT_NUSD
from services.payment.stripe.store_payments import Effect
from tests.fakes.stripe_server import event
from tests.unit.payment.stripe.wallet import (
    DAY_S,
    Wallet,
    charge,
    dispute,
    intent,
    open_wallet,
    refund,
    session,
)


@pytest.fixture
async def wallet(database_url: str) -> AsyncIterator[Wallet]:
    async with open_wallet(database_url) as opened:
        yield opened


async def test_row_17_checkout_and_intent_events_of_one_payment_credit_once(
    wallet: Wallet,
) -> None:
    await wallet.tell("checkout.session.completed", session("pi_1", 1_000))
    await wallet.tell("payment_intent.succeeded", intent("pi_1", 1_000))
    await wallet.tell("checkout.session.async_payment_succeeded", session("pi_1", 1_000))

    assert (1_000, 0) == await wallet.has_cents()
    assert -1_000 * CENT_NUSD == (await wallet.rig.balances())["funding:stripe"]


async def test_row_17_webhooks_of_one_payment_in_parallel_credit_once(wallet: Wallet) -> None:
    kinds = ["checkout.session.completed", "payment_intent.succeeded"] * 10
    about = {"checkout.session.completed": session, "payment_intent.succeeded": intent}

    await asyncio.gather(*(wallet.tell(kind, about[kind]("pi_1", 1_000)) for kind in kinds))

    assert (1_000, 0) == await wallet.has_cents()
    assert (await wallet.rig.verify()).is_clean


async def test_row_21_replayed_event_is_a_duplicate(wallet: Wallet) -> None:
    first = await wallet.tell("refund.created", refund("re_1", "pi_1", 5), event_id="evt_1")
    again = await wallet.tell("refund.created", refund("re_1", "pi_1", 5), event_id="evt_1")
    other = await wallet.tell("invoice.paid", {"id": "in_1"}, event_id="evt_2")

    assert (Effect.APPLIED, Effect.DUPLICATE, Effect.IGNORED) == (
        first.effect,
        again.effect,
        other.effect,
    )


async def test_payments_of_one_account_do_not_touch_another(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 1_000, "a")
    await wallet.pay("pi_2", 500, "b")

    assert ((1_000, 0), (500, 0)) == (await wallet.has_cents("a"), await wallet.has_cents("b"))


async def test_intent_that_is_told_for_another_account_stays_with_the_first(
    wallet: Wallet,
) -> None:
    await wallet.pay("pi_1", 1_000, "a")
    await wallet.pay("pi_1", 5_000, "b")

    assert ((1_000, 0), (0, 0)) == (await wallet.has_cents("a"), await wallet.has_cents("b"))


async def test_row_21_refunds_in_parts_take_from_the_balance(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 1_000)

    await wallet.tell("charge.refunded", charge("pi_1", 1_000, 300))
    await wallet.tell("charge.refunded", charge("pi_1", 1_000, 1_000))
    await wallet.tell("charge.refunded", charge("pi_1", 1_000, 300))

    assert (0, 0) == await wallet.has_cents()
    assert 0 == (await wallet.rig.balances())["funding:stripe"]


async def test_row_21_refund_above_the_balance_becomes_debt_and_stops_use(
    wallet: Wallet,
) -> None:
    await wallet.pay("pi_1", 1_000)
    await wallet.use(400 * CENT_NUSD)

    await wallet.tell("charge.refunded", charge("pi_1", 1_000, 1_000))

    assert (0, 400) == await wallet.has_cents()
    with pytest.raises(TurnpikeError) as refused:
        await wallet.rig.lease("a", 1)
    assert Reason.BILLING_NOT_ACTIVE is refused.value.reason
    assert "debt" == refused.value.metadata["limit_source"]


async def test_debt_is_paid_first_and_then_use_goes_on(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 1_000)
    await wallet.use(400 * CENT_NUSD)
    await wallet.tell("charge.refunded", charge("pi_1", 1_000, 1_000))

    await wallet.pay("pi_2", 399)
    with pytest.raises(TurnpikeError):
        await wallet.rig.lease("a", 1)
    await wallet.pay("pi_3", 11)

    assert (10, 0) == await wallet.has_cents()
    await wallet.use(10 * CENT_NUSD)


async def test_row_21_refund_that_is_told_before_its_payment_credits_it(wallet: Wallet) -> None:
    await wallet.tell("charge.refunded", charge("pi_1", 1_000, 400))
    await wallet.tell("payment_intent.succeeded", intent("pi_1", 1_000))

    assert (600, 0) == await wallet.has_cents()


async def test_row_21_dispute_that_is_told_before_its_payment_waits_for_it(
    wallet: Wallet,
) -> None:
    await wallet.tell("charge.dispute.created", dispute("dp_1", "pi_1", 1_000, "needs_response"))
    assert {} == await wallet.rig.balances()

    await wallet.tell("payment_intent.succeeded", intent("pi_1", 1_000))

    assert (0, 0) == await wallet.has_cents()


@pytest.mark.parametrize(("end", "cents"), [("won", (600, 0)), ("lost", (0, 400))])
async def test_row_21_dispute_takes_at_once_and_gives_back_when_won(
    wallet: Wallet, end: str, cents: tuple[int, int]
) -> None:
    await wallet.pay("pi_1", 1_000)
    await wallet.use(400 * CENT_NUSD)

    await wallet.tell("charge.dispute.created", dispute("dp_1", "pi_1", 1_000, "needs_response"))
    assert (0, 400) == await wallet.has_cents()
    await wallet.tell("charge.dispute.closed", dispute("dp_1", "pi_1", 1_000, end))
    await wallet.tell("charge.dispute.updated", dispute("dp_1", "pi_1", 1_000, "under_review"))

    assert cents == await wallet.has_cents()
    assert (await wallet.rig.verify()).is_clean


async def test_inquiry_takes_nothing(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 1_000)

    for status in ("warning_needs_response", "warning_closed"):
        await wallet.tell("charge.dispute.created", dispute("dp_1", "pi_1", 1_000, status))

    assert (1_000, 0) == await wallet.has_cents()


async def test_account_that_owes_is_asked_for_what_was_lent_out_and_pays_with_it(
    wallet: Wallet,
) -> None:
    await wallet.pay("pi_1", 1_000)
    lease_id, granted = await wallet.rig.lease("a", 400 * CENT_NUSD)

    await wallet.tell("charge.dispute.created", dispute("dp_1", "pi_1", 1_000, "needs_response"))
    assert (["a"], (0, 400)) == (wallet.called_back, await wallet.has_cents())
    await wallet.rig.give_back(lease_id, granted)
    await wallet.store.offset("a")

    assert (0, 0) == await wallet.has_cents()
    assert (await wallet.rig.verify()).is_clean


async def test_row_19_constraint_forbids_a_negative_balance(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 10)
    postings = ledger.balanced(
        ledger.Posting(ledger.available("a"), -11 * CENT_NUSD),
        ledger.Posting(ledger.funding("stripe"), 11 * CENT_NUSD),
    )

    def overdraw(connection: Connection) -> None:
        books = Books(connection)
        books.post(Draft(Kind.REVERSAL, "x", 1, postings))
        books.flush()

    with pytest.raises(IntegrityError, match="balances_never_overdrawn"):
        await wallet.rig.transactions.write(overdraw)
    assert (10, 0) == await wallet.has_cents()


async def test_card_that_was_saved_last_is_the_one_that_is_charged(wallet: Wallet) -> None:
    for card, created_s in (("pm_new", 2_000), ("pm_old", 1_000)):
        about = intent(f"pi_{card}", 100, payment_method=card)
        name = f"evt_{card}"
        body = event("payment_intent.succeeded", about, event_id=name, created_s=created_s)
        await wallet.intake.take(read_event(body))

    account, _, _ = await wallet.store.account("a")
    assert ("pm_new", "cus_a") == (account.payment_method_id, account.customer_id)


async def test_old_ids_and_payments_of_others_are_forgotten_and_ours_are_not(
    wallet: Wallet,
) -> None:
    await wallet.pay("pi_1", 1_000)
    await wallet.tell("refund.created", refund("re_x", "pi_foreign", 5), event_id="evt_x")
    wallet.rig.clock.advance(31 * DAY_S)

    await wallet.store.forget()

    assert await wallet.store.payment("pi_foreign") is None
    assert await wallet.store.payment("pi_1") is not None
    again = await wallet.tell("payment_intent.succeeded", intent("pi_1", 1_000), event_id="evt_1")
    assert (Effect.APPLIED, (1_000, 0)) == (again.effect, await wallet.has_cents())


async def test_only_one_charge_of_an_account_can_be_under_way(wallet: Wallet) -> None:
    def insert(number: int, connection: Connection) -> None:
        connection.execute(
            text(
                "INSERT INTO stripe_charges VALUES"
                " ('a', :number, 'recharge', 5, 'cus', 'pm', 'pending', '', '', 0, 0)"
            ),
            {"number": number},
        )

    await wallet.rig.transactions.write(partial(insert, 1))

    with pytest.raises(IntegrityError):
        await wallet.rig.transactions.write(partial(insert, 2))
