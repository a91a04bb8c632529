"""Calls, answers and events of the channel reserve and of a TIP-20 token, as bytes.

Pure. Only static types and one trailing `bytes` occur, so words of 32 bytes are written and read by
hand. Every reader refuses what has not exactly the expected form with `ValueError`.

Source: TIP-1034 reserve ABI (tempoxyz/tempo, tip20_channel_reserve.rs) and TIP-20, read 2026-08-21;
Solidity's contract ABI specification.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.payment.mpp.addresses import ADDRESS_BYTES, WORD_BYTES, keccak, word
from services.payment.mpp.chain import (
    ChannelTerms,
    Closed,
    CloseRequested,
    OnChain,
    Opened,
    Transfer,
)

UINT96_MAX: Final = 2**96 - 1
REASON_BYTES_MAX: Final = 64
_DESCRIPTOR_WORDS: Final = 7


def selector(signature: str) -> bytes:
    """Return the 4 bytes that a call to this function starts with."""
    return keccak(signature.encode())[:4]


def topic(signature: str) -> str:
    """Return the first topic of an event, hex."""
    return "0x" + keccak(signature.encode()).hex()


_D: Final = "(address,address,address,address,bytes32,address,bytes32)"
OPEN: Final = selector("open(address,address,address,uint96,bytes32,address)")
TOP_UP: Final = selector(f"topUp({_D},uint96)")
SETTLE: Final = selector(f"settle({_D},uint96,bytes)")
CLOSE: Final = selector(f"close({_D},uint96,uint96,bytes)")
CHANNEL_STATE: Final = selector("getChannelState(bytes32)")
CLOSE_GRACE: Final = selector("CLOSE_GRACE_PERIOD()")
DECIMALS: Final = selector("decimals()")
TRANSFER: Final = selector("transfer(address,uint256)")
TRANSFER_MEMO: Final = selector("transferWithMemo(address,uint256,bytes32)")
CHANNEL_OPENED: Final = topic(
    "ChannelOpened(bytes32,address,address,address,address,address,bytes32,bytes32,uint96)"
)
TOPPED_UP: Final = topic("TopUp(bytes32,address,address,uint96,uint96)")
CLOSE_REQUESTED: Final = topic("CloseRequested(bytes32,address,address,uint256)")
CHANNEL_CLOSED: Final = topic("ChannelClosed(bytes32,address,address,uint96,uint96)")
TRANSFERRED: Final = topic("Transfer(address,address,uint256)")
TRANSFERRED_MEMO: Final = topic("TransferWithMemo(address,address,uint256,bytes32)")

_ERROR: Final = selector("Error(string)")
_REVERTS: Final = {
    selector(f"{name}()"): name
    for name in (
        "AmountExceedsDeposit",
        "AmountNotIncreasing",
        "CaptureAmountInvalid",
        "ChannelAlreadyExists",
        "ChannelNotFound",
        "CloseNotReady",
        "ExpiringNonceHashNotSet",
        "InvalidSignature",
        "NotPayeeOrOperator",
        "NotPayer",
        "ZeroDeposit",
    )
}


@dataclass(frozen=True, slots=True)
class Log:
    """One event of a mined transaction; `topics` are hex of 32 bytes each."""

    address: str
    topics: tuple[str, ...]
    data: bytes
    tx_hash: str
    block_number: int


def descriptor_words(channel: ChannelTerms) -> bytes:
    """Return the seven words of a channel's descriptor."""
    fields = (
        channel.payer,
        channel.payee,
        channel.operator,
        channel.token,
        channel.salt,
        channel.authorized_signer,
        channel.expiring_nonce_hash,
    )
    return b"".join(map(word, fields))


def channel_id(descriptor: bytes, *, escrow: str, chain_id: int) -> str:
    """Return the id of the channel that these seven words name, hex."""
    return "0x" + keccak(descriptor + word(escrow) + word(chain_id)).hex()


