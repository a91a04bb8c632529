"""An open metering room on a memory bus that can lose acknowledgements and mix up deliveries."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select

from kit.bus.memory import MemoryBus
from kit.bus.port import Consumer, Delivery, StreamSpec
from kit.clock import ManualClock
from kit.db import Database, open_database
from services.metering.room import open_metering
from services.metering.servicer import MeteringServicer
from services.metering.settings import MeteringSettings
from services.metering.tables import USAGE_HOURS, USAGE_RECORDS
from turnpike.metering.v1 import metering_pb2 as pb

SETTINGS: Final = MeteringSettings(linger_s=0.0, fetch_wait_s=1.0, retry_s=0.01)
_ACK_WAIT_S: Final = 31.0


class UnsteadyBus(MemoryBus):
    """Loses the next `lost_acks` acknowledgements and hands deliveries out as `order` has them."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.lost_acks = 0
        self.order: Callable[[list[Delivery]], None] = lambda _: None
        self.terminated: list[int] = []

    @asynccontextmanager
    async def consume(self, stream: StreamSpec, *, durable: str) -> AsyncIterator[Consumer]:
        async with super().consume(stream, durable=durable) as consumer:
            yield _UnsteadyConsumer(self, consumer)

    def is_idle(self, *, is_settled: bool = True) -> bool:
        """Whether everything was handed out, and acknowledged unless that does not matter."""
        kept = self._streams.get("USAGE")
        if kept is None:
            return False
        state = kept.durable("metering")
        return state.next_seq > kept._last_seq and not (is_settled and state.pending)


class _UnsteadyConsumer:
    def __init__(self, bus: UnsteadyBus, consumer: Consumer) -> None:
        self._bus = bus
        self._consumer = consumer

    async def fetch(self, *, count_max: int, wait_s: float) -> Sequence[Delivery]:
        deliveries = list(await self._consumer.fetch(count_max=count_max, wait_s=wait_s))
        self._bus.order(deliveries)
        return [_UnsteadyDelivery(self._bus, each) for each in deliveries]


class _UnsteadyDelivery:
    def __init__(self, bus: UnsteadyBus, delivery: Delivery) -> None:
        self._bus = bus
        self._delivery = delivery
        self.subject = delivery.subject
        self.data = delivery.data
        self.stream_seq = delivery.stream_seq
        self.delivery_count = delivery.delivery_count

    async def ack(self) -> None:
        if self._bus.lost_acks:
            self._bus.lost_acks -= 1
        else:
            await self._delivery.ack()

    async def nak(self, delay_s: float) -> None:
        await self._delivery.nak(delay_s)

    async def term(self) -> None:
        self._bus.terminated.append(self.stream_seq)
        await self._delivery.term()


@dataclass(frozen=True)
class Room:
    """What a test turns and looks at."""

    metering: MeteringServicer
    bus: UnsteadyBus
    clock: ManualClock
    database: Database

    async def publish(self, *batches: bytes) -> None:
        """Put batches into the usage stream."""
        for data in batches:
            await self.bus.publish_durable("usage.v1.router-1", data, message_id="")

    async def settled(self) -> None:
        """Wait until everything that was published is stored and acknowledged."""
        await eventually(self.bus.is_idle)

    async def redeliver(self) -> None:
        """Let the acknowledgement time of what is pending run out, and wait until it is stored."""
        self.clock.advance(_ACK_WAIT_S)
        await self.settled()

    async def charges(self, page_size: int = 0, seq_max: int = 0) -> list[pb.Charge]:
        """Return all charges, page by page."""
        found: list[pb.Charge] = []
        token = ""
        while True:
            answer = await self.metering.ListCharges(
                pb.ListChargesRequest(
                    page_size=page_size, stream_seq_max=seq_max, page_token=token
                ),
                None,  # type: ignore[arg-type]  # the border does not look at its context
            )
            found.extend(answer.charges)
            token = answer.next_page_token
            if not token:
                return found

    async def records(self, **filters: object) -> list[pb.UsageRecord]:
        """Return all records, page by page."""
        found: list[pb.UsageRecord] = []
        token = ""
        while True:
            request = pb.ListUsageRequest(**filters, page_token=token)  # type: ignore[arg-type]
            answer = await self.metering.ListUsage(request, None)  # type: ignore[arg-type]
            found.extend(answer.records)
            token = answer.next_page_token
            if not token:
                return found

    async def summaries(self, **filters: object) -> list[pb.UsageSummary]:
        """Return all sums, page by page."""
        found: list[pb.UsageSummary] = []
        token = ""
        while True:
            request = pb.SummarizeUsageRequest(**filters, page_token=token)  # type: ignore[arg-type]
            answer = await self.metering.SummarizeUsage(request, None)  # type: ignore[arg-type]
            found.extend(answer.summaries)
            token = answer.next_page_token
            if not token:
                return found

    async def applied_seq(self) -> int:
        """Return the last position that is stored without a gap before it."""
        answer = await self.metering.ListCharges(pb.ListChargesRequest(), None)  # type: ignore[arg-type]
        return answer.applied_stream_seq

    async def totals(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return count, prompt, completion and charge: of the records, and of the sums."""
        names = ("prompt_token_count", "completion_token_count", "charge_nusd")
        of_records = [func.coalesce(func.sum(USAGE_RECORDS.c[name]), 0) for name in names]
        of_hours = [
            func.coalesce(func.sum(USAGE_HOURS.c[name]), 0) for name in ("request_count", *names)
        ]
        async with self.database.read() as connection:
            records = (await connection.execute(select(func.count(), *of_records))).one()
            hours = (await connection.execute(select(*of_hours))).one()
        return tuple(map(int, records)), tuple(map(int, hours))


@asynccontextmanager
async def opened(
    url: str,
    *,
    bus: UnsteadyBus | None = None,
    clock: ManualClock | None = None,
    settings: MeteringSettings = SETTINGS,
) -> AsyncIterator[Room]:
    """Open the room on a migrated database."""
    clock = clock or ManualClock()
    bus = bus or UnsteadyBus(clock)
    async with (
        open_database(url) as database,
        open_metering(settings, database=database, bus=bus, clock=clock) as metering,
    ):
        await eventually(lambda: "USAGE" in bus._streams)
        yield Room(metering, bus, clock, database)


async def eventually(predicate: Callable[[], bool], *, wait_s: float = 20.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(wait_s):
        while not predicate():
            await asyncio.sleep(0.002)
