"""Raw transactions as wallets write and nodes read them.

Done with the libraries of Ethereum, so that nothing is shared with the product's own reader.
"""

from dataclasses import dataclass

import rlp
from eth_account import Account
from eth_keys.datatypes import Signature
from eth_utils.crypto import keccak

EXPIRING_NONCE_KEY = 2**256 - 1
TEMPO, FEE = 0x76, 0x02
EXPIRING_S = 30
FEE_PER_GAS, TIP_PER_GAS = 20_000_000_000, 1_000_000_000


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction as the chain runs it; `nonce_hash` is the reserve's context of 0x76."""

    tx_hash: str
    kind: int
    chain_id: int
    sender: str
    is_expiring: bool
    nonce: int
    valid_before: int
    fee_per_gas: int
    fee_token: str
    calls: tuple[tuple[str, bytes], ...]
    nonce_hash: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """A signed transaction of type 0x76, and the hash that the reserve names a channel with."""

    raw: str
    tx_hash: str
    nonce_hash: str


@dataclass(frozen=True, slots=True)
class Draft:
    """One call before it is signed as a transaction of type 0x76 with an expiring nonce."""

    chain_id: int
    gas: int
    to: str
    data: bytes
    valid_before: int
    fee_token: str


def write(draft: Draft, key: str) -> Written:
    """Sign a draft."""
    account = Account.from_key(key)
    address, token = (bytes.fromhex(each[2:]) for each in (draft.to, draft.fee_token))
    fields = [
        draft.chain_id, TIP_PER_GAS, FEE_PER_GAS, draft.gas, [[address, 0, draft.data]], [],
        EXPIRING_NONCE_KEY, 0, draft.valid_before, b"", token, b"", [],
    ]  # fmt: skip
    payload = bytes([TEMPO]) + rlp.encode(fields)
    signature = bytes(account.unsafe_sign_hash(keccak(payload)).signature)
    raw = bytes([TEMPO]) + rlp.encode([*fields, signature])
    sender = bytes.fromhex(account.address[2:])
    return Written(hexed(raw), hexed(keccak(raw)), hexed(keccak(payload + sender)))


def read(raw: bytes) -> Sent:
    """Read a transaction; any exception means that a node would refuse it."""
    fields = rlp.decode(raw[1:])
    tx_hash = hexed(keccak(raw))
    return _tempo(fields, tx_hash) if raw[0] == TEMPO else _fee(fields, tx_hash)


def hexed(content: bytes) -> str:
    """Return bytes as hex with 0x."""
    return "0x" + content.hex()


def _tempo(fields: list[bytes], tx_hash: str) -> Sent:
    payload = bytes([TEMPO]) + rlp.encode(fields[:-1])
    signature = fields[-1]
    parity = signature[64] - 27 if signature[64] >= 27 else signature[64]
    sender = _sender(signature[:64], parity, payload)
    return Sent(
        tx_hash=tx_hash,
        kind=TEMPO,
        chain_id=_number(fields[0]),
        sender=sender,
        is_expiring=_number(fields[6]) == EXPIRING_NONCE_KEY,
        nonce=_number(fields[7]),
        valid_before=_number(fields[8]),
        fee_per_gas=_number(fields[2]),
        fee_token=hexed(fields[10]),
        calls=tuple((hexed(to), data) for to, _, data in fields[4]),  # type: ignore[misc, has-type]
        nonce_hash=keccak(payload + bytes.fromhex(sender[2:])),
    )


def _fee(fields: list[bytes], tx_hash: str) -> Sent:
    payload = bytes([FEE]) + rlp.encode(fields[:9])
    parity, r, s = fields[9:]
    return Sent(
        tx_hash=tx_hash,
        kind=FEE,
        chain_id=_number(fields[0]),
        sender=_sender(r.rjust(32, b"\0") + s.rjust(32, b"\0"), _number(parity), payload),
        is_expiring=False,
        nonce=_number(fields[1]),
        valid_before=0,
        fee_per_gas=_number(fields[3]),
        fee_token="",
        calls=((hexed(fields[5]), fields[7]),),
        nonce_hash=b"",
    )


def _sender(signature: bytes, parity: int, payload: bytes) -> str:
    proof = Signature(signature + bytes([parity]))
    return hexed(proof.recover_public_key_from_msg_hash(keccak(payload)).to_canonical_address())


def _number(content: bytes) -> int:
    return int.from_bytes(content, "big")