def settle_call(channel: ChannelTerms, *, cumulative: int, signature: str) -> bytes:
    """Return a call that pays the payee up to a voucher."""
    head = descriptor_words(channel) + word(cumulative)
    return SETTLE + head + _bytes_tail(head, signature)


def close_call(channel: ChannelTerms, *, cumulative: int, capture: int, signature: str) -> bytes:
    """Return a call that ends a channel, pays `capture` in all and the rest back."""
    head = descriptor_words(channel) + word(cumulative) + word(capture)
    return CLOSE + head + _bytes_tail(head, signature)


def transfer_call(*, to: str, amount: int) -> bytes:
    """Return a call that transfers a token."""
    return TRANSFER + word(to) + word(amount)


def channel_state_call(channel: str) -> bytes:
    """Return a call that asks for a channel's state."""
    return CHANNEL_STATE + word(channel)


def read_channel_state(answer: bytes) -> OnChain | None:
    """Read the answer to `channel_state_call`; None for a channel that is not there."""
    settled, deposit, close_requested = (uint(each) for each in words(answer, count=3))
    if not deposit:
        return None
    return OnChain(deposit=deposit, settled=settled, close_requested_unix_s=close_requested)


@dataclass(frozen=True, slots=True)
class OpenArguments:
    """What a call to `open` says."""

    payee: str
    operator: str
    token: str
    deposit: int
    salt: str
    authorized_signer: str


def read_open_call(data: bytes) -> OpenArguments:
    """Read a call to the reserve's `open`."""
    payee, operator, token, deposit, salt, signer = words(_after(OPEN, data), count=6)
    return OpenArguments(
        payee=address(payee),
        operator=address(operator),
        token=address(token),
        deposit=uint(deposit, maximum=UINT96_MAX),
        salt="0x" + salt.hex(),
        authorized_signer=address(signer),
    )


def read_top_up_call(data: bytes) -> tuple[bytes, int]:
    """Read a call to the reserve's `topUp`: the seven words of the descriptor, and the amount."""
    arguments = words(_after(TOP_UP, data), count=_DESCRIPTOR_WORDS + 1)
    return b"".join(arguments[:-1]), uint(arguments[-1], maximum=UINT96_MAX)


def read_transfer_call(data: bytes, *, token: str, sender: str) -> Transfer:
    """Read a call to a token's `transfer` or `transferWithMemo`."""
    if data[:4] == TRANSFER:
        to, amount = words(data[4:], count=2)
        memo = ""
    else:
        to, amount, memo_word = words(_after(TRANSFER_MEMO, data), count=3)
        memo = "0x" + memo_word.hex()
    return Transfer(token=token, sender=sender, to=address(to), amount=uint(amount), memo=memo)


def read_opened(log: Log) -> Opened:
    """Read a ChannelOpened event."""
    channel, payer, payee = _indexed(log, CHANNEL_OPENED, count=3)
    operator, token, signer, salt, nonce_hash, deposit = words(log.data, count=6)
    return Opened(
        channel_id="0x" + channel.hex(),
        payer=address(payer),
        payee=address(payee),
        operator=address(operator),
        token=address(token),
        authorized_signer=address(signer),
        salt="0x" + salt.hex(),
        expiring_nonce_hash="0x" + nonce_hash.hex(),
        deposit=uint(deposit, maximum=UINT96_MAX),
        tx_hash=log.tx_hash,
        block_number=log.block_number,
    )


def read_close_requested(log: Log) -> CloseRequested:
    """Read a CloseRequested event."""
    channel, payer, payee = _indexed(log, CLOSE_REQUESTED, count=3)
    (grace_end,) = words(log.data, count=1)
    return CloseRequested(
        channel_id="0x" + channel.hex(),
        payer=address(payer),
        payee=address(payee),
        grace_end_unix_s=uint(grace_end),
        block_number=log.block_number,
    )


