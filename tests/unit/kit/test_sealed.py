"""A sealed value opens in its own context, with a key of the ring, and in no other way."""

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.sealed import KeyRing, Sealed, SealError, context_of, ring_of

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
RING = KeyRing({"old": OLD, "new": NEW}, key_id="new")
plains = st.binary(max_size=200)
words = st.text(max_size=8)


@given(plains, words, words)
def test_value_opens_in_its_context(plain: bytes, owner: str, name: str) -> None:
    context = context_of(owner, name)

    data = RING.seal(plain, context=context).to_bytes()

    assert plain == RING.open(Sealed.from_bytes(data), context=context)
    assert len(plain) < 8 or plain not in data


@given(plains, st.data())
def test_value_with_any_byte_changed_does_not_open(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(RING.seal(plain, context=b"c").to_bytes())
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(SealError):
        RING.open(Sealed.from_bytes(bytes(sealed)), context=b"c")


@given(plains, st.data())
def test_value_that_was_cut_does_not_open(plain: bytes, data: st.DataObject) -> None:
    sealed = RING.seal(plain, context=b"c").to_bytes()
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]

    with pytest.raises(SealError):
        RING.open(Sealed.from_bytes(cut), context=b"c")


@given(st.tuples(words, words), st.tuples(words, words))
def test_value_opens_in_no_other_context(one: tuple[str, str], other: tuple[str, str]) -> None:
    sealed = RING.seal(b"x", context=context_of(*one))

    if one == other:
        assert b"x" == RING.open(sealed, context=context_of(*other))
    else:
        with pytest.raises(SealError):
            RING.open(sealed, context=context_of(*other))


def test_value_opens_under_no_other_keys_id() -> None:
    twins = KeyRing({"one": OLD, "two": OLD}, key_id="one")
    sealed = twins.seal(b"x", context=b"c")

    with pytest.raises(SealError):
        twins.open(sealed._replace(key_id="two"), context=b"c")


def test_key_that_sealed_before_still_opens_until_it_leaves_the_ring() -> None:
    before = KeyRing({"old": OLD}, key_id="old").seal(b"x", context=b"c")

    assert b"x" == RING.open(before, context=b"c")
    assert "new" == RING.seal(b"x", context=b"c").key_id
    with pytest.raises(SealError):
        KeyRing({"new": NEW}, key_id="new").open(before, context=b"c")


def test_same_value_is_sealed_otherwise_each_time() -> None:
    assert RING.seal(b"x", context=b"c") != RING.seal(b"x", context=b"c")


@pytest.mark.parametrize(
    ("keys", "key_id"),
    [({"a": b"short"}, "a"), ({"a": OLD}, "b"), ({"": OLD}, ""), ({"a" * 65: OLD}, "a" * 65)],
)
def test_ring_takes_no_odd_keys(keys: dict[str, bytes], key_id: str) -> None:
    with pytest.raises(ValueError, match="key"):
        KeyRing(keys, key_id=key_id)


def test_ring_is_read_from_text_and_its_first_key_seals() -> None:
    first, second = (urlsafe_b64encode(key).decode().rstrip("=") for key in (NEW, OLD))
    both, alone = ring_of(f"{first}, {second}"), ring_of(second)

    assert b"x" == both.open(alone.seal(b"x", context=b"c"), context=b"c")
    with pytest.raises(SealError):
        alone.open(both.seal(b"x", context=b"c"), context=b"c")


@pytest.mark.parametrize("text", ["", " , ", "canary-not-a-key", "canary-é"])
def test_text_that_is_no_ring_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"[Kk]ey") as caught:
        ring_of(text)

    assert "canary" not in str(caught.value)
