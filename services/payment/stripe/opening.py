"""Opens the card rail within the payment room."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from kit.clock import Clock
from kit.tasks import background
from services.payment.stripe.charger import Charger
from services.payment.stripe.client import open_cards
from services.payment.stripe.intake import Intake
from services.payment.stripe.metrics import StripeCounts
from services.payment.stripe.servicer import BillingServicer
from services.payment.stripe.settings import StripeSettings
from services.payment.stripe.store import StripeStore


@asynccontextmanager
async def open_billing(
    settings: StripeSettings,
    *,
    store: StripeStore,
    call_back: Callable[[str], Awaitable[None]],
    clock: Clock,
    registry: CollectorRegistry,
) -> AsyncIterator[BillingServicer]:
    """Open what serves billing; with a key of Stripe's it also charges cards while it is open.

    `call_back` asks for what was lent out of an account.
    """
    counts, intake = StripeCounts(registry), Intake(store, call_back=call_back)
    if not settings.is_on:
        yield BillingServicer(store, intake, None, settings=settings, clock=clock, counts=counts)
        return
    async with open_cards(settings) as cards:
        charger = Charger(store, cards, intake, settings=settings, clock=clock, counts=counts)
        async with background(charger.run, name="payment_charger"):
            yield BillingServicer(
                store, intake, cards, settings=settings, clock=clock, counts=counts
            )
