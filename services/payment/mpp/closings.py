"""Closing and settling channels on chain: wait, sign, store, send, post."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from services.payment.mpp.chain import (
    Chain,
    ChainError,
    Displaced,
    Mined,
    Prepared,
    Unknown,
)
from services.payment.mpp.channels import Channel, spent
from services.payment.mpp.postings import NUSD_PER_BASE_UNIT, account_of
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.states import ChannelState
from services.payment.mpp.store import MppStore
from services.payment.mpp.store_chain import CLOSE, REFUND, SETTLE, Intent
from services.payment.mpp.store_requests import Promise
from services.payment.mpp.vouchers import unavailable
from services.payment.mpp.wakes import ChannelWakes

_log = structlog.get_logger("services.payment.mpp")


class Closings:
    """Takes what was spent off the chain."""

    def __init__(
        self,
        store: MppStore,
        chain: Chain,
        wakes: ChannelWakes,
        settings: MppSettings,
        *,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._chain = chain
        self._wakes = wakes
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._running: Counter[str] = Counter()

    async def close(self, promise: Promise) -> tuple[str, int]:
        """Close a channel by a voucher; return the transaction's hash and what was spent.

        Nothing more is sold from the start on, running streams end, and what they bought is
        waited for. The chain pays exactly what was spent; the rest goes back to the payer.

        Raises:
            PaymentError: verification-failed when the voucher does not cover what was spent, with
                `requiredCumulative`; session/channel-finalized; payment-unavailable.
        """
        before = await self._store.channel(promise.channel_id)
        if before is None:
            raise PaymentError(Slug.CHANNEL_NOT_FOUND, "There is no channel of this id.")
        if before.state is ChannelState.CLOSED and before.close_accepted == promise.cumulative:
            return before.close_tx_hash, before.settled
        if promise.cumulative > before.deposit:
            raise PaymentError(
                Slug.AMOUNT_EXCEEDS_DEPOSIT, f"The deposit of the channel is {before.deposit}."
            )
        with self._closing(promise.channel_id) as deadline_s:
            channel = await self._store.begin_closing(promise.channel_id)
            return await self._end(promise, channel, deadline_s)

    async def close_by_us(self, seen: Channel) -> None:
        """Close an idle channel, or one whose payer closes alone, by its highest voucher.

        One that is being closed here already, or is not as it was `seen`, is left alone.
        """
        if not seen.accepted or self._running[seen.channel_id]:
            return
        promise = Promise(seen.channel_id, seen.accepted, seen.signature, 1)
        try:
            with self._closing(seen.channel_id) as deadline_s:
                channel = await self._store.begin_closing_as_seen(seen)
                if channel is not None:
                    await self._end(promise, channel, deadline_s)
        except PaymentError as error:
            _log.warning("channel_not_closed", problem=error.slug)

    async def settle(self, channel: Channel) -> None:
        """Settle the highest voucher that is not above what was spent."""
        standing = await self._store.standing(account_of(channel.channel_id))
        most = standing.spent_nusd // NUSD_PER_BASE_UNIT
        found = await self._store.best_voucher(channel.channel_id, most=most)
        if found is None or found[0] <= channel.settled:
            return
        cumulative, signature = found
        try:
            async with self._chain.turn():
                prepared = await self._chain.prepare_settle(
                    channel.descriptor, cumulative=cumulative, signature="0x" + signature.hex()
                )
                await self._send(prepared, SETTLE, channel.channel_id, cumulative, cumulative)
        except (ChainError, PaymentError) as error:
            _log.warning("channel_not_settled", error=str(error))

    async def refund(self, payer: str, amount: int) -> None:
        """Send what a payer's charges left over back."""
        try:
            async with self._chain.turn():
                prepared = await self._chain.prepare_transfer(to=payer, amount=amount)
                await self._send(prepared, REFUND, payer, 0, amount)
        except (ChainError, PaymentError) as error:
            _log.warning("charge_not_refunded", error=str(error))

    async def resume(self, intent: Intent) -> None:
        """Find out what became of an intent, and send it once more if nobody knows it."""
        prepared = Prepared(intent.tx_hash, intent.raw)
        try:
            async with self._chain.turn():
                await self._finish(prepared)
        except (ChainError, PaymentError) as error:
            _log.warning("intent_not_resumed", kind=intent.kind, error=str(error))

    async def _end(self, promise: Promise, channel: Channel, deadline_s: float) -> tuple[str, int]:
        await self._wakes.tell(promise.channel_id, is_closed=True)
        try:
            due = await self._due(promise, channel, deadline_s)
            return await self._capture(channel, promise, due), due
        except PaymentError:
            await self._store.reopen(promise.channel_id)
            raise

    @contextmanager
    def _closing(self, channel_id: str) -> Iterator[float]:
        self._running[channel_id] += 1
        try:
            yield self._monotonic_s() + self._settings.close_wait_s
        finally:
            self._running[channel_id] -= 1
            if not self._running[channel_id]:
                del self._running[channel_id]

    async def _due(self, promise: Promise, channel: Channel, deadline_s: float) -> int:
        """Wait until all is posted; return what was spent and is due in all, base units.

        Raises:
            PaymentError: verification-failed, the voucher does not cover it; payment-unavailable.
        """
        channel_id = promise.channel_id
        while not await self._store.is_quiet(channel_id):
            if self._monotonic_s() >= deadline_s:
                raise PaymentError(
                    Slug.PAYMENT_UNAVAILABLE,
                    "Requests of the channel still run; try again.",
                    retry_after_s="1",
                )
            await asyncio.sleep(min(self._settings.poll_s, 0.1))
        standing = await self._store.standing(account_of(channel_id))
        due = max(spent(standing.spent_nusd), channel.settled)
        if promise.cumulative < due:
            raise PaymentError(
                Slug.VERIFICATION_FAILED,
                f"A close needs a voucher over {due}; {promise.cumulative} was signed.",
                requiredCumulative=str(due),
            )
        return due

    async def _capture(self, channel: Channel, promise: Promise, due: int) -> str:
        try:
            async with self._chain.turn():
                prepared = await self._chain.prepare_close(
                    channel.descriptor,
                    cumulative=promise.cumulative,
                    capture=due,
                    signature="0x" + promise.signature.hex(),
                )
                await self._send(prepared, CLOSE, channel.channel_id, promise.cumulative, due)
        except ChainError as error:
            _log.error("channel_close_failed", fault=error.fault, revert=error.revert)
            raise unavailable() from error
        return prepared.tx_hash

    async def _send(
        self, prepared: Prepared, kind: str, subject: str, cumulative: int, amount: int
    ) -> None:
        intent = Intent(prepared.tx_hash, kind, subject, prepared.raw, cumulative, amount)
        await self._store.keep_intent(intent)
        await self._finish(prepared)

    async def _finish(self, prepared: Prepared) -> None:
        """Send, and post what came of it; what is not known stays an intent.

        Raises:
            PaymentError: payment-unavailable.
            ChainError: As `Chain.send`.
        """
        outcome = await self._chain.send(prepared)
        if isinstance(outcome, Mined):
            await self._store.finish_intent(prepared.tx_hash)
            return
        if not isinstance(outcome, Unknown):
            is_displaced = isinstance(outcome, Displaced)
            _log.error("transaction_failed", is_displaced=is_displaced)
            await self._store.drop_intent(prepared.tx_hash)
        raise unavailable()
