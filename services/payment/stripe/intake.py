"""The one way by which news of payments reaches the books, whoever brings it."""

from collections.abc import Awaitable, Callable

from services.payment.stripe.events import News
from services.payment.stripe.store import StripeStore, Taken


class Intake:
    """Books news; of an account that owes now, it calls back what was lent out and not spent."""

    def __init__(self, store: StripeStore, *, call_back: Callable[[str], Awaitable[None]]) -> None:
        self._store = store
        self._call_back = call_back

    async def take(self, news: News) -> Taken:
        """Book what is known of a payment.

        Raises:
            TurnpikeError: LEDGER_UNAVAILABLE.
        """
        taken = await self._store.take(news)
        if taken.purse.debt_nusd and taken.purse.held_nusd:
            await self._call_back(taken.account_id)
        return taken
