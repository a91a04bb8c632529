"""What a credential of a session brings, checked: its channel, its voucher, its pace."""

from collections import deque
from collections.abc import Callable
from typing import Final

from services.payment.mpp.addresses import read_source
from services.payment.mpp.chain import CLOSE_GRACE_S, Chain, ChainError, ChainFault
from services.payment.mpp.channels import Channel
from services.payment.mpp.payloads import Close, Descriptor, Open, Voucher
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.states import ChannelState
from services.payment.mpp.store import MppStore
from services.payment.mpp.store_requests import Promise
from services.payment.mpp.voucher import channel_id, check_voucher, domain_separator

_CHANNELS_PACED_MAX: Final = 10_000


class Vouchers:
    """Turns vouchers into promises that may be stored."""

    def __init__(
        self,
        store: MppStore,
        chain: Chain,
        settings: MppSettings,
        *,
        unix_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._chain = chain
        self._settings = settings
        self._unix_ms = unix_ms
        self._monotonic_s = monotonic_s
        self._paces: dict[str, deque[float]] = {}
        self._domain = domain_separator(settings.chain.escrow, settings.chain.chain_id)

    def promise(
        self, payload: Open | Voucher | Close, source: str, *, challenge_id: str = ""
    ) -> Promise:
        """Return a voucher whose channel, source and signature were checked.

        `challenge_id` is the challenge that it is to buy something for.

        Raises:
            PaymentError: verification-failed, session/invalid-signature.
        """
        self.check_identity(payload.channel_id, payload.descriptor, source)
        check_voucher(
            payload.signature,
            domain=self._domain,
            channel=payload.channel_id,
            cumulative_base_units=payload.cumulative_base_units,
            signer=payload.descriptor.signer,
        )
        return Promise(
            channel_id=payload.channel_id,
            cumulative=payload.cumulative_base_units,
            signature=payload.signature,
            delta_min=self._settings.voucher_delta_min_base_units,
            challenge_id=challenge_id,
        )

    def check_identity(self, channel: str, descriptor: Descriptor, source: str) -> None:
        """Return if a descriptor makes the channel's id, pays us and fits the source.

        Raises:
            PaymentError: verification-failed.
        """
        chain = self._settings.chain
        if channel_id(descriptor, chain.escrow, chain.chain_id) != channel:
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "`payload.descriptor` does not make `payload.channelId`."
            )
        if descriptor.payee != self._chain.payee or descriptor.token != chain.token:
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "The channel pays somebody else, or another token."
            )
        if source:
            self._check_source(source, descriptor)

    def _check_source(self, source: str, descriptor: Descriptor) -> None:
        try:
            claimed = read_source(source)
        except ValueError as error:
            raise PaymentError(Slug.VERIFICATION_FAILED, f"`source` {error}.") from None
        if claimed.address not in (descriptor.payer, descriptor.signer):
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "`source` is neither the channel's payer nor its signer."
            )

    def pace(self, channel: str) -> None:
        """Count one more voucher of a channel.

        Raises:
            PaymentError: payment-unavailable, there were too many in the last second.
        """
        now_s = self._monotonic_s()
        if len(self._paces) >= _CHANNELS_PACED_MAX:
            self._paces = {
                name: seen for name, seen in self._paces.items() if now_s - seen[-1] < 1.0
            }
        seen = self._paces.setdefault(channel, deque(maxlen=self._settings.vouchers_per_second_max))
        if len(seen) == seen.maxlen and now_s - seen[0] < 1.0:
            raise PaymentError(
                Slug.PAYMENT_UNAVAILABLE,
                f"At most {seen.maxlen} vouchers of a channel are taken in a second.",
                retry_after_s="1",
            )
        seen.append(now_s)

    async def fresh(self, channel: Channel) -> Channel:
        """Return a channel whose state on chain is known well enough to rely on.

        Raises:
            PaymentError: payment-unavailable, the chain cannot be asked; session/channel-finalized,
                the channel is gone.
        """
        age_s = (self._unix_ms() - channel.checked_unix_ms) / 1000
        is_live = channel.state in (ChannelState.OPEN, ChannelState.PAYER_CLOSING)
        if not is_live or age_s < self._settings.chain_fresh_s:
            return channel
        try:
            found = await self._chain.channel(channel.channel_id)
        except ChainError as error:
            if error.fault is ChainFault.UNAVAILABLE and age_s < self._settings.chain_stale_max_s:
                return channel
            raise unavailable() from error
        if found is None:
            raise PaymentError(Slug.CHANNEL_FINALIZED, "The channel is closed on chain.")
        grace_end_unix_s = 0
        if found.close_requested_unix_s:
            grace_end_unix_s = (
                channel.grace_end_unix_s or found.close_requested_unix_s + CLOSE_GRACE_S
            )
        return await self._store.observe(
            channel.channel_id, deposit=found.deposit, grace_end_unix_s=grace_end_unix_s
        )


def unavailable() -> PaymentError:
    """Return the refusal while the chain cannot be reached."""
    return PaymentError(
        Slug.PAYMENT_UNAVAILABLE, "The chain cannot be reached; try again.", retry_after_s="5"
    )
