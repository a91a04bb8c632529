"""What an answer costs; pure integers.

Prices are pico-USD per token, amounts nano-USD, and there is one rounding per request, up.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kit.money import round_up_nusd

TOKENS_MAX: Final = 2**31
"""No request uses more, of tokens or of units; a larger figure is an upstream's mistake."""


@dataclass(frozen=True, slots=True)
class PriceRow:
    """What one deployment's tokens and units are sold for, pico-USD.

    `unit` is image, character or second; empty when nothing is sold by units.
    """

    price_id: str
    input_pusd_per_token: int
    output_pusd_per_token: int
    request_pusd: int = 0
    unit_pusd: int = 0
    unit: str = ""


def free(unit: str = "") -> PriceRow:
    """Return the row of what costs nothing; units are counted all the same."""
    return PriceRow("price-free", 0, 0, 0, 0, unit)


def charge_nusd(
    price: PriceRow, *, prompt_tokens: int, completion_tokens: int, units: int = 0
) -> int:
    """Return what an answer costs, nano-USD, rounded up once.

    Raises:
        ValueError: A count is negative or above `TOKENS_MAX`.
    """
    if not (0 <= prompt_tokens <= TOKENS_MAX and 0 <= completion_tokens <= TOKENS_MAX):
        raise ValueError(f"Token counts are {prompt_tokens} and {completion_tokens}.")
    amount_pusd = (
        price.request_pusd
        + prompt_tokens * price.input_pusd_per_token
        + completion_tokens * price.output_pusd_per_token
    )
    if units:
        if not 0 < units <= TOKENS_MAX:
            raise ValueError(f"The count of units is {units}.")
        amount_pusd += units * price.unit_pusd
    return round_up_nusd(amount_pusd)


def capped(price: PriceRow, cap: PriceRow) -> PriceRow:
    """Return the lower of both in every figure; a row that the cap does not touch stays itself."""
    lower = PriceRow(
        cap.price_id,
        min(price.input_pusd_per_token, cap.input_pusd_per_token),
        min(price.output_pusd_per_token, cap.output_pusd_per_token),
        min(price.request_pusd, cap.request_pusd),
        min(price.unit_pusd, cap.unit_pusd),
        price.unit,
    )
    return price if figures(lower) == figures(price) else lower


def figures(price: PriceRow) -> tuple[int, int, int, int]:
    """Return a row's figures: for a prompt token, a completion token, the request and a unit."""
    return (
        price.input_pusd_per_token,
        price.output_pusd_per_token,
        price.request_pusd,
        price.unit_pusd,
    )


def ceiling(prices: Iterable[PriceRow]) -> PriceRow:
    """Return the row that no other exceeds in any figure; a hold taken at it covers every route."""
    rows = list(prices)
    return PriceRow(
        price_id="ceiling",
        input_pusd_per_token=max((row.input_pusd_per_token for row in rows), default=0),
        output_pusd_per_token=max((row.output_pusd_per_token for row in rows), default=0),
        request_pusd=max((row.request_pusd for row in rows), default=0),
        unit_pusd=max((row.unit_pusd for row in rows), default=0),
        unit=_unit(rows),
    )


def floor(prices: Iterable[PriceRow]) -> PriceRow:
    """Return the row that exceeds no other in any figure."""
    rows = list(prices)
    return PriceRow(
        price_id="floor",
        input_pusd_per_token=min((row.input_pusd_per_token for row in rows), default=0),
        output_pusd_per_token=min((row.output_pusd_per_token for row in rows), default=0),
        request_pusd=min((row.request_pusd for row in rows), default=0),
        unit_pusd=min((row.unit_pusd for row in rows), default=0),
        unit=_unit(rows),
    )


def _unit(rows: Iterable[PriceRow]) -> str:
    """Return what is counted; rows of one model that count anything count the same."""
    return next((row.unit for row in rows if row.unit), "")
