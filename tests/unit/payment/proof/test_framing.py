"""Fields as bytes: whatever is framed is read back, and nothing else is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.proof.framing import framed, in_order, named, unframed


@given(st.lists(st.text(max_size=20), max_size=8))
def test_what_is_framed_is_read_back(values: list[str]) -> None:
    assert values == unframed(framed(values))


@given(st.text(max_size=40).filter(lambda text: text.isascii()))
def test_only_what_is_framed_is_read(text: str) -> None:
    try:
        values = unframed(text)
    except ValueError:
        return
    assert text == framed(values)


@pytest.mark.parametrize("text", ["x", "1", "2:a", "01:a", "1:ab", ":", "-1:a", "12345678:a"])
def test_what_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unframed(text)


def test_lengths_are_those_of_bytes() -> None:
    assert "2:é1:a" == framed(["é", "a"])


def test_fields_have_names_and_an_order() -> None:
    assert {"a": "1", "b": ""} == named(("a", "b"), "1:10:")
    assert ["1", "2"] == in_order(("a", "b"), {"b": "2", "a": "1"})
    for fields in ({"a": "1"}, {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": 2}):
        with pytest.raises(ValueError, match=r"b is missing|c is not a field|b is not a string"):
            in_order(("a", "b"), fields)
    with pytest.raises(ValueError, match="Expected 2 fields, found 1"):
        named(("a", "b"), "1:1")
