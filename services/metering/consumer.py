"""The durable reader of the usage stream: deliveries in, one transaction, then the ack.

The stream delivers at least once, the store keeps once. A database that is away is waited for with
the deliveries in hand; a delivery that cannot be stored becomes a dead letter and the rest flows.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from kit.bus.port import Bus, Delivery, StreamSpec
from kit.errors import TurnpikeError
from services.metering.records import Parcel
from services.metering.settings import MeteringSettings
from services.metering.store import Applied, MeteringStore

DURABLE: Final = "metering"
USAGE: Final = "USAGE"
_log = structlog.get_logger("services.metering")


def usage_stream(settings: MeteringSettings) -> StreamSpec:
    """Return the usage stream as this room expects it."""
    return StreamSpec(
        name=USAGE,
        subjects=("usage.v1.>",),
        bytes_max=settings.stream_bytes_max,
        age_max_s=settings.stream_age_max_s,
        duplicate_window_s=settings.stream_duplicate_window_s,
        replicas=settings.stream_replicas,
    )


class UsageConsumer:
    """Stores usage for as long as it runs.

    `stored_s` is the loop time at which a delivery was stored last, or at which it began.
    """

    def __init__(self, store: MeteringStore, bus: Bus, *, settings: MeteringSettings) -> None:
        self._store = store
        self._bus = bus
        self._settings = settings
        self.stored_s = 0.0
        self.dead_letter_count = 0

    async def run(self) -> None:
        """Fetch and store for ever."""
        limits = self._settings
        self.stored_s = self.stored_s or asyncio.get_running_loop().time()
        async with self._bus.consume(usage_stream(limits), durable=DURABLE) as consumer:
            while True:
                deliveries = await consumer.fetch(
                    count_max=limits.fetch_max, wait_s=limits.fetch_wait_s
                )
                for group in _groups(deliveries, limits.apply_bytes_max):
                    await self._store_group(group)
                if len(deliveries) < limits.fetch_max:
                    await asyncio.sleep(limits.linger_s)

    async def _store_group(self, group: Sequence[Delivery]) -> None:
        parcels = [Parcel(each.stream_seq, each.data) for each in group]
        while True:
            try:
                applied = await self._store.apply(parcels)
                break
            except TurnpikeError as error:
                _log.warning("metering_waits", reason=error.reason, count=len(parcels))
                await asyncio.sleep(self._settings.retry_s)
            except Exception:  # noqa: BLE001 - what this group holds must not stop the stream
                _log.exception("metering_failed", count=len(parcels))
                await self._store_apart(group)
                return
        self.stored_s = asyncio.get_running_loop().time()
        self.dead_letter_count += applied.dead_letter_count
        _report(applied)
        for delivery in group:
            if delivery.stream_seq in applied.unreadable:
                await delivery.term()
            else:
                await delivery.ack()

    async def _store_apart(self, group: Sequence[Delivery]) -> None:
        if len(group) > 1:
            for delivery in group:
                await self._store_group([delivery])
            return
        (delivery,) = group
        parcel = Parcel(delivery.stream_seq, delivery.data)
        await self._store.bury(parcel, reason="cannot be stored")
        self.dead_letter_count += 1
        _log.error("metering_dead_letters", count=1)
        await delivery.term()


def _groups(deliveries: Sequence[Delivery], bytes_max: int) -> Iterator[list[Delivery]]:
    group: list[Delivery] = []
    size = 0
    for delivery in sorted(deliveries, key=lambda each: each.stream_seq):
        if group and size + len(delivery.data) > bytes_max:
            yield group
            group, size = [], 0
        group.append(delivery)
        size += len(delivery.data)
    if group:
        yield group


def _report(applied: Applied) -> None:
    if applied.dead_letter_count:
        _log.error("metering_dead_letters", count=applied.dead_letter_count)
    if applied.duplicate_count:
        _log.info("metering_duplicates", count=applied.duplicate_count)
