"""What answers cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.pricing import PriceRow, ceiling, charge_nusd, floor

counts = st.integers(min_value=0, max_value=2**31)
prices = st.integers(min_value=0, max_value=10**9)
rows = st.builds(PriceRow, st.just("row"), prices, prices, prices)


def test_a_million_one_token_requests_at_one_cent_per_million_cost_one_cent() -> None:
    price = PriceRow("p", 0, 10_000)

    assert 10_000_000 == 1_000_000 * charge_nusd(price, prompt_tokens=0, completion_tokens=1)


@given(rows, counts, counts)
def test_charges_are_rounded_up_by_less_than_one_nano_usd(
    price: PriceRow, prompt: int, completion: int
) -> None:
    exact_pusd = (
        price.request_pusd
        + prompt * price.input_pusd_per_token
        + completion * price.output_pusd_per_token
    )

    charged = charge_nusd(price, prompt_tokens=prompt, completion_tokens=completion)

    assert 0 <= charged * 1000 - exact_pusd < 1000


@given(st.lists(rows, min_size=1, max_size=8), counts, counts)
def test_ceiling_covers_and_floor_undercuts_every_row(
    table: list[PriceRow], prompt: int, completion: int
) -> None:
    charges = [charge_nusd(p, prompt_tokens=prompt, completion_tokens=completion) for p in table]

    most = charge_nusd(ceiling(table), prompt_tokens=prompt, completion_tokens=completion)
    least = charge_nusd(floor(table), prompt_tokens=prompt, completion_tokens=completion)

    assert most >= max(charges)
    assert least <= min(charges)


@pytest.mark.parametrize(("prompt", "completion"), [(-1, 0), (0, -1), (2**31 + 1, 0)])
def test_impossible_counts_are_refused(prompt: int, completion: int) -> None:
    with pytest.raises(ValueError, match="counts"):
        charge_nusd(PriceRow("p", 1, 1), prompt_tokens=prompt, completion_tokens=completion)
