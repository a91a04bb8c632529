"""Recursive length prefix against the library of Ethereum, both ways, and what is refused."""

import pytest
import rlp as oracle
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp import rlp

ITEMS = st.recursive(
    st.binary(max_size=70), lambda inner: st.lists(inner, max_size=5), max_leaves=9
)


def _depth(item: rlp.Item) -> int:
    return 1 + max(map(_depth, item), default=0) if isinstance(item, list) else 0


@given(ITEMS)
def test_items_are_written_and_read_like_the_library_does(item: rlp.Item) -> None:
    written = rlp.encode(item)

    assert oracle.encode(item) == written
    if _depth(item) <= rlp.DEPTH_MAX:
        assert item == rlp.decode(written)


@given(st.binary(max_size=80))
def test_what_is_read_is_written_back_to_the_same_bytes(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except ValueError:
        return

    assert data == rlp.encode(item)
    assert item == oracle.decode(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut"),
        (b"\x82\x01", "cut"),
        (b"\xc2\x01", "cut"),
        (b"\xc1\x82", "cut"),
        (b"\x01\x01", "follow"),
        (b"\x81\x01", "shortest"),
        (b"\xb8\x01\x80", "shortest"),
        (b"\xb9\x00\x40" + b"\x80" * 64, "shortest"),
        (b"\xb8", "shortest"),
        (b"\xc1" * 9 + b"\xc0", "cut"),
    ],
)
def test_other_forms_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        rlp.decode(data)


def test_lists_are_read_to_a_depth_and_no_further() -> None:
    item: rlp.Item = []
    for _ in range(rlp.DEPTH_MAX):
        item = [item]

    with pytest.raises(ValueError, match="deeper than 8"):
        rlp.decode(rlp.encode(item))
    assert isinstance(item, list)
    assert item[0] == rlp.decode(rlp.encode(item[0]))


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2**64, 2**256 - 1])
def test_numbers_come_back(number: int) -> None:
    assert number == rlp.uint(rlp.uint_bytes(number))


@pytest.mark.parametrize("item", [[], b"\x00", b"\x00\x01"])
def test_what_is_no_number_is_refused(item: rlp.Item) -> None:
    with pytest.raises(ValueError, match=r"no number"):
        rlp.uint(item)


def test_kinds_are_told_apart() -> None:
    assert b"a" == rlp.as_bytes(b"a")
    assert [b"a"] == rlp.as_list([b"a"])
    with pytest.raises(ValueError, match="instead of bytes"):
        rlp.as_bytes([])
    with pytest.raises(ValueError, match="instead of a list"):
        rlp.as_list(b"")
