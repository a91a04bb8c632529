"""Rate leases: refused from memory when the minute is used up, granted by the store."""

from dataclasses import dataclass

from kit.clock import Clock
from services.auth.keys import Key
from services.auth.limits import Ask, Grant, Limits, Window, Windows, grant
from services.auth.store import AuthStore
from services.auth.tiers import Tiers


@dataclass(frozen=True, slots=True)
class Leased:
    """An answer, the limits it was made under, and how long it is good for."""

    grant: Grant
    limits: Limits
    left_ms: int


class Rates:
    """Owns the windows of all keys; `replicas` divides what remains among gateways."""

    def __init__(
        self, store: AuthStore, windows: Windows, *, tiers: Tiers, clock: Clock, replicas: int
    ) -> None:
        self._store = store
        self._windows = windows
        self._tiers = tiers
        self._clock = clock
        self._replicas = replicas

    async def lease(self, key: Key, ask: Ask) -> Leased:
        """Answer a holder's ask; the count is kept before the answer leaves.

        A grant that is kept but whose answer is lost is lost with it: too little, never too much.
        """
        limits = self._tiers.limits_of(key.spec)
        known = self._windows.at(key.key_id, self._clock.unix_ms())
        answer, window = grant(known, limits, ask, replicas=self._replicas)
        if answer.is_granted and not limits.has_no_window:
            answer, window = await self._store.grant_rate(
                key.key_id, limits, ask, replicas=self._replicas
            )
            self._windows.remember(key.key_id, window)
        return self._leased(answer, limits, window)

    def _leased(self, answer: Grant, limits: Limits, window: Window) -> Leased:
        return Leased(answer, limits, window.left_ms(self._clock.unix_ms()))
