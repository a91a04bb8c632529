"""Money arithmetic is exact and rounds up once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.money import (
    format_usd,
    format_usd_of_pusd,
    nusd_from_usd,
    pusd_from_usd,
    pusd_per_token_from_usd_per_million,
    round_up_nusd,
)


def test_one_cent_per_million_tokens_is_ten_thousand_pico_usd() -> None:
    assert 10_000 == pusd_per_token_from_usd_per_million("0.01")


@given(st.integers(min_value=0, max_value=10**18))
def test_rounding_up_adds_less_than_one_nano_usd(amount_pusd: int) -> None:
    rounded = round_up_nusd(amount_pusd)

    assert 0 <= rounded * 1000 - amount_pusd < 1000


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_formatted_amounts_read_back_exactly(amount_nusd: int) -> None:
    assert amount_nusd == nusd_from_usd(format_usd(amount_nusd))


@pytest.mark.parametrize("text", ["abc", "NaN", "1e999999", "", "Infinity"])
def test_amounts_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        nusd_from_usd(text)


def test_amounts_finer_than_a_nano_usd_are_refused() -> None:
    with pytest.raises(ValueError, match="finer"):
        nusd_from_usd("0.0000000001")


def test_negative_prices_and_amounts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        pusd_per_token_from_usd_per_million("-1")
    with pytest.raises(ValueError, match="negative"):
        round_up_nusd(-1)


@pytest.mark.parametrize(
    ("text", "price_pusd"),
    [("0.04", 40_000_000_000), ("0.000015", 15_000_000), ("1.000000000001", 1_000_000_000_001)],
)
def test_price_of_a_unit_is_exact_both_ways(text: str, price_pusd: int) -> None:
    assert price_pusd == pusd_from_usd(text)
    assert text == format_usd_of_pusd(price_pusd)


def test_price_of_a_unit_finer_than_a_pico_usd_is_refused() -> None:
    with pytest.raises(ValueError, match="finer"):
        pusd_from_usd("0.0000000000001")
