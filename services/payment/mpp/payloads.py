"""Payloads of the `tempo` method: the four actions of a session and the three proofs of a charge.

Pure. Amounts are base units of the currency, uint96. Hex is lower-case here, of either case on the
wire. Source: tempo method of paymentauth.org, `session` protocol v2 (TIP-1034) and `charge`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

AMOUNT_MAX: Final = 2**96 - 1
SIGNATURE_BYTES_MAX: Final = 4_096
TRANSACTION_BYTES_MAX: Final = 16_384


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a channel is made of; its id is a hash of this. Addresses and 32-byte words in hex."""

    payer: str
    payee: str
    operator: str
    token: str
    salt: str
    authorized_signer: str
    expiring_nonce_hash: str

    @property
    def signer(self) -> str:
        """Who signs vouchers: the authorized signer, or the payer where that is zero."""
        raise NotImplementedError

    def as_json(self) -> dict[str, str]:
        """Return the members as they are on the wire."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Open:
    """Opens a channel by a signed transaction, with a first voucher."""

    channel_id: str
    descriptor: Descriptor
    cumulative_base_units: int
    signature: bytes = field(repr=False)
    transaction: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Voucher:
    """Raises what may be taken from a channel, in all."""

    channel_id: str
    descriptor: Descriptor
    cumulative_base_units: int
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TopUp:
    """Adds to a channel's deposit by a signed transaction."""

    channel_id: str
    descriptor: Descriptor
    additional_deposit_base_units: int
    transaction: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Close:
    """Asks for a channel to be closed, with the last voucher."""

    channel_id: str
    descriptor: Descriptor
    cumulative_base_units: int
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TransferTransaction:
    """Pays a charge by a signed transaction that the payee broadcasts."""

    transaction: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TransferHash:
    """Pays a charge by a transaction that is on chain already; 32 bytes in hex."""

    transaction_hash: str


@dataclass(frozen=True, slots=True)
class ZeroProof:
    """Answers a charge of nothing by a signature over the challenge's id."""

    signature: bytes = field(repr=False)


SessionPayload: TypeAlias = Open | Voucher | TopUp | Close
ChargePayload: TypeAlias = TransferTransaction | TransferHash | ZeroProof


def read_payload(intent: str, payload: Mapping[str, object]) -> SessionPayload | ChargePayload:
    """Return the payload of a `session` or `charge`; unknown members are passed over.

    Raises:
        PaymentError: invalid-payload, naming the member; method-unsupported for another intent;
            verification-failed for a session of protocol v1.
    """
    raise NotImplementedError


def read_amount(text: object) -> int:
    """Return a decimal uint96: digits only, without sign, exponent or leading zeros.

    Raises:
        ValueError: Anything else.
    """
    raise NotImplementedError
