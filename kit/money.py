"""Money as integers: prices in pico-USD per token, amounts in nano-USD.

1 cent per million tokens is 10,000 pico-USD per token. There is one rounding per request, up.
"""

from decimal import Decimal, InvalidOperation, localcontext
from typing import Final

PUSD_PER_NUSD: Final = 1_000
NUSD_PER_USD: Final = 1_000_000_000
PUSD_PER_TOKEN_PER_USD_PER_MILLION: Final = 1_000_000
_DIGITS_MAX: Final = 30


def round_up_nusd(amount_pusd: int) -> int:
    """Return pico-USD as nano-USD, rounded up.

    Raises:
        ValueError: The amount is negative.
    """
    if amount_pusd < 0:
        raise ValueError(f"Amount is {amount_pusd} pUSD; it must not be negative.")
    return -(-amount_pusd // PUSD_PER_NUSD)


def nusd_from_usd(text: str) -> int:
    """Return an amount such as `10.00` as nano-USD, exactly.

    Raises:
        ValueError: The text is no number, or is finer than a nano-USD.
    """
    return _scaled(text, NUSD_PER_USD, "nano-USD")


def pusd_from_usd(text: str) -> int:
    """Return a price such as `0.000015` as pico-USD, exactly.

    Raises:
        ValueError: The text is no number, or is finer than a pico-USD.
    """
    return _scaled(text, NUSD_PER_USD * PUSD_PER_NUSD, "pico-USD")


def pusd_per_token_from_usd_per_million(text: str) -> int:
    """Return a price such as `0.15` USD per million tokens as pico-USD per token, exactly.

    Raises:
        ValueError: The text is no number, is negative, or is finer than a pico-USD per token.
    """
    price = _scaled(text, PUSD_PER_TOKEN_PER_USD_PER_MILLION, "pico-USD per token")
    if price < 0:
        raise ValueError(f"Price is {text}; it must not be negative.")
    return price


def format_usd(amount_nusd: int) -> str:
    """Return nano-USD as a decimal USD string with at least two and at most nine decimals."""
    sign = "-" if amount_nusd < 0 else ""
    whole, part = divmod(abs(amount_nusd), NUSD_PER_USD)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def format_usd_of_pusd(price_pusd: int) -> str:
    """Return a price in pico-USD as a decimal USD string with at least two decimals."""
    whole, part = divmod(price_pusd, NUSD_PER_USD * PUSD_PER_NUSD)
    return f"{whole}.{f'{part:012d}'.rstrip('0').ljust(2, '0')}"


def _scaled(text: str, scale: int, unit: str) -> int:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a number.") from error
    if not value.is_finite() or abs(value.adjusted()) > _DIGITS_MAX:
        raise ValueError(f"{text!r} is not a number of money.")
    with localcontext(prec=4 * _DIGITS_MAX + len(text)):
        scaled = value * scale
        whole = scaled.to_integral_value()
        if scaled != whole:
            raise ValueError(f"{text} is finer than one {unit}.")
        return int(whole)
