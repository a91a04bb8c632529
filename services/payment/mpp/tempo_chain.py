"""Tempo behind the chain port: channels, payers' transactions and events, over a node.

What a payer hands in is read before it is sent: it may call the reserve or a token of our chain and
nothing else. What counts afterwards is the event of the mined transaction.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final, TypeVar

from services.payment.mpp import tempo_abi as abi
from services.payment.mpp.addresses import WORD_BYTES, word
from services.payment.mpp.chain import (
    CLOSE_GRACE_S,
    ChainError,
    ChainFault,
    ChannelTerms,
    Closed,
    ClosesRequested,
    Mined,
    OnChain,
    Opened,
    OpeningCall,
    Outcome,
    Prepared,
    SendOutcome,
    TopUpCall,
    Transfer,
)
from services.payment.mpp.node import (
    Node,
    NodeRefusedError,
    Receipt,
    read_data,
    read_logs,
    read_quantity,
    silence,
)
from services.payment.mpp.settings import ChainSettings
from services.payment.mpp.tempo_mining import Mining, Refused
from services.payment.mpp.tempo_payee import Payee, outcome
from services.payment.mpp.tempo_transactions import (
    TEMPO_TYPE,
    Call,
    Transaction,
    raw_bytes,
    read_transaction,
    transaction_hash,
)

TOKEN_DECIMALS: Final = 6
_Event = TypeVar("_Event")


class TempoChain:
    """Implements `services.payment.mpp.chain.Chain`, which documents each operation."""

    def __init__(self, node: Node, settings: ChainSettings) -> None:
        self._node = node
        self._settings = settings
        self._mining = Mining(
            node, call_s=settings.call_s, receipt_s=settings.receipt_s, poll_s=settings.poll_s
        )
        # A send may take as long as a receipt does; questions must find room beside them.
        self._sends = asyncio.Semaphore(settings.calls_max // 2)
        self._payee = Payee(node, self._mining, settings)

    @property
    def payee(self) -> str:
        """Address that is paid."""
        return self._payee.address

    async def check(self) -> None:
        """Refuse another chain, token or reserve."""
        found = read_quantity(await self._ask("eth_chainId"))
        if found != self._settings.chain_id:
            raise wrong(f"The node is of chain {found}; chain_id is {self._settings.chain_id}.")
        decimals = await self._word(self._settings.token, abi.DECIMALS)
        if decimals != TOKEN_DECIMALS:
            raise wrong(f"The token has {decimals} decimals; {TOKEN_DECIMALS} are needed.")
        grace_s = await self._word(self._settings.escrow, abi.CLOSE_GRACE)
        if grace_s != CLOSE_GRACE_S:
            raise wrong(f"The reserve waits {grace_s} s; {CLOSE_GRACE_S} s are expected.")

    def transaction_hash(self, raw_transaction: str) -> str:
        """Return a signed transaction's hash."""
        self._read(raw_transaction)
        return transaction_hash(raw_bytes(raw_transaction))

    def opening_of(self, raw_transaction: str) -> OpeningCall:
        """Read a call to `open`."""
        transaction = self._read(raw_transaction)
        call = self._reserve_call(transaction)
        if transaction.kind != TEMPO_TYPE:
            raise wrong("A channel is opened by a transaction of type 0x76.")
        try:
            said = abi.read_open_call(call.data)
        except ValueError as error:
            raise wrong("The transaction does not open a channel.") from error
        opening = OpeningCall(
            payer=transaction.sender,
            payee=said.payee,
            operator=said.operator,
            token=said.token,
            salt=said.salt,
            authorized_signer=said.authorized_signer,
            expiring_nonce_hash=transaction.expiring_nonce_hash,
            channel_id="",
            deposit=said.deposit,
        )
        return replace(opening, channel_id=self._channel_id(abi.descriptor_words(opening)))

    def top_up_of(self, raw_transaction: str) -> TopUpCall:
        """Read a call to `topUp`."""
        call = self._reserve_call(self._read(raw_transaction))
        try:
            descriptor, amount = abi.read_top_up_call(call.data)
        except ValueError as error:
            raise wrong("The transaction does not top up a channel.") from error
        return TopUpCall(channel_id=self._channel_id(descriptor), additional_deposit=amount)

    def transfers_of(self, raw_transaction: str) -> tuple[Transfer, ...]:
        """Read the transfers of a transaction."""
        transaction = self._read(raw_transaction)
        try:
            return tuple(
                abi.read_transfer_call(call.data, token=call.to, sender=transaction.sender)
                for call in transaction.calls
            )
        except ValueError as error:
            raise wrong("The transaction does something else than transfer.") from error

    async def channel(self, channel_id: str) -> OnChain | None:
        """Return a channel's state."""
        data = abi.channel_state_call(channel_id)
        try:
            return abi.read_channel_state(await self._view(self._settings.escrow, data))
        except ValueError as error:
            raise silence("The reserve's answer has not the expected form.") from error

    async def open(self, raw_transaction: str) -> Opened:
        """Send an opening transaction and return what it opened."""
        expected = self.opening_of(raw_transaction)
        receipt = await self._mined(raw_transaction)
        opened = self._opened(receipt)
        if opened.channel_id != expected.channel_id:
            raise wrong("The transaction opened another channel.", tx_hash=receipt.tx_hash)
        return opened

    async def opened(self, tx_hash: str) -> Opened:
        """Return what a transaction opened."""
        return self._opened(await self._receipt(tx_hash))

    async def top_up(self, raw_transaction: str, channel_id: str) -> OnChain:
        """Send a top-up and return the channel's new state."""
        if self.top_up_of(raw_transaction).channel_id != channel_id:
            raise wrong("The transaction tops up another channel.")
        receipt = await self._mined(raw_transaction)
        topics = [log.topics[:2] for log in receipt.logs if log.address == self._settings.escrow]
        if (abi.TOPPED_UP, channel_id) not in topics:
            raise wrong("The transaction topped up nothing.", tx_hash=receipt.tx_hash)
        state = await self.channel(channel_id)
        if state is None:
            raise ChainError(ChainFault.NOT_FOUND, "The channel was closed.")
        return state

    async def broadcast(self, raw_transaction: str) -> Mined:
        """Send a payer's transaction."""
        self._read(raw_transaction)
        receipt = await self._mined(raw_transaction)
        return Mined(receipt.tx_hash, receipt.block_number)

    async def transfers(self, tx_hash: str) -> tuple[Transfer, ...]:
        """Return a mined transaction's transfers."""
        receipt = await self._receipt(tx_hash)
        try:
            return abi.read_transfers(receipt.logs)
        except ValueError as error:
            raise silence("A transfer has not the expected form.", tx_hash=tx_hash) from error

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Hold the payee's turn."""
        return self._payee.turn()

    async def prepare_settle(
        self, channel: ChannelTerms, *, cumulative: int, signature: str
    ) -> Prepared:
        """Sign a settlement."""
        data = abi.settle_call(channel, cumulative=cumulative, signature=signature)
        return await self._payee.prepare(to=self._settings.escrow, data=data)

    async def prepare_close(
        self, channel: ChannelTerms, *, cumulative: int, capture: int, signature: str
    ) -> Prepared:
        """Sign a close."""
        data = abi.close_call(channel, cumulative=cumulative, capture=capture, signature=signature)
        return await self._payee.prepare(to=self._settings.escrow, data=data)

    async def prepare_transfer(self, *, to: str, amount: int) -> Prepared:
        """Sign a transfer."""
        data = abi.transfer_call(to=to, amount=amount)
        return await self._payee.prepare(to=self._settings.token, data=data)

    async def prepare_dearer(self, prepared: Prepared) -> Prepared:
        """Sign the same at a higher fee."""
        return await self._payee.dearer(prepared)

    async def send(self, prepared: Prepared) -> SendOutcome:
        """Send a prepared transaction."""
        return await self._payee.send(prepared)

    async def outcome(self, tx_hash: str) -> Outcome:
        """Return what became of a transaction."""
        return outcome(tx_hash, await self._mining.receipt(tx_hash))

    async def block_number(self) -> int:
        """Return the newest block's number."""
        return read_quantity(await self._ask("eth_blockNumber"))

    async def closes_requested(self, from_block: int) -> ClosesRequested:
        """Return a page of close requests."""
        newest = await self.block_number()
        if from_block > newest:
            return ClosesRequested(events=(), next_block=from_block)
        to_block = min(newest, from_block + self._settings.log_blocks_max - 1)
        payee = "0x" + word(self.payee).hex()
        topics = (abi.CLOSE_REQUESTED, None, None, payee)
        logs = await self._logs(topics, from_block, to_block)
        events = tuple(_event(abi.read_close_requested, log) for log in logs)
        return ClosesRequested(events=events, next_block=to_block + 1)

    async def closed(self, channel_id: str, *, from_block: int) -> Closed | None:
        """Return how a channel ended, looking from the newest block back."""
        to_block = await self.block_number()
        for _ in range(self._settings.log_pages_max):
            start = max(from_block, to_block - self._settings.log_blocks_max + 1)
            logs = await self._logs((abi.CHANNEL_CLOSED, channel_id), start, to_block)
            if logs:
                return _event(abi.read_closed, logs[-1])
            if start <= from_block:
                return None
            to_block = start - 1
        raise silence("The end of a channel lies further back than may be searched.")

    def _channel_id(self, descriptor: bytes) -> str:
        escrow, chain_id = self._settings.escrow, self._settings.chain_id
        return abi.channel_id(descriptor, escrow=escrow, chain_id=chain_id)

    def _read(self, raw_transaction: str) -> Transaction:
        try:
            transaction = read_transaction(raw_bytes(raw_transaction))
        except ValueError as error:
            raise wrong("The transaction cannot be read.") from error
        if transaction.chain_id != self._settings.chain_id:
            raise wrong(
                f"The transaction is for chain {transaction.chain_id};"
                f" {self._settings.chain_id} is expected."
            )
        return transaction

    def _reserve_call(self, transaction: Transaction) -> Call:
        call = transaction.calls[0]
        if len(transaction.calls) != 1 or call.to != self._settings.escrow or call.value:
            raise wrong("The transaction is not one call to the reserve.")
        return call

    def _opened(self, receipt: Receipt) -> Opened:
        for log in receipt.logs:
            if log.address == self._settings.escrow and log.topics[:1] == (abi.CHANNEL_OPENED,):
                return _event(abi.read_opened, log)
        raise wrong("The transaction opened no channel.", tx_hash=receipt.tx_hash)

    async def _mined(self, raw_transaction: str) -> Receipt:
        tx_hash = transaction_hash(raw_bytes(raw_transaction))
        await self._wait_for_room()
        try:
            answer = await self._mining.mine(raw_transaction, tx_hash)
        finally:
            self._sends.release()
        if isinstance(answer, Refused):
            reason = answer.refusal.revert or f"code {answer.refusal.code}"
            raise wrong(f"The node does not take the transaction: {reason}.")
        if answer is None:
            raise silence("The transaction was sent and is not mined yet.", tx_hash=tx_hash)
        return _succeeded(answer)

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(self._settings.call_s):
                await self._sends.acquire()
        except TimeoutError as error:
            raise silence("Too many transactions are on their way.") from error

    async def _receipt(self, tx_hash: str) -> Receipt:
        receipt = await self._mining.receipt(tx_hash)
        if receipt is None:
            raise ChainError(ChainFault.NOT_FOUND, "No such transaction is mined.", tx_hash=tx_hash)
        return _succeeded(receipt)

    async def _ask(self, method: str, *parameters: object) -> object:
        try:
            return await self._node.call(method, *parameters)
        except NodeRefusedError as refusal:
            raise silence(f"The node refused {method}, code {refusal.code}.") from refusal

    async def _view(self, to: str, data: bytes) -> bytes:
        return read_data(
            await self._ask("eth_call", {"to": to, "data": "0x" + data.hex()}, "latest")
        )

    async def _word(self, to: str, data: bytes) -> int:
        answer = await self._view(to, data)
        if len(answer) != WORD_BYTES:
            raise wrong(f"There is no contract of the expected kind at {to}.")
        return abi.uint(answer)

    async def _logs(
        self, topics: Sequence[str | None], from_block: int, to_block: int
    ) -> tuple[abi.Log, ...]:
        span = {
            "address": self._settings.escrow,
            "topics": topics,
            "fromBlock": hex(from_block),
            "toBlock": hex(to_block),
        }
        return read_logs(await self._ask("eth_getLogs", span))


def wrong(detail: str, *, tx_hash: str = "") -> ChainError:
    """Return the error of something that is not what it has to be."""
    return ChainError(ChainFault.WRONG, detail, tx_hash=tx_hash)


def _succeeded(receipt: Receipt) -> Receipt:
    if not receipt.is_success:
        raise ChainError(
            ChainFault.REVERTED, "The transaction is mined and failed.", tx_hash=receipt.tx_hash
        )
    return receipt


def _event(read: Callable[[abi.Log], _Event], log: abi.Log) -> _Event:
    try:
        return read(log)
    except ValueError as error:
        raise silence("An event has not the expected form.", tx_hash=log.tx_hash) from error
