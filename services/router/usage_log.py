"""The life of each request's usage: journalled before it happens, published until it is stored.

`open` journals the intent, `OpenUsage` its checkpoints and outcome. The publisher sends what is
journalled in batches to the usage stream, in order, one batch at a time, and frees a request's
records when the stream has its outcome.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

import structlog

from kit.bus.port import Bus, BusUnavailableError, StreamSpec
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.journal import Journal, JournalFullError
from services.router.catalog import Deployment
from services.router.pricing import PriceRow, capped
from services.router.settings import USAGE_STREAM, USAGE_SUBJECT, RouterSettings
from services.router.usage_events import (
    TokenUsage,
    UsageEvent,
    encode_batch,
    price_message,
    settle,
)

SNAPSHOTS_MAX: Final = 256
"""Snapshots of routes that wait to be published, and those that are known to have been."""

_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 2.0
_BATCH_BYTES_MAX: Final = 512 * 1024
_SNAPSHOT_BYTES_MAX: Final = 128 * 1024
_log = structlog.get_logger("router.usage")


class OpenUsage:
    """One running request: its intent, what it is priced by, and what was delivered so far.

    `cap` is the dearest that it may be priced by, None where no quote says so.
    """

    __slots__ = (
        "_log",
        "cap",
        "event",
        "is_closed",
        "is_published",
        "price",
        "renewed_s",
        "tickets",
    )

    def __init__(
        self, log: "UsageLog", event: UsageEvent, price: PriceRow, ticket: int, now_s: float
    ) -> None:
        self._log = log
        self.event = event
        self.price = price
        self.cap: PriceRow | None = None
        self.tickets = [ticket]
        self.is_published = False
        self.is_closed = False
        self.renewed_s = now_s

    def reroute(self, deployment: Deployment, attempt_count: int, *, is_byok: bool = False) -> None:
        """Note that another deployment or key is tried, and what it costs."""
        event = self.event
        self.price = deployment.byok_price if is_byok else deployment.price
        if self.cap is not None:
            self.price = capped(self.price, self.cap)
        event.deployment = deployment.name
        event.provider = deployment.kind
        event.attempt_count = attempt_count
        event.price.CopyFrom(price_message(self.price))
        event.is_byok = is_byok
        event.ClearField("supply")
        if deployment.supply is not None and not is_byok:
            event.supply.CopyFrom(deployment.supply.message())

    def checkpoint(self, usage: TokenUsage) -> None:
        """Journal what was delivered so far; a full journal is not an error here."""
        self.event.usage.CopyFrom(usage)
        self._log.write_checkpoint(self)

    def close(self, usage: TokenUsage, outcome: UsageEvent.Outcome.ValueType) -> None:
        """Journal the outcome. Idempotent: only the first call counts."""
        if self.is_closed:
            return
        self.is_closed = True
        settle(self.event, self.price, usage, outcome)
        self._log.write_outcome(self)


class UsageLog:
    """Journal and publisher of one router process."""

    def __init__(
        self, *, router_id: str, journal: Journal, bus: Bus, clock: Clock, settings: RouterSettings
    ) -> None:
        self._router_id = router_id
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._open: dict[str, OpenUsage] = {}
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self._wake = asyncio.Event()
        self._snapshots: dict[str, bytes] = {}
        self._kept_snapshots: deque[str] = deque(maxlen=SNAPSHOTS_MAX)
        self._sequence = 0
        self._flushed = asyncio.Event()

    @property
    def open_count(self) -> int:
        """Requests that run now."""
        return len(self._open)

    @property
    def backlog_count(self) -> int:
        """Outcomes that the stream does not have yet."""
        return len(self._outbox)

    def open(self, intent: UsageEvent, price: PriceRow, now_s: float) -> OpenUsage:
        """Journal an intent, which carries `price`.

        Raises:
            TurnpikeError: `JOURNAL_FULL` when too much usage is still unpublished.
        """
        if self._journal.is_full:
            raise _full()
        try:
            ticket = self._journal.append(intent.SerializeToString())
        except JournalFullError as error:
            raise _full() from error
        entry = OpenUsage(self, intent, price, ticket, now_s)
        self._open[intent.request_id] = entry
        return entry

    def keep_snapshot(self, snapshot_id: str, data: bytes) -> None:
        """Publish, once, what decisions were made from; the oldest is lost when too many wait."""
        if snapshot_id in self._kept_snapshots:
            return
        self._kept_snapshots.append(snapshot_id)
        self._snapshots[snapshot_id] = data
        if len(self._snapshots) > SNAPSHOTS_MAX:
            del self._snapshots[next(iter(self._snapshots))]

    def write_checkpoint(self, entry: OpenUsage) -> None:
        """Journal a running request's checkpoint."""
        try:
            entry.tickets.append(self._journal.append(entry.event.SerializeToString()))
        except JournalFullError:
            _log.warning("checkpoint_not_journalled", request_id=entry.event.request_id)

    def write_outcome(self, entry: OpenUsage) -> None:
        """Journal an outcome and queue it for the stream."""
        event = entry.event
        event.end_unix_ms = self._clock.unix_ms()
        record = event.SerializeToString()
        try:
            entry.tickets.append(self._journal.append(record))
        except JournalFullError:
            _log.error("outcome_not_journalled", request_id=event.request_id)
        self._open.pop(event.request_id, None)
        self._queue(record, entry.tickets)

    def adopt(self, events: list[UsageEvent]) -> bool:
        """Journal and queue outcomes that come whole, as a dead router's do; False without room."""
        for event in events:
            record = event.SerializeToString()
            try:
                ticket = self._journal.append(record)
            except JournalFullError:
                return False
            self._queue(record, [ticket])
        return True

    async def drained(self, *, wait_s: float) -> bool:
        """Wait until the stream has everything, at most `wait_s`; return whether it has."""
        try:
            async with asyncio.timeout(wait_s):
                while self._outbox:
                    self._flushed.clear()
                    self._wake.set()
                    await self._flushed.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Publish for ever."""
        await self.ensure_stream()
        while True:
            await self._linger()
            while await self.publish_once():
                pass

    async def ensure_stream(self) -> None:
        """Make the usage stream, waiting for the bus if need be."""
        spec = StreamSpec(
            name=USAGE_STREAM,
            subjects=(f"{USAGE_SUBJECT}.>",),
            replicas=self._settings.stream_replicas,
        )
        while True:
            try:
                await self._bus.ensure_stream(spec)
            except BusUnavailableError as error:
                _log.warning("usage_stream_not_there", why=str(error))
                await asyncio.sleep(_RETRY_MAX_S)
            else:
                return

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(self._settings.watermark_s):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self._settings.flush_s)

    async def publish_once(self) -> bool:
        """Publish one batch of what waits, or just the watermark; return whether more waits.

        Waits for the bus if need be. A batch that leaves something out moves no watermark.
        """
        self._wake.clear()
        watermark_unix_ms = self._clock.unix_ms()
        records: list[bytes] = []
        opened: list[OpenUsage] = []
        tickets: list[int] = []
        size = count = 0
        for record, entry in self._unpublished(asyncio.get_running_loop().time()):
            records.append(record)
            opened.append(entry)
            size += len(record)
            if size >= _BATCH_BYTES_MAX:
                break
        is_rest = size >= _BATCH_BYTES_MAX
        for record, held in self._outbox:
            if count >= self._settings.batch_events_max or size >= _BATCH_BYTES_MAX:
                is_rest = True
                break
            records.append(record)
            tickets.extend(held)
            size += len(record)
            count += 1
        self._sequence += 1
        watermark_unix_ms = 0 if is_rest else watermark_unix_ms
        snapshots = self._next_snapshots()
        is_rest |= len(snapshots) < len(self._snapshots)
        await self._store(encode_batch(self._router_id, watermark_unix_ms, records, snapshots))
        for snapshot_id in snapshots:
            self._snapshots.pop(snapshot_id, None)
        for entry in opened:
            entry.is_published = True
        for _ in range(count):
            self._outbox.popleft()
        for ticket, held_count in Counter(tickets).items():
            self._journal.release(ticket, held_count)
        self._flushed.set()
        return is_rest

    def _next_snapshots(self) -> dict[str, bytes]:
        """Return the oldest snapshots that wait, as many as one batch takes."""
        found: dict[str, bytes] = {}
        size = 0
        for snapshot_id, data in self._snapshots.items():
            size += len(data)
            if found and size > _SNAPSHOT_BYTES_MAX:
                break
            found[snapshot_id] = data
        return found

    def _unpublished(self, now_s: float) -> Iterator[tuple[bytes, OpenUsage]]:
        """Give the intents the stream has not seen, and renewals of holds that run long."""
        for entry in self._open.values():
            event = entry.event
            if not entry.is_published:
                event.event_id = f"{event.request_id}:intent"
                event.kind = UsageEvent.KIND_INTENT
            elif now_s - entry.renewed_s >= self._settings.hold_renew_s:
                event.event_id = f"{event.request_id}:{self._sequence}"
                event.kind = UsageEvent.KIND_CHECKPOINT
            else:
                continue
            entry.renewed_s = now_s
            yield event.SerializeToString(), entry

    async def _store(self, batch: bytes) -> None:
        subject = f"{USAGE_SUBJECT}.{self._router_id}"
        message_id = f"{self._router_id}:{self._sequence}"
        delay_s = _RETRY_FIRST_S
        while True:
            try:
                await self._bus.publish_durable(subject, batch, message_id=message_id)
            except BusUnavailableError as error:
                _log.warning("usage_not_published", why=str(error), backlog=len(self._outbox))
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _RETRY_MAX_S)
            else:
                return

    def _queue(self, record: bytes, tickets: list[int]) -> None:
        self._outbox.append((record, tickets))
        self._wake.set()


def _full() -> TurnpikeError:
    return TurnpikeError(
        Reason.JOURNAL_FULL,
        "Turnpike cannot record usage right now; nothing was sent or charged.",
        retry_after_s="5",
    )
