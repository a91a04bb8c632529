"""Keccak-256, and what is named by it: addresses, 32-byte words and the DID of a payer.

Pure. Hexadecimal is lower-case with `0x` inside Turnpike and may be of either case outside.
"""

from dataclasses import dataclass
from typing import Final

ZERO_ADDRESS: Final = "0x" + 40 * "0"
ADDRESS_BYTES: Final = 20
WORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Source:
    """Who a credential says it is from; a claim, never a proof."""

    chain_id: int
    address: str


def keccak(data: bytes) -> bytes:
    """Return Keccak-256, 32 bytes."""
    raise NotImplementedError


def word(value: int | str) -> bytes:
    """Return an integer, address or 32-byte hex as one ABI word, left-padded, 32 bytes."""
    raise NotImplementedError


def read_hex(text: object, *, byte_count: int) -> str:
    """Return `0x` hex of exactly so many bytes in lower case.

    Raises:
        ValueError: Anything else.
    """
    raise NotImplementedError


def read_source(text: str) -> Source:
    """Read `did:pkh:eip155:<chain>:<address>`. Source: CAIP-10 and the did:pkh method.

    Raises:
        ValueError: Anything else.
    """
    raise NotImplementedError
