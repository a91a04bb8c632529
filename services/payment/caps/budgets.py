"""Setting caps so that who holds credit already hears of it: leases that go too far come back."""

from services.payment.caps.store import CapStore, Changed, Wish
from services.payment.leases import Leases


class Budgets:
    """Sets and removes caps."""

    def __init__(self, store: CapStore, leases: Leases) -> None:
        self._store = store
        self._leases = leases

    async def set(self, wish: Wish) -> Changed:
        """Set a cap; the account's unspent leases are called back when it is a tighter one.

        Raises:
            TurnpikeError: As `CapStore.set`.
        """
        changed = await self._store.set(wish)
        if changed.is_tighter:
            await self._leases.call_back(
                wish.name.account_id, holds_episodes_singly=changed.holds_episodes_singly
            )
        return changed