def read_closed(log: Log) -> Closed:
    """Read a ChannelClosed event."""
    channel, _, _ = _indexed(log, CHANNEL_CLOSED, count=3)
    settled, refunded = words(log.data, count=2)
    return Closed(
        channel_id="0x" + channel.hex(),
        settled_to_payee=uint(settled, maximum=UINT96_MAX),
        refunded_to_payer=uint(refunded, maximum=UINT96_MAX),
        tx_hash=log.tx_hash,
        block_number=log.block_number,
    )


def read_transfers(logs: Iterable[Log]) -> tuple[Transfer, ...]:
    """Read the transfers among a transaction's events, in their order.

    A transfer with a memo tells itself twice, first without; the two count once.
    """
    found: list[Transfer] = []
    for log in logs:
        kind = log.topics[0] if log.topics else ""
        if kind == TRANSFERRED:
            found.append(_transfer(log, memo=""))
        elif kind == TRANSFERRED_MEMO:
            _add_memo(found, log)
    return tuple(found)


def revert_reason(data: bytes) -> str:
    """Return the name or text that a failed call gave, printable ASCII; empty when it gave none."""
    if data[:4] in _REVERTS:
        return _REVERTS[data[:4]]
    if data[:4] != _ERROR or len(data) < 4 + 2 * WORD_BYTES:
        return ""
    length = int.from_bytes(data[4 + WORD_BYTES : 4 + 2 * WORD_BYTES], "big")
    text = data[4 + 2 * WORD_BYTES :][: min(length, REASON_BYTES_MAX)]
    return "".join(chr(byte) for byte in text if 0x20 <= byte < 0x7F)


def words(data: bytes, *, count: int) -> Sequence[bytes]:
    """Cut `data` into exactly `count` words."""
    if len(data) != count * WORD_BYTES:
        raise ValueError(f"Data has {len(data)} bytes; {count * WORD_BYTES} expected.")
    return [data[at : at + WORD_BYTES] for at in range(0, len(data), WORD_BYTES)]


def address(content: bytes) -> str:
    """Read a word as an address, hex."""
    if any(content[:-ADDRESS_BYTES]):
        raise ValueError("A word is no address.")
    return "0x" + content[-ADDRESS_BYTES:].hex()


def uint(content: bytes, *, maximum: int = 2**256 - 1) -> int:
    """Read a word as an unsigned integer of at most `maximum`."""
    value = int.from_bytes(content, "big")
    if value > maximum:
        raise ValueError("A word is larger than its type.")
    return value


def _transfer(log: Log, *, memo: str) -> Transfer:
    sender, to = _indexed(log, log.topics[0], count=len(log.topics) - 1)[:2]
    return Transfer(
        token=log.address,
        sender=address(sender),
        to=address(to),
        amount=uint(log.data[:WORD_BYTES]),
        memo=memo,
    )


def _add_memo(found: list[Transfer], log: Log) -> None:
    *_, memo = _indexed(log, TRANSFERRED_MEMO, count=3)
    told = _transfer(log, memo="0x" + memo.hex())
    plain = replace(told, memo="")
    for at in range(len(found) - 1, -1, -1):
        if found[at] == plain:
            found[at] = told
            return
    found.append(told)


def _indexed(log: Log, kind: str, *, count: int) -> Sequence[bytes]:
    if len(log.topics) != count + 1 or log.topics[0] != kind:
        raise ValueError("A log is not the event that was looked for.")
    return [word(text) for text in log.topics[1:]]


def _after(name: bytes, data: bytes) -> bytes:
    if data[:4] != name:
        raise ValueError("A call is not to the function that was looked for.")
    return data[4:]


def _bytes_tail(head: bytes, text: str) -> bytes:
    content = bytes.fromhex(text.removeprefix("0x"))
    padding = -len(content) % WORD_BYTES
    offset = len(head) + WORD_BYTES
    return word(offset) + word(len(content)) + content + b"\x00" * padding
