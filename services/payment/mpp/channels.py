"""A payment channel and what may be done with it; pure.

Amounts are base units unless a name says nano-USD. `accepted`, `settled` and what was spent only
grow: settled <= spent <= accepted <= deposit.
"""

from dataclasses import dataclass, field

from services.payment.mpp.payloads import Descriptor
from services.payment.mpp.postings import NUSD_PER_BASE_UNIT, base_units_up
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.states import ChannelState


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as it is stored; `grace_end_unix_s` is 0 unless its payer closes alone.

    `accepted_challenge_id` names the challenge under which the highest voucher came.
    """

    channel_id: str
    descriptor: Descriptor
    open_tx_hash: str
    state: ChannelState
    deposit: int
    accepted: int
    settled: int
    signature: bytes = field(repr=False, default=b"")
    accepted_challenge_id: str = ""
    close_tx_hash: str = ""
    close_accepted: int = 0
    grace_end_unix_s: int = 0
    checked_unix_ms: int = 0
    used_unix_ms: int = 0
    settled_unix_ms: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether something may be bought."""
        return self.state is ChannelState.OPEN

    def check_usable(self) -> None:
        """Return if something may be bought.

        Raises:
            PaymentError: session/channel-not-found, session/channel-finalized.
        """
        if self.is_usable:
            return
        if self.state in (ChannelState.OPENING, ChannelState.FAILED):
            raise PaymentError(Slug.CHANNEL_NOT_FOUND, "The channel is not open.")
        raise PaymentError(Slug.CHANNEL_FINALIZED, "The channel is closing or closed.")

    def check_descriptor(self, descriptor: Descriptor) -> None:
        """Return if a credential speaks of this channel.

        Raises:
            PaymentError: verification-failed.
        """
        if descriptor != self.descriptor:
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "`payload.descriptor` is not that of the channel."
            )

    def raised(self, cumulative: int, *, delta_min: int) -> int:
        """Return by how much a voucher raises what is accepted; one that is known raises nothing.

        The signature was verified before.

        Raises:
            PaymentError: session/amount-exceeds-deposit, session/delta-too-small, or
                verification-failed for an amount below one that was accepted or settled.
        """
        if cumulative > self.deposit:
            raise PaymentError(
                Slug.AMOUNT_EXCEEDS_DEPOSIT,
                f"The voucher is over {cumulative}; the deposit is {self.deposit}.",
                requiredTopUp=str(cumulative - self.deposit),
            )
        if cumulative < self.accepted:
            raise PaymentError(
                Slug.VERIFICATION_FAILED,
                f"The voucher is over {cumulative}; {self.accepted} was accepted before.",
            )
        if cumulative <= self.settled and cumulative != self.accepted:
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "The voucher is not above what was settled on chain."
            )
        increment = cumulative - self.accepted
        if 0 < increment < delta_min:
            raise PaymentError(
                Slug.DELTA_TOO_SMALL, f"A voucher must be {delta_min} above the one before."
            )
        return increment


def required(accepted: int, *, missing_nusd: int) -> int:
    """Return the cumulative amount that covers what is missing, rounded up."""
    return accepted + base_units_up(missing_nusd)


def spent(charged_nusd: int) -> int:
    """Return what was spent, rounded up to a base unit."""
    return base_units_up(charged_nusd)


def headroom(available_nusd: int) -> int:
    """Return what is promised and not bound, rounded down to a base unit."""
    return available_nusd // NUSD_PER_BASE_UNIT
