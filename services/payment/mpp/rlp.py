"""Recursive length prefix: the outer form of Ethereum's and Tempo's transactions.

Pure. An item is bytes or a list of items. Reading is strict: one item, nothing after it, every
length in its shortest form, bounded in depth; so what was read is written back to the same bytes.

Source: Ethereum yellow paper, appendix B, read 2026-11-26.
"""

from typing import Final, TypeAlias

DEPTH_MAX: Final = 8
_SHORT_BYTES_MAX: Final = 55
_STRING: Final = 0x80
_LIST: Final = 0xC0

Item: TypeAlias = "bytes | list[Item]"


def encode(item: Item) -> bytes:
    """Return an item as bytes."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < _STRING:
            return item
        return _prefix(len(item), _STRING) + item
    content = b"".join(encode(each) for each in item)
    return _prefix(len(content), _LIST) + content


def decode(data: bytes) -> Item:
    """Read the one item that `data` is.

    Raises:
        ValueError: It is cut, goes on after the item, is nested too deep or not in shortest form.
    """
    item, end = _item(data, 0, len(data), depth=0)
    if end != len(data):
        raise ValueError("Bytes follow the item.")
    return item


def uint_bytes(value: int) -> bytes:
    """Return an unsigned integer in its shortest form; 0 is empty."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def uint(item: Item) -> int:
    """Read an item as an unsigned integer.

    Raises:
        ValueError: It is a list, or has a leading zero.
    """
    if not isinstance(item, bytes) or item[:1] == b"\x00":
        raise ValueError("An item is no number.")
    return int.from_bytes(item, "big")


def as_bytes(item: Item) -> bytes:
    """Return an item that has to be bytes; `ValueError` for a list."""
    if isinstance(item, bytes):
        return item
    raise ValueError("An item is a list instead of bytes.")


def as_list(item: Item) -> list[Item]:
    """Return an item that has to be a list; `ValueError` for bytes."""
    if isinstance(item, list):
        return item
    raise ValueError("An item is bytes instead of a list.")


def _prefix(length: int, kind: int) -> bytes:
    if length <= _SHORT_BYTES_MAX:
        return bytes([kind + length])
    size = uint_bytes(length)
    return bytes([kind + _SHORT_BYTES_MAX + len(size)]) + size


def _item(data: bytes, at: int, end: int, *, depth: int) -> tuple[Item, int]:
    if at >= end:
        raise ValueError("An item is cut.")
    if data[at] < _STRING:
        return data[at : at + 1], at + 1
    is_list = data[at] >= _LIST
    start, stop = _span(data, at, end, _LIST if is_list else _STRING)
    if not is_list:
        content = data[start:stop]
        if len(content) == 1 and content[0] < _STRING:
            raise ValueError("A byte is not in its shortest form.")
        return content, stop
    if depth >= DEPTH_MAX:
        raise ValueError(f"Lists are nested deeper than {DEPTH_MAX}.")
    items: list[Item] = []
    at = start
    while at < stop:
        item, at = _item(data, at, stop, depth=depth + 1)
        items.append(item)
    return items, stop


def _span(data: bytes, at: int, end: int, kind: int) -> tuple[int, int]:
    length = data[at] - kind
    start = at + 1
    if length > _SHORT_BYTES_MAX:
        start += length - _SHORT_BYTES_MAX
        size = data[at + 1 : start]
        length = int.from_bytes(size, "big")
        if size[:1] == b"\x00" or length <= _SHORT_BYTES_MAX or start > end:
            raise ValueError("A length is not in its shortest form.")
    if start + length > end:
        raise ValueError("An item is cut.")
    return start, start + length
