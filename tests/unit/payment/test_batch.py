"""What usage events do to the books, before any database."""

import pytest

from services.payment.batch import (
    AMOUNT_NUSD_MAX,
    Hold,
    Known,
    LeaseState,
    Parcel,
    Plan,
    claims_of,
    plan_batch,
)
from services.payment.ledger import INVALID_OUTPUT, REVENUE, WRITEOFF, Kind, available, held, refund
from services.payment.store_settlement import advance
from tests.unit.payment.rig import ROUTER, checkpoint, intent, outcome, refunded
from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent


def plan(*events: UsageEvent, known: Known | None = None) -> Plan:
    batch = UsageBatch(router_id=ROUTER, watermark_unix_ms=7, events=events)
    parcel = Parcel(1, batch.SerializeToString(), batch)
    opened = [(parcel, claims_of(parcel))]
    return plan_batch(opened, known or one_lease(), reference="t", now_ms=100, hold_ttl_ms=50)


def one_lease(*, granted: int = 100, spendable: int = 0, settled: tuple[str, ...] = ()) -> Known:
    return Known(set(settled), {"l": LeaseState("a", granted, 0, 0)}, {available("a"): spendable})


def amounts(found: Plan) -> list[dict[str, int]]:
    return [{p.ledger_account: p.amount_nusd for p in draft.postings} for draft, _ in found.posted]


def test_outcomes_of_an_account_become_one_transaction() -> None:
    found = plan(
        outcome("r1", "l", hold_nusd=40, charge_nusd=10),
        outcome("r2", "l", hold_nusd=40, charge_nusd=5),
    )

    assert [{held("a"): -15, REVENUE: 15}] == amounts(found)
    assert ["r1", "r2"] == [charge.request_id for charge in found.charges]
    assert 15 == found.drawn_leases["l"].captured_nusd


def test_intent_names_a_hold_and_a_checkpoint_keeps_it() -> None:
    found = plan(intent("r1", "l", 40), checkpoint("r1", "l", 40))

    assert {"r1": Hold("r1", "l", 40, 150)} == found.holds


def test_intent_and_outcome_together_leave_no_hold() -> None:
    found = plan(intent("r1", "l", 40), outcome("r1", "l", hold_nusd=40, charge_nusd=1))

    assert {} == found.holds


def test_intent_after_its_outcome_names_no_hold() -> None:
    found = plan(outcome("r1", "l", hold_nusd=40, charge_nusd=1), intent("r1", "l", 40))

    assert {} == found.holds


def test_intent_of_an_unknown_or_spent_lease_names_no_hold() -> None:
    found = plan(intent("r1", "nowhere", 40), intent("r2", "l", 40), known=one_lease(granted=0))

    assert {} == found.holds


def test_outcome_that_was_settled_before_changes_nothing() -> None:
    event = outcome("r1", "l", hold_nusd=40, charge_nusd=10)

    found = plan(event, known=one_lease(settled=("r1:outcome",)))

    assert [] == found.charges
    assert [] == found.posted
    assert 1 == found.duplicate_count


def test_outcome_twice_in_one_batch_is_charged_once() -> None:
    event = outcome("r1", "l", hold_nusd=40, charge_nusd=10)

    found = plan(event, event)

    assert [{held("a"): -10, REVENUE: 10}] == amounts(found)


def test_free_outcome_is_recorded_and_posts_nothing() -> None:
    found = plan(outcome("r1", "", hold_nusd=0, charge_nusd=0))

    assert ["r1:outcome"] == [charge.event_id for charge in found.charges]
    assert [] == found.posted
    assert 0 == found.unknown_lease_count


def test_outcome_of_an_unknown_lease_is_taken_from_the_balance_up_to_its_hold() -> None:
    event = outcome("r1", "nowhere", hold_nusd=40, charge_nusd=50)

    found = plan(event, known=one_lease(spendable=30))

    assert [{available("a"): -30, REVENUE: 50, WRITEOFF: -20}] == amounts(found)
    assert (1, 1) == (found.unknown_lease_count, found.late_count)


def test_lease_of_another_account_is_not_drawn_from() -> None:
    event = outcome("r1", "l", hold_nusd=40, charge_nusd=10, account_id="b")

    found = plan(event)

    assert {} == found.drawn_leases
    assert [{REVENUE: 10, WRITEOFF: -10}] == amounts(found)


