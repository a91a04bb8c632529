"""Signed transactions: reading a payer's before it is sent, and signing the payee's.

Pure. Read are Tempo's 0x76 (several calls, expiring nonces, fees in tokens) and EIP-1559's type 2;
written is type 2 only, which Tempo takes as well. Senders with a secp256k1 key are recovered, those
with an access key are named by the signature itself; accounts of other key types are not read.

Source: Tempo transaction specification (0x76) and EIP-1559, read 2026-08-21.
"""

import re
from dataclasses import dataclass
from typing import Final

from coincurve import PrivateKey, PublicKey

from services.payment.mpp import rlp
from services.payment.mpp.addresses import ADDRESS_BYTES, keccak
from services.payment.mpp.signatures import SIGNATURE_BYTES, recover

RAW_BYTES_MAX: Final = 131_072
TEMPO_TYPE: Final = 0x76
FEE_TYPE: Final = 0x02
_TEMPO_FIELDS: Final = 14  # with the signature, without an authorisation of an access key
_FEE_FIELDS: Final = 12
_FEE_TOKEN, _FEE_PAYER, _NONCE, _CALLS = 10, 11, 7, 4
_ACCESS_KEY_TYPES: Final = (0x03, 0x04)
_HEX: Final = re.compile("0x(?:[0-9a-fA-F]{2})+")
_V_FIRST: Final = 27


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a transaction; `to` is hex, or empty when it creates a contract."""

    to: str
    value: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed transaction as far as payments look at it.

    `expiring_nonce_hash` is what the reserve makes a channel's name with; `""` for type 2, where
    there is none.
    """

    kind: int
    chain_id: int
    sender: str
    nonce: int
    calls: tuple[Call, ...]
    expiring_nonce_hash: str


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction may use and pay; fees per gas in the chain's smallest unit."""

    gas: int
    fee_per_gas: int
    tip_per_gas: int


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A type-2 transaction before it is signed."""

    chain_id: int
    nonce: int
    to: str
    data: bytes
    fees: Fees


def transaction_hash(raw: bytes) -> str:
    """Return the hash under which a signed transaction is mined, hex."""
    return "0x" + keccak(raw).hex()


def account_address(key: PublicKey) -> str:
    """Return the address of a public key, hex."""
    return "0x" + keccak(key.format(compressed=False)[1:])[-ADDRESS_BYTES:].hex()


def raw_bytes(text: str) -> bytes:
    """Read a transaction's hex.

    Raises:
        ValueError: It is no hex with `0x`, or too long.
    """
    if len(text) > 2 + 2 * RAW_BYTES_MAX or _HEX.fullmatch(text) is None:
        raise ValueError(f"A transaction is hex with 0x, {RAW_BYTES_MAX} bytes at most.")
    return bytes.fromhex(text[2:])


def read_transaction(raw: bytes) -> Transaction:
    """Read a signed transaction.

    Raises:
        ValueError: It is of another type, damaged, or its sender cannot be told.
    """
    if not raw or raw[0] not in (TEMPO_TYPE, FEE_TYPE):
        raise ValueError("A transaction has to be of type 0x76 or 0x02.")
    fields = rlp.as_list(rlp.decode(raw[1:]))
    return _read_tempo(fields) if raw[0] == TEMPO_TYPE else _read_fee(fields)


def read_unsigned(raw: bytes) -> Unsigned:
    """Read what was signed of a type-2 transaction with one call.

    Raises:
        ValueError: It is none.
    """
    transaction = read_transaction(raw)
    fields = rlp.as_list(rlp.decode(raw[1:]))
    if transaction.kind != FEE_TYPE:
        raise ValueError("A transaction is not of type 0x02.")
    (call,) = transaction.calls
    tip, fee, gas = (rlp.uint(fields[at]) for at in (2, 3, 4))
    return Unsigned(
        chain_id=transaction.chain_id,
        nonce=transaction.nonce,
        to=call.to,
        data=call.data,
        fees=Fees(gas=gas, fee_per_gas=fee, tip_per_gas=tip),
    )


def sign(unsigned: Unsigned, key: PrivateKey) -> bytes:
    """Return the signed type-2 transaction; the same one each time."""
    fields: list[rlp.Item] = [
        rlp.uint_bytes(unsigned.chain_id),
        rlp.uint_bytes(unsigned.nonce),
        rlp.uint_bytes(unsigned.fees.tip_per_gas),
        rlp.uint_bytes(unsigned.fees.fee_per_gas),
        rlp.uint_bytes(unsigned.fees.gas),
        bytes.fromhex(unsigned.to.removeprefix("0x")),
        b"",
        unsigned.data,
        [],
    ]
    signature = key.sign_recoverable(keccak(_typed(FEE_TYPE, fields)), hasher=None)
    proof: list[rlp.Item] = [
        rlp.uint_bytes(signature[64]),
        rlp.uint_bytes(int.from_bytes(signature[:32], "big")),
        rlp.uint_bytes(int.from_bytes(signature[32:64], "big")),
    ]
    return _typed(FEE_TYPE, [*fields, *proof])


def _read_tempo(fields: list[rlp.Item]) -> Transaction:
    if len(fields) not in (_TEMPO_FIELDS, _TEMPO_FIELDS + 1):
        raise ValueError(f"A 0x76 transaction has {_TEMPO_FIELDS} or {_TEMPO_FIELDS + 1} fields.")
    calls = rlp.as_list(fields[_CALLS])
    if not calls:
        raise ValueError("A 0x76 transaction has at least one call.")
    signed = list(fields[:-1])
    if signed[_FEE_PAYER] != b"":  # whoever pays the fee signs after the sender
        signed[_FEE_TOKEN], signed[_FEE_PAYER] = b"", b"\x00"
    payload = _typed(TEMPO_TYPE, signed)
    sender = _tempo_sender(rlp.as_bytes(fields[-1]), keccak(payload))
    return Transaction(
        kind=TEMPO_TYPE,
        chain_id=rlp.uint(fields[0]),
        sender=sender,
        nonce=rlp.uint(fields[_NONCE]),
        calls=tuple(_call(item) for item in calls),
        expiring_nonce_hash="0x" + keccak(payload + bytes.fromhex(sender[2:])).hex(),
    )


def _read_fee(fields: list[rlp.Item]) -> Transaction:
    if len(fields) != _FEE_FIELDS:
        raise ValueError(f"A type-2 transaction has {_FEE_FIELDS} fields.")
    parity, r, s = (rlp.uint(item) for item in fields[-3:])
    if parity not in (0, 1) or max(r, s).bit_length() > 256:
        raise ValueError("A signature is out of range.")
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([_V_FIRST + parity])
    return Transaction(
        kind=FEE_TYPE,
        chain_id=rlp.uint(fields[0]),
        sender=recover(keccak(_typed(FEE_TYPE, fields[:-3])), signature),
        nonce=rlp.uint(fields[1]),
        calls=(_call(fields[5:8]),),
        expiring_nonce_hash="",
    )


def _typed(kind: int, fields: list[rlp.Item]) -> bytes:
    return bytes([kind]) + rlp.encode(fields)


def _call(item: rlp.Item) -> Call:
    fields = rlp.as_list(item)
    if len(fields) != 3:
        raise ValueError("A call has three fields.")
    to = rlp.as_bytes(fields[0])
    if len(to) not in (0, ADDRESS_BYTES):
        raise ValueError("A call goes to an address of 20 bytes.")
    value, data = rlp.uint(fields[1]), rlp.as_bytes(fields[2])
    return Call(to="0x" + to.hex() if to else "", value=value, data=data)


def _tempo_sender(signature: bytes, digest: bytes) -> str:
    if len(signature) == SIGNATURE_BYTES:
        v = signature[64] + _V_FIRST if signature[64] in (0, 1) else signature[64]
        return recover(digest, signature[:64] + bytes([v]))
    if signature[:1] and signature[0] in _ACCESS_KEY_TYPES and len(signature) > ADDRESS_BYTES:
        return "0x" + signature[1 : 1 + ADDRESS_BYTES].hex()
    raise ValueError("A sender has to sign with a secp256k1 key or an access key.")
