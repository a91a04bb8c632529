"""What other rooms push to the gateway, and its own periodic work."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from gateway.admission import Shares
from gateway.leases import RECALL_SUBJECT
from gateway.machine.rail import CHANNEL_SUBJECT, payer_of
from gateway.models import CATALOGUE_SUBJECT, Models
from gateway.running import RunningRequests
from gateway.settings import GatewaySettings
from gateway.slots import SLOT_RECALL_SUBJECT
from gateway.verdicts import HEARTBEAT_SUBJECT, KEY_CHANGED_SUBJECT, Verdicts
from kit.bus.port import Bus
from kit.errors import Reason, TurnpikeError
from turnpike.events.v1 import events_pb2

_SWEEP_S: Final = 1.0
_RENEW_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Pushes:
    """What other rooms push, and the gateway's own periodic work."""

    bus: Bus
    verdicts: Verdicts
    models: Models
    shares: Shares
    running: RunningRequests

    def loops(
        self, settings: GatewaySettings
    ) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return what runs for ever, by name."""
        found: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "keys": self._keys,
            "heartbeats": self._heartbeats,
            "recalls": self._recalls,
            "slot-recalls": self._slot_recalls,
            "catalogue": self._catalogue,
            "models": lambda: self._models(settings.models_ttl_s),
            "leases": lambda: self.shares.leases.tend(_SWEEP_S),
            "slots": lambda: self.shares.slots.tend(_SWEEP_S),
            "holder": lambda: self.shares.slots.live(_RENEW_S),
            "sweep": lambda: self.running.sweep(_SWEEP_S),
        }
        if settings.machine_payments.is_enabled:
            found["channels"] = self._channels
        return found

    async def _keys(self) -> None:
        async with self.bus.subscribe(KEY_CHANGED_SUBJECT) as messages:
            async for data in messages:
                change = events_pb2.KeyChanged.FromString(data)
                self.verdicts.forget(change)
                if change.is_revoked:
                    self.running.end_key(change.key_id)

    async def _heartbeats(self) -> None:
        async with self.bus.subscribe(HEARTBEAT_SUBJECT) as messages:
            async for _ in messages:
                self.verdicts.heard_heartbeat()

    async def _recalls(self) -> None:
        async with self.bus.subscribe(RECALL_SUBJECT) as messages:
            async for data in messages:
                recall = events_pb2.LeaseRecall.FromString(data)
                await self.shares.leases.recall(
                    recall.account_id, holds_episodes_singly=recall.holds_episodes_singly
                )

    async def _slot_recalls(self) -> None:
        async with self.bus.subscribe(SLOT_RECALL_SUBJECT) as messages:
            async for data in messages:
                await self.shares.slots.recall(events_pb2.SlotRecall.FromString(data).key_id)

    async def _channels(self) -> None:
        async with self.bus.subscribe(CHANNEL_SUBJECT) as messages:
            async for data in messages:
                change = events_pb2.ChannelChanged.FromString(data)
                if change.is_closed:
                    closed = TurnpikeError(Reason.GONE, "The payment channel is closed.")
                    self.running.end_key(payer_of(change.channel_id), closed)

    async def _catalogue(self) -> None:
        async with self.bus.subscribe(CATALOGUE_SUBJECT) as messages:
            async for _ in messages:
                await self.models.refresh()

    async def _models(self, ttl_s: float) -> None:
        while True:
            await asyncio.sleep(ttl_s if self.models.is_loaded else 0.2)
            await self.models.refresh()
