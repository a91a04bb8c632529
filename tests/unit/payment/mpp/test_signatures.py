"""Recovery takes the one form of a signature, and eth-account says who signed."""

import pytest
from eth_keys.datatypes import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.signatures import recover

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
SECRETS = st.integers(1, ORDER - 1)
DIGESTS = st.binary(min_size=32, max_size=32)


def signed(secret: int, digest: bytes) -> tuple[bytes, str]:
    """Return signature and address, lower-case."""
    key = PrivateKey(secret.to_bytes(32))
    made = key.sign_msg_hash(digest)
    return made.to_bytes()[:64] + bytes((27 + made.v,)), key.public_key.to_address()


@given(SECRETS, DIGESTS)
def test_the_signer_is_found(secret: int, digest: bytes) -> None:
    signature, address = signed(secret, digest)

    assert address == recover(digest, signature)


@given(SECRETS, DIGESTS)
def test_failure_22_high_s_of_any_signature_is_refused(secret: int, digest: bytes) -> None:
    signature, _ = signed(secret, digest)
    high = (ORDER - int.from_bytes(signature[32:64])).to_bytes(32)
    mirrored = signature[:32] + high + bytes((55 - signature[64],))

    with pytest.raises(ValueError, match="lower half"):
        recover(digest, mirrored)


@given(SECRETS, DIGESTS, st.integers(0, 255).filter(lambda v: v not in (27, 28)))
def test_failure_22_another_v_is_refused(secret: int, digest: bytes, v: int) -> None:
    signature, _ = signed(secret, digest)

    with pytest.raises(ValueError, match="27 or 28"):
        recover(digest, signature[:64] + bytes((v,)))


@given(DIGESTS, st.binary(max_size=200).filter(lambda data: len(data) != 65))
def test_failure_22_another_length_is_refused(digest: bytes, signature: bytes) -> None:
    with pytest.raises(ValueError, match="65 needed"):
        recover(digest, signature)


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 1), (1, 0), (0, 0), (ORDER, 1), (ORDER + 1, 1), (2**256 - 1, 1), (5, 1)],
)
def test_numbers_that_belong_to_no_key_are_refused(r: int, s: int) -> None:
    with pytest.raises(ValueError, match="no key"):
        recover(bytes(range(32)), r.to_bytes(32) + s.to_bytes(32) + b"\x1b")


@given(DIGESTS, st.binary(min_size=64, max_size=64), st.sampled_from([27, 28]))
def test_any_bytes_name_an_address_or_are_refused(digest: bytes, data: bytes, v: int) -> None:
    try:
        found = recover(digest, data + bytes((v,)))
    except ValueError:
        return
    assert found.startswith("0x")
    assert 42 == len(found)


def test_half_of_the_order_is_the_last_s() -> None:
    last = ORDER // 2
    digest, r = bytes(range(32)), (2).to_bytes(32)

    assert recover(digest, r + last.to_bytes(32) + b"\x1b").startswith("0x")
    with pytest.raises(ValueError, match="lower half"):
        recover(digest, r + (last + 1).to_bytes(32) + b"\x1b")
