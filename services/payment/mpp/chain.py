"""What machine payments need of a chain: the reserve's channels, our transactions, transfers.

Pure: a port, its values and its one error; `tempo.py` speaks to a real node. Amounts are base units
of the token (6 decimals, 1 base unit = 1,000 nano-USD). Addresses, hashes and bytes are hex text
with `0x`, lower case unless an argument says otherwise. Nothing here keeps state of its own that a
restart would need: what is in flight is found again by its transaction hash.

Source of the reserve's rules: TIP-1034 (channel reserve), read 2026-08-21.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

ZERO_ADDRESS: Final = "0x" + "00" * 20
CLOSE_GRACE_S: Final = 900


class ChainFault(StrEnum):
    """Why the chain did not do what was asked.

    `UNAVAILABLE`: no answer in time, or an answer that says nothing; a repeat makes sense.
    `REVERTED`: it ran, or was simulated, and failed; a repeat fails alike until the state changes.
    `NOT_FOUND`: no such transaction, event or channel.
    `WRONG`: what was given is not what it has to be, and was not sent.
    """

    UNAVAILABLE = "unavailable"
    REVERTED = "reverted"
    NOT_FOUND = "not_found"
    WRONG = "wrong"


class ChainError(Exception):
    """The chain's refusal or silence.

    `detail` is a sentence without secrets. `tx_hash` is set as soon as a transaction may have been
    sent: with `UNAVAILABLE` it may still be mined, so ask for its outcome instead of trying anew.
    `revert` is the reserve's or token's own name for a failure, such as `AmountNotIncreasing`.
    """

    def __init__(
        self, fault: ChainFault, detail: str, *, tx_hash: str = "", revert: str = ""
    ) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail
        self.tx_hash = tx_hash
        self.revert = revert


class ChannelTerms(Protocol):
    """What names a channel: the seven fields of its descriptor, in the reserve's order.

    `payloads.Descriptor` is one. Addresses have 20 bytes, `salt` and `expiring_nonce_hash` 32.
    """

    @property
    def payer(self) -> str: ...  # noqa: D102
    @property
    def payee(self) -> str: ...  # noqa: D102
    @property
    def operator(self) -> str: ...  # noqa: D102
    @property
    def token(self) -> str: ...  # noqa: D102
    @property
    def salt(self) -> str: ...  # noqa: D102
    @property
    def authorized_signer(self) -> str: ...  # noqa: D102
    @property
    def expiring_nonce_hash(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class OnChain:
    """A live channel as the reserve keeps it; `close_requested_unix_s` is 0 when none is asked."""

    deposit: int
    settled: int
    close_requested_unix_s: int


@dataclass(frozen=True, slots=True)
class OpeningCall:
    """What a transaction that opens a channel will do, read before it is sent.

    `expiring_nonce_hash` and `channel_id` are those that the reserve will compute.
    """

    payer: str
    payee: str
    operator: str
    token: str
    salt: str
    authorized_signer: str
    expiring_nonce_hash: str
    channel_id: str
    deposit: int


@dataclass(frozen=True, slots=True)
class TopUpCall:
    """What a transaction that adds to a deposit will do, read before it is sent."""

    channel_id: str
    additional_deposit: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The ChannelOpened event of a mined transaction."""

    channel_id: str
    payer: str
    payee: str
    operator: str
    token: str
    authorized_signer: str
    salt: str
    expiring_nonce_hash: str
    deposit: int
    tx_hash: str
    block_number: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A signed transaction of the payee that has not been sent: store it, then `send` it.

    `raw` moves the payee's money once it is sent, but holds no key; sending it twice is harmless.
    """

    tx_hash: str
    raw: str


@dataclass(frozen=True, slots=True)
class Mined:
    """The transaction is in a block and did what it says."""

    tx_hash: str
    block_number: int


@dataclass(frozen=True, slots=True)
class Reverted:
    """The transaction is in a block and failed; nothing but its fee was paid."""

    tx_hash: str
    block_number: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """No receipt yet: it may be mined later."""

    tx_hash: str


@dataclass(frozen=True, slots=True)
class Displaced:
    """Another transaction of the payee took its nonce: it can never be mined."""

    tx_hash: str


Outcome = Mined | Reverted | Unknown
SendOutcome = Mined | Reverted | Unknown | Displaced


@dataclass(frozen=True, slots=True)
class Transfer:
    """A TIP-20 transfer; `memo` is 32 bytes, or `""` for one without."""

    token: str
    sender: str
    to: str
    amount: int
    memo: str


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """A payer asked to close alone; it may withdraw from `grace_end_unix_s` on."""

    channel_id: str
    payer: str
    payee: str
    grace_end_unix_s: int
    block_number: int


@dataclass(frozen=True, slots=True)
class ClosesRequested:
    """One page of close requests to our payee; ask from `next_block` the next time."""

    events: tuple[CloseRequested, ...]
    next_block: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The ChannelClosed event of a channel: by us, or by the payer's withdrawal."""

    channel_id: str
    settled_to_payee: int
    refunded_to_payer: int
    tx_hash: str
    block_number: int


