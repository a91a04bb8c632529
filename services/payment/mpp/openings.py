"""Opening channels and adding to them: the payer's transactions, checked, stored, then sent."""

from collections.abc import Callable

import structlog

from services.payment.mpp.chain import ZERO_ADDRESS, Chain, ChainError, ChainFault, OpeningCall
from services.payment.mpp.channels import Channel
from services.payment.mpp.payloads import Descriptor, Open, TopUp
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.states import ChannelState
from services.payment.mpp.store import MppStore
from services.payment.mpp.store_requests import Promise
from services.payment.mpp.vouchers import Vouchers, unavailable

_log = structlog.get_logger("services.payment.mpp")


class Openings:
    """Sends what payers signed."""

    def __init__(
        self,
        store: MppStore,
        chain: Chain,
        vouchers: Vouchers,
        settings: MppSettings,
        *,
        unix_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._chain = chain
        self._vouchers = vouchers
        self._settings = settings
        self._unix_ms = unix_ms

    async def open(self, payload: Open, promise: Promise, *, need: int) -> Channel:
        """Open a channel by its first voucher, which has to cover `need` base units.

        `promise` is that voucher, verified. It is taken with the opening, not when the channel is
        open already.

        A repeat finds its transaction by hash and goes on where the first one stopped.

        Raises:
            PaymentError: verification-failed, session/amount-exceeds-deposit,
                session/insufficient-balance; payment-unavailable while the transaction is on its
                way.
        """
        raw = "0x" + payload.transaction.hex()
        try:
            call = self._chain.opening_of(raw)
            tx_hash = self._chain.transaction_hash(raw)
        except ChainError as error:
            raise PaymentError(
                Slug.VERIFICATION_FAILED, f"`payload.transaction` is refused: {error.detail}"
            ) from None
        self._check(payload, call, need)
        known = await self._store.begin_opening(self._opening(payload, call, tx_hash))
        if known.state is not ChannelState.OPENING:
            return known
        return await self._send(raw, promise)

    async def _send(self, raw: str, promise: Promise) -> Channel:
        try:
            opened = await self._chain.open(raw)
        except ChainError as error:
            if error.fault is ChainFault.UNAVAILABLE:
                raise unavailable() from error
            _log.warning("channel_not_opened", fault=error.fault, revert=error.revert)
            await self._store.fail_opening(promise.channel_id)
            raise PaymentError(
                Slug.VERIFICATION_FAILED, f"The chain refused the opening: {error.detail}"
            ) from None
        if opened.channel_id != promise.channel_id:
            await self._store.fail_opening(promise.channel_id)
            raise PaymentError(Slug.VERIFICATION_FAILED, "The transaction opened another channel.")
        return await self._store.finish_opening(promise, deposit=opened.deposit)

    async def resume(self, channel: Channel) -> None:
        """Go on with an opening that was stored and whose end nobody saw."""
        promise = Promise(channel.channel_id, channel.accepted, channel.signature, 1)
        try:
            opened = await self._chain.opened(channel.open_tx_hash)
        except ChainError as error:
            if error.fault is not ChainFault.UNAVAILABLE:
                await self._store.fail_opening(channel.channel_id)
            return
        await self._store.finish_opening(promise, deposit=opened.deposit)

    async def top_up(self, payload: TopUp, source: str) -> Channel:
        """Send a top-up and return the channel with its new deposit.

        Raises:
            PaymentError: session/channel-not-found, verification-failed, payment-unavailable.
        """
        self._vouchers.check_identity(payload.channel_id, payload.descriptor, source)
        channel = await self._store.channel(payload.channel_id)
        if channel is None:
            raise PaymentError(Slug.CHANNEL_NOT_FOUND, "There is no channel of this id.")
        if channel.state is not ChannelState.PAYER_CLOSING:
            channel.check_usable()
        try:
            found = await self._chain.top_up("0x" + payload.transaction.hex(), payload.channel_id)
        except ChainError as error:
            if error.fault is ChainFault.UNAVAILABLE:
                raise unavailable() from error
            raise PaymentError(
                Slug.VERIFICATION_FAILED, f"The top-up was refused: {error.detail}"
            ) from None
        # A top-up cancels a close that the payer had asked for.
        return await self._store.observe(
            payload.channel_id, deposit=found.deposit, grace_end_unix_s=0
        )

    def _check(self, payload: Open, call: OpeningCall, need: int) -> None:
        expected = Descriptor(
            payer=call.payer,
            payee=call.payee,
            operator=call.operator,
            token=call.token,
            salt=call.salt,
            authorized_signer=call.authorized_signer,
            expiring_nonce_hash=call.expiring_nonce_hash,
        )
        if expected != payload.descriptor or call.channel_id != payload.channel_id:
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "The transaction opens another channel than is described."
            )
        if call.operator not in (ZERO_ADDRESS, self._chain.payee):
            raise PaymentError(Slug.VERIFICATION_FAILED, "The channel's operator is somebody else.")
        limits = self._settings
        if not limits.deposit_min_base_units <= call.deposit <= limits.deposit_max_base_units:
            raise PaymentError(
                Slug.VERIFICATION_FAILED,
                f"The deposit is {call.deposit}; {limits.deposit_min_base_units} to"
                f" {limits.deposit_max_base_units} is allowed.",
            )
        if payload.cumulative_base_units > call.deposit:
            raise PaymentError(
                Slug.AMOUNT_EXCEEDS_DEPOSIT, "The first voucher is above the deposit."
            )
        if payload.cumulative_base_units < need:
            raise PaymentError(
                Slug.INSUFFICIENT_BALANCE, f"The first voucher is below the {need} that are asked."
            )

    def _opening(self, payload: Open, call: OpeningCall, tx_hash: str) -> Channel:
        now_ms = self._unix_ms()
        return Channel(
            channel_id=payload.channel_id,
            descriptor=payload.descriptor,
            open_tx_hash=tx_hash,
            state=ChannelState.OPENING,
            deposit=call.deposit,
            accepted=0,
            settled=0,
            signature=b"",
            checked_unix_ms=now_ms,
            used_unix_ms=now_ms,
            settled_unix_ms=now_ms,
        )
