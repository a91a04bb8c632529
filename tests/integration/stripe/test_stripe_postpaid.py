"""Accounts that use first and pay later: limit, threshold, growth, and what a decline does."""

from collections.abc import AsyncIterator

import pytest

from kit.errors import Reason, TurnpikeError
from services.payment.stripe.rules import CENT_NUSD
from tests.fakes.stripe_server import StripeServer, open_stripe_server
from tests.unit.payment.stripe.wallet import Wallet, dispute, open_wallet

USD = 100 * CENT_NUSD


@pytest.fixture
async def stripe() -> AsyncIterator[StripeServer]:
    async with open_stripe_server() as opened:
        yield opened


@pytest.fixture
async def wallet(database_url: str, stripe: StripeServer) -> AsyncIterator[Wallet]:
    """An account whose first dollar is used up and that is post-paid from then on."""
    async with open_wallet(database_url, stripe_url=stripe.url) as opened:
        await opened.with_card()
        await opened.use(USD)
        await opened.store.set_postpaid("a", is_postpaid=True)
        yield opened


async def limit_of(wallet: Wallet) -> int:
    account, _, _ = await wallet.store.account("a")
    return account.limit_nusd


async def test_limit_can_be_used_before_anything_is_paid(wallet: Wallet) -> None:
    assert (USD + USD // 10, 0) == await wallet.has()
    assert -(USD + USD // 10) == (await wallet.rig.balances())["funding:credit_limit"]

    await wallet.use(USD + USD // 10)

    with pytest.raises(AssertionError):
        await wallet.rig.lease("a", 1)


async def test_card_is_charged_at_a_dollar_and_the_limit_grows(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await wallet.use(USD // 2)
    await wallet.charger.turn()
    assert 0 == len(stripe.intents)

    await wallet.use(USD // 2 + 7)
    await wallet.charger.turn()

    (made,) = stripe.intents.values()
    assert 100 == made["amount"]
    assert USD + 2 * USD // 10 == await limit_of(wallet)
    assert (await limit_of(wallet) - 7, 0) == await wallet.has()


async def test_parts_of_a_cent_are_charged_with_a_later_charge(
    wallet: Wallet, stripe: StripeServer
) -> None:
    each = USD + CENT_NUSD // 2 + 1
    for _ in range(2):
        await wallet.use(each)
        await wallet.charger.turn()

    paid = sum(made["amount"] for made in stripe.intents.values())

    assert 2 * each // CENT_NUSD == paid == 201
    assert (await limit_of(wallet) - 2, 0) == await wallet.has()
    assert (await wallet.rig.verify()).is_clean


async def test_decline_suspends_at_once_and_what_was_not_paid_is_owed(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await wallet.use(USD)
    stripe.declined_cards.add("pm_a")

    await wallet.charger.turn()

    assert ((0, USD), 0) == (await wallet.has(), await limit_of(wallet))
    assert 0 == (await wallet.rig.balances())["funding:credit_limit"]
    with pytest.raises(TurnpikeError) as refused:
        await wallet.rig.lease("a", 1)
    assert Reason.BILLING_NOT_ACTIVE is refused.value.reason


async def test_suspended_account_is_back_once_all_is_paid(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await wallet.use(USD)
    stripe.declined_cards.add("pm_a")
    await wallet.charger.turn()

    await wallet.pay("pi_some", 60)
    assert ((0, 40 * CENT_NUSD), 0) == (await wallet.has(), await limit_of(wallet))
    await wallet.pay("pi_rest", 40)

    assert USD + 2 * USD // 10 == await limit_of(wallet)
    assert (await limit_of(wallet), 0) == await wallet.has()
    await wallet.charger.turn()
    assert 1 == len(stripe.intents)


async def test_decline_calls_back_what_was_lent_out(wallet: Wallet, stripe: StripeServer) -> None:
    await wallet.use(USD)
    await wallet.rig.lease("a", USD // 20)
    stripe.declined_cards.add("pm_a")

    await wallet.charger.turn()

    assert ["a"] == wallet.called_back


async def test_dispute_shrinks_the_limit_with_what_was_paid(wallet: Wallet) -> None:
    await wallet.tell(
        "charge.dispute.created", dispute("dp_1", "pi_first_a", 100, "needs_response")
    )

    assert USD == await limit_of(wallet)
    assert (0, 0) == await wallet.has()


async def test_turning_it_off_takes_the_limit_back(wallet: Wallet) -> None:
    await wallet.use(30 * CENT_NUSD)

    await wallet.store.set_postpaid("a", is_postpaid=False)

    assert ((0, 30 * CENT_NUSD), 0) == (await wallet.has(), await limit_of(wallet))
    with pytest.raises(TurnpikeError) as refused:
        await wallet.store.set_postpaid("a", is_postpaid=True)
    assert Reason.BILLING_NOT_ACTIVE is refused.value.reason


async def test_recharge_and_postpaid_exclude_each_other(wallet: Wallet) -> None:
    with pytest.raises(TurnpikeError) as refused:
        await wallet.store.set_recharge("a", below_nusd=1, cents=100, day_cents=100)
    assert "auto_recharge" == refused.value.metadata["param"]

    await wallet.with_card("b")
    await wallet.store.set_recharge("b", below_nusd=1, cents=100, day_cents=100)
    with pytest.raises(TurnpikeError) as refused:
        await wallet.store.set_postpaid("b", is_postpaid=True)
    assert "is_postpaid" == refused.value.metadata["param"]
