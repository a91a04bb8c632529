"""When a card is charged, how far credit reaches, and what of a payment was undone."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.stripe.rules import (
    CENT_NUSD,
    Account,
    Purpose,
    Purse,
    Reversal,
    Undoing,
    cents_up_to,
    credit_limit_nusd,
    due_charge,
    exact_cents,
    reversed_cents,
    unbilled_nusd,
)
from services.payment.stripe.settings import StripeSettings
from services.payment.stripe.store import rules_of

USD = 100 * CENT_NUSD
RULES = rules_of(StripeSettings())
PREPAID = Account(
    account_id="a",
    customer_id="cus_1",
    payment_method_id="pm_1",
    recharge_below_nusd=5 * USD,
    recharge_cents=2_000,
    recharge_day_cents=6_000,
    is_postpaid=False,
    limit_nusd=0,
    charge_count=0,
    decline_count=0,
    next_try_unix_ms=0,
    is_suspended=False,
)
POSTPAID = replace(
    PREPAID, recharge_below_nusd=0, recharge_cents=0, is_postpaid=True, limit_nusd=USD
)


def due(account: Account, purse: Purse, *, today_cents: int = 0) -> tuple[Purpose, int] | None:
    return due_charge(account, purse, RULES, today_cents=today_cents, now_ms=1_000)


def test_balance_below_the_threshold_is_recharged_by_a_fixed_amount() -> None:
    assert (Purpose.RECHARGE, 2_000) == due(PREPAID, Purse(5 * USD - 1, 0, 0))
    assert due(PREPAID, Purse(5 * USD, 0, 0)) is None


def test_what_is_lent_out_is_not_spent_yet() -> None:
    assert due(PREPAID, Purse(USD, 4 * USD, 0)) is None


@pytest.mark.parametrize(
    "account",
    [
        replace(PREPAID, payment_method_id=""),
        replace(PREPAID, customer_id=""),
        replace(PREPAID, is_suspended=True),
        replace(PREPAID, next_try_unix_ms=1_001),
        replace(PREPAID, recharge_below_nusd=0),
    ],
)
def test_account_without_card_or_recharge_or_between_declines_is_left(account: Account) -> None:
    assert due(account, Purse(0, 0, 0)) is None


def test_account_that_owes_is_not_charged_by_itself() -> None:
    assert due(PREPAID, Purse(0, 0, 1)) is None
    assert due(POSTPAID, Purse(0, 0, 1)) is None


def test_row_18_daily_cap_ends_recharges() -> None:
    assert due(PREPAID, Purse(0, 0, 0), today_cents=4_000) is not None
    assert due(PREPAID, Purse(0, 0, 0), today_cents=4_001) is None


def test_postpaid_card_is_charged_when_unbilled_use_reaches_the_threshold() -> None:
    rich = replace(POSTPAID, limit_nusd=10 * USD)

    assert due(rich, Purse(9 * USD + 1, 0, 0)) is None
    assert (Purpose.POSTPAID, 100) == due(rich, Purse(9 * USD, 0, 0))


def test_postpaid_card_is_charged_early_when_little_of_a_small_limit_is_left() -> None:
    assert due(POSTPAID, Purse(USD // 4, 0, 0)) is None
    assert (Purpose.POSTPAID, 75) == due(POSTPAID, Purse(USD // 4 - 1, 0, 0))


def test_postpaid_use_below_the_smallest_charge_waits() -> None:
    assert due(POSTPAID, Purse(USD // 4 - 1, USD // 3, 0)) is None


@given(used_nusd=st.integers(0, 50 * USD))
def test_a_part_of_a_cent_is_carried_to_the_next_charge(used_nusd: int) -> None:
    account = replace(POSTPAID, limit_nusd=50 * USD)
    purse = Purse(50 * USD - used_nusd, 0, 0)

    cents = cents_up_to(unbilled_nusd(account, purse))
    after = purse._replace(available_nusd=purse.available_nusd + cents * CENT_NUSD)

    assert 0 <= unbilled_nusd(account, after) == used_nusd % CENT_NUSD < CENT_NUSD


def test_limit_grows_by_ten_cents_a_dollar_up_to_a_hundred() -> None:
    def limit(paid_cents: int) -> int:
        return credit_limit_nusd(POSTPAID, RULES, paid_cents=paid_cents)

    assert (USD, USD + USD // 10, 11 * USD) == (limit(0), limit(100), limit(10_000))
    assert 100 * USD == limit(99_000) == limit(10**9)
    assert USD + USD // 1000 == limit(1)


def test_suspended_or_prepaid_account_has_no_limit() -> None:
    assert 0 == credit_limit_nusd(PREPAID, RULES, paid_cents=10_000)
    suspended = replace(POSTPAID, is_suspended=True)
    assert 0 == credit_limit_nusd(suspended, RULES, paid_cents=10_000)


@pytest.mark.parametrize(("amount_nusd", "cents"), [(CENT_NUSD, 1), (CENT_NUSD + 1, None), (0, 0)])
def test_amount_is_whole_cents_or_none(amount_nusd: int, cents: int | None) -> None:
    assert cents == exact_cents(amount_nusd)


def refunded(cents: int, status: str = "succeeded") -> Reversal:
    return Reversal(Undoing.REFUND, cents, status)


def disputed(cents: int, status: str) -> Reversal:
    return Reversal(Undoing.DISPUTE, cents, status)


@pytest.mark.parametrize(
    ("charge_cents", "known", "cents"),
    [
        (0, [], 0),
        (300, [], 300),
        (0, [refunded(300), refunded(200)], 500),
        (500, [refunded(300)], 500),
        (500, [refunded(300), refunded(200)], 500),
        (500, [refunded(500, "failed")], 0),
        (500, [refunded(500, "failed"), refunded(500)], 500),
        (0, [disputed(1_000, "needs_response")], 1_000),
        (0, [disputed(1_000, "won")], 0),
        (0, [disputed(1_000, "lost")], 1_000),
        (0, [disputed(1_000, "warning_needs_response")], 0),
        (0, [disputed(1_000, "prevented"), refunded(1_000)], 1_000),
        (400, [disputed(1_000, "lost")], 1_000),
        (5_000, [], 1_000),
    ],
)
def test_row_21_what_is_undone_of_a_payment_of_ten_dollars(
    charge_cents: int, known: list[Reversal], cents: int
) -> None:
    assert {cents} == {reversed_cents(1_000, charge_cents, order) for order in permutations(known)}
