"""The card rail on a rig of the ledger: its store, intake and charger, by a clock that stands."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from services.payment.ledger import available, debt
from services.payment.stripe.charger import Charger
from services.payment.stripe.client import open_cards
from services.payment.stripe.events import read_event
from services.payment.stripe.intake import Intake
from services.payment.stripe.metrics import StripeCounts
from services.payment.stripe.port import Cards
from services.payment.stripe.rules import CENT_NUSD
from services.payment.stripe.servicer import BillingServicer
from services.payment.stripe.settings import StripeSettings
from services.payment.stripe.store import StripeStore, Taken
from tests.fakes.stripe_server import API_KEY, SECRET, event
from tests.unit.payment.rig import Rig, open_rig, outcome

ACCOUNT = "a"
DAY_S = 86_400.0


@dataclass
class Wallet:
    """What tests do with the card rail; amounts are cents unless they say."""

    rig: Rig
    store: StripeStore
    intake: Intake
    settings: StripeSettings
    registry: CollectorRegistry
    counts: StripeCounts
    called_back: list[str]
    cards: Cards | None = None
    events: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def charger(self) -> Charger:
        """A charger as a process that has just started has it."""
        assert self.cards is not None
        return Charger(
            self.store,
            self.cards,
            self.intake,
            settings=self.settings,
            clock=self.rig.clock,
            counts=self.counts,
        )

    @property
    def servicer(self) -> BillingServicer:
        """What serves billing."""
        return BillingServicer(
            self.store,
            self.intake,
            self.cards,
            settings=self.settings,
            clock=self.rig.clock,
            counts=self.counts,
        )

    async def tell(self, kind: str, about: dict[str, Any], *, event_id: str = "") -> Taken:
        """Take an event; one that is not named is new."""
        name = event_id or f"evt_{next(self.events)}"
        return await self.intake.take(read_event(event(kind, about, event_id=name)))

    async def pay(self, intent_id: str, cents: int, account_id: str = ACCOUNT) -> Taken:
        """Take the news that a payment with a saved card succeeded."""
        return await self.tell("payment_intent.succeeded", intent(intent_id, cents, account_id))

    async def with_card(self, account_id: str = ACCOUNT, *, cents: int = 100) -> None:
        """Give an account a card, by a first payment."""
        await self.pay(f"pi_first_{account_id}", cents, account_id)

    async def use(self, amount_nusd: int, account_id: str = ACCOUNT) -> None:
        """Use up credit, by one request."""
        lease_id, _ = await self.rig.lease(account_id, amount_nusd)
        number = self.rig.new_id()
        await self.rig.settle(
            outcome(
                number,
                lease_id,
                hold_nusd=amount_nusd,
                charge_nusd=amount_nusd,
                account_id=account_id,
            )
        )

    async def has(self, account_id: str = ACCOUNT) -> tuple[int, int]:
        """Return what is available and what is owed, nano-USD."""
        found = await self.rig.balances()
        return found.get(available(account_id), 0), -found.get(debt(account_id), 0)

    async def has_cents(self, account_id: str = ACCOUNT) -> tuple[int, int]:
        """Return what is available and what is owed, in whole cents."""
        has, owes = await self.has(account_id)
        assert (0, 0) == (has % CENT_NUSD, owes % CENT_NUSD)
        return has // CENT_NUSD, owes // CENT_NUSD


def intent(intent_id: str, cents: int, account_id: str = ACCOUNT, **more: Any) -> dict[str, Any]:
    """Return a PaymentIntent that saved its card."""
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": cents,
        "amount_received": cents,
        "currency": "usd",
        "customer": f"cus_{account_id}",
        "payment_method": f"pm_{account_id}",
        "setup_future_usage": "off_session",
        "metadata": {"turnpike_account": account_id},
        **more,
    }


def session(intent_id: str, cents: int, account_id: str = ACCOUNT) -> dict[str, Any]:
    """Return a checkout session that was paid."""
    return {
        "id": f"cs_{intent_id}",
        "mode": "payment",
        "payment_status": "paid",
        "payment_intent": intent_id,
        "amount_total": cents,
        "currency": "usd",
        "customer": f"cus_{account_id}",
        "metadata": {"turnpike_account": account_id},
    }


def charge(intent_id: str, cents: int, refunded: int, account_id: str = ACCOUNT) -> dict[str, Any]:
    """Return the charge of a payment, of which a part was refunded."""
    return {
        "id": f"ch_{intent_id}",
        "payment_intent": intent_id,
        "amount": cents,
        "amount_captured": cents,
        "amount_refunded": refunded,
        "currency": "usd",
        "customer": f"cus_{account_id}",
        "metadata": {"turnpike_account": account_id},
    }


def dispute(name: str, intent_id: str, cents: int, status: str) -> dict[str, Any]:
    """Return a dispute."""
    return {"id": name, "payment_intent": intent_id, "amount": cents, "status": status}


def refund(name: str, intent_id: str, cents: int, status: str = "succeeded") -> dict[str, Any]:
    """Return a refund."""
    return {"id": name, "payment_intent": intent_id, "amount": cents, "status": status}


@asynccontextmanager
async def open_wallet(
    url: str, *, is_migrated: bool = False, stripe_url: str = "", **settings: Any
) -> AsyncIterator[Wallet]:
    """Open the card rail on a database; with a Stripe to ask, cards can be charged."""
    chosen = StripeSettings(
        api_key=SecretStr(API_KEY), webhook_secret=SecretStr(SECRET), **settings
    )
    if stripe_url:
        chosen = chosen.model_copy(update={"api_base": stripe_url})
    called_back: list[str] = []

    async def call_back(account_id: str) -> None:
        called_back.append(account_id)

    async with contextlib.AsyncExitStack() as stack:
        rig = await stack.enter_async_context(open_rig(url, is_migrated=is_migrated))
        store = StripeStore(rig.transactions, chosen, clock=rig.clock)
        registry = CollectorRegistry()
        wallet = Wallet(
            rig,
            store,
            Intake(store, call_back=call_back),
            chosen,
            registry,
            StripeCounts(registry),
            called_back,
        )
        if stripe_url:
            wallet.cards = await stack.enter_async_context(open_cards(chosen))
        yield wallet
