"""Keccak-256, and what is named by it: addresses, 32-byte words and the DID of a payer.

Pure. Hexadecimal is lower-case with `0x` inside Turnpike and may be of either case outside.
"""

import re
from dataclasses import dataclass
from typing import Final

from eth_hash.auto import keccak as _keccak

ZERO_ADDRESS: Final = "0x" + 40 * "0"
ADDRESS_BYTES: Final = 20
WORD_BYTES: Final = 32
CHAIN_ID_MAX: Final = 2**53 - 1
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*+")
_SOURCE: Final = re.compile(r"did:pkh:eip155:(0|[1-9][0-9]{0,15}):(0x[0-9a-fA-F]{40})")


@dataclass(frozen=True, slots=True)
class Source:
    """Who a credential says it is from; a claim, never a proof."""

    chain_id: int
    address: str


def keccak(data: bytes) -> bytes:
    """Return Keccak-256, 32 bytes."""
    return _keccak(data)


def word(value: int | str) -> bytes:
    """Return an integer, address or 32-byte hex as one ABI word, left-padded, 32 bytes.

    Raises:
        ValueError: It does not fit.
    """
    if isinstance(value, int):
        if not 0 <= value < 1 << 8 * WORD_BYTES:
            raise ValueError("An integer does not fit into 32 bytes.")
        return value.to_bytes(WORD_BYTES)
    data = bytes.fromhex(value[2:])
    if len(data) > WORD_BYTES:
        raise ValueError("Hex does not fit into 32 bytes.")
    return data.rjust(WORD_BYTES, b"\0")


def read_hex(text: object, *, byte_count: int) -> str:
    """Return `0x` hex of exactly so many bytes in lower case.

    Raises:
        ValueError: Anything else.
    """
    if not isinstance(text, str) or len(text) != 2 + 2 * byte_count or not _HEX.fullmatch(text):
        raise ValueError(f"must be 0x and {byte_count} bytes in hex")
    return text.lower()


def read_bytes(text: object, *, bytes_max: int) -> bytes:
    """Return the bytes of `0x` hex; there is at least one.

    Raises:
        ValueError: Anything else.
    """
    if not isinstance(text, str) or not 4 <= len(text) <= 2 + 2 * bytes_max:
        raise ValueError(f"must be 0x and 1 to {bytes_max} bytes in hex")
    if not _HEX.fullmatch(text):
        raise ValueError("must be 0x and whole bytes in hex")
    return bytes.fromhex(text[2:])


def read_source(text: str) -> Source:
    """Read `did:pkh:eip155:<chain>:<address>`. Source: CAIP-10 and the did:pkh method.

    Raises:
        ValueError: Anything else.
    """
    found = _SOURCE.fullmatch(text)
    if not found or int(found[1]) > CHAIN_ID_MAX:
        raise ValueError("must be did:pkh:eip155:<chain>:<address>")
    return Source(chain_id=int(found[1]), address=found[2].lower())
