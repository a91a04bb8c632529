"""Payloads of the `tempo` method: the four actions of a session and the three proofs of a charge.

Pure. Amounts are base units of the currency, uint96. Hex is lower-case here, of either case on the
wire. Source: tempo method of paymentauth.org, `session` protocol v2 (TIP-1034) and `charge`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from services.payment.mpp.addresses import (
    ADDRESS_BYTES,
    WORD_BYTES,
    ZERO_ADDRESS,
    read_bytes,
    read_hex,
)
from services.payment.mpp.problems import PaymentError, Slug

AMOUNT_MAX: Final = 2**96 - 1
SIGNATURE_BYTES_MAX: Final = 4_096
TRANSACTION_BYTES_MAX: Final = 16_384
_AMOUNT: Final = re.compile(r"0|[1-9][0-9]{0,28}")
_TRANSACTION: Final = "transaction"
_DESCRIPTOR: Final = {
    "payer": ADDRESS_BYTES,
    "payee": ADDRESS_BYTES,
    "operator": ADDRESS_BYTES,
    "token": ADDRESS_BYTES,
    "salt": WORD_BYTES,
    "authorizedSigner": ADDRESS_BYTES,
    "expiringNonceHash": WORD_BYTES,
}
"""Members in the order in which they are hashed, and their bytes."""


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
        return self.payer if self.authorized_signer == ZERO_ADDRESS else self.authorized_signer

    def as_json(self) -> dict[str, str]:
        """Return the members as they are on the wire."""
        return {
            "payer": self.payer,
            "payee": self.payee,
            "operator": self.operator,
            "token": self.token,
            "salt": self.salt,
            "authorizedSigner": self.authorized_signer,
            "expiringNonceHash": self.expiring_nonce_hash,
        }


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
            verification-failed for a session of protocol v1; session/signer-mismatch where `open`
            names another signer than its descriptor.
    """
    if intent == "session":
        return _session(payload)
    if intent == "charge":
        return _charge(payload)
    raise PaymentError(
        Slug.METHOD_UNSUPPORTED, "Intent must be `session` or `charge`; another was answered."
    )


def read_amount(text: object) -> int:
    """Return a decimal uint96: digits only, without sign, exponent or leading zeros.

    Raises:
        ValueError: Anything else.
    """
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text) or int(text) > AMOUNT_MAX:
        raise ValueError("must be a decimal string from 0 to 2^96 - 1 without leading zeros")
    return int(text)


def _session(payload: Mapping[str, object]) -> SessionPayload:
    action = payload.get("action")
    reader = _ACTIONS.get(action) if isinstance(action, str) else None
    if reader is None:
        raise _invalid("action", "must be `open`, `voucher`, `topUp` or `close`")
    if "descriptor" not in payload:
        raise PaymentError(
            Slug.VERIFICATION_FAILED,
            "v1 sessions are not taken; use the TIP-1034 reserve: `payload.descriptor` is missing.",
        )
    return reader(payload)


def _open(payload: Mapping[str, object]) -> Open:
    _check_transaction_type(payload)
    descriptor = _descriptor(payload)
    if "authorizedSigner" in payload:
        claimed = _hex(payload, "authorizedSigner", ADDRESS_BYTES)
        if claimed not in (descriptor.authorized_signer, descriptor.signer):
            raise PaymentError(
                Slug.SIGNER_MISMATCH, "`payload.authorizedSigner` is not the descriptor's signer."
            )
    return Open(
        channel_id=_hex(payload, "channelId", WORD_BYTES),
        descriptor=descriptor,
        cumulative_base_units=_amount(payload, "cumulativeAmount"),
        signature=_bytes(payload, "signature", SIGNATURE_BYTES_MAX),
        transaction=_bytes(payload, _TRANSACTION, TRANSACTION_BYTES_MAX),
    )


def _voucher(payload: Mapping[str, object]) -> Voucher:
    return Voucher(
        channel_id=_hex(payload, "channelId", WORD_BYTES),
        descriptor=_descriptor(payload),
        cumulative_base_units=_amount(payload, "cumulativeAmount"),
        signature=_bytes(payload, "signature", SIGNATURE_BYTES_MAX),
    )


def _top_up(payload: Mapping[str, object]) -> TopUp:
    _check_transaction_type(payload)
    return TopUp(
        channel_id=_hex(payload, "channelId", WORD_BYTES),
        descriptor=_descriptor(payload),
        additional_deposit_base_units=_amount(payload, "additionalDeposit"),
        transaction=_bytes(payload, _TRANSACTION, TRANSACTION_BYTES_MAX),
    )


def _close(payload: Mapping[str, object]) -> Close:
    return Close(
        channel_id=_hex(payload, "channelId", WORD_BYTES),
        descriptor=_descriptor(payload),
        cumulative_base_units=_amount(payload, "cumulativeAmount"),
        signature=_bytes(payload, "signature", SIGNATURE_BYTES_MAX),
    )


_ACTIONS: Final[dict[str, Callable[[Mapping[str, object]], SessionPayload]]] = {
    "open": _open,
    "voucher": _voucher,
    "topUp": _top_up,
    "close": _close,
}


def _charge(payload: Mapping[str, object]) -> ChargePayload:
    match payload.get("type"):
        case "transaction":
            return TransferTransaction(_bytes(payload, "signature", TRANSACTION_BYTES_MAX))
        case "hash":
            return TransferHash(_hex(payload, "hash", WORD_BYTES))
        case "proof":
            return ZeroProof(_bytes(payload, "signature", SIGNATURE_BYTES_MAX))
    raise _invalid("type", "must be `transaction`, `hash` or `proof`")


def _check_transaction_type(payload: Mapping[str, object]) -> None:
    if payload.get("type") != _TRANSACTION:
        raise _invalid("type", f"must be `{_TRANSACTION}`")


def _descriptor(payload: Mapping[str, object]) -> Descriptor:
    members = payload["descriptor"]
    if not isinstance(members, Mapping):
        raise _invalid("descriptor", "must be an object")
    texts: list[str] = []
    for name, byte_count in _DESCRIPTOR.items():
        try:
            texts.append(read_hex(members.get(name), byte_count=byte_count))
        except ValueError as error:
            raise _invalid(f"descriptor.{name}", str(error)) from None
    return Descriptor(*texts)


def _hex(payload: Mapping[str, object], member: str, byte_count: int) -> str:
    try:
        return read_hex(payload.get(member), byte_count=byte_count)
    except ValueError as error:
        raise _invalid(member, str(error)) from None


def _bytes(payload: Mapping[str, object], member: str, bytes_max: int) -> bytes:
    try:
        return read_bytes(payload.get(member), bytes_max=bytes_max)
    except ValueError as error:
        raise _invalid(member, str(error)) from None


def _amount(payload: Mapping[str, object], member: str) -> int:
    try:
        return read_amount(payload.get(member))
    except ValueError as error:
        raise _invalid(member, str(error)) from None


def _invalid(member: str, why: str) -> PaymentError:
    return PaymentError(Slug.INVALID_PAYLOAD, f"`payload.{member}` {why}.")
