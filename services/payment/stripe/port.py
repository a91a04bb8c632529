"""What the card rail asks of whoever moves the money, and how it may end.

Pure. `services.payment.stripe.client` is the one that asks Stripe.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.payment.stripe.events import News
from services.payment.stripe.rules import Charge


class UnansweredError(Exception):
    """Nobody answered in time, or said that it failed: it may have been done or not."""


class KeyTakenError(Exception):
    """The idempotency key was used to ask for something else; nothing was done now."""


@dataclass(frozen=True, slots=True)
class CheckoutOrder:
    """A top-up that somebody is to pay; `key` makes a repeat harmless."""

    account_id: str
    customer_id: str
    amount_cents: int
    success_url: str
    cancel_url: str
    key: str


class Page(NamedTuple):
    """A checkout page."""

    session_id: str
    url: str


class Charged(NamedTuple):
    """How a charge stands: `paid` has the news when it was paid, `decline_code` says why not.

    With neither it is under way.
    """

    intent_id: str
    paid: News | None = None
    decline_code: str = ""


class Cards(Protocol):
    """Moves money by card; each method may raise `UnansweredError`."""

    async def create_customer(self, account_id: str) -> str:
        """Return the id of an account's customer, the same for each call of one day."""

    async def create_checkout(self, order: CheckoutOrder) -> Page:
        """Return a page on which the order is paid.

        Raises:
            TurnpikeError: INVALID_VALUE, it was refused; ALREADY_EXISTS, the key is taken.
        """

    async def charge(self, charge: Charge) -> Charged:
        """Charge a saved card; a repeat is told how the first one went.

        Raises:
            KeyTakenError: The key is taken.
        """

    async def find(self, charge: Charge) -> Charged | None:
        """Return how a charge stands that was sent before, None when it never arrived."""

    async def refund(self, intent_id: str, amount_cents: int, *, key: str) -> News:
        """Give a payment back in part or whole, and return what is to be booked.

        Raises:
            TurnpikeError: INVALID_VALUE, it was refused; ALREADY_EXISTS, the key is taken.
        """
