"""What answers cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.pricing import PriceRow, capped, ceiling, charge_nusd, floor

counts = st.integers(min_value=0, max_value=2**31)
prices = st.integers(min_value=0, max_value=10**9)
rows = st.builds(PriceRow, st.just("row"), prices, prices, prices, prices)


def test_a_million_one_token_requests_at_one_cent_per_million_cost_one_cent() -> None:
    price = PriceRow("p", 0, 10_000)

    assert 10_000_000 == 1_000_000 * charge_nusd(price, prompt_tokens=0, completion_tokens=1)


@given(rows, counts, counts, counts)
def test_charges_are_rounded_up_by_less_than_one_nano_usd(
    price: PriceRow, prompt: int, completion: int, units: int
) -> None:
    exact_pusd = (
        price.request_pusd
        + prompt * price.input_pusd_per_token
        + completion * price.output_pusd_per_token
        + units * price.unit_pusd
    )

    charged = charge_nusd(price, prompt_tokens=prompt, completion_tokens=completion, units=units)

    assert 0 <= charged * 1000 - exact_pusd < 1000


@given(st.lists(rows, min_size=1, max_size=8), counts, counts, counts)
def test_ceiling_covers_and_floor_undercuts_every_row(
    table: list[PriceRow], prompt: int, completion: int, units: int
) -> None:
    def charge(price: PriceRow) -> int:
        return charge_nusd(price, prompt_tokens=prompt, completion_tokens=completion, units=units)

    charges = list(map(charge, table))

    most = charge(ceiling(table))
    least = charge(floor(table))

    assert most >= max(charges)
    assert least <= min(charges)


def test_ceiling_and_floor_say_what_is_counted() -> None:
    by_tokens, by_units = PriceRow("t", 1, 2), PriceRow("u", 0, 0, 0, 50, "image")

    assert ("image", 50) == (ceiling([by_tokens, by_units]).unit, ceiling([by_units]).unit_pusd)
    assert ("image", 0) == (floor([by_tokens, by_units]).unit, floor([by_tokens]).unit_pusd)


@pytest.mark.parametrize(
    ("prompt", "completion", "units"),
    [(-1, 0, 0), (0, -1, 0), (2**31 + 1, 0, 0), (0, 0, -1), (0, 0, 2**31 + 1)],
)
def test_impossible_counts_are_refused(prompt: int, completion: int, units: int) -> None:
    with pytest.raises(ValueError, match="count"):
        charge_nusd(
            PriceRow("p", 1, 1), prompt_tokens=prompt, completion_tokens=completion, units=units
        )


def test_cap_lowers_each_figure_and_raises_none() -> None:
    row = PriceRow("row", 10, 20, 30, 40, "image")
    cap = PriceRow("quote", 5, 25, 30, 39, "image")

    assert PriceRow("quote", 5, 20, 30, 39, "image") == capped(row, cap)


def test_row_that_a_cap_does_not_touch_stays_itself() -> None:
    row = PriceRow("row", 10, 20, 30, 40, "image")

    assert row is capped(row, PriceRow("quote", 10, 21, 30, 40, "image"))
