"""Receipts: their arithmetic is that of the router, and each flaw is told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.money import NUSD_PER_USD, pusd_per_token_from_usd_per_million
from services.payment.batch import (
    Charge,
    Known,
    LeaseState,
    Parcel,
    Refund,
    claims_of,
    plan_batch,
)
from services.payment.ledger import REVENUE, Split, capture
from services.payment.proof.receipts import (
    Head,
    body_of,
    charge_receipt,
    covered,
    digest_of,
    fields_of,
    flaws,
    mark,
    receipt_hash,
    refund_receipt,
)
from services.router.pricing import PriceRow, charge_nusd
from services.router.usage_events import price_message
from tests.unit.payment.proof.bill_rig import PRICE, priced
from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent

figures = st.integers(0, 5_000_000)
counts = st.integers(0, 200_000)


def charge_of(event: UsageEvent) -> Charge:
    return Charge(
        event.event_id, event.request_id, event.account_id, event.key_id, event.lease_id,
        event.model_id, event.deployment, event.charge_nusd, event.charge_nusd, 0, 0, 1,
    )  # fmt: skip


def good_fields(**changes: Any) -> dict[str, str]:
    event = priced("r", "lease")
    receipt = charge_receipt(charge_of(event), event, Head(), 5)
    return {**fields_of(receipt.body), **changes}


@given(st.tuples(*[figures] * 4), st.tuples(counts, counts, st.integers(0, 50)))
def test_arithmetic_is_the_routers(prices: tuple[int, ...], used: tuple[int, int, int]) -> None:
    prompt, completion, units = used
    row = PriceRow("row", prices[0], prices[1], prices[2], prices[3], "image")
    event = priced("r", "lease")
    event.price.CopyFrom(price_message(row))
    event.usage.prompt_token_count = prompt
    event.usage.completion_token_count = completion
    event.usage.unit_count = units
    event.charge_nusd = charge_nusd(
        row, prompt_tokens=prompt, completion_tokens=completion, units=units
    )

    fields = fields_of(charge_receipt(charge_of(event), event, Head(), 5).body)

    assert [] == flaws(fields)
    wrong = {"charge_nusd": str(event.charge_nusd + 1)}
    assert 2 == len(flaws({**fields, **wrong}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"charge_nusd": "7750"}, "7751 charged and 0 lost are not 7750 nUSD."),
        ({"writeoff_nusd": "1"}, "7751 charged and 1 lost are not 7751 nUSD."),
        ({"prompt_token_count": "8"}, "Price times tokens is 8001 nUSD; the charge is 7751."),
        ({"unit": "image"}, "The price version is not that of the price row."),
        ({"price_id": "x"}, "The price version is not that of the price row."),
        ({"refunded_nusd": "1"}, "A charge gives nothing back."),
        ({"kind": "gift"}, "Form 1 of kind gift is unknown."),
        ({"form": "2"}, "Form 2 of kind charge is unknown."),
        ({"kind": "refund"}, "A refund charges nothing and gives something back."),
        ({"charge_nusd": "-1"}, "charge_nusd is not a whole number."),
        ({"charge_nusd": "07751"}, "charge_nusd is not a whole number."),
        ({"charge_nusd": "٣"}, "charge_nusd is not a whole number."),
        ({"unit_count": "2147483649"}, "unit_count is 2147483649; at most 2147483648 is"
         " possible."),
    ],
)  # fmt: skip
def test_flaw_is_told_in_a_sentence(changes: dict[str, str], says: str) -> None:
    assert says in flaws(good_fields(**changes))


def test_refund_receipt_follows_its_charge() -> None:
    event = priced("r", "lease", is_refunded=True)
    charge = charge_receipt(charge_of(event), event, Head(), 5)
    refund = Refund("r:outcome", "a", "key", "invalid_output", 7_751, 7_751, 1, 5)

    given_back = refund_receipt(refund, event, Head(charge.receipt_seq, charge.hash))

    assert [] == flaws(fields_of(given_back.body))
    assert 2 == given_back.receipt_seq
    assert receipt_hash(charge.hash, given_back.body) == given_back.hash


def test_receipt_keeps_odd_names() -> None:
    event = priced("r", "lease")
    event.model_id, event.finish_reason = "é:3:x", "1:2\x00:3"

    receipt = charge_receipt(charge_of(event), event, Head(), 5)

    fields = fields_of(receipt.body)
    assert ("é:3:x", "1:2\x00:3") == (fields["model_id"], fields["finish_reason"])
    assert receipt.body == body_of(fields)
    assert (digest_of(receipt.body)[:8], receipt.digest) == (
        mark(receipt.body),
        digest_of(receipt.body),
    )


def test_without_receipts_a_transaction_covers_its_rows_alone() -> None:
    assert b"rows" == covered(b"rows", [])
    assert covered(b"rows", [b"a", b"b"]) != covered(b"rows", [b"b", b"a"])


def test_39_a_million_requests_of_one_token_at_a_cent_per_million_cost_a_cent() -> None:
    row = PriceRow("cent", pusd_per_token_from_usd_per_million("0.01"), 0)
    cost = charge_nusd(row, prompt_tokens=1, completion_tokens=0)
    events = []
    for number in range(1_000):
        event = priced(f"r{number}", "lease")
        event.charge_nusd = event.hold_nusd = cost
        events.append(event)
    parcel = Parcel(1, b"", UsageBatch(router_id="r", events=events))
    known = Known(set(), {"lease": LeaseState("a", 10**12, 0, 0)}, {})

    plan = plan_batch([(parcel, claims_of(parcel))], known, reference="x", now_ms=1, hold_ttl_ms=1)

    assert (10_000, 10) == (row.input_pusd_per_token, cost)
    ((draft, charges),) = plan.posted
    revenue = {line.ledger_account: line.amount_nusd for line in draft.postings}[REVENUE]
    assert 1_000 == len(charges)
    assert NUSD_PER_USD // 100 == 1_000 * revenue


@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=20))
def test_39_it_does_not_matter_how_requests_are_put_into_batches(sizes: list[int]) -> None:
    cost = charge_nusd(PRICE, prompt_tokens=1, completion_tokens=0)

    posted = [capture("a", Split(size * cost, 0, 0)) for size in sizes]

    revenue = sum(
        line.amount_nusd for lines in posted for line in lines if line.ledger_account == REVENUE
    )
    assert sum(sizes) * cost == revenue