class Chain(Protocol):
    """The chain that channels live on. Every operation has a deadline and raises `ChainError`.

    The payee's transactions go out one at a time: hold `turn()` around `prepare_*`, the storing of
    the intent, and `send`. After a crash, `send` the stored one again to learn its outcome.
    """

    @property
    def payee(self) -> str:
        """Address that is paid and that sends settlements."""

    async def check(self) -> None:
        """Refuse a node of another chain, or one without the token or the reserve.

        Raises:
            ChainError: `WRONG`, or `UNAVAILABLE` when the node does not answer.
        """

    def transaction_hash(self, raw_transaction: str) -> str:
        """Return the hash under which a signed transaction will be found; asks no node.

        Raises:
            ChainError: `WRONG` when it is none.
        """

    def opening_of(self, raw_transaction: str) -> OpeningCall:
        """Read the one call to the reserve's `open` of a 0x76 transaction; asks no node.

        Raises:
            ChainError: `WRONG` for anything else, another chain's transaction included.
        """

    def top_up_of(self, raw_transaction: str) -> TopUpCall:
        """Read the one call to the reserve's `topUp` of a transaction; asks no node.

        Raises:
            ChainError: `WRONG` for anything else.
        """

    def transfers_of(self, raw_transaction: str) -> tuple[Transfer, ...]:
        """Read the transfers that a 0x76 or type-2 transaction will do, in order; asks no node.

        Raises:
            ChainError: `WRONG` when it does anything but transfer, or its sender is not known.
        """

    async def channel(self, channel_id: str) -> OnChain | None:
        """Return a channel's state; None when there is none, or it was closed."""

    async def open(self, raw_transaction: str) -> Opened:
        """Send a payer's opening transaction, wait for its receipt and return what it opened.

        Sending one again that is mined returns the same.

        Raises:
            ChainError: `WRONG` before it is sent, `REVERTED`, or `UNAVAILABLE` with its hash.
        """

    async def opened(self, tx_hash: str) -> Opened:
        """Return what a transaction opened that was sent before; does not wait.

        Raises:
            ChainError: `NOT_FOUND` without a receipt, `REVERTED`, `WRONG` when it opened nothing.
        """

    async def top_up(self, raw_transaction: str, channel_id: str) -> OnChain:
        """Send a payer's top-up of this channel, wait for its receipt and return the new state.

        Raises:
            ChainError: `WRONG` before it is sent, also for another channel; `REVERTED`, or
                `UNAVAILABLE` with its hash.
        """

    async def broadcast(self, raw_transaction: str) -> Mined:
        """Send any signed transaction of a payer and wait for its receipt: a charge's transfer.

        Raises:
            ChainError: `REVERTED`, or `UNAVAILABLE` with its hash.
        """

    async def transfers(self, tx_hash: str) -> tuple[Transfer, ...]:
        """Return the transfers of a mined transaction, in the order of its logs.

        Raises:
            ChainError: `NOT_FOUND` without a receipt, `REVERTED`.
        """

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Hold the payee's turn, so that no other transaction of this process takes its nonce.

        Raises:
            ChainError: `UNAVAILABLE` when the turn does not come in time.
        """

    async def prepare_settle(
        self, channel: ChannelTerms, *, cumulative: int, signature: str
    ) -> Prepared:
        """Sign a settlement of a voucher.

        Raises:
            ChainError: `REVERTED` when it would fail now; nothing was sent.
        """

    async def prepare_close(
        self, channel: ChannelTerms, *, cumulative: int, capture: int, signature: str
    ) -> Prepared:
        """Sign a cooperative close that pays `capture` in all and the rest back to the payer.

        Raises:
            ChainError: `REVERTED` when it would fail now; nothing was sent.
        """

    async def prepare_transfer(self, *, to: str, amount: int) -> Prepared:
        """Sign a transfer of the token from the payee, such as a refund.

        Raises:
            ChainError: `REVERTED` when it would fail now; nothing was sent.
        """

    async def prepare_dearer(self, prepared: Prepared) -> Prepared:
        """Sign the same call with the same nonce at a higher fee: at most one of them is mined.

        Raises:
            ChainError: `WRONG` when the fee is at its limit already.
        """

    async def send(self, prepared: Prepared) -> SendOutcome:
        """Send a prepared transaction and wait for its receipt; a repeat is harmless.

        Only `Reverted` and `Displaced` end it unpaid. After anything else it may still be mined:
        send it again, or a dearer one with the same nonce, but prepare no other for the same debt.

        Raises:
            ChainError: With its hash: `WRONG` when the node does not take it now, such as for want
                of a fee; `UNAVAILABLE` when it may or may not have been sent.
        """

    async def outcome(self, tx_hash: str) -> Outcome:
        """Return what became of a transaction; does not wait."""

    async def block_number(self) -> int:
        """Return the number of the newest block."""

    async def closes_requested(self, from_block: int) -> ClosesRequested:
        """Return one page of close requests of channels to our payee, from a block on."""

    async def closed(self, channel_id: str, *, from_block: int) -> Closed | None:
        """Return how a channel ended; None when it has not since `from_block`.

        Raises:
            ChainError: `UNAVAILABLE` also when the span is longer than may be searched.
        """
