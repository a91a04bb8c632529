"""JSON of upstreams that a strict reader does not take, written so that it does; pure.

An answer that has come as far as here is paid for: what of it nobody can read is left out, so that
the rest is told.
"""

import json
import math
from typing import Final

_DIGITS_MAX: Final = 18


def plain_json(data: bytes) -> bytes:
    """Return the same JSON with a question mark for half a surrogate pair, null for huge numbers.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deeply.
    """
    value = json.loads(data, parse_int=_whole, parse_float=_finite, parse_constant=_nothing)
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _DIGITS_MAX else None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _nothing(_name: str) -> None:
    """Take NaN and the infinities for nothing."""
