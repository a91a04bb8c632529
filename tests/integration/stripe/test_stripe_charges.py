"""Cards that are charged with nobody there, against a Stripe that fails in every way it can."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import generate_latest

from kit.errors import Reason, TurnpikeError
from services.payment.stripe.rules import CENT_NUSD
from tests.fakes.stripe_server import StripeServer, open_stripe_server
from tests.unit.payment.stripe.wallet import DAY_S, Wallet, intent, open_wallet

USD = 100 * CENT_NUSD
CHARGE = ("POST", "/v1/payment_intents")


@pytest.fixture
async def stripe() -> AsyncIterator[StripeServer]:
    async with open_stripe_server() as opened:
        yield opened


@pytest.fixture
async def wallet(database_url: str, stripe: StripeServer) -> AsyncIterator[Wallet]:
    async with open_wallet(database_url, stripe_url=stripe.url) as opened:
        yield opened


async def recharged(wallet: Wallet, account_id: str = "a", *, day_cents: int = 10_000) -> None:
    """Let an account with one dollar be recharged by twenty below five."""
    await wallet.with_card(account_id)
    await wallet.store.set_recharge(
        account_id, below_nusd=5 * USD, cents=2_000, day_cents=day_cents
    )


def charges(stripe: StripeServer) -> int:
    """Return how often a charge was asked for."""
    return stripe.seen.count(CHARGE)


async def test_balance_below_the_threshold_is_recharged_once(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)

    for _ in range(3):
        await wallet.charger.turn()

    assert (2_100, 0) == await wallet.has_cents()
    assert (1, 1) == (charges(stripe), len(stripe.intents))
    assert (await wallet.rig.verify()).is_clean


async def test_row_18_at_most_one_charge_while_one_is_pending(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)
    stripe.faults.append("processing")

    for _ in range(5):
        await wallet.charger.turn()
    assert (1, (100, 0)) == (len(stripe.intents), await wallet.has_cents())
    assert (await wallet.store.account("a"))[2]

    (name,) = stripe.intents
    await wallet.tell("payment_intent.succeeded", stripe.succeed(name))
    await wallet.charger.turn()

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())
    assert not (await wallet.store.account("a"))[2]


async def test_row_18_charge_under_way_is_asked_about_when_no_webhook_comes(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)
    stripe.faults.append("processing")
    await wallet.charger.turn()
    (name,) = stripe.intents
    stripe.succeed(name)

    wallet.rig.clock.advance(61)
    await wallet.charger.turn()

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())


async def test_row_18_many_workers_at_once_charge_once(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)

    await asyncio.gather(*(wallet.charger.turn() for _ in range(8)))

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())


@pytest.mark.parametrize("fault", ["drop", "error", "refuse", "conflict"])
async def test_row_20_charge_without_an_answer_is_repeated_by_its_key_until_known(
    wallet: Wallet, stripe: StripeServer, fault: str
) -> None:
    await recharged(wallet)
    stripe.faults.extend([fault, fault] if fault in {"refuse", "conflict"} else [fault])

    await wallet.charger.turn()
    assert (100, 0) == await wallet.has_cents()
    for _ in range(4):
        wallet.rig.clock.advance(6)
        await wallet.charger.turn()

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())
    counted = generate_latest(wallet.registry).decode()
    assert 'stripe_charges_total{outcome="unanswered"}' in counted


async def test_row_20_replay_after_partial_success_charges_nobody_twice(
    wallet: Wallet, stripe: StripeServer
) -> None:
    names = [f"account-{number}" for number in range(6)]
    for name in names:
        await recharged(wallet, name)
    stripe.faults.extend(["", "drop", "error", "", "drop", ""])

    await wallet.charger.turn()
    for _ in range(3):
        wallet.rig.clock.advance(6)
        await wallet.charger.turn()

    assert 6 == len(stripe.intents)
    assert [(2_100, 0)] * 6 == [await wallet.has_cents(name) for name in names]


async def test_charge_that_was_begun_by_a_process_that_died_is_finished_by_another(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)
    begun = await wallet.store.begin_charge("a")
    assert begun is not None
    assert wallet.cards is not None
    await wallet.cards.charge(begun)

    await wallet.charger.turn()

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())


async def test_answer_and_webhook_of_one_charge_credit_once(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)
    stripe.faults.append("drop")
    await wallet.charger.turn()
    (made,) = stripe.intents.values()

    await wallet.tell("payment_intent.succeeded", made)
    wallet.rig.clock.advance(6)
    await wallet.charger.turn()

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())


async def test_key_that_keeps_an_error_is_looked_up(wallet: Wallet, stripe: StripeServer) -> None:
    await recharged(wallet)
    stripe.faults.append("drop")
    await wallet.charger.turn()
    (key,) = [name for name in stripe._kept if name.startswith("turnpike:a:")]
    asked, _, _ = stripe._kept[key]
    stripe._kept[key] = (asked, 500, {"error": {"type": "api_error", "message": "No."}})

    wallet.rig.clock.advance(181)
    await wallet.charger.turn()

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())


async def test_charge_that_never_arrived_is_given_up_after_a_day_and_another_begun(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)
    stripe.faults.append("refuse")
    await wallet.charger.turn()

    wallet.rig.clock.advance(DAY_S)
    await wallet.charger.turn()
    assert (0, (100, 0)) == (len(stripe.intents), await wallet.has_cents())
    await wallet.charger.turn()

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())


async def test_key_that_is_taken_is_never_charged_by(wallet: Wallet, stripe: StripeServer) -> None:
    await recharged(wallet)
    stripe._kept["turnpike:a:1"] = ({"amount": "1"}, 200, {})

    await wallet.charger.turn()
    assert 0 == len(stripe.intents)
    await wallet.charger.turn()

    assert (1, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())


async def test_daily_cap_holds_until_the_next_day(wallet: Wallet, stripe: StripeServer) -> None:
    await recharged(wallet, day_cents=4_000)

    for day in (1, 2):
        for _ in range(3):
            await wallet.charger.turn()
            has, _ = await wallet.has()
            if has > USD:
                await wallet.use(has - USD)
        assert 2 * day == len(stripe.intents)
        wallet.rig.clock.advance(DAY_S)


async def test_declines_are_followed_by_pauses_and_then_by_an_end(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)
    stripe.declined_cards.add("pm_a")

    await wallet.charger.turn()
    await wallet.charger.turn()
    assert 1 == len(stripe.intents)
    for hours in (1, 2, 3):
        wallet.rig.clock.advance(hours * 3_600 + 1)
        await wallet.charger.turn()
    wallet.rig.clock.advance(10 * DAY_S)
    await wallet.charger.turn()

    assert 3 == len(stripe.intents)
    account, _, _ = await wallet.store.account("a")
    assert (3, True) == (account.decline_count, account.is_suspended)
    refusal = await wallet.store.refusal("a")
    assert refusal is not None
    assert (Reason.BILLING_NOT_ACTIVE, "card") == (
        refusal.reason,
        refusal.metadata["limit_source"],
    )
    await wallet.use(USD)  # what was paid can still be used


async def test_recharge_that_is_set_again_is_tried_again_but_not_at_once(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await recharged(wallet)
    stripe.declined_cards.add("pm_a")
    await wallet.charger.turn()
    stripe.declined_cards.clear()

    await wallet.store.set_recharge("a", below_nusd=5 * USD, cents=2_000, day_cents=10_000)
    await wallet.charger.turn()
    assert 1 == len(stripe.intents)
    wallet.rig.clock.advance(3_601)
    await wallet.charger.turn()

    assert (2, (2_100, 0)) == (len(stripe.intents), await wallet.has_cents())


async def test_payment_ends_the_pause(wallet: Wallet, stripe: StripeServer) -> None:
    await recharged(wallet)
    stripe.declined_cards.add("pm_a")
    await wallet.charger.turn()

    paid = intent("pi_new", 100, payment_method="pm_other")
    await wallet.tell("payment_intent.succeeded", paid)
    await wallet.charger.turn()

    account, _, _ = await wallet.store.account("a")
    assert (0, False) == (account.decline_count, account.is_suspended)
    assert ("pm_other", (2_200, 0)) == (account.payment_method_id, await wallet.has_cents())


async def test_webhook_of_a_decline_counts_it_once(wallet: Wallet, stripe: StripeServer) -> None:
    await recharged(wallet)
    stripe.faults.append("decline")
    await wallet.charger.turn()
    (made,) = stripe.intents.values()

    await wallet.tell("payment_intent.payment_failed", made)
    await wallet.tell("payment_intent.payment_failed", made)

    account, _, _ = await wallet.store.account("a")
    assert 1 == account.decline_count


@pytest.mark.parametrize("is_card_there", [True, False])
async def test_recharge_needs_a_card(wallet: Wallet, is_card_there: bool) -> None:
    if is_card_there:
        await recharged(wallet)
        return
    with pytest.raises(TurnpikeError) as refused:
        await wallet.store.set_recharge("a", below_nusd=1, cents=100, day_cents=100)
    assert (Reason.BILLING_NOT_ACTIVE, "card") == (
        refused.value.reason,
        refused.value.metadata["limit_source"],
    )
