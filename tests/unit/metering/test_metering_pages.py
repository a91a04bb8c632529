"""Page tokens and page sizes."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Reason, TurnpikeError
from services.metering.pages import decode_token, encode_token, page_size


@given(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)
def test_token_gives_back_its_key(number: int, text: str) -> None:
    token = encode_token("u", number, text)

    assert (number, text) == decode_token(token, "u", int, str)
    assert token.isascii()


@pytest.mark.parametrize(
    "token",
    [
        "!",
        "bm8",
        "a" * 3_000,
        "\u00e4",
        encode_token("other", "id"),
        encode_token("u"),
        encode_token("u", 1),
        encode_token("u", "id", "id"),
        encode_token("u", "a\0b"),
        base64.urlsafe_b64encode(b'{"u":1}').decode(),
    ],
)
def test_foreign_token_is_refused_by_name(token: str) -> None:
    with pytest.raises(TurnpikeError) as caught:
        decode_token(token, "u", str)

    assert (Reason.INVALID_VALUE, "page_token") == (
        caught.value.reason,
        caught.value.metadata["param"],
    )


def test_number_that_no_database_would_take_is_refused() -> None:
    with pytest.raises(TurnpikeError):
        decode_token(encode_token("s", 2**63), "s", int)


def test_page_size_of_zero_is_the_default_and_bounds_hold() -> None:
    assert 100 == page_size(0, default=100, size_max=1_000)
    assert 1_000 == page_size(1_000, default=100, size_max=1_000)
    for asked in (-1, 1_001):
        with pytest.raises(TurnpikeError) as caught:
            page_size(asked, default=100, size_max=1_000)
        assert (Reason.INVALID_VALUE, "page_size") == (
            caught.value.reason,
            caught.value.metadata["param"],
        )
