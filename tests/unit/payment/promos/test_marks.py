"""Gifts as marks on a balance: what is given, used up and taken back always sums to nothing."""

from hypothesis import given
from hypothesis import strategies as st

from services.payment.batch import Known, LeaseState, Parcel, Plan, claims_of, plan_batch
from services.payment.ledger import REVENUE, available, debt, funding, held
from services.payment.promos.marks import GRANTED, SPENT, end, give, mark
from tests.unit.payment.rig import outcome, refunded
from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent

AMOUNTS = st.integers(1, 10**15)


def plan(*events: UsageEvent, gift: int) -> Plan:
    batch = UsageBatch(router_id="r", events=events)
    parcel = Parcel(1, batch.SerializeToString(), batch)
    known = Known(set(), {"l": LeaseState("a", 1_000, 0, 0)}, {}, gifts={"a": gift})
    opened = [(parcel, claims_of(parcel))]
    return plan_batch(opened, known, reference="t", now_ms=100, hold_ttl_ms=50)


def amounts(found: Plan) -> dict[str, int]:
    ((draft, _),) = found.posted
    return {line.ledger_account: line.amount_nusd for line in draft.postings}


@given(amount=AMOUNTS, owed=st.integers(0, 10**15))
def test_gift_pays_a_debt_first_and_that_part_is_spent(amount: int, owed: int) -> None:
    found = {p.ledger_account: p.amount_nusd for p in give("a", amount, debt_nusd=owed)}

    assert -amount == found[funding("promo")] == found[GRANTED]
    assert amount == found.get(debt("a"), 0) + found.get(available("a"), 0)
    assert found.get(mark("a"), 0) == found.get(available("a"), 0)
    assert found.get(SPENT, 0) == found.get(debt("a"), 0)


@given(amount=AMOUNTS)
def test_gift_that_ends_is_as_if_it_never_was(amount: int) -> None:
    given_ = give("a", amount, debt_nusd=0)
    ended = end("a", amount)

    assert list(given_) == [type(p)(p.ledger_account, -p.amount_nusd) for p in ended]


def test_charge_uses_gifts_up_first() -> None:
    found = plan(outcome("r1", "l", hold_nusd=100, charge_nusd=30), gift=20)

    expected = {held("a"): -30, REVENUE: 30, mark("a"): -20, SPENT: 20}
    assert expected == amounts(found)
    assert {"a": 20} == found.spent


def test_gift_is_not_used_for_what_is_given_back_at_once() -> None:
    found = plan(
        refunded("r1", "l", hold_nusd=100, charge_nusd=30),
        outcome("r2", "l", hold_nusd=100, charge_nusd=5),
        gift=20,
    )

    assert (-35, -5) == (amounts(found)[held("a")], amounts(found)[mark("a")])


def test_gift_is_not_used_for_what_is_written_off() -> None:
    found = plan(outcome("r1", "l", hold_nusd=10, charge_nusd=30), gift=20)

    assert {"a": 10} == found.spent


def test_account_without_gifts_is_posted_as_ever() -> None:
    found = plan(outcome("r1", "l", hold_nusd=100, charge_nusd=30), gift=0)

    assert {held("a"): -30, REVENUE: 30} == amounts(found)
    assert {} == found.spent
