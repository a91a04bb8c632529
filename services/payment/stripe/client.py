"""Stripe, asked through its own SDK; nothing else of Turnpike imports it.

The SDK is loaded when the room opens with a key. It sends each request once: what is repeated, and
when, is decided by `charger`, always under the same idempotency key.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from kit.errors import Reason, TurnpikeError
from services.payment.stripe.events import (
    ACCOUNT_KEY,
    CHARGE_KEY,
    CURRENCY,
    News,
    intent_news,
    refund_news,
)
from services.payment.stripe.port import (
    Charged,
    CheckoutOrder,
    KeyTakenError,
    Page,
    UnansweredError,
)
from services.payment.stripe.rules import Charge
from services.payment.stripe.settings import StripeSettings

if TYPE_CHECKING:
    import stripe

_T = TypeVar("_T")
_FOUND_MAX: Final = 100
_CONFLICT: Final = 409
_NOT_PAID: Final = frozenset(
    {"requires_payment_method", "requires_action", "requires_confirmation", "canceled"}
)
_PRODUCT: Final = "Credit"
_CODE_CHARS_MAX: Final = 100
_log = structlog.get_logger("services.payment.stripe")


class StripeCards:
    """Stripe as `port.Cards`."""

    def __init__(self, client: "stripe.StripeClient", *, call_s: float) -> None:
        self._v1 = client.v1
        self._call_s = call_s

    async def create_customer(self, account_id: str) -> str:
        """Return the id of an account's customer, the same for each call of one day."""
        customer = await self._call(
            self._v1.customers.create_async(
                {"metadata": {ACCOUNT_KEY: account_id}},
                {"idempotency_key": f"turnpike:{account_id}:customer"},
            )
        )
        return customer.id

    async def create_checkout(self, order: CheckoutOrder) -> Page:
        """Return a page on which the order is paid.

        Raises:
            TurnpikeError: INVALID_VALUE, it was refused; ALREADY_EXISTS, the key is taken.
        """
        session = await self._asked(
            self._v1.checkout.sessions.create_async(
                {
                    "mode": "payment",
                    "customer": order.customer_id,
                    "client_reference_id": order.account_id,
                    "metadata": {ACCOUNT_KEY: order.account_id},
                    "allowed_payment_method_types": ["card"],
                    # Whatever else the Stripe account offers: what is credited is US dollars.
                    "adaptive_pricing": {"enabled": False},
                    "payment_intent_data": {
                        "setup_future_usage": "off_session",
                        "metadata": {ACCOUNT_KEY: order.account_id},
                    },
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": CURRENCY,
                                "unit_amount": order.amount_cents,
                                "product_data": {"name": _PRODUCT},
                            },
                        }
                    ],
                    "success_url": order.success_url,
                    "cancel_url": order.cancel_url,
                },
                {"idempotency_key": order.key},
            )
        )
        return Page(session.id, session.url or "")

    async def charge(self, charge: Charge) -> Charged:
        """Charge a saved card; a repeat is told how the first one went.

        Raises:
            KeyTakenError: The key is taken.
        """
        import stripe  # noqa: PLC0415 - loaded when the client was made

        try:
            intent = await self._call(
                self._v1.payment_intents.create_async(
                    {
                        "amount": charge.amount_cents,
                        "currency": CURRENCY,
                        "customer": charge.customer_id,
                        "payment_method": charge.payment_method_id,
                        # Nobody is there to be sent anywhere.
                        "automatic_payment_methods": {
                            "enabled": True,
                            "allow_redirects": "never",
                        },
                        "off_session": True,
                        "confirm": True,
                        "metadata": {
                            ACCOUNT_KEY: charge.account_id,
                            CHARGE_KEY: str(charge.number),
                        },
                    },
                    {"idempotency_key": charge.key},
                )
            )
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            return Charged(_intent_of(error), decline_code=_decline_code(error))
        except stripe.IdempotencyError as error:
            raise KeyTakenError from error
        return _charged(intent.to_dict())

    async def find(self, charge: Charge) -> Charged | None:
        """Return how a charge stands that was sent before, None when it never arrived."""
        if charge.intent_id:
            intent = await self._call(self._v1.payment_intents.retrieve_async(charge.intent_id))
            return _charged(intent.to_dict())
        found = await self._call(
            self._v1.payment_intents.list_async(
                {"customer": charge.customer_id, "limit": _FOUND_MAX}
            )
        )
        for each in found.data:
            intent_data = each.to_dict()
            metadata = intent_data.get("metadata") or {}
            wanted = (charge.account_id, str(charge.number))
            if wanted == (metadata.get(ACCOUNT_KEY), metadata.get(CHARGE_KEY)):
                return _charged(intent_data)
        return None

    async def refund(self, intent_id: str, amount_cents: int, *, key: str) -> News:
        """Give a payment back in part or whole, and return what is to be booked.

        Raises:
            TurnpikeError: INVALID_VALUE, it was refused; ALREADY_EXISTS, the key is taken.
        """
        refund = await self._asked(
            self._v1.refunds.create_async(
                {"payment_intent": intent_id, "amount": amount_cents},
                {"idempotency_key": key},
            )
        )
        return refund_news(refund.to_dict())

    async def _asked(self, call: Coroutine[Any, Any, _T]) -> _T:
        """Run a call that a person asked for, whose refusal that person is told."""
        import stripe  # noqa: PLC0415 - loaded when the client was made

        try:
            return await self._call(call)
        except stripe.IdempotencyError as error:
            raise TurnpikeError(
                Reason.ALREADY_EXISTS,
                "request_id was used for another request; take a new one.",
                param="request_id",
            ) from error
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            code = str(error.code or "refused")[:_CODE_CHARS_MAX]
            raise TurnpikeError(
                Reason.INVALID_VALUE, f"Stripe refused the request: {code}.", stripe_code=code
            ) from error

    async def _call(self, call: Coroutine[Any, Any, _T]) -> _T:
        """Run a call within its deadline; what is not a clear refusal is not answered."""
        import stripe  # noqa: PLC0415 - loaded when the client was made

        try:
            async with asyncio.timeout(self._call_s):
                return await call
        except TimeoutError as error:
            raise UnansweredError("timeout") from error
        except stripe.StripeError as error:
            clear = (stripe.CardError, stripe.InvalidRequestError, stripe.IdempotencyError)
            if isinstance(error, clear) and error.http_status != _CONFLICT:
                raise
            if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
                _log.error("stripe_key_refused", error=type(error).__name__)
            raise UnansweredError(type(error).__name__) from error


