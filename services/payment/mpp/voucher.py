"""Vouchers of the TIP-1034 channel reserve: what is hashed, and whether the signer signed it.

Pure. Source: TIP-1034, `computeChannelId` and `getVoucherDigest` of the channel reserve; EIP-712.
"""

from functools import lru_cache
from typing import Final

from services.payment.mpp.addresses import keccak, word
from services.payment.mpp.payloads import Descriptor
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.signatures import domain_hash, recover, typed_digest

RESERVE: Final = "0x4d50500000000000000000000000000000000000"
"""The canonical channel reserve."""
DOMAINS_KEPT_MAX: Final = 16
_NAME: Final = "TIP20 Channel Reserve"
_TYPE: Final = keccak(b"Voucher(bytes32 channelId,uint96 cumulativeAmount)")


def channel_id(descriptor: Descriptor, escrow: str, chain_id: int) -> str:
    """Return the id of a channel in lower-case hex."""
    parts: tuple[int | str, ...] = (
        descriptor.payer,
        descriptor.payee,
        descriptor.operator,
        descriptor.token,
        descriptor.salt,
        descriptor.authorized_signer,
        descriptor.expiring_nonce_hash,
        escrow,
        chain_id,
    )
    return "0x" + keccak(b"".join(map(word, parts))).hex()


@lru_cache(maxsize=DOMAINS_KEPT_MAX)
def domain_separator(escrow: str, chain_id: int) -> bytes:
    """Return the EIP-712 domain separator, 32 bytes; kept for the escrows last asked for."""
    return domain_hash(_NAME, chain_id, escrow)


def struct_hash(channel: str, cumulative_base_units: int) -> bytes:
    """Return the EIP-712 hash of a voucher, 32 bytes."""
    return keccak(_TYPE + word(channel) + word(cumulative_base_units))


def voucher_digest(domain: bytes, channel: str, cumulative_base_units: int) -> bytes:
    """Return what is signed, 32 bytes."""
    return typed_digest(domain, struct_hash(channel, cumulative_base_units))


def check_voucher(
    signature: bytes, *, domain: bytes, channel: str, cumulative_base_units: int, signer: str
) -> None:
    """Return if `signer`, an address in hex, signed this amount for this channel.

    Raises:
        PaymentError: session/invalid-signature.
    """
    try:
        found = recover(voucher_digest(domain, channel, cumulative_base_units), signature)
    except ValueError as error:
        raise PaymentError(Slug.INVALID_SIGNATURE, str(error)) from None
    if found != signer.lower():
        raise PaymentError(
            Slug.INVALID_SIGNATURE,
            "Signature is not by the channel's signer over this channel, amount, chain and escrow.",
        )
