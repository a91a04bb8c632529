"""What Prometheus sees of the card rail."""

from typing import Final

from prometheus_client import CollectorRegistry

from kit.metrics import OTHER, Tally
from services.payment.stripe.events import TYPES
from services.payment.stripe.store_payments import Effect

_KNOWN: Final = frozenset(TYPES)


class StripeCounts:
    """Webhooks by type and effect, and charges by how they went."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._webhooks = Tally(
            registry,
            "turnpike_payment_stripe_webhooks",
            "Webhooks of Stripe's; a type that does not matter here is counted as other.",
            ("type", "effect"),
        )
        self._charges = Tally(
            registry,
            "turnpike_payment_stripe_charges",
            "Answers to charges of saved cards: paid, declined, unanswered, lost.",
            ("outcome",),
        )

    def webhook(self, kind: str, effect: Effect | None) -> None:
        """Count a webhook; without an effect it was refused."""
        shown = kind if kind in _KNOWN else OTHER
        self._webhooks.child(shown, "refused" if effect is None else effect.value).add()

    def charge(self, outcome: str) -> None:
        """Count an answer to a charge."""
        self._charges.child(outcome).add()
