"""The border of the card rail: checks what was asked and translates; it decides nothing."""

import hashlib
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from services.payment.batch import ID_LENGTH_MAX
from services.payment.ledger import ACCOUNT_ID_LENGTH_MAX
from services.payment.stripe.events import read_event
from services.payment.stripe.intake import Intake
from services.payment.stripe.messages import billing_message, invoice_message
from services.payment.stripe.metrics import StripeCounts
from services.payment.stripe.port import Cards, CheckoutOrder, UnansweredError
from services.payment.stripe.rules import CENT_NUSD, exact_cents
from services.payment.stripe.settings import StripeSettings
from services.payment.stripe.signature import check_signature
from services.payment.stripe.store import StripeStore
from services.payment.stripe.store_payments import Effect
from turnpike.payment.v1 import billing_pb2 as pb
from turnpike.payment.v1.billing_pb2_grpc import BillingServiceServicer

_PAGE_SIZE_DEFAULT: Final = 100
_PAGE_SIZE_MAX: Final = 1_000
_URL_CHARS_MAX: Final = 2_048
_BODY_BYTES_MAX: Final = 64 * 1024
_RETRY_S: Final = "5"
_EFFECTS: Final = {
    Effect.APPLIED: pb.TakeWebhookResponse.EFFECT_APPLIED,
    Effect.DUPLICATE: pb.TakeWebhookResponse.EFFECT_DUPLICATE,
    Effect.IGNORED: pb.TakeWebhookResponse.EFFECT_IGNORED,
}

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


