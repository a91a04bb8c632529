"""The machine rail: what a request without a key is sold, and how its credential is taken.

The gateway knows HTTP: header bytes go to payment as they came, and what payment refuses comes
back as it said. After admission a request is like that of a key, with a `Spending` beside its
hold. Nothing here is asked for a request that has a key, unless it also brings a credential.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc
from multidict import MultiMapping
from prometheus_client import CollectorRegistry

from gateway.admission import Admission, Caller, Ticket
from gateway.credentials import NoKeyError
from gateway.exchange import Exchange
from gateway.leases import Draw, Lease
from gateway.machine.headers import BESIDE, Sent, sent, sent_beside
from gateway.machine.rates import PAYER
from gateway.machine.refusals import PaymentRefusedError
from gateway.machine.terms import tariff_of, terms_of
from gateway.models import Models
from gateway.openai.dialect import Dialect
from gateway.principal import Principal
from gateway.running import Running
from gateway.settings import GatewaySettings
from gateway.spending import Conclusion, Payer, Spending, SpendingCounts, SpendingTerms
from gateway.verdicts import Verdict
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.ids import Uuid7Source
from kit.metrics import Tally
from kit.rpc.status import error_from_rpc
from kit.tasks import TaskPool
from turnpike.payment.v1 import machine_pb2

if TYPE_CHECKING:
    from turnpike.payment.v1 import machine_pb2_grpc
    from turnpike.router.v1 import router_pb2_grpc


CHANNEL_SUBJECT: Final = "payment.channel.v1"
"""Where payment tells that a channel changed."""


def payer_of(channel_id: str) -> str:
    """Return the account and key id of a channel."""
    return PAYER + channel_id


@dataclass(frozen=True, slots=True)
class Offer:
    """A request that wants to pay for itself, and whose it is until payment has said it."""

    rail: "MachineRail"
    sent: Sent
    caller: Caller

    async def admit(self, ticket: Ticket, exchange: Exchange, running: Running) -> None:
        """Take the credential, hold the first slice, and draw what limits the payer.

        Raises:
            PaymentRefusedError: Payment says what the request has to bring.
            TurnpikeError: `LEDGER_UNAVAILABLE`, or the refusal of a limit; nothing is held then.
        """
        await self.rail.admit(self, ticket, exchange, running)


class Shop(NamedTuple):
    """The parts of the gateway that the rail works with."""

    models: Models
    admission: Admission
    router: "router_pb2_grpc.RouterServiceAsyncStub"
    clock: Clock
    tasks: TaskPool
    registry: CollectorRegistry


class MachineRail:
    """Takes payment credentials for requests."""

    def __init__(
        self,
        *,
        machine: "machine_pb2_grpc.MachinePaymentServiceAsyncStub",
        settings: GatewaySettings,
        shop: Shop,
    ) -> None:
        self._machine = machine
        self._settings = settings.machine_payments
        self._rpc_timeout_s = settings.rpc_timeout_s
        self._models, self._admission = shop.models, shop.admission
        self._clock = shop.clock
        self._ids = Uuid7Source()
        self._holder_id = self._new_id()
        self._payer = Payer(machine, shop.router, shop.tasks, shop.clock, _counts(shop.registry))
        limits = settings.machine_payments
        principal = Principal(
            account_id="",
            key_id="",
            tier=limits.tier,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
        )
        scopes = frozenset({"chat", "models"})
        self._anybody = Verdict(principal, scopes, frozenset(), 0.0, 0)

    def offer(self, headers: MultiMapping[str], dialect: Dialect, refusal: NoKeyError) -> Offer:
        """Return what a request without a key offers, with or without a credential.

        Raises:
            TurnpikeError: `refusal` when it has something that is neither a key nor a payment;
                `BAD_REQUEST` for several credentials.
        """
        found, beside = sent(headers), self._beside(headers)
        if found is None or ("x-api-key" in headers and not found.credential):
            raise refusal
        if beside is not None and found.credential:
            raise TurnpikeError(Reason.BAD_REQUEST, "Several credentials were sent; send one.")
        return Offer(self, beside or found, self.anybody(dialect))

    def anybody(self, dialect: Dialect) -> Caller:
        """Return a caller of whom nothing is known."""
        return Caller(self._anybody.principal, self._anybody, dialect)

    def offer_beside(self, headers: MultiMapping[str], caller: Caller) -> Offer | None:
        """Return what the request of a key offers as well, where that is allowed.

        Raises:
            TurnpikeError: `BAD_REQUEST` for what is no credential, or several.
        """
        beside = self._beside(headers)
        return None if beside is None else Offer(self, beside, caller)

    async def admit(
        self, offer: Offer, ticket: Ticket, exchange: Exchange, running: Running
    ) -> None:
        """Admit a request; see `Offer.admit`."""
        tariff = tariff_of(ticket, self._models)
        terms = terms_of(ticket, tariff, exchange, self._settings)
        if not offer.sent.credential:
            raise await self._challenge(terms, offer.sent)
        admitted = await self._authorize(terms, offer.sent)
        paid_by = SpendingTerms(
            hold_nusd=terms.hold_nusd,
            slice_tokens=self._settings.slice_tokens,
            tariff=tariff,
            voucher_wait_s=self._settings.voucher_wait_s,
            rpc_timeout_s=self._rpc_timeout_s,
        )
        spending = Spending(self._payer, admitted, paid_by)
        ticket.credit = Draw(Lease(admitted.lease_id, 0, math.inf), ticket.hold_nusd)
        caller = ticket.caller
        payer = replace(caller.principal, account_id=admitted.account_id, key_id=admitted.key_id)
        if not caller.principal.key_id:
            running.key_id = payer.key_id
            ticket.caller = exchange.caller = caller._replace(principal=payer)
        try:
            await self._admission.draw(ticket)
        except BaseException:
            spending.settle(Conclusion("", 0, 0))
            raise
        # Where a key came as well, its limits were drawn from, and its pushes end the request.
        ticket.caller = caller._replace(principal=payer)
        exchange.key_id = payer.key_id
        ticket.spending = spending

    async def refuse(
        self,
        error: TurnpikeError,
        ticket: Ticket,
        exchange: Exchange,
        headers: MultiMapping[str],
    ) -> PaymentRefusedError | None:
        """Return an offer to pay for what a key's request lacks credit for; None where none is."""
        if not self._settings.payment_authorization_header or error.outward.http_status != 402:
            return None
        tariff = tariff_of(ticket, self._models)
        asked = Sent("", BESIDE, headers.get("Accept-Payment", ""))
        try:
            found = await self._challenge(terms_of(ticket, tariff, exchange, self._settings), asked)
        except TurnpikeError:
            return None
        return PaymentRefusedError(found.refusal, error)

    async def manage(self, credential: str) -> str:
        """Take a credential that asks for no content, and return its receipt.

        Raises:
            PaymentRefusedError: Payment refuses it.
            TurnpikeError: `LEDGER_UNAVAILABLE`.
        """
        request = machine_pb2.ManageRequest(
            realm=self._settings.realm, credential=credential, request_id=self._new_id()
        )
        try:
            answer = await self._machine.Manage(
                request, timeout=self._settings.credential_timeout_s
            )
        except grpc.RpcError as error:
            raise _failed(error) from error
        if answer.HasField("refusal"):
            raise PaymentRefusedError(answer.refusal)
        return answer.receipt

    async def _challenge(self, terms: machine_pb2.Terms, asked: Sent) -> PaymentRefusedError:
        request = machine_pb2.ChallengeRequest(
            terms=terms,
            accept_payment=asked.accept_payment,
            session_hint=asked.session_hint,
            header=asked.header,
        )
        try:
            answer = await self._machine.Challenge(request, timeout=self._rpc_timeout_s)
        except grpc.RpcError as error:
            raise _failed(error) from error
        return PaymentRefusedError(answer.refusal)

    async def _authorize(self, terms: machine_pb2.Terms, offered: Sent) -> machine_pb2.Admitted:
        request = machine_pb2.AuthorizeRequest(
            terms=terms,
            credential=offered.credential,
            request_id=self._new_id(),
            holder_id=self._holder_id,
            accept_payment=offered.accept_payment,
            idempotency_key=offered.idempotency_key,
            header=offered.header,
        )
        try:
            answer = await self._machine.Authorize(
                request, timeout=self._settings.credential_timeout_s
            )
        except grpc.RpcError as error:
            raise _failed(error) from error
        if not answer.HasField("admitted"):
            raise PaymentRefusedError(answer.refusal)
        return answer.admitted

    def _beside(self, headers: MultiMapping[str]) -> Sent | None:
        if not self._settings.payment_authorization_header or BESIDE not in headers:
            return None
        return sent_beside(headers)

    def _new_id(self) -> str:
        return self._ids.new(self._clock.unix_ms())


def _failed(error: grpc.RpcError) -> TurnpikeError:
    found = error_from_rpc(error)
    if found.outward.http_status < 500:
        return found
    return TurnpikeError(
        Reason.LEDGER_UNAVAILABLE,
        "Payments cannot be taken right now; nothing was sent or charged.",
        retry_after_s="1",
    )


def _counts(registry: CollectorRegistry) -> SpendingCounts:
    waits = Tally(registry, "turnpike_gateway_voucher_waits", "Vouchers that streams asked for.")
    timeouts = Tally(
        registry, "turnpike_gateway_voucher_timeouts", "Streams that ended for want of a voucher."
    )
    receipts = Tally(registry, "turnpike_gateway_receipts", "Requests that payment concluded.")
    missing = Tally(
        registry,
        "turnpike_gateway_receipts_missing",
        "Requests that payment did not conclude when asked; the usage event charges them.",
    )
    return SpendingCounts(waits.child(), timeouts.child(), receipts.child(), missing.child())
