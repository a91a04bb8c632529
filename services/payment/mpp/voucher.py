"""Vouchers of the TIP-1034 channel reserve: what is hashed, and whether the signer signed it.

Pure. Source: TIP-1034, `computeChannelId` and `getVoucherDigest` of the channel reserve; EIP-712.
"""

from typing import Final

from services.payment.mpp.payloads import Descriptor

RESERVE: Final = "0x4d50500000000000000000000000000000000000"
"""The canonical channel reserve."""


def channel_id(descriptor: Descriptor, escrow: str, chain_id: int) -> str:
    """Return the id of a channel in lower-case hex."""
    raise NotImplementedError


def domain_separator(escrow: str, chain_id: int) -> bytes:
    """Return the EIP-712 domain separator, 32 bytes; kept for the escrows last asked for."""
    raise NotImplementedError


def struct_hash(channel: str, cumulative_base_units: int) -> bytes:
    """Return the EIP-712 hash of a voucher, 32 bytes."""
    raise NotImplementedError


def voucher_digest(domain: bytes, channel: str, cumulative_base_units: int) -> bytes:
    """Return what is signed, 32 bytes."""
    raise NotImplementedError


def check_voucher(
    signature: bytes, *, domain: bytes, channel: str, cumulative_base_units: int, signer: str
) -> None:
    """Return if `signer` signed this amount for this channel.

    Raises:
        PaymentError: session/invalid-signature.
    """
    raise NotImplementedError
