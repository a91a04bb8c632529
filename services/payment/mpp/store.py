"""The store of machine payments: every statement behind a method that says what it means.

Each method is one transaction; the statements lie in the `store_*` files beside this one.
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from kit.clock import Clock
from services.payment.mpp import (
    store_chain,
    store_channels,
    store_requests,
    store_rounds,
)
from services.payment.mpp.channels import Channel
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.store_chain import Intent, Received
from services.payment.mpp.store_requests import Bid, Lack, Promise, Standing
from services.payment.mpp.store_rounds import Due, Work
from services.payment.store_engine import Transactions
from services.payment.store_leases import LeaseRules

_SKEW_MAX_S: Final = 600


class MppStore:
    """Channels, transfers and what machines hold.

    Every method may raise LEDGER_UNAVAILABLE.
    """

    def __init__(
        self,
        transactions: Transactions,
        settings: MppSettings,
        *,
        lease_s: float,
        clock: Clock,
        new_id: Callable[[int], str],
    ) -> None:
        self._transactions = transactions
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        # A machine's lease covers one request and is told when that ends.
        self._rules = LeaseRules(lease_ms=round(lease_s * 1000), lease_max_nusd=1, share=1)

    async def channel(self, channel_id: str) -> Channel | None:
        """Return a channel."""
        return await self._transactions.read(
            lambda connection: store_channels.find(connection, channel_id)
        )

    async def accept(self, promise: Promise) -> Channel:
        """Take a voucher that was verified.

        Raises:
            PaymentError: Why it is not taken.
        """
        return await self._transactions.write(
            lambda connection: store_requests.accept(connection, promise, now_ms=self._now_ms())
        )

    async def hold(self, bid: Bid, promise: Promise | None) -> tuple[str, int] | Lack:
        """Take a voucher, use up a challenge and lease what a request needs, all or nothing.

        A voucher stays taken where the hold lacks something.

        Raises:
            PaymentError: Why the voucher or the challenge is not taken.
            TurnpikeError: CONCURRENCY_EXCEEDED.
        """
        lease_id, now_ms = self._new_id(self._now_ms()), self._now_ms()

        def work(connection: Connection) -> tuple[str, int] | Lack:
            if promise is not None:
                store_requests.accept(connection, promise, now_ms=now_ms)
            return store_requests.hold(
                connection, bid, lease_id=lease_id, rules=self._rules, now_ms=now_ms
            )

        return await self._transactions.write(work)

    async def extend(self, *, lease_id: str, total_nusd: int) -> int | Lack:
        """Make a lease hold so much in all.

        Raises:
            PaymentError: session/channel-finalized.
            TurnpikeError: NOT_FOUND.
        """
        return await self._transactions.write(
            lambda connection: store_requests.extend(
                connection, lease_id=lease_id, total_nusd=total_nusd, now_ms=self._now_ms()
            )
        )

    async def conclude(
        self, *, lease_id: str, run_id: str, charge_nusd: int
    ) -> tuple[str, Standing]:
        """Note a charge and free the rest of its lease; return account and standing.

        Raises:
            TurnpikeError: NOT_FOUND, INVALID_VALUE.
        """
        return await self._transactions.write(
            lambda connection: store_requests.conclude(
                connection,
                lease_id=lease_id,
                run_id=run_id,
                charge_nusd=charge_nusd,
                now_ms=self._now_ms(),
            )
        )

    async def user_of(self, challenge_id: str) -> str | None:
        """Return the id of the request that used a challenge up; None while nobody did."""
        return await self._transactions.read(
            lambda connection: store_channels.user_of(connection, challenge_id)
        )

    async def standing(self, account_id: str) -> Standing:
        """Return where an account stands."""
        return await self._transactions.read(
            lambda connection: store_requests.standing(connection, account_id)
        )

    async def begin_opening(self, channel: Channel) -> Channel:
        """Store a channel before its opening is sent.

        Raises:
            PaymentError: session/channel-finalized.
        """
        return await self._transactions.write(
            lambda connection: store_chain.begin_opening(connection, channel)
        )

    async def finish_opening(self, promise: Promise, *, deposit: int) -> Channel:
        """Open a channel with its deposit and first voucher.

        Raises:
            PaymentError: Why the voucher is not taken.
        """
        return await self._transactions.write(
            lambda connection: store_chain.finish_opening(
                connection, promise, deposit=deposit, now_ms=self._now_ms()
            )
        )

    async def fail_opening(self, channel_id: str) -> None:
        """Give an opening up."""
        await self._transactions.write(
            lambda connection: store_chain.fail_opening(connection, channel_id)
        )

    async def observe(self, channel_id: str, *, deposit: int, grace_end_unix_s: int) -> Channel:
        """Take over what the chain says of a live channel."""
        return await self._transactions.write(
            lambda connection: store_chain.observe(
                connection,
                channel_id,
                deposit=deposit,
                grace_end_unix_s=grace_end_unix_s,
                now_ms=self._now_ms(),
            )
        )

    async def begin_closing_as_seen(self, seen: Channel) -> Channel | None:
        """Sell nothing more on a channel; None when it was closed, taken back or used since."""
        return await self._transactions.write(
            lambda connection: store_chain.begin_closing_as_seen(connection, seen)
        )

    async def begin_closing(self, channel_id: str) -> Channel:
        """Sell nothing more on a channel.

        Raises:
            PaymentError: session/channel-not-found, session/channel-finalized.
        """
        return await self._transactions.write(
            lambda connection: store_chain.begin_closing(connection, channel_id)
        )

    async def reopen(self, channel_id: str) -> None:
        """Take a channel back that was not closed after all."""
        await self._transactions.write(
            lambda connection: store_chain.reopen(connection, channel_id)
        )

    async def is_quiet(self, channel_id: str) -> bool:
        """Return whether everything a channel bought is posted."""
        return await self._transactions.read(
            lambda connection: store_chain.is_quiet(connection, channel_id)
        )

    async def best_voucher(self, channel_id: str, *, most: int) -> tuple[int, bytes] | None:
        """Return the highest voucher that is not above an amount."""
        return await self._transactions.read(
            lambda connection: store_channels.best_voucher(connection, channel_id, most=most)
        )

    async def keep_intent(self, intent: Intent) -> None:
        """Store an intent before it is sent.

        Raises:
            PaymentError: payment-unavailable.
        """
        await self._transactions.write(
            lambda connection: store_chain.keep_intent(connection, intent, now_ms=self._now_ms())
        )

    async def finish_intent(self, tx_hash: str) -> None:
        """Post what a mined intent did."""
        await self._transactions.write(
            lambda connection: store_chain.finish_intent(connection, tx_hash, now_ms=self._now_ms())
        )

    async def drop_intent(self, tx_hash: str) -> None:
        """Give an intent up that will not be mined."""
        await self._transactions.write(
            lambda connection: store_chain.drop_intent(connection, tx_hash, now_ms=self._now_ms())
        )

    async def end_by_payer(self, channel_id: str, *, captured: int, tx_hash: str) -> int:
        """Post a channel's end that was not ours; return what was lost, base units."""
        return await self._transactions.write(
            lambda connection: store_chain.end_by_payer(
                connection,
                channel_id,
                captured=captured,
                tx_hash=tx_hash,
                now_ms=self._now_ms(),
            )
        )

    async def begin_transfer(self, received: Received) -> None:
        """Store a transfer before it is sent or looked up.

        Raises:
            PaymentError: payment-forbidden.
        """
        await self._transactions.write(
            lambda connection: store_chain.begin_transfer(
                connection, received, now_ms=self._now_ms()
            )
        )

    async def finish_transfer(self, tx_hash: str) -> None:
        """Post a transfer that was mined."""
        await self._transactions.write(
            lambda connection: store_chain.finish_transfer(
                connection, tx_hash, now_ms=self._now_ms()
            )
        )

    async def drop_transfer(self, tx_hash: str) -> None:
        """Give a transfer up."""
        await self._transactions.write(
            lambda connection: store_chain.drop_transfer(connection, tx_hash)
        )

    async def transfer_of(self, challenge_id: str) -> str:
        """Return the hash of the transfer that paid for a challenge; empty when none did."""
        return await self._transactions.read(
            lambda connection: store_chain.transfer_of(connection, challenge_id)
        )

    async def account_of_lease(self, lease_id: str) -> str:
        """Return the account of a lease; empty when there is none."""
        return await self._transactions.read(
            lambda connection: store_requests.account_of_lease(connection, lease_id)
        )

    async def work(self) -> Work:
        """Return what a round on chain has to do."""
        due = Due.at(self._settings, self._now_ms())
        return await self._transactions.read(lambda connection: store_rounds.work(connection, due))

    async def keep_cursor(self, next_block: int) -> None:
        """Remember up to where close requests were read."""
        await self._transactions.write(
            lambda connection: store_rounds.keep_cursor(connection, next_block)
        )

    async def prune(self) -> None:
        """Forget challenges that have ended and notes of charges that are posted."""
        # Replicas' clocks may differ: no other one may still take a challenge that is forgotten.
        before_unix_s = self._now_ms() // 1000 - _SKEW_MAX_S
        await self._transactions.write(
            lambda connection: store_channels.prune(connection, before_unix_s=before_unix_s)
        )

    def _now_ms(self) -> int:
        return self._clock.unix_ms()
