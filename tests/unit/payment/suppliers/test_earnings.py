"""What an outcome is owed, and the one transaction that owes it; before any database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.batch import Known, LeaseState, Parcel, Plan, claims_of, plan_batch
from services.payment.ledger import REVENUE, Kind
from services.payment.suppliers.earnings import (
    HASHED_COUNT,
    Earning,
    cost,
    earned,
    earnings_hash,
    owed_nusd,
    payable,
    payee_account,
    payee_of,
)
from tests.unit.payment.rig import costly, outcome, refunded, shared
from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent

AMOUNTS = st.integers(0, 10**15)


def plan(*events: UsageEvent, granted: int = 1_000) -> Plan:
    batch = UsageBatch(router_id="r", events=events)
    parcel = Parcel(1, batch.SerializeToString(), batch)
    known = Known(set(), {"l": LeaseState("a", granted, 0, 0)}, {})
    opened = [(parcel, claims_of(parcel))]
    return plan_batch(opened, known, reference="t", now_ms=100, hold_ttl_ms=50)


def amounts(found: Plan) -> dict[str, int]:
    assert found.earned_draft is not None
    assert Kind.EARNING == found.earned_draft.kind
    return {line.ledger_account: line.amount_nusd for line in found.earned_draft.postings}


@given(paid=AMOUNTS, fee=st.integers(0, 10_000))
def test_owner_keeps_the_fee_and_never_less(paid: int, fee: int) -> None:
    owed = owed_nusd(paid_nusd=paid, cost_nusd=0, fee_bps=fee, is_refused_supply=False)

    kept = paid - owed
    assert 0 <= owed <= paid
    assert kept * 10_000 >= paid * fee
    assert (kept - 1) * 10_000 < paid * fee or kept == 0


def test_charge_of_one_nano_usd_earns_nothing_when_there_is_a_fee() -> None:
    shares = [
        owed_nusd(paid_nusd=1, cost_nusd=0, fee_bps=fee, is_refused_supply=False)
        for fee in (0, 1, 10_000)
    ]

    assert [1, 0, 0] == shares


def test_batch_owes_each_supplier_its_sum_in_one_transaction() -> None:
    found = plan(
        shared(outcome("r1", "l", hold_nusd=400, charge_nusd=100)),
        shared(outcome("r2", "l", hold_nusd=400, charge_nusd=50)),
        shared(outcome("r3", "l", hold_nusd=400, charge_nusd=10), "other", fee_bps=0),
    )

    assert {REVENUE: -145, earned("acme"): 135, earned("other"): 10} == amounts(found)
    assert [90, 45, 10] == [row.owed_nusd for row in found.earned]


def test_provider_is_owed_its_cost_beside_what_customers_pay() -> None:
    found = plan(costly(outcome("r1", "l", hold_nusd=400, charge_nusd=100), 70))

    assert {cost("bought"): -70, payable("bought"): 70} == amounts(found)


def test_supplier_with_a_price_is_owed_it_even_when_less_was_paid() -> None:
    event = costly(outcome("r1", "l", hold_nusd=400, charge_nusd=10), 70, supplier_id="acme")

    assert {cost("bought"): -70, earned("acme"): 70} == amounts(plan(event))


@pytest.mark.parametrize("terms", ["share", "price"])
def test_answer_that_broke_its_constraint_earns_its_supplier_nothing(terms: str) -> None:
    event = refunded("r1", "l", hold_nusd=400, charge_nusd=100)
    event = shared(event) if terms == "share" else costly(event, 70, supplier_id="acme")

    found = plan(event)

    assert [(0, 0)] == [(row.paid_nusd, row.owed_nusd) for row in found.earned]
    assert found.earned_draft is None


def test_answer_that_broke_its_constraint_costs_the_owner_all_the_same() -> None:
    found = plan(costly(refunded("r1", "l", hold_nusd=400, charge_nusd=100), 70))

    assert {cost("bought"): -70, payable("bought"): 70} == amounts(found)


def test_share_is_of_what_was_paid_and_not_of_what_was_written_off() -> None:
    found = plan(shared(outcome("r1", "l", hold_nusd=40, charge_nusd=100)))

    assert [(40, 36)] == [(row.paid_nusd, row.owed_nusd) for row in found.earned]


def test_free_call_that_was_given_up_costs_the_operator() -> None:
    event = costly(outcome("r1:hedge", "", hold_nusd=0, charge_nusd=0), 70)

    found = plan(event)

    assert [] == found.posted
    assert {cost("bought"): -70, payable("bought"): 70} == amounts(found)


def test_repeated_outcome_is_owed_once() -> None:
    event = costly(outcome("r1", "l", hold_nusd=400, charge_nusd=100), 70)

    found = plan(event, event)

    assert (1, 1) == (len(found.earned), found.duplicate_count)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"provider": "x" * 201}, "supply.provider"),
        ({"provider": "a\nb"}, "supply.provider"),
        ({"supplier_id": "a:b"}, "supply.supplier_id"),
        ({"supplier_id": "é"}, "supply.supplier_id"),
        ({"fee_bps": 10_001}, "amount"),
        ({"fee_bps": -1}, "amount"),
        ({"cost_nusd": -1}, "amount"),
        ({"cost_nusd": 10**15 + 1}, "amount"),
        ({"supplier_id": ""}, "neither a supplier nor a cost"),
    ],
)
def test_terms_with_a_flaw_are_kept_aside_and_the_charge_stands(
    change: dict[str, object], says: str
) -> None:
    event = shared(outcome("r1", "l", hold_nusd=400, charge_nusd=100))
    for name, value in change.items():
        setattr(event.supply, name, value)

    found = plan(event)

    assert [100] == [charge.charged_nusd for charge in found.charges]
    assert [] == found.earned
    (letter,) = found.dead_letters
    assert says in letter.reason
    assert event == UsageEvent.FromString(letter.data)


def test_hash_covers_every_field_and_no_order() -> None:
    one, two = plan(
        shared(outcome("r1", "l", hold_nusd=400, charge_nusd=100)),
        costly(outcome("r2", "l", hold_nusd=400, charge_nusd=50), 7),
    ).earned
    rows = [one[:HASHED_COUNT], two[:HASHED_COUNT]]
    before = earnings_hash(rows)

    assert before == earnings_hash(reversed(rows))
    for name in Earning._fields[:HASHED_COUNT]:
        other = 12_345 if name.endswith(("nusd", "bps")) else "other"
        changed = Earning(**{**one._asdict(), name: other})
        assert before != earnings_hash([changed[:HASHED_COUNT], rows[1]]), name
    unfixed = one._replace(fee_bps=None)
    assert before != earnings_hash([unfixed[:HASHED_COUNT], rows[1]])


@given(names=st.lists(st.text(max_size=4), min_size=8, max_size=8))
def test_hash_tells_where_one_name_ends_and_the_next_begins(names: list[str]) -> None:
    one, two = tuple(names[:4]), tuple(names[4:])

    is_equal = earnings_hash([(*one, 1, 2, 3, 4)]) == earnings_hash([(*two, 1, 2, 3, 4)])

    assert (one == two) == is_equal


@pytest.mark.parametrize(
    ("payee_id", "account"),
    [
        ("supplier:acme", "supplier:acme:earned"),
        ("provider:open/router:1", "provider_payable:open/router:1"),
    ],
)
def test_payee_and_its_ledger_account_name_each_other(payee_id: str, account: str) -> None:
    assert account == payee_account(payee_id)
    assert payee_id == payee_of(account)


@pytest.mark.parametrize("text", ["", "acme", "supplier:", "supplier:a:b", "provider:", "x:y"])
def test_nobody_else_is_a_payee(text: str) -> None:
    assert payee_account(text) is None