def given_back(found: Plan) -> list[tuple[str, dict[str, int]]]:
    return [
        (draft.kind, {p.ledger_account: p.amount_nusd for p in draft.postings})
        for draft, _ in found.refunded
        if draft is not None
    ]


def test_refund_is_a_transaction_of_its_own_behind_the_charge() -> None:
    found = plan(
        refunded("r1", "l", hold_nusd=40, charge_nusd=10),
        outcome("r2", "l", hold_nusd=40, charge_nusd=5),
        refunded("r3", "l", hold_nusd=40, charge_nusd=3),
    )

    source = refund(INVALID_OUTPUT)
    assert "refund:invalid_output" == source
    assert [{held("a"): -18, REVENUE: 18}] == amounts(found)
    assert [(Kind.REFUND, {available("a"): 13, source: -13})] == given_back(found)
    assert [("r1:outcome", 10), ("r3:outcome", 3)] == [
        (each.event_id, each.refunded_nusd) for each in found.refunds
    ]


def test_refund_gives_back_what_was_paid_and_not_what_was_written_off() -> None:
    found = plan(refunded("r1", "l", hold_nusd=40, charge_nusd=50))

    assert [{held("a"): -40, REVENUE: 50, WRITEOFF: -10}] == amounts(found)
    assert [(Kind.REFUND, {available("a"): 40, refund(INVALID_OUTPUT): -40})] == given_back(found)


def test_refund_of_what_nobody_paid_is_kept_and_posts_nothing() -> None:
    found = plan(refunded("r1", "nowhere", hold_nusd=40, charge_nusd=10))

    assert [] == given_back(found)
    assert [(10, 0)] == [(each.refund_nusd, each.refunded_nusd) for each in found.refunds]


def test_refund_that_comes_twice_is_given_once() -> None:
    event = refunded("r1", "l", hold_nusd=40, charge_nusd=10)

    assert 1 == len(plan(event, event).refunds)
    assert [] == plan(event, known=one_lease(settled=("r1:outcome",))).refunds


def test_overrun_of_a_hold_is_not_late() -> None:
    found = plan(outcome("r1", "l", hold_nusd=40, charge_nusd=41))

    assert [{held("a"): -40, REVENUE: 41, WRITEOFF: -1}] == amounts(found)
    assert 0 == found.late_count


@pytest.mark.parametrize(
    "change",
    [
        {"kind": UsageEvent.KIND_UNSPECIFIED},
        {"kind": 99},
        {"request_id": ""},
        {"request_id": "r" * 201},
        {"account_id": ""},
        {"charge_nusd": -1},
        {"charge_nusd": AMOUNT_NUSD_MAX + 1},
        {"hold_nusd": -1},
        {"refund_nusd": -1},
        {"refund_nusd": 11},
        {"event_id": "r1:other"},
    ],
)
def test_event_that_cannot_be_applied_is_buried_and_the_rest_is_applied(
    change: dict[str, object],
) -> None:
    broken = outcome("r1", "l", hold_nusd=40, charge_nusd=10)
    for name, value in change.items():
        setattr(broken, name, value)

    found = plan(broken, outcome("r2", "l", hold_nusd=40, charge_nusd=10))

    assert [0] == [letter.position for letter in found.dead_letters]
    assert ["r2:outcome"] == [charge.event_id for charge in found.charges]


def test_unreadable_batch_is_buried_whole() -> None:
    poison = Parcel(3, b"junk", None)

    found = plan_batch(
        [(poison, claims_of(poison))], one_lease(), reference="t", now_ms=0, hold_ttl_ms=0
    )

    letter = found.dead_letters[0]
    assert (3, -1, b"junk") == (letter.stream_seq, letter.position, letter.data)


def test_latest_watermark_of_a_router_is_kept() -> None:
    found = plan()

    assert {ROUTER: 7} == found.watermarks


@pytest.mark.parametrize(
    ("position", "waiting", "seqs", "expected"),
    [
        (0, [], [1, 2, 3], (3, [])),
        (3, [], [5, 6], (3, [5, 6])),
        (3, [5, 6], [4], (6, [])),
        (3, [], [1, 2, 3], (3, [])),
        (0, [], range(2, 5_000), (4_999, [])),
    ],
)
def test_position_is_gapless_until_a_gap_is_given_up(
    position: int, waiting: list[int], seqs: list[int], expected: tuple[int, list[int]]
) -> None:
    assert expected == advance(position, waiting, seqs)
