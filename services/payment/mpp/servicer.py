"""The border of machine payments: RPCs in, decisions of this folder out."""

import asyncio
from typing import Final, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import Message

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from services.payment.batch import AMOUNT_NUSD_MAX, ID_LENGTH_MAX
from services.payment.mpp.authorize import Authorizer
from services.payment.mpp.credential import read_credential
from services.payment.mpp.manage import Manager
from services.payment.mpp.offers import Asking, Offers
from services.payment.mpp.payloads import read_amount
from services.payment.mpp.postings import base_units_up, subject_of
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.receipts import ChargeReceipt, SessionReceipt
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.store import MppStore
from services.payment.mpp.store_requests import Lack
from services.payment.mpp.wakes import ChannelWakes
from turnpike.payment.v1 import machine_pb2 as pb
from turnpike.payment.v1.machine_pb2_grpc import MachinePaymentServiceServicer

WAIT_MAX_MS: Final = 60_000
_CHANNEL_CHARS: Final = 66

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


class MachineParts(NamedTuple):
    """What the border stands in front of."""

    store: MppStore
    offers: Offers
    authorizer: Authorizer
    manager: Manager
    wakes: ChannelWakes
    settings: MppSettings
    clock: Clock


class MachineServicer(MachinePaymentServiceServicer):
    """Serves `turnpike.payment.v1.MachinePaymentService`."""

    def __init__(self, parts: MachineParts) -> None:
        self._store = parts.store
        self._offers = parts.offers
        self._authorizer = parts.authorizer
        self._manager = parts.manager
        self._wakes = parts.wakes
        self._settings = parts.settings
        self._clock = parts.clock

    async def Challenge(
        self, request: pb.ChallengeRequest, context: Context
    ) -> pb.ChallengeResponse:
        _check_terms(request.terms)
        asking = await self._authorizer.asking(
            accept_payment=request.accept_payment,
            header=request.header,
            session_hint=request.session_hint,
        )
        error = PaymentError(Slug.PAYMENT_REQUIRED, "Payment is required; meet a challenge.")
        return pb.ChallengeResponse(refusal=self._offers.refusal(error, request.terms, asking))

    async def Authorize(
        self, request: pb.AuthorizeRequest, context: Context
    ) -> pb.AuthorizeResponse:
        _check_terms(request.terms)
        _check_id(request.request_id, "request_id")
        if request.idempotency_key:
            _check_id(request.idempotency_key, "idempotency_key")
        try:
            admitted = await self._authorizer.authorize(request, self._settings, self._now_unix_s())
        except PaymentError as error:
            asking = await self._authorizer.asking(
                accept_payment=request.accept_payment,
                header=request.header,
                session_hint=_channel_in(request.credential),
            )
            return pb.AuthorizeResponse(refusal=self._offers.refusal(error, request.terms, asking))
        return pb.AuthorizeResponse(admitted=admitted)

    async def Extend(self, request: pb.ExtendRequest, context: Context) -> pb.ExtendResponse:
        if not 0 < request.total_nusd <= AMOUNT_NUSD_MAX:
            raise _invalid(
                "total_nusd", f"is {request.total_nusd}; 1 to {AMOUNT_NUSD_MAX} is allowed"
            )
        lease_id = _check_id(request.lease_id, "lease_id")
        try:
            held = await self._store.extend(lease_id=lease_id, total_nusd=request.total_nusd)
        except PaymentError as error:
            refusal = self._offers.refusal(error, None, Asking())
            return pb.ExtendResponse(refusal=refusal)
        if isinstance(held, Lack):
            account_id = await self._store.account_of_lease(lease_id)
            return pb.ExtendResponse(
                need=pb.NeedVoucher(
                    channel_id=subject_of(account_id),
                    required_cumulative=str(held.required),
                    accepted_cumulative=str(held.accepted),
                    deposit=str(held.deposit),
                )
            )
        return pb.ExtendResponse(granted_nusd=held)

    async def AwaitVoucher(
        self, request: pb.AwaitVoucherRequest, context: Context
    ) -> pb.AwaitVoucherResponse:
        if not 0 < request.wait_ms <= WAIT_MAX_MS:
            raise _invalid("wait_ms", f"is {request.wait_ms}; 1 to {WAIT_MAX_MS} is allowed")
        channel_id = _check_id(request.channel_id, "channel_id")
        try:
            required = read_amount(request.required_cumulative)
        except ValueError as error:
            raise _invalid("required_cumulative", str(error)) from None
        deadline_s = self._clock.monotonic_s() + request.wait_ms / 1000
        with self._wakes.waiting(channel_id) as woken:
            while True:
                woken.clear()
                channel = await self._store.channel(channel_id)
                is_closed = channel is None or not channel.is_usable
                is_accepted = channel is not None and channel.accepted >= required
                left_s = deadline_s - self._clock.monotonic_s()
                if is_closed or is_accepted or left_s <= 0:
                    return pb.AwaitVoucherResponse(is_accepted=is_accepted, is_closed=is_closed)
                try:
                    async with asyncio.timeout(min(left_s, self._settings.poll_s)):
                        await woken.wait()
                except TimeoutError:
                    continue

    async def Conclude(self, request: pb.ConcludeRequest, context: Context) -> pb.ConcludeResponse:
        if not 0 <= request.charge_nusd <= AMOUNT_NUSD_MAX:
            raise _invalid(
                "charge_nusd", f"is {request.charge_nusd}; 0 to {AMOUNT_NUSD_MAX} is allowed"
            )
        account_id, standing = await self._store.conclude(
            lease_id=_check_id(request.lease_id, "lease_id"),
            run_id=request.run_id,
            charge_nusd=request.charge_nusd,
        )
        subject, now_unix_s = subject_of(account_id), self._now_unix_s()
        receipt: SessionReceipt | ChargeReceipt
        if len(subject) == _CHANNEL_CHARS:
            receipt = SessionReceipt(
                challenge_id=request.challenge_id,
                channel_id=subject,
                accepted_base_units=standing.accepted,
                spent_base_units=base_units_up(standing.spent_nusd),
                timestamp_unix_s=now_unix_s,
                unit_count=request.unit_count,
            )
        else:
            reference = await self._store.transfer_of(request.challenge_id)
            receipt = ChargeReceipt(request.challenge_id, reference, now_unix_s)
        return pb.ConcludeResponse(receipt=receipt.as_header(), receipt_json=receipt.as_json())

    async def Manage(self, request: pb.ManageRequest, context: Context) -> pb.ManageResponse:
        try:
            receipt = await self._manager.manage(
                request.credential, realm=request.realm, now_unix_s=self._now_unix_s()
            )
        except PaymentError as error:
            terms = pb.Terms(realm=request.realm, resource="session", hold_nusd=1, slice_nusd=1)
            asking = await self._authorizer.asking(
                accept_payment="tempo/session",
                header="",
                session_hint=_channel_in(request.credential),
            )
            return pb.ManageResponse(refusal=self._offers.refusal(error, terms, asking))
        return pb.ManageResponse(receipt=receipt.as_header())

    def _now_unix_s(self) -> int:
        return self._clock.unix_ms() // 1000


def _channel_in(credential: str) -> str:
    """Return the channel that a credential speaks of, verified or not; empty without one."""
    try:
        found = read_credential(credential).payload.get("channelId")
    except PaymentError:
        return ""
    return found if isinstance(found, str) and len(found) == _CHANNEL_CHARS else ""


def _check_terms(terms: pb.Terms) -> None:
    for name in ("realm", "resource"):
        if not getattr(terms, name):
            raise TurnpikeError(
                Reason.MISSING_FIELD, f"terms.{name} is required.", param=f"terms.{name}"
            )
    for name in ("hold_nusd", "slice_nusd"):
        amount = getattr(terms, name)
        if not 0 < amount <= AMOUNT_NUSD_MAX:
            raise _invalid(f"terms.{name}", f"is {amount}; 1 to {AMOUNT_NUSD_MAX} is allowed")


def _check_id(value: str, name: str) -> str:
    if not value:
        raise TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    if len(value) > ID_LENGTH_MAX or not value.isprintable():
        raise _invalid(name, f"must be printable and at most {ID_LENGTH_MAX} characters long")
    return value


def _invalid(name: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} {what}.", param=name)