class BillingServicer(BillingServiceServicer):
    """Serves `turnpike.payment.v1.BillingService`; `cards` is None when no card is charged."""

    def __init__(
        self,
        store: StripeStore,
        intake: Intake,
        cards: Cards | None,
        *,
        settings: StripeSettings,
        clock: Clock,
        counts: StripeCounts,
    ) -> None:
        self._store = store
        self._intake = intake
        self._cards = cards
        self._settings = settings
        self._clock = clock
        self._counts = counts
        self._secrets = [
            secret.get_secret_value().strip()
            for secret in (settings.webhook_secret, settings.webhook_secret_previous)
        ]

    async def CreateCheckout(
        self, request: pb.CreateCheckoutRequest, context: Context
    ) -> pb.CreateCheckoutResponse:
        account_id = _account(request.account_id)
        cents = self._cents(request.amount_nusd, "amount_nusd")
        request_id = _id(request.request_id, "request_id", length_max=ID_LENGTH_MAX)
        urls = (
            _url(request.success_url, "success_url") or self._settings.success_url,
            _url(request.cancel_url, "cancel_url") or self._settings.cancel_url,
        )
        key = _key("checkout", account_id, request_id)
        asked: list[object] = ["checkout", account_id, cents, *urls]
        page = await self._store.answered(key, asked)
        if page is None:
            page = await self._open_page(CheckoutOrder(account_id, "", cents, *urls, key))
            page = await self._store.answer(key, asked, page)
        return pb.CreateCheckoutResponse(session_id=page["session_id"], url=page["url"])

    async def TakeWebhook(
        self, request: pb.TakeWebhookRequest, context: Context
    ) -> pb.TakeWebhookResponse:
        self._need_cards()
        if len(request.body) > _BODY_BYTES_MAX:
            message = f"The body is longer than {_BODY_BYTES_MAX} bytes."
            raise TurnpikeError(Reason.PAYLOAD_TOO_LARGE, message)
        kind = ""
        try:
            check_signature(
                request.body,
                request.signature,
                self._secrets,
                now_ms=self._clock.unix_ms(),
                tolerance_ms=round(self._settings.tolerance_s * 1000),
            )
            news = read_event(request.body)
            kind = news.type
            taken = await self._intake.take(news)
        except TurnpikeError:
            self._counts.webhook(kind, None)
            raise
        self._counts.webhook(kind, taken.effect)
        return pb.TakeWebhookResponse(effect=_EFFECTS[taken.effect])

    async def GetBilling(
        self, request: pb.GetBillingRequest, context: Context
    ) -> pb.GetBillingResponse:
        return pb.GetBillingResponse(billing=await self._billing(_account(request.account_id)))

    async def SetAutoRecharge(
        self, request: pb.SetAutoRechargeRequest, context: Context
    ) -> pb.SetAutoRechargeResponse:
        self._need_cards()
        account_id, wish = _account(request.account_id), request.auto_recharge
        below_nusd = cents = day_cents = 0
        if request.HasField("auto_recharge"):
            below_nusd = self._settings.payment_max_cents * CENT_NUSD
            if not 0 < wish.below_nusd <= below_nusd:
                most = format_usd(below_nusd)
                raise _invalid("auto_recharge.below_nusd", f"must be at most {most} USD, above 0")
            below_nusd = wish.below_nusd
            cents = self._cents(wish.amount_nusd, "auto_recharge.amount_nusd")
            day_cents = _whole_cents(wish.daily_max_nusd, "auto_recharge.daily_max_nusd")
            if day_cents < cents:
                raise _invalid("auto_recharge.daily_max_nusd", "must not be below amount_nusd")
        await self._store.set_recharge(
            account_id, below_nusd=below_nusd, cents=cents, day_cents=day_cents
        )
        return pb.SetAutoRechargeResponse(billing=await self._billing(account_id))

    async def SetPostpaid(
        self, request: pb.SetPostpaidRequest, context: Context
    ) -> pb.SetPostpaidResponse:
        self._need_cards()
        account_id = _account(request.account_id)
        await self._store.set_postpaid(account_id, is_postpaid=request.is_postpaid)
        return pb.SetPostpaidResponse(billing=await self._billing(account_id))

    async def ListPayments(
        self, request: pb.ListPaymentsRequest, context: Context
    ) -> pb.ListPaymentsResponse:
        account_id, token = _account(request.account_id), request.page_token
        if not 0 <= request.page_size <= _PAGE_SIZE_MAX:
            raise _invalid("page_size", f"must be 1 to {_PAGE_SIZE_MAX}")
        if token and not (token.isascii() and token.isdecimal() and len(token) <= 12):
            raise _invalid("page_token", "is not one of ours")
        size, skip = request.page_size or _PAGE_SIZE_DEFAULT, int(token or 0)
        rows = await self._store.payments(account_id, skip_count=skip, count_max=size)
        return pb.ListPaymentsResponse(
            payments=[_payment(row) for row in rows],
            next_page_token=str(skip + size) if len(rows) == size else "",
        )

    async def RefundPayment(
        self, request: pb.RefundPaymentRequest, context: Context
    ) -> pb.RefundPaymentResponse:
        intent_id = _id(request.payment_id, "payment_id", length_max=ID_LENGTH_MAX)
        request_id = _id(request.request_id, "request_id", length_max=ID_LENGTH_MAX)
        cents = _whole_cents(request.amount_nusd, "amount_nusd") if request.amount_nusd else 0
        payment = await self._store.payment(intent_id)
        if payment is None or not payment["account_id"]:
            message = "There is no such payment."
            raise TurnpikeError(Reason.NOT_FOUND, message, param="payment_id")
        key, asked = _key("refund", intent_id, request_id), ["refund", intent_id, cents]
        done = await self._store.answered(key, asked)
        if done is None:
            left = payment["paid_cents"] - payment["reversed_cents"]
            if not 0 < (cents or left) <= left:
                raise _invalid("amount_nusd", f"must be at most {format_usd(left * CENT_NUSD)} USD")
            done = await self._give_back(intent_id, cents or left, key)
            done = await self._store.answer(key, asked, done)
        return pb.RefundPaymentResponse(
            refund_id=done["refund_id"],
            amount_nusd=done["cents"] * CENT_NUSD,
            billing=await self._billing(payment["account_id"]),
        )

    async def ListInvoices(
        self, request: pb.ListInvoicesRequest, context: Context
    ) -> pb.ListInvoicesResponse:
        account_id = _account(request.account_id)
        found = await self._store.invoices(account_id)
        return pb.ListInvoicesResponse(
            invoices=[invoice_message(account_id, invoice) for invoice in found]
        )

    async def GetInvoice(
        self, request: pb.GetInvoiceRequest, context: Context
    ) -> pb.GetInvoiceResponse:
        account_id = _account(request.account_id)
        invoice = await self._store.invoice(account_id, request.period)
        if invoice is None:
            message = "The account has no postings in that month, such as 2026-11."
            raise TurnpikeError(Reason.NOT_FOUND, message, param="period")
        return pb.GetInvoiceResponse(invoice=invoice_message(account_id, invoice))

    def _need_cards(self) -> Cards:
        if self._cards is None:
            raise TurnpikeError(Reason.NOT_FOUND, "Payment by card is not set up here.")
        return self._cards

    async def _billing(self, account_id: str) -> pb.Billing:
        return billing_message(*await self._store.account(account_id))

    async def _open_page(self, order: CheckoutOrder) -> dict[str, Any]:
        cards = self._need_cards()
        account, _, _ = await self._store.account(order.account_id)
        try:
            customer_id = account.customer_id or await self._store.keep_customer(
                order.account_id, await cards.create_customer(order.account_id)
            )
            page = await cards.create_checkout(
                CheckoutOrder(
                    order.account_id,
                    customer_id,
                    order.amount_cents,
                    order.success_url,
                    order.cancel_url,
                    order.key,
                )
            )
        except UnansweredError as error:
            raise _unanswered() from error
        return {"session_id": page.session_id, "url": page.url}

    async def _give_back(self, intent_id: str, cents: int, key: str) -> dict[str, Any]:
        try:
            news = await self._need_cards().refund(intent_id, cents, key=key)
        except UnansweredError as error:
            raise _unanswered() from error
        await self._intake.take(news)
        return {"refund_id": news.reversal_id, "cents": cents}

    def _cents(self, amount_nusd: int, name: str) -> int:
        cents = _whole_cents(amount_nusd, name)
        least, most = self._settings.payment_min_cents, self._settings.payment_max_cents
        if not least <= cents <= most:
            span = f"{format_usd(least * CENT_NUSD)} to {format_usd(most * CENT_NUSD)}"
            raise _invalid(name, f"must be {span} USD")
        return cents


