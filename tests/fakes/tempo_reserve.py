"""The rules of the channel reserve and of a TIP-20 token, as a chain keeps them; no network here.

Amounts are base units. Ids, addresses and topics are lower-case hex. A call either changes the
state and tells its events, or raises `RevertError` and the caller drops the copy that it worked on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from tests.fakes.tempo_payer import (
    DESCRIPTOR,
    ZERO,
    ChannelDescriptor,
    Terms,
    argument_types,
    channel_id,
    voucher_message,
)

GRACE_S = 900
TOKENS = "0x20c0"  # every TIP-20 token has an address that starts so
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
DESCRIPTOR_TYPES = argument_types(DESCRIPTOR[1:-1])


class RevertError(Exception):
    """The chain's own refusal; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Event:
    """One log: the address that told it, its topics and its data."""

    address: str
    topics: tuple[str, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """A channel's state."""

    settled: int
    deposit: int
    close_requested: int = 0


@dataclass(slots=True)
class World:
    """Everything that a chain remembers; `now` is the time of the block that is made."""

    terms: Terms
    now: int
    balances: dict[tuple[str, str], int] = field(default_factory=dict)
    channels: dict[str, Held] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def copy(self) -> "World":
        """Return a state to work on, without events."""
        return World(self.terms, self.now, dict(self.balances), dict(self.channels))

    def move(self, token: str, sender: str, to: str, amount: int) -> None:
        """Transfer, and tell it."""
        have = self.balances.get((token, sender), 0)
        if have < amount:
            raise RevertError("InsufficientBalance")
        self.balances[token, sender] = have - amount
        self.balances[token, to] = self.balances.get((token, to), 0) + amount
        self.tell(token, "Transfer(address,address,uint256)", sender, to, words=(amount,))

    def tell(self, address: str, signature: str, *topics: str, words: tuple[Any, ...]) -> None:
        """Append an event; `words` belong to the last types of its signature."""
        types = argument_types(signature[signature.index("(") + 1 : -1])[len(topics) :]
        self.events.append(
            Event(
                address=address,
                topics=(
                    "0x" + keccak(signature.encode()).hex(),
                    *("0x" + topic[2:].rjust(64, "0") for topic in topics),
                ),
                data=bytes(encode(types, words)),
            )
        )


@dataclass(frozen=True, slots=True)
class Message:
    """One call of a transaction; `nonce_hash` is empty for type 2."""

    sender: str
    to: str
    data: bytes
    nonce_hash: bytes = b""


def run(world: World, message: Message) -> bytes:
    """Do one call and return its answer; what is no call of ours does nothing."""
    handlers = _RESERVE if message.to == world.terms.escrow else _TOKEN
    found = handlers.get(message.data[:4])
    if found is None or not message.to.startswith((world.terms.escrow, TOKENS)):
        return b""
    types, handler = found
    answer: bytes = handler(world, message, *decode(types, message.data[4:]))
    return answer


def _open(world: World, message: Message, *arguments: Any) -> bytes:
    payee, operator, token, deposit, salt, signer = arguments
    if not message.nonce_hash:
        raise RevertError("ExpiringNonceHashNotSet")
    descriptor = ChannelDescriptor(
        payer=message.sender,
        payee=payee,
        operator=operator,
        token=token,
        salt="0x" + salt.hex(),
        authorized_signer=signer,
        expiring_nonce_hash="0x" + message.nonce_hash.hex(),
    )
    channel = channel_id(descriptor, world.terms)
    if not deposit:
        raise RevertError("ZeroDeposit")
    if channel in world.channels:
        raise RevertError("ChannelAlreadyExists")
    world.channels[channel] = Held(settled=0, deposit=deposit)
    world.move(token, message.sender, world.terms.escrow, deposit)
    world.tell(
        world.terms.escrow,
        "ChannelOpened(bytes32,address,address,address,address,address,bytes32,bytes32,uint96)",
        channel, message.sender, payee,
        words=(operator, token, signer, salt, message.nonce_hash, deposit),
    )  # fmt: skip
    return bytes.fromhex(channel[2:])


def _top_up(world: World, message: Message, descriptor: Any, amount: int) -> bytes:
    named, channel, held = _channel(world, descriptor)
    _require(message.sender == named.payer, "NotPayer")
    held = replace(held, deposit=held.deposit + amount)
    world.move(named.token, message.sender, world.terms.escrow, amount)
    if held.close_requested:
        held = replace(held, close_requested=0)
        _tell(world, "CloseRequestCancelled(bytes32,address,address)", named, channel)
    world.channels[channel] = held
    signature = "TopUp(bytes32,address,address,uint96,uint96)"
    _tell(world, signature, named, channel, amount, held.deposit)
    return b""


def _settle(
    world: World, message: Message, descriptor: Any, cumulative: int, signature: bytes
) -> bytes:
    named, channel, held = _channel(world, descriptor)
    _require_payee(message, named)
    _require(cumulative <= held.deposit, "AmountExceedsDeposit")
    _require(cumulative > held.settled, "AmountNotIncreasing")
    _require_voucher(world, named, cumulative, signature)
    delta = cumulative - held.settled
    world.channels[channel] = replace(held, settled=cumulative)
    world.move(named.token, world.terms.escrow, named.payee, delta)
    _tell(
        world,
        "Settled(bytes32,address,address,uint96,uint96,uint96)",
        named, channel, cumulative, delta, cumulative,
    )  # fmt: skip
    return b""


def _close(world: World, message: Message, *arguments: Any) -> bytes:
    descriptor, cumulative, capture, signature = arguments
    named, channel, held = _channel(world, descriptor)
    _require_payee(message, named)
    _require(held.settled <= capture <= cumulative, "CaptureAmountInvalid")
    _require(capture <= held.deposit, "AmountExceedsDeposit")
    if capture > held.settled:
        _require_voucher(world, named, cumulative, signature)
        world.move(named.token, world.terms.escrow, named.payee, capture - held.settled)
    _end(world, named, channel, capture, held.deposit - capture)
    return b""


def _request_close(world: World, message: Message, descriptor: Any) -> bytes:
    named, channel, held = _channel(world, descriptor)
    _require(message.sender == named.payer, "NotPayer")
    if not held.close_requested:
        world.channels[channel] = replace(held, close_requested=world.now)
        signature = "CloseRequested(bytes32,address,address,uint256)"
        _tell(world, signature, named, channel, world.now + GRACE_S)
    return b""


def _withdraw(world: World, message: Message, descriptor: Any) -> bytes:
    named, channel, held = _channel(world, descriptor)
    _require(message.sender == named.payer, "NotPayer")
    is_due = held.close_requested and world.now >= held.close_requested + GRACE_S
    _require(bool(is_due), "CloseNotReady")
    _end(world, named, channel, held.settled, held.deposit - held.settled)
    return b""


def _state(world: World, _message: Message, channel: bytes) -> bytes:
    held = world.channels.get("0x" + channel.hex(), Held(0, 0))
    values = (held.settled, held.deposit, held.close_requested)
    return bytes(encode(["uint96", "uint96", "uint32"], values))


def _transfer(world: World, message: Message, to: str, amount: int) -> bytes:
    world.move(message.to, message.sender, to, amount)
    return bytes(encode(["bool"], [True]))


def _transfer_memo(world: World, message: Message, to: str, amount: int, memo: bytes) -> bytes:
    world.move(message.to, message.sender, to, amount)
    told = world.events[-1]
    topic = "0x" + keccak(b"TransferWithMemo(address,address,uint256,bytes32)").hex()
    topics = (topic, *told.topics[1:], "0x" + memo.hex())
    world.events.append(replace(told, topics=topics))
    return b""


def _balance(world: World, message: Message, holder: str) -> bytes:
    return bytes(encode(["uint256"], [world.balances.get((message.to, holder), 0)]))


def _constant(value: int) -> Callable[..., bytes]:
    return lambda _world, _message: bytes(encode(["uint256"], [value]))


def _handlers(*entries: tuple[str, Callable[..., bytes]]) -> dict[bytes, Any]:
    return {
        keccak(signature.encode())[:4]: (
            [each for each in argument_types(signature[signature.index("(") + 1 : -1]) if each],
            handler,
        )
        for signature, handler in entries
    }


_RESERVE = _handlers(
    ("open(address,address,address,uint96,bytes32,address)", _open),
    (f"topUp({DESCRIPTOR},uint96)", _top_up),
    (f"settle({DESCRIPTOR},uint96,bytes)", _settle),
    (f"close({DESCRIPTOR},uint96,uint96,bytes)", _close),
    (f"requestClose({DESCRIPTOR})", _request_close),
    (f"withdraw({DESCRIPTOR})", _withdraw),
    ("getChannelState(bytes32)", _state),
    ("CLOSE_GRACE_PERIOD()", _constant(GRACE_S)),
)
_TOKEN = _handlers(
    ("transfer(address,uint256)", _transfer),
    ("transferWithMemo(address,uint256,bytes32)", _transfer_memo),
    ("balanceOf(address)", _balance),
    ("decimals()", _constant(6)),
)


def _channel(world: World, values: Any) -> tuple[ChannelDescriptor, str, Held]:
    hexed = ["0x" + each.hex() if isinstance(each, bytes) else each for each in values]
    named = ChannelDescriptor(*hexed)
    channel = channel_id(named, world.terms)
    if channel not in world.channels:
        raise RevertError("ChannelNotFound")
    return named, channel, world.channels[channel]


def _end(world: World, named: ChannelDescriptor, channel: str, paid: int, refund: int) -> None:
    del world.channels[channel]
    if refund:
        world.move(named.token, world.terms.escrow, named.payer, refund)
    signature = "ChannelClosed(bytes32,address,address,uint96,uint96)"
    _tell(world, signature, named, channel, paid, refund)


def _tell(
    world: World, signature: str, named: ChannelDescriptor, channel: str, *amounts: int
) -> None:
    world.tell(
        world.terms.escrow, signature, channel, named.payer, named.payee, words=tuple(amounts)
    )


def _require_payee(message: Message, named: ChannelDescriptor) -> None:
    allowed = {named.payee, named.operator} - {ZERO}
    _require(message.sender in allowed, "NotPayeeOrOperator")


def _require_voucher(
    world: World, named: ChannelDescriptor, cumulative: int, signature: bytes
) -> None:
    _require(len(signature) == 65, "InvalidSignature")
    _require(int.from_bytes(signature[32:64], "big") <= HALF_ORDER, "InvalidSignature")
    typed = voucher_message(channel_id(named, world.terms), cumulative, world.terms)
    message = encode_typed_data(full_message=typed)
    expected = named.payer if named.authorized_signer == ZERO else named.authorized_signer
    signer = Account.recover_message(message, signature=signature).lower()
    _require(signer == expected, "InvalidSignature")


def _require(is_so: bool, reason: str) -> None:
    if not is_so:
        raise RevertError(reason)
