"""Hourly sums, and the position that knows gaps."""

from hypothesis import given
from hypothesis import strategies as st

from services.metering.records import Parcel, open_parcels
from services.metering.rollup import HOUR_MS, HourSum, advance, roll_up
from tests.unit.metering.events import START_MS, batch, outcome


def test_records_of_one_hour_key_and_model_add_up() -> None:
    events = [outcome(number) for number in (0, 6, 12)]
    records = open_parcels([Parcel(1, batch(*events))]).records.values()

    sums = roll_up(records, {})

    hour = START_MS - START_MS % HOUR_MS
    assert [HourSum(hour, "account-0", "key-0", "model-0", 3, 48, 318, 3_018)] == sums


@given(st.lists(st.integers(0, 500), unique=True))
def test_sums_hold_what_the_records_hold(numbers: list[int]) -> None:
    opened = open_parcels([Parcel(1, batch(*map(outcome, numbers)))])

    sums = roll_up(opened.records.values(), opened.extras)

    assert sums == sorted(sums)
    assert len({each[:4] for each in sums}) == len(sums)
    assert len(numbers) == sum(each.request_count for each in sums)
    assert sum(1_000 + number for number in numbers) == sum(each.charge_nusd for each in sums)


def test_what_was_given_back_is_taken_off_the_charge() -> None:
    events = [outcome(0), outcome(6, refund_nusd=1_006), outcome(12, refund_nusd=12)]
    opened = open_parcels([Parcel(1, batch(*events))])

    (total,) = roll_up(opened.records.values(), opened.extras)

    assert 1_000 + 0 + 1_000 == total.charge_nusd
    assert 3 == total.request_count


def test_position_waits_in_front_of_a_gap_until_it_is_filled() -> None:
    position, ahead = advance(4, [], [5, 7, 8])

    assert (5, [7, 8]) == (position, ahead)
    assert (9, []) == advance(position, ahead, [6, 9])


def test_position_never_goes_back_when_old_deliveries_come_again() -> None:
    assert (9, [11]) == advance(9, [11], [3, 4, 11])


def test_gap_that_thousands_have_passed_is_skipped() -> None:
    position, ahead = advance(1, [], range(3, 3 + 4_096))
    assert (1, 4_096) == (position, len(ahead))

    assert (4_099, []) == advance(position, ahead, [4_099])


@given(st.permutations(range(1, 12)), st.integers(1, 4))
def test_every_order_ends_at_the_last_position(order: list[int], size: int) -> None:
    position, ahead = 0, list[int]()

    for start in range(0, len(order), size):
        position, ahead = advance(position, ahead, order[start : start + size])

    assert (11, []) == (position, ahead)
