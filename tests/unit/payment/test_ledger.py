"""The arithmetic of the books."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.ledger import (
    GENESIS_HASH,
    REVENUE,
    WRITEOFF,
    Draft,
    Kind,
    Posting,
    Split,
    available,
    balanced,
    capture,
    charges_hash,
    credit,
    customer_of,
    debt,
    funding,
    held,
    lease_size,
    split_charge,
    transaction_hash,
)

AMOUNTS = st.integers(0, 10**15)


def test_charge_within_the_hold_comes_from_the_lease() -> None:
    split = split_charge(30, hold_nusd=100, lease_left_nusd=100, available_nusd=0)

    assert Split(30, 0, 0) == split


def test_charge_above_the_hold_is_written_off_not_charged() -> None:
    split = split_charge(130, hold_nusd=100, lease_left_nusd=500, available_nusd=500)

    assert Split(100, 0, 30) == split


def test_late_charge_comes_from_the_balance_and_what_is_missing_is_written_off() -> None:
    split = split_charge(80, hold_nusd=100, lease_left_nusd=10, available_nusd=50)

    assert Split(10, 50, 20) == split


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_no_charge_exceeds_its_hold_or_what_is_there(
    charge: int, hold: int, left: int, spendable: int
) -> None:
    split = split_charge(charge, hold_nusd=hold, lease_left_nusd=left, available_nusd=spendable)

    assert charge == split.charged_nusd + split.writeoff_nusd
    assert split.charged_nusd <= hold
    assert 0 <= split.from_held_nusd <= left
    assert 0 <= split.from_available_nusd <= spendable
    assert split.writeoff_nusd >= 0


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_capture_sums_to_zero_and_revenue_is_the_whole_charge(
    from_held: int, from_available: int, writeoff: int
) -> None:
    postings = capture("a", Split(from_held, from_available, writeoff))

    amounts = {posting.ledger_account: posting.amount_nusd for posting in postings}
    assert 0 == sum(amounts.values())
    assert from_held + from_available + writeoff == amounts.get(REVENUE, 0)
    assert -writeoff == amounts.get(WRITEOFF, 0)


def test_unbalanced_postings_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        balanced(Posting(REVENUE, 2), Posting(WRITEOFF, -1))


def test_balanced_postings_are_merged_sorted_and_without_zeros() -> None:
    postings = balanced(
        Posting("z", 5), Posting("b", -2), Posting("z", -3), Posting("n", 1), Posting("n", -1)
    )

    assert (Posting("b", -2), Posting("z", 2)) == postings


def test_credit_pays_what_is_owed_first() -> None:
    postings = credit("a", 100, source="manual", debt_nusd=30)

    expected = {funding("manual"): -100, debt("a"): 30, available("a"): 70}
    assert expected == {posting.ledger_account: posting.amount_nusd for posting in postings}


@pytest.mark.parametrize(
    ("need", "want", "balance", "expected"),
    [(10, 500, 4_000, 500), (10, 5_000, 4_000, 1_000), (10, 500, 20, 10), (10, 0, 4_000, 10)],
)
def test_lease_is_a_share_of_a_large_balance_and_the_need_of_a_small_one(
    need: int, want: int, balance: int, expected: int
) -> None:
    size = lease_size(
        need_nusd=need, want_nusd=want, available_nusd=balance, share=4, lease_max_nusd=1_000
    )

    assert expected == size


def test_customer_of_an_account_name_may_hold_colons() -> None:
    assert "x:y" == customer_of(held("x:y"))
    assert customer_of(REVENUE) is None


def test_every_field_of_a_transaction_is_under_its_hash() -> None:
    draft = Draft(Kind.CREDIT, "r", 5, (Posting("a", 1), Posting("b", -1)), b"d")
    others = [
        Draft(Kind.LEASE, "r", 5, draft.postings, b"d"),
        Draft(Kind.CREDIT, "s", 5, draft.postings, b"d"),
        Draft(Kind.CREDIT, "r", 6, draft.postings, b"d"),
        Draft(Kind.CREDIT, "r", 5, (Posting("a", 2), Posting("b", -2)), b"d"),
        Draft(Kind.CREDIT, "r", 5, draft.postings, b"e"),
    ]

    hashes = {transaction_hash(GENESIS_HASH, 1, each) for each in (draft, *others)}

    assert len(others) + 1 == len(hashes)
    assert transaction_hash(GENESIS_HASH, 1, draft) != transaction_hash(GENESIS_HASH, 2, draft)
    assert transaction_hash(b"x", 1, draft) != transaction_hash(GENESIS_HASH, 1, draft)


def test_hash_of_charges_does_not_depend_on_their_order() -> None:
    one, two = ("a", 1, 1, 0), ("b", 2, 1, 1)

    assert charges_hash([one, two]) == charges_hash([two, one])
    assert charges_hash([one]) != charges_hash([two])


def test_hash_of_charges_frames_fields_by_their_length_in_bytes() -> None:
    framed = b"1:a2:101:92:-1" + "3:ñb1:01:01:0".encode()

    expected = hashlib.sha256(framed).digest()

    assert expected == charges_hash([("ñb", 0, 0, 0), ("a", 10, 9, -1)])
