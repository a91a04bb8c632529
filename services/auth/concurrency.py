"""Slots for requests at once: granted by the store, called back before a refusal.

Nothing here is needed to be exact: the store counts under the key's lock, and a holder is buried
only after a whole lease without a sign of life. A call on the bus that is lost costs a refusal.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from kit.bus.port import Bus
from kit.clock import Clock
from services.auth.keys import Key
from services.auth.settings import AuthSettings
from services.auth.slots import HolderStep, Sightings, Sign, Slots, SlotsAsk, SlotTerms
from services.auth.store_slots import SlotStore
from services.auth.subjects import SLOT_RECALL
from services.auth.tiers import Tiers
from turnpike.events.v1.events_pb2 import SlotRecall

_WAITERS_MAX: Final = 1_024
"""Asks that may wait for slots to come back; further ones are answered at once."""


class Concurrency:
    """Grants slots to holders and keeps account of who of them lives."""

    def __init__(
        self, store: SlotStore, *, tiers: Tiers, bus: Bus, clock: Clock, settings: AuthSettings
    ) -> None:
        self._store = store
        self._tiers = tiers
        self._bus = bus
        self._clock = clock
        self._replicas = settings.replicas_expected
        self._wait_s = settings.slot_recall_wait_s
        self._sightings = Sightings()
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._waiter_count = 0

    async def lease(self, key: Key, ask: SlotsAsk) -> tuple[Slots | None, int]:
        """Return what the holder has now, None when it is lost, and the key's limit.

        A holder that got nothing of what it needs waits a moment for what others do not use.
        """
        limit = self._tiers.limits_of(key.spec).concurrent_requests
        terms = SlotTerms(limit, self._replicas)
        slots = await self._store.lease(key.key_id, terms, ask)
        if slots is None:
            return None, limit
        if slots.given_up:
            self._wake(key.key_id)
        for free in (self._bury, self._call_back):
            if slots is None or not ask.needed or slots.held > ask.kept or slots.held >= limit:
                break
            if await free(key.key_id):
                slots = await self._store.lease(key.key_id, terms, ask)
        return slots, limit

    async def renew(self, holder_id: str, step: HolderStep) -> int | None:
        """Note what a holder says of itself.

        Returns how long its slots are its own from before it said so, milliseconds; None when it
        is not known.
        """
        sign = await self._store.step(holder_id, step, self._judge)
        if sign is not None:
            self._sightings.note(holder_id, sign, self._clock.monotonic_s())
            return sign.lease_ms
        return 0 if step is HolderStep.END else None

    async def _bury(self, _key_id: str) -> bool:
        """Free what the dead hold; return whether anybody was dead."""
        return await self._store.bury(self._judge)

    async def _call_back(self, key_id: str) -> bool:
        """Ask for what living holders do not use; return whether there was room to wait for it."""
        if self._waiter_count >= _WAITERS_MAX:
            return False
        came_back = asyncio.Event()
        self._waiters[key_id].add(came_back)
        self._waiter_count += 1
        try:
            async with asyncio.timeout(self._wait_s):
                recall = SlotRecall(key_id=key_id)
                await self._bus.publish(SLOT_RECALL, recall.SerializeToString())
                await came_back.wait()
        except TimeoutError:
            # Another replica may have heard of slots that came back.
            return True
        finally:
            self._waiter_count -= 1
            self._waiters[key_id].discard(came_back)
            if not self._waiters[key_id]:
                del self._waiters[key_id]
        return True

    def _wake(self, key_id: str) -> None:
        for came_back in self._waiters.get(key_id, ()):
            came_back.set()

    def _judge(self, signs: Mapping[str, Sign]) -> list[str]:
        now_s = self._clock.monotonic_s()
        self._sightings.see(signs, now_s)
        return self._sightings.dead(now_s)
