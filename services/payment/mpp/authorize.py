"""From a credential to a hold: one transaction takes what it brings and binds the first slice."""

from dataclasses import dataclass, replace

from services.payment.mpp.challenge import Challenge
from services.payment.mpp.credential import Credential, read_credential
from services.payment.mpp.encoding import read_time
from services.payment.mpp.offers import CHARGE, SESSION, Asking, Offers
from services.payment.mpp.openings import Openings
from services.payment.mpp.payloads import (
    Open,
    TransferHash,
    TransferTransaction,
    Voucher,
    read_payload,
)
from services.payment.mpp.postings import account_of, base_units_up
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.receipts import ChargeReceipt
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.store import MppStore
from services.payment.mpp.store_requests import Bid, Lack, Promise
from services.payment.mpp.transfers import Transfers
from services.payment.mpp.vouchers import Vouchers
from services.payment.mpp.wakes import ChannelWakes
from turnpike.payment.v1 import machine_pb2


@dataclass(frozen=True, slots=True)
class Purse:
    """Who pays for a request, and what its credential promised; `receipt` is known for a charge."""

    subject: str
    intent: str
    hold_nusd: int
    promise: Promise | None = None
    receipt: str = ""


class Authorizer:
    """Lets requests in that pay for themselves."""

    def __init__(
        self,
        store: MppStore,
        offers: Offers,
        vouchers: Vouchers,
        openings: Openings,
        transfers: Transfers,
        wakes: ChannelWakes,
    ) -> None:
        self._store = store
        self._offers = offers
        self._vouchers = vouchers
        self._openings = openings
        self._transfers = transfers
        self._wakes = wakes

    async def authorize(
        self, request: machine_pb2.AuthorizeRequest, settings: MppSettings, now_unix_s: int
    ) -> machine_pb2.Admitted:
        """Take a credential and hold a request's first slice.

        Raises:
            PaymentError: Why it is refused.
            TurnpikeError: CONCURRENCY_EXCEEDED, LEDGER_UNAVAILABLE, ALREADY_EXISTS.
        """
        credential = read_credential(request.credential)
        challenge, terms = credential.challenge, request.terms
        amount = self._offers.check(challenge, realm=terms.realm, resource=terms.resource)
        user = await self._store.user_of(challenge.id)
        if user not in (None, request.request_id):
            raise PaymentError(
                Slug.INVALID_CHALLENGE, "The challenge was used; every request needs its own."
            )
        purse = await self._purse(credential, terms, amount=amount, now_unix_s=now_unix_s)
        if user is not None:
            # Answered before: what was promised then may have been topped since.
            purse = replace(purse, promise=None)
        bid = Bid(
            account_id=account_of(purse.subject),
            hold_nusd=purse.hold_nusd,
            challenge_id=challenge.id,
            expires_unix_s=read_time(challenge.expires),
            request_id=request.request_id,
            holder_id=request.holder_id,
            running_max=settings.requests_per_channel_max,
            idempotency_key=request.idempotency_key,
        )
        held = await self._store.hold(bid, purse.promise)
        if purse.promise is not None:
            await self._wakes.tell(purse.subject)
        if isinstance(held, Lack):
            raise lacking(held)
        lease_id, granted_nusd = held
        return machine_pb2.Admitted(
            account_id=bid.account_id,
            key_id=bid.account_id,
            lease_id=lease_id,
            granted_nusd=granted_nusd,
            challenge_id=challenge.id,
            intent=purse.intent,
            channel_id=purse.subject if purse.intent == SESSION else "",
            receipt=purse.receipt,
        )

    async def _purse(
        self, credential: Credential, terms: machine_pb2.Terms, *, amount: int, now_unix_s: int
    ) -> Purse:
        challenge = credential.challenge
        payload = read_payload(challenge.intent, credential.payload)
        match payload:
            case Open():
                promise = self._vouchers.promise(
                    payload, credential.source, challenge_id=challenge.id
                )
                need = min(amount, base_units_up(terms.slice_nusd))
                await self._openings.open(payload, promise, need=need)
                return Purse(promise.channel_id, SESSION, terms.slice_nusd, promise)
            case Voucher():
                promise = self._vouchers.promise(
                    payload, credential.source, challenge_id=challenge.id
                )
                await self._fresh(payload)
                self._vouchers.pace(promise.channel_id)
                return Purse(promise.channel_id, SESSION, terms.slice_nusd, promise)
            case TransferTransaction() | TransferHash():
                if amount < base_units_up(terms.hold_nusd):
                    raise PaymentError(
                        Slug.VERIFICATION_FAILED,
                        "The request costs more than the challenge asks for; meet a new one.",
                    )
                paid = await self._transfers.receive(payload, challenge, source=credential.source)
                receipt = _charge_receipt(challenge, paid.tx_hash, now_unix_s)
                return Purse(paid.payer, CHARGE, terms.hold_nusd, receipt=receipt)
        raise PaymentError(
            Slug.INVALID_PAYLOAD, "This payload buys nothing; send it without a body."
        )

    async def _fresh(self, payload: Voucher) -> None:
        channel = await self._store.channel(payload.channel_id)
        if channel is None:
            raise PaymentError(Slug.CHANNEL_NOT_FOUND, "There is no channel of this id.")
        channel.check_descriptor(payload.descriptor)
        channel = await self._vouchers.fresh(channel)
        channel.check_usable()

    async def asking(self, *, accept_payment: str, header: str, session_hint: str) -> Asking:
        """Return how a client asks, with the channel that it means if it may be used."""
        channel_id = session_hint.strip().lower()
        channel = await self._store.channel(channel_id) if channel_id else None
        if channel is None or not channel.is_usable:
            return Asking(accept_payment, header)
        standing = await self._store.standing(account_of(channel_id))
        return Asking(accept_payment, header, channel, standing)


def lacking(lack: Lack) -> PaymentError:
    """Return the refusal of a hold that the channel does not cover."""
    extensions = {
        "requiredCumulative": str(lack.required),
        "acceptedCumulative": str(lack.accepted),
    }
    if lack.required > lack.deposit:
        extensions["requiredTopUp"] = str(lack.required - lack.deposit)
    return PaymentError(
        Slug.INSUFFICIENT_BALANCE,
        f"A voucher over {lack.required} is needed; {lack.accepted} is accepted.",
        **extensions,
    )


def _charge_receipt(challenge: Challenge, tx_hash: str, now_unix_s: int) -> str:
    return ChargeReceipt(challenge.id, tx_hash, now_unix_s).as_header()
