"""The durable reader of the usage stream: deliveries in, one transaction, then the ack.

It delivers at least once; the store applies once. A ledger that is away is waited for with the
deliveries in hand; a delivery that cannot be applied is kept as a dead letter and given up, so that
the rest keeps flowing.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from kit.bus.port import Bus, Delivery, StreamSpec
from kit.errors import TurnpikeError
from services.payment.batch import Parcel
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore
from services.payment.store_settlement import Applied
from turnpike.events.v1.events_pb2 import UsageBatch

DURABLE: Final = "payment"
USAGE: Final = "USAGE"
_log = structlog.get_logger("services.payment")


def usage_stream(settings: PaymentSettings) -> StreamSpec:
    """Return the usage stream as this room expects it."""
    return StreamSpec(
        name=USAGE,
        subjects=("usage.v1.>",),
        bytes_max=settings.stream_bytes_max,
        age_max_s=settings.stream_age_max_s,
        duplicate_window_s=settings.stream_duplicate_window_s,
        replicas=settings.stream_replicas,
    )


@dataclass(slots=True)
class Losses:
    """What went elsewhere than from a customer to the owner since the start."""

    writeoff_nusd: int = 0
    late_count: int = 0
    unknown_lease_count: int = 0
    dead_letter_count: int = 0
    refund_count: int = 0
    refunded_nusd: int = 0
    flagged_count: int = 0
    earned_nusd: int = 0
    promo_spent_nusd: int = 0

    def add(self, applied: Applied) -> None:
        """Add what a group of deliveries lost, and say so when there is anything."""
        self.writeoff_nusd += applied.writeoff_nusd
        self.late_count += applied.late_count
        self.unknown_lease_count += applied.unknown_lease_count
        self.dead_letter_count += applied.dead_letter_count
        self.refund_count += applied.refund_count
        self.refunded_nusd += applied.refunded_nusd
        self.flagged_count += len(applied.flagged)
        self.earned_nusd += applied.earned_nusd
        self.promo_spent_nusd += applied.promo_spent_nusd
        if applied.dead_letter_count:
            _log.error("settlement_dead_letters", count=applied.dead_letter_count)
        if applied.writeoff_nusd or applied.late_count or applied.unknown_lease_count:
            _log.warning("settlement_losses", **asdict(applied))
        for key in applied.flagged:
            _log.warning("refunds_flagged", key_id=key.key_id, count=key.refund_count)


class Settlement:
    """Applies usage for as long as it runs; `losses` says what that could not."""

    def __init__(self, store: PaymentStore, bus: Bus, *, settings: PaymentSettings) -> None:
        self._store = store
        self._bus = bus
        self._settings = settings
        self.losses = Losses()

    async def run(self) -> None:
        """Fetch and apply for ever."""
        limits = self._settings
        async with self._bus.consume(usage_stream(limits), durable=DURABLE) as consumer:
            while True:
                deliveries = await consumer.fetch(
                    count_max=limits.fetch_max, wait_s=limits.fetch_wait_s
                )
                for group in _groups(deliveries, limits.settle_events_max):
                    await self._apply(group)
                if len(deliveries) < limits.fetch_max:
                    await asyncio.sleep(limits.settle_linger_s)

    async def _apply(self, group: Sequence[tuple[Delivery, Parcel]]) -> None:
        parcels = [parcel for _, parcel in group]
        while True:
            try:
                applied = await self._store.settle(parcels, stream=USAGE)
            except TurnpikeError as error:
                _log.warning("settlement_waits", reason=error.reason, count=len(parcels))
                await asyncio.sleep(self._settings.retry_s)
            except Exception:  # noqa: BLE001 - what this group holds must not stop the stream
                _log.exception("settlement_failed", count=len(parcels))
                await self._apply_apart(group)
                return
            else:
                self.losses.add(applied)
                break
        for delivery, parcel in group:
            await (delivery.term() if parcel.batch is None else delivery.ack())

    async def _apply_apart(self, group: Sequence[tuple[Delivery, Parcel]]) -> None:
        if len(group) > 1:
            for pair in group:
                await self._apply([pair])
            return
        delivery, parcel = group[0]
        buried = await self._store.bury(parcel, stream=USAGE, reason="cannot be applied")
        self.losses.add(buried)
        await delivery.term()


def _groups(
    deliveries: Sequence[Delivery], events_max: int
) -> Iterator[list[tuple[Delivery, Parcel]]]:
    group: list[tuple[Delivery, Parcel]] = []
    event_count = 0
    for delivery in sorted(deliveries, key=lambda each: each.stream_seq):
        parcel = _open(delivery)
        size = len(parcel.batch.events) if parcel.batch is not None else 0
        if group and event_count + size > events_max:
            yield group
            group, event_count = [], 0
        group.append((delivery, parcel))
        event_count += size
    if group:
        yield group


def _open(delivery: Delivery) -> Parcel:
    try:
        batch = UsageBatch.FromString(delivery.data)
    except DecodeError:
        batch = None
    return Parcel(delivery.stream_seq, delivery.data, batch)
