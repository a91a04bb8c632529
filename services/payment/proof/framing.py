"""Text fields as bytes that can be hashed and read back: each with its length in bytes in front.

Form: `<length>:<field>` for each field, nothing between them; UTF-8. `services.payment.ledger`
frames transactions the same way. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Final

_DIGITS_MAX: Final = 7


def field(value: str) -> str:
    """Return one field; fields one after the other are what `framed` makes of them."""
    return f"{len(value) if value.isascii() else len(value.encode())}:{value}"


def framed(values: Sequence[str]) -> str:
    """Return fields as one text."""
    return "".join(map(field, values))


def unframed(text: str) -> list[str]:
    """Return the fields of a text.

    Raises:
        ValueError: It is not what `framed` makes.
    """
    data, at, values = text.encode(), 0, []
    while at < len(data):
        end = data.find(b":", at, at + _DIGITS_MAX + 1)
        if end < 0 or not data[at:end].isdigit():
            raise ValueError(f"There is no length at byte {at}.")
        start = end + 1
        at = start + int(data[at:end])
        if at > len(data):
            raise ValueError(f"The field at byte {start} is cut off.")
        values.append(data[start:at].decode())
    if framed(values) != text:
        raise ValueError("A length is not written the shortest way.")
    return values


def named(names: Sequence[str], text: str) -> dict[str, str]:
    """Return framed fields by their names.

    Raises:
        ValueError: There are not as many fields as names, or the text is not framed.
    """
    values = unframed(text)
    if len(values) != len(names):
        raise ValueError(f"Expected {len(names)} fields, found {len(values)}.")
    return dict(zip(names, values, strict=True))


def in_order(names: Sequence[str], fields: Mapping[str, object]) -> list[str]:
    """Return the values of exactly these fields, in order.

    Raises:
        ValueError: One is missing, unknown or no text.
    """
    if missing := [name for name in names if name not in fields]:
        raise ValueError(f"{missing[0]} is missing.")
    if unknown := sorted(fields.keys() - set(names)):
        raise ValueError(f"{unknown[0]} is not a field.")
    values = []
    for name in names:
        value = fields[name]
        if not isinstance(value, str):
            raise ValueError(f"{name} is not a string.")  # noqa: TRY004 - one kind of finding
        values.append(value)
    return values
