"""Figures of a request: whole numbers within bounds, with the field named; pure."""

from typing import TypeAlias

from kit.errors import Reason, TurnpikeError

Whole: TypeAlias = int | float
"""A number that should be whole; it may be written as 12.0."""


def wrong(param: str, message: str) -> TurnpikeError:
    """Return the refusal of a field's value."""
    return TurnpikeError(Reason.INVALID_VALUE, message, param=param)


def whole(name: str, value: Whole, least: int, most: int) -> int:
    """Return a whole number, also one that was written as 12.0.

    Raises:
        TurnpikeError: `INVALID_VALUE`: it has a fraction or is out of bounds.
    """
    if isinstance(value, float) and not value.is_integer():
        raise wrong(name, f"{name} is {value}; it must be a whole number.")
    if not least <= value <= most:
        raise wrong(name, f"{name} is {int(value)}; it must be from {least} to {most}.")
    return int(value)