@asynccontextmanager
async def open_cards(settings: StripeSettings) -> AsyncIterator[StripeCards]:
    """Open a client of Stripe's API; its connections close with it."""
    import stripe  # noqa: PLC0415 - 10 MiB, for whoever has a key

    stripe.enable_telemetry = False
    # The deadline is ours: the SDK's own, a number, is one that aiohttp no longer takes.
    transport = stripe.AIOHTTPClient(timeout=None)
    client = stripe.StripeClient(
        settings.api_key.get_secret_value(),
        base_addresses={"api": settings.api_base},
        http_client=transport,
        max_network_retries=0,
    )
    try:
        yield StripeCards(client, call_s=settings.call_s)
    finally:
        await transport.close_async()  # type: ignore[no-untyped-call] # the SDK leaves it out


def _charged(intent: dict[str, Any]) -> Charged:
    intent_id, status = str(intent["id"]), str(intent.get("status", ""))
    if status == "succeeded":
        return Charged(intent_id, paid=intent_news(intent))
    if status in _NOT_PAID:
        error = intent.get("last_payment_error") or {}
        code = error.get("decline_code") or error.get("code") or status
        return Charged(intent_id, decline_code=str(code)[:_CODE_CHARS_MAX])
    return Charged(intent_id)


def _decline_code(error: Any) -> str:  # noqa: ANN401 - the SDK's, which is not imported here
    detail = getattr(error, "error", None)
    code = getattr(detail, "decline_code", None) or error.code or "refused"
    return str(code)[:_CODE_CHARS_MAX]


def _intent_of(error: Any) -> str:  # noqa: ANN401 - the SDK's, which is not imported here
    intent = getattr(getattr(error, "error", None), "payment_intent", None)
    return str(getattr(intent, "id", None) or "")
