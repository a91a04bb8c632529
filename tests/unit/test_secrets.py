"""Checksummed tokens: every single typing error is caught offline."""

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.secrets import is_token, mint_token, token_digest

PREFIX = "sk-tp-"
BASE62 = string.digits + string.ascii_letters
RANDOM = st.binary(min_size=32, max_size=32)


@given(RANDOM)
def test_minted_token_has_its_form_and_is_accepted(random_bytes: bytes) -> None:
    token = mint_token(PREFIX, random_bytes)

    assert len(PREFIX) + 43 + 6 == len(token)
    assert set(token[len(PREFIX) :]) <= set(BASE62)
    assert is_token(token, prefix=PREFIX)


@given(RANDOM, st.data())
def test_any_single_changed_character_is_noticed(random_bytes: bytes, data: st.DataObject) -> None:
    token = mint_token(PREFIX, random_bytes)
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(BASE62 + "-_ \n\0é").filter(lambda c: c != token[position]))

    changed = token[:position] + other + token[position + 1 :]

    assert not is_token(changed, prefix=PREFIX)


@given(RANDOM, RANDOM)
def test_different_randomness_gives_different_tokens(one: bytes, other: bytes) -> None:
    assert (one == other) == (mint_token(PREFIX, one) == mint_token(PREFIX, other))


@given(st.text(max_size=80))
def test_any_text_is_answered_without_an_error(text: str) -> None:
    assert not is_token(text, prefix=PREFIX)
    assert not is_token(PREFIX + text, prefix=PREFIX)


@pytest.mark.parametrize(
    "text",
    [
        "",
        PREFIX,
        "sk-tp-" + "0" * 49,
        "sk-tp-" + "'; DROP TABLE keys; --",
        "sk-tp-" + "a" * 65_536,
        "sk-" + "a" * 48,
    ],
)
def test_garbage_is_refused(text: str) -> None:
    assert not is_token(text, prefix=PREFIX)


@pytest.mark.parametrize("addition", ["\n", " ", "0", "\0"])
def test_a_longer_text_is_refused(addition: str) -> None:
    token = mint_token(PREFIX, bytes(range(32)))

    assert not is_token(token + addition, prefix=PREFIX)
    assert not is_token(addition + token, prefix=PREFIX)


def test_foreign_prefixes_skip_the_checksum_but_never_for_own_tokens() -> None:
    own_without_checksum = PREFIX + "a" * 49
    foreign = "sk-or-v1-0123456789abcdef"

    assert is_token(foreign, prefix=PREFIX, foreign_prefixes=("sk-or-",))
    assert not is_token(foreign, prefix=PREFIX)
    assert not is_token("sk-or-short", prefix=PREFIX, foreign_prefixes=("sk-or-",))
    assert not is_token("sk-or-" + "é" * 20, prefix=PREFIX, foreign_prefixes=("sk-or-",))
    assert not is_token(own_without_checksum, prefix=PREFIX, foreign_prefixes=("sk-",))


def test_tokens_are_stable_for_ever() -> None:
    assert "sk-tp-" + "0" * 43 == mint_token(PREFIX, bytes(32))[:-6]
    assert mint_token(PREFIX, bytes(32)) == mint_token(PREFIX, bytes(32))


def test_randomness_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes; 32 needed"):
        mint_token(PREFIX, bytes(31))


def test_digest_is_sha256_of_the_whole_token() -> None:
    assert hashlib.sha256(b"sk-tp-x").digest() == token_digest("sk-tp-x")
