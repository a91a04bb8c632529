"""Machine payments in the books: each transaction sums to zero, a whole life to nothing."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.ledger import REVENUE, Posting, available
from services.payment.mpp import postings

CHANNEL = "0x" + "ab" * 32
PAYER = "0x" + "cd" * 20


def _sums(*drafts: tuple[Posting, ...]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for draft in drafts:
        assert 0 == sum(line.amount_nusd for line in draft)
        for line in draft:
            sums[line.ledger_account] += line.amount_nusd
    return sums


@given(
    spent_nusd=st.integers(0, 10**12),
    unspent_nusd=st.integers(0, 10**12),
    settled=st.integers(0, 10**9),
)
def test_life_of_a_channel_pays_what_was_spent_and_gains_less_than_a_base_unit(
    spent_nusd: int, unspent_nusd: int, settled: int
) -> None:
    accepted = postings.base_units_up(spent_nusd + unspent_nusd)
    settled = min(settled, spent_nusd // postings.NUSD_PER_BASE_UNIT)
    captured = postings.base_units_up(spent_nusd)
    left = accepted * postings.NUSD_PER_BASE_UNIT - spent_nusd
    account = available(postings.account_of(CHANNEL))
    used = (Posting(account, -spent_nusd), Posting(REVENUE, spent_nusd))

    sums = _sums(
        postings.promised(CHANNEL, accepted),
        used,
        postings.settled(CHANNEL, settled),
        postings.closed(
            CHANNEL,
            accepted=accepted,
            captured=captured,
            settled_before=settled,
            available_nusd=left,
        ),
    )

    assert 0 == sums[postings.escrow(CHANNEL)] == sums[account]
    assert -captured * postings.NUSD_PER_BASE_UNIT == sums[postings.SETTLED]
    assert 0 <= sums[postings.ROUNDING] < postings.NUSD_PER_BASE_UNIT
    assert 0 == sums[postings.LOST]


@given(spent=st.integers(1, 10**9), paid=st.integers(0, 10**9))
def test_what_a_payer_closed_away_is_lost_and_nothing_else(spent: int, paid: int) -> None:
    paid = min(paid, spent)
    lines = postings.closed(
        CHANNEL, accepted=spent, captured=paid, settled_before=0, available_nusd=0
    )

    sums = _sums(postings.promised(CHANNEL, spent), lines)

    assert (paid - spent) * postings.NUSD_PER_BASE_UNIT == sums[postings.LOST]
    assert 0 == sums[postings.escrow(CHANNEL)]


def test_capture_of_more_than_was_spent_is_refused() -> None:
    with pytest.raises(ValueError, match="1000 nUSD more"):
        postings.closed(CHANNEL, accepted=5, captured=3, settled_before=0, available_nusd=3_000)


@given(amount=st.integers(1, 10**12))
def test_transfer_that_is_sent_back_leaves_nothing(amount: int) -> None:
    sums = _sums(postings.transferred(PAYER, amount), postings.sent_back(PAYER, amount))

    assert {0} == set(sums.values())


def test_accounts_are_named_by_channel_or_payer() -> None:
    assert f"tempo:{CHANNEL}" == postings.account_of(CHANNEL)
    assert CHANNEL == postings.subject_of(f"tempo:{CHANNEL}")
    assert "" == postings.subject_of("acc_1")


@given(amount=st.integers(0, 2**62))
def test_base_units_are_rounded_up_by_less_than_one(amount: int) -> None:
    units = postings.base_units_up(amount)

    assert 0 <= units * postings.NUSD_PER_BASE_UNIT - amount < postings.NUSD_PER_BASE_UNIT


def test_failure_39_a_million_small_charges_drift_less_than_one_base_unit() -> None:
    spent_nusd = sum(10 for _ in range(1_000_000))

    assert 10_000 == postings.base_units_up(spent_nusd)
    assert 10_001 == postings.base_units_up(spent_nusd + 1)
