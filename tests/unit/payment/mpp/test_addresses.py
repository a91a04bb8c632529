"""Keccak, words, hex of either case and the DID of a payer."""

import pytest
from eth_utils.crypto import keccak as other_keccak
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.addresses import (
    CHAIN_ID_MAX,
    Source,
    keccak,
    read_bytes,
    read_hex,
    read_source,
    word,
)
from tests.unit.payment.mpp.vectors import CHAIN_ID, PAYER

ADDRESS = PAYER["address"]


@given(st.binary(max_size=300))
def test_keccak_is_keccak(data: bytes) -> None:
    assert other_keccak(data) == keccak(data)


def test_a_word_is_padded_on_the_left() -> None:
    assert bytes(31) + b"\x01" == word(1)
    assert bytes(12) + bytes.fromhex(ADDRESS[2:]) == word(ADDRESS)
    assert bytes(range(32)) == word("0x" + bytes(range(32)).hex())
    assert b"\xff" * 32 == word(2**256 - 1)


@pytest.mark.parametrize("value", [-1, 2**256, "0x" + "00" * 33])
def test_what_is_no_word_is_refused(value: int | str) -> None:
    with pytest.raises(ValueError, match="fit"):
        word(value)


@given(st.binary(min_size=20, max_size=20))
def test_failure_22_uppercase_hex_is_the_same_address(address: bytes) -> None:
    upper = "0x" + address.hex().upper()

    assert "0x" + address.hex() == read_hex(upper, byte_count=20)
    assert address == read_bytes(upper, bytes_max=20)


@pytest.mark.parametrize(
    "text",
    [
        ADDRESS[2:],
        "0X" + ADDRESS[2:],
        ADDRESS[:-1],
        ADDRESS + "0",
        ADDRESS + "00",
        ADDRESS[:-2] + " 0",
        ADDRESS[:-1] + "g",
        ADDRESS[:-1] + "\n",
        ADDRESS[:-1] + "\uff11",
        "",
        "0x",
        None,
        7,
        [ADDRESS],
    ],
)
def test_hex_of_another_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be 0x"):
        read_hex(text, byte_count=20)


@pytest.mark.parametrize(
    "text", ["0x", "0x0", "0x000", "00", "0x00 0", "0x" + "00" * 5, "0xzz", None, b"0x00"]
)
def test_bytes_of_another_form_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be 0x"):
        read_bytes(text, bytes_max=4)


def test_a_source_names_chain_and_address() -> None:
    assert Source(CHAIN_ID, ADDRESS) == read_source(f"did:pkh:eip155:{CHAIN_ID}:{ADDRESS}")
    assert Source(0, ADDRESS) == read_source(f"did:pkh:eip155:0:0x{ADDRESS[2:].upper()}")
    assert CHAIN_ID_MAX == read_source(f"did:pkh:eip155:{CHAIN_ID_MAX}:{ADDRESS}").chain_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        ADDRESS,
        f"did:pkh:eip155:{ADDRESS}",
        f"did:pkh:eip155:01:{ADDRESS}",
        f"did:pkh:eip155:-1:{ADDRESS}",
        f"did:pkh:eip155:{CHAIN_ID_MAX + 1}:{ADDRESS}",
        f"did:pkh:eip155:1:{ADDRESS}0",
        f"did:pkh:eip155:1:{ADDRESS}\n",
        f"did:pkh:solana:1:{ADDRESS}",
        f"DID:pkh:eip155:1:{ADDRESS}",
    ],
)
def test_a_source_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="did:pkh:eip155"):
        read_source(text)
