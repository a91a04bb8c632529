"""Sealed secrets open for whom they were sealed, and for nobody and nothing else."""

import base64

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from kit.sealed import Sealed, SealError
from services.router.sealed import SealingRing, master_key

KEYS = {name: SecretStr(base64.b64encode(bytes([n] * 32)).decode()) for n, name in enumerate("ab")}
RING = SealingRing(KEYS, "a")
SECRETS = st.text(min_size=1, max_size=200)
NAMES = st.text(max_size=40)


def sealed(secret: str, account_id: str = "account", provider: str = "openai") -> Sealed:
    return RING.seal(SecretStr(secret), account_id=account_id, provider=provider)


def opened(found: Sealed, account_id: str = "account", provider: str = "openai") -> str:
    return RING.open(found, account_id=account_id, provider=provider).get_secret_value()


@given(SECRETS, NAMES, NAMES)
def test_what_was_sealed_is_opened(secret: str, account_id: str, provider: str) -> None:
    found = sealed(secret, account_id, provider)

    assert secret == opened(found, account_id, provider)
    assert "a" == found.key_id
    assert len(secret) < 8 or secret.encode() not in found.ciphertext


@given(SECRETS, st.data())
def test_any_changed_byte_keeps_it_shut(secret: str, data: st.DataObject) -> None:
    found = sealed(secret)
    parts = [bytearray(found.nonce), bytearray(found.ciphertext)]
    part = data.draw(st.sampled_from(parts))
    part[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(SealError):
        opened(Sealed(found.key_id, bytes(parts[0]), bytes(parts[1])))


@given(SECRETS, st.integers(0, 300))
def test_a_part_of_it_is_not_opened(secret: str, size: int) -> None:
    found = sealed(secret)
    assume(size < len(found.ciphertext))

    with pytest.raises(SealError):
        opened(found._replace(ciphertext=found.ciphertext[:size]))


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_it_opens_for_no_other_account_or_provider(
    owner: tuple[str, str], other: tuple[str, str]
) -> None:
    assume(owner != other)

    with pytest.raises(SealError):
        opened(sealed("secret", *owner), *other)


@pytest.mark.parametrize("key_id", ["b", "c", ""])
def test_it_opens_under_no_other_master_key(key_id: str) -> None:
    with pytest.raises(SealError):
        opened(sealed("secret")._replace(key_id=key_id))


def test_key_of_the_same_bytes_and_another_id_does_not_open() -> None:
    twins = SealingRing({"a": KEYS["a"], "twin": KEYS["a"]}, "a")

    with pytest.raises(SealError):
        twins.open(
            sealed("secret")._replace(key_id="twin"), account_id="account", provider="openai"
        )


def test_older_master_key_goes_on_opening() -> None:
    later = SealingRing(KEYS, "b")

    assert (
        "x" == later.open(sealed("x"), account_id="account", provider="openai").get_secret_value()
    )
    found = later.seal(SecretStr("x"), account_id="account", provider="openai")
    assert "b" == found.key_id


@given(st.binary(min_size=32, max_size=32))
def test_master_key_is_read_in_every_way_of_base64(key: bytes) -> None:
    forms = [base64.b64encode(key), base64.urlsafe_b64encode(key)]
    forms += [form.rstrip(b"=") for form in forms] + [b" " + forms[0] + b"\n"]

    assert {key} == {master_key(SecretStr(form.decode())) for form in forms}


@pytest.mark.parametrize("text", ["", "canary-that-is-short", "canary!" * 8, "A" * 42, "A" * 88])
def test_what_is_no_master_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="master key") as caught:
        master_key(SecretStr(text))

    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_ring_needs_its_current_key_and_may_be_empty() -> None:
    with pytest.raises(ValueError, match="no key c"):
        SealingRing(KEYS, "c")
    assert SealingRing({}, "").is_empty


def test_nothing_shows_a_secret() -> None:
    shown = repr(RING) + str(RING) + repr(sealed("secret-canary"))

    assert "canary" not in shown
    assert KEYS["a"].get_secret_value() not in shown


def test_empty_ring_seals_nothing() -> None:
    with pytest.raises(SealError):
        SealingRing({}, "").seal(SecretStr("x"), account_id="account", provider="openai")
