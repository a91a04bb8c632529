"""Credentials that ask for no content: a voucher for a stream, a top-up, a close."""

from services.payment.mpp.channels import Channel
from services.payment.mpp.closings import Closings
from services.payment.mpp.credential import read_credential
from services.payment.mpp.offers import Offers
from services.payment.mpp.openings import Openings
from services.payment.mpp.payloads import Close, Open, TopUp, Voucher, read_payload
from services.payment.mpp.postings import account_of, base_units_up
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.receipts import SessionReceipt
from services.payment.mpp.store import MppStore
from services.payment.mpp.vouchers import Vouchers
from services.payment.mpp.wakes import ChannelWakes


class Manager:
    """Takes them; each answer is a receipt."""

    def __init__(
        self,
        store: MppStore,
        offers: Offers,
        vouchers: Vouchers,
        openings: Openings,
        closings: Closings,
        wakes: ChannelWakes,
    ) -> None:
        self._store = store
        self._offers = offers
        self._vouchers = vouchers
        self._openings = openings
        self._closings = closings
        self._wakes = wakes

    async def manage(self, text: str, *, realm: str, now_unix_s: int) -> SessionReceipt:
        """Take a credential without content and return its receipt.

        A challenge that was used for content may be used for any number of these.

        Raises:
            PaymentError: Why it is refused.
        """
        credential = read_credential(text)
        challenge = credential.challenge
        self._offers.check(challenge, realm=realm, resource=None)
        payload = read_payload(challenge.intent, credential.payload)
        tx_hash = ""
        match payload:
            case Voucher():
                channel = await self._voucher(payload, credential.source)
            case Open():
                promise = self._vouchers.promise(payload, credential.source)
                await self._openings.open(payload, promise, need=0)
                channel = await self._store.accept(promise)
            case TopUp():
                channel = await self._openings.top_up(payload, credential.source)
                tx_hash = ""
            case Close():
                return await self._close(payload, credential.source, challenge.id, now_unix_s)
            case _:
                raise PaymentError(
                    Slug.INVALID_PAYLOAD, "A charge buys a request; send it with the request."
                )
        await self._wakes.tell(channel.channel_id)
        return await self._receipt(channel, challenge.id, now_unix_s, tx_hash)

    async def _voucher(self, payload: Voucher, source: str) -> Channel:
        promise = self._vouchers.promise(payload, source)
        channel = await self._vouchers.fresh(await self._known(payload))
        self._vouchers.pace(channel.channel_id)
        channel.check_usable()
        return await self._store.accept(promise)

    async def _close(
        self, payload: Close, source: str, challenge_id: str, now_unix_s: int
    ) -> SessionReceipt:
        await self._known(payload)
        promise = self._vouchers.promise(payload, source)
        tx_hash, spent = await self._closings.close(promise)
        return SessionReceipt(
            challenge_id=challenge_id,
            channel_id=payload.channel_id,
            accepted_base_units=payload.cumulative_base_units,
            spent_base_units=spent,
            timestamp_unix_s=now_unix_s,
            transaction_hash=tx_hash,
        )

    async def _known(self, payload: Voucher | Close) -> Channel:
        channel = await self._store.channel(payload.channel_id)
        if channel is None:
            raise PaymentError(Slug.CHANNEL_NOT_FOUND, "There is no channel of this id.")
        channel.check_descriptor(payload.descriptor)
        return channel

    async def _receipt(
        self, channel: Channel, challenge_id: str, now_unix_s: int, tx_hash: str
    ) -> SessionReceipt:
        standing = await self._store.standing(account_of(channel.channel_id))
        return SessionReceipt(
            challenge_id=challenge_id,
            channel_id=channel.channel_id,
            accepted_base_units=channel.accepted,
            spent_base_units=base_units_up(standing.spent_nusd),
            timestamp_unix_s=now_unix_s,
            transaction_hash=tx_hash,
        )
