"""Who is owed something for a deployment's answers, and how that travels in usage events; pure.

A supplier earns a share of the charge or what its cost row says; a provider is owed its cost. What
that comes to in the books is payment's.
"""

from dataclasses import dataclass
from typing import Final

from services.router.pricing import PriceRow
from services.router.usage_events import price_message
from turnpike.events.v1 import events_pb2

FEE_BPS_DEFAULT: Final = 500
"""What the owner keeps of a supplier's charges when the catalogue does not say, 0.01 % each."""


@dataclass(frozen=True, slots=True)
class Supply:
    """The terms of one deployment; `supplier_id` is empty where the provider is owed its cost.

    `fee_bps` counts where there is no `cost`.
    """

    provider: str
    supplier_id: str = ""
    cost: PriceRow | None = None
    fee_bps: int = 0

    def message(self) -> events_pb2.Supply:
        """Return the terms as an intent carries them."""
        cost = None if self.cost is None else price_message(self.cost)
        return events_pb2.Supply(
            supplier_id=self.supplier_id,
            provider=self.provider,
            cost=cost,
            fee_bps=self.fee_bps,
        )
