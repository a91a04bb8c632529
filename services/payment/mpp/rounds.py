"""The clockwork on chain: what a crash left, settlements, closes that are due, refunds."""

import asyncio
from collections.abc import Callable

import structlog

from kit.errors import TurnpikeError
from services.payment.mpp.chain import Chain, ChainError
from services.payment.mpp.channels import Channel
from services.payment.mpp.closings import Closings
from services.payment.mpp.openings import Openings
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.states import ChannelState
from services.payment.mpp.store import MppStore
from services.payment.mpp.store_rounds import Work
from services.payment.mpp.transfers import Transfers
from services.payment.mpp.wakes import ChannelWakes

_log = structlog.get_logger("services.payment.mpp")


class Rounds:
    """Does what is due, at a steady pace; `lost_base_units` is what payers closed away."""

    def __init__(
        self,
        store: MppStore,
        chain: Chain,
        openings: Openings,
        transfers: Transfers,
        closings: Closings,
        wakes: ChannelWakes,
    ) -> None:
        self._store = store
        self._chain = chain
        self._openings = openings
        self._transfers = transfers
        self._closings = closings
        self._wakes = wakes
        self.lost_base_units = 0

    async def run(self, settings: MppSettings, unix_ms: Callable[[], int]) -> None:
        """Go round for ever; what fails is met again at the next turn."""
        while True:
            await asyncio.sleep(settings.tick_s)
            try:
                await self.once(settings, unix_ms() // 1000)
            except (TurnpikeError, ChainError) as error:
                _log.warning("round_failed", error=str(error))
            except Exception:  # noqa: BLE001 - one channel must not stop the clockwork
                _log.exception("round_broken")

    async def once(self, settings: MppSettings, now_unix_s: int) -> None:
        """Do everything that is due now.

        Raises:
            ChainError: The chain cannot be asked.
            TurnpikeError: LEDGER_UNAVAILABLE.
        """
        work = await self._store.work()
        await self._resume(work)
        await self._watch(work, settings)
        for channel in work.to_settle:
            await self._closings.settle(channel)
        for channel in work.payer_closing:
            await self._meet(channel, now_unix_s, settings)
        for channel in work.to_close:
            await self._closings.close_by_us(channel)
        for purse in work.purses:
            await self._closings.refund(purse.payer, purse.amount)
        await self._store.prune()

    async def _resume(self, work: Work) -> None:
        for intent in work.intents:
            await self._closings.resume(intent)
        for tx_hash in work.transfers:
            await self._transfers.resume(tx_hash)
        for channel in work.openings:
            await self._openings.resume(channel)

    async def _watch(self, work: Work, settings: MppSettings) -> None:
        """Hear of payers that ask to close: nothing more is sold to them."""
        if work.cursor is None:
            await self._store.keep_cursor(await self._chain.block_number())
            return
        page = await self._chain.closes_requested(work.cursor)
        for event in page.events:
            channel = await self._store.channel(event.channel_id)
            if channel is None or channel.state is not ChannelState.OPEN:
                continue
            on_chain = await self._chain.channel(event.channel_id)
            if on_chain is None:
                await self._wakes.tell(event.channel_id, is_closed=True)
                await self._end(channel, settings)
                continue
            if not on_chain.close_requested_unix_s:
                continue
            changed = await self._store.observe(
                event.channel_id,
                deposit=on_chain.deposit,
                grace_end_unix_s=event.grace_end_unix_s,
            )
            await self._wakes.tell(event.channel_id, is_closed=True)
            await self._closings.settle(changed)
        if page.next_block != work.cursor:
            await self._store.keep_cursor(page.next_block)

    async def _meet(self, channel: Channel, now_unix_s: int, settings: MppSettings) -> None:
        """Look after a channel whose payer closes it alone."""
        on_chain = await self._chain.channel(channel.channel_id)
        if on_chain is None:
            await self._end(channel, settings)
            return
        if not on_chain.close_requested_unix_s:
            await self._store.observe(
                channel.channel_id, deposit=on_chain.deposit, grace_end_unix_s=0
            )
        elif now_unix_s >= channel.grace_end_unix_s - settings.grace_margin_s:
            await self._closings.close_by_us(channel)

    async def _end(self, channel: Channel, settings: MppSettings) -> None:
        # A channel that ends is missed at the next round: the newest blocks have its end.
        span = settings.chain.log_blocks_max * settings.chain.log_pages_max
        newest = await self._chain.block_number()
        found = await self._chain.closed(channel.channel_id, from_block=max(0, newest - span + 1))
        if found is None:
            _log.error("channel_gone_without_a_trace", channel_id=channel.channel_id)
            return
        lost = await self._store.end_by_payer(
            channel.channel_id, captured=found.settled_to_payee, tx_hash=found.tx_hash
        )
        self.lost_base_units += lost
        if lost:
            _log.error("channel_closed_by_payer", channel_id=channel.channel_id, lost=lost)