def _payment(row: dict[str, Any]) -> pb.Payment:
    return pb.Payment(
        payment_id=row["intent_id"],
        paid_nusd=row["paid_cents"] * CENT_NUSD,
        reversed_nusd=row["reversed_cents"] * CENT_NUSD,
        unix_ms=row["unix_ms"],
    )


def _whole_cents(amount_nusd: int, name: str) -> int:
    cents = exact_cents(amount_nusd)
    if cents is None or cents <= 0:
        raise _invalid(name, "must be whole cents and more than zero")
    return cents


def _id(value: str, name: str, *, length_max: int) -> str:
    if not value:
        raise TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    if len(value) > length_max or not value.isprintable():
        raise _invalid(name, f"must be printable and at most {length_max} characters long")
    return value


def _account(value: str) -> str:
    return _id(value, "account_id", length_max=ACCOUNT_ID_LENGTH_MAX)


def _url(value: str, name: str) -> str:
    """Return an address that a browser is sent to, empty when there is none."""
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_right = False
    if value and not (is_right and len(value) <= _URL_CHARS_MAX and value.isprintable()):
        raise _invalid(name, f"must be an http or https URL of at most {_URL_CHARS_MAX} characters")
    return value


def _key(kind: str, about: str, request_id: str) -> str:
    """Return an idempotency key that no other account's request can hit."""
    digest = hashlib.sha256(f"{len(about)}:{about}{request_id}".encode()).hexdigest()
    return f"turnpike:{kind}:{digest[:48]}"


def _unanswered() -> TurnpikeError:
    return TurnpikeError(
        Reason.UNAVAILABLE,
        "Stripe did not answer; repeat with the same request_id.",
        retry_after_s=_RETRY_S,
    )


def _invalid(name: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} {what}.", param=name)
