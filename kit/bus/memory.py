"""The bus inside one process: for a single process without NATS, and for unit tests of rooms.

It behaves as the one on NATS does, but forgets everything when the process ends. `disconnect` and
`reconnect` are what tests use to play an outage.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from kit.bus.limits import PENDING_MESSAGES_MAX
from kit.bus.mailbox import Mailbox
from kit.bus.memory_bucket import MemoryBucket
from kit.bus.memory_stream import DurableState, MemoryStream, Stored, is_match
from kit.bus.port import (
    Bucket,
    BucketSpec,
    Bus,
    BusUnavailableError,
    Consumer,
    Delivery,
    StreamSpec,
)
from kit.clock import Clock, SystemClock

_LOOK_S: Final = 0.02


class MemoryBus(Bus):
    """A `Bus` of one process and event loop.

    `clock` decides on expiry, duplicate windows and redelivery; waiting in `fetch` takes the
    loop's time. `dropped_count` light messages were sent during an outage.
    """

    def __init__(
        self, *, clock: Clock | None = None, pending_messages_max: int = PENDING_MESSAGES_MAX
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self._pending_messages_max = pending_messages_max
        self._streams: dict[str, MemoryStream] = {}
        self._buckets: dict[str, MemoryBucket] = {}
        self._mailboxes: list[tuple[str, Mailbox]] = []
        self._changed = asyncio.Event()
        self._is_connected = True
        self.dropped_count = 0

    @property
    def is_connected(self) -> bool:
        """Whether there is no outage being played."""
        return self._is_connected

    def disconnect(self) -> None:
        """Begin an outage: light messages and acknowledgements are lost, the rest waits."""
        self._is_connected = False

    def reconnect(self) -> None:
        """End the outage."""
        self._is_connected = True
        self.wake()

    async def publish(self, subject: str, data: bytes) -> None:
        """Send to whoever listens now; a stream that covers the subject keeps it too."""
        if not self._is_connected:
            self.dropped_count += 1
            return
        self._spread(subject, data)
        with suppress(BusUnavailableError):
            self._store(subject, data, "")

    async def publish_durable(self, subject: str, data: bytes, *, message_id: str) -> int:
        """Store in the stream that covers `subject` and return the message's position.

        Raises:
            BusUnavailableError: An outage is being played, no stream, or the stream is full.
        """
        if not self._is_connected:
            raise BusUnavailableError("The bus is not connected.")
        position = self._store(subject, data, message_id)
        self._spread(subject, data)
        return position

    @asynccontextmanager
    async def subscribe(self, subject: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an iterator of light messages; full drops the oldest."""
        mailbox = Mailbox(messages_max=self._pending_messages_max)
        entry = (subject, mailbox)
        self._mailboxes.append(entry)
        try:
            yield mailbox
        finally:
            self._mailboxes.remove(entry)
            mailbox.close()

    @asynccontextmanager
    async def consume(self, stream: StreamSpec, *, durable: str) -> AsyncIterator[Consumer]:
        """Open the durable consumer `durable` of a stream, making both when they are missing."""
        kept = self._make(stream)
        yield _MemoryConsumer(self, kept, kept.durable(durable))

    async def ensure_stream(self, stream: StreamSpec) -> None:
        """Make the stream, or bring an existing one to this form.

        Raises:
            BusUnavailableError: An outage is being played.
        """
        if not self._is_connected:
            raise BusUnavailableError("The bus is not connected.")
        self._make(stream)

    def bucket(self, spec: BucketSpec) -> Bucket:
        """Return a bucket, one and the same for everybody on this bus."""
        bucket = self._buckets.setdefault(spec.name, MemoryBucket(self, spec))
        bucket.spec = spec
        return bucket

    def wake(self) -> None:
        """Let every waiting fetch look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_changed(self, timeout_s: float) -> None:
        """Wait until something changed, or for `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def _make(self, spec: StreamSpec) -> MemoryStream:
        stream = self._streams.setdefault(spec.name, MemoryStream(spec))
        stream.spec = spec
        return stream

    def _store(self, subject: str, data: bytes, message_id: str) -> int:
        now_s = self.clock.monotonic_s()
        for stream in self._streams.values():
            if stream.covers(subject):
                position = stream.store(subject, data, message_id=message_id, now_s=now_s)
                self.wake()
                return position
        raise BusUnavailableError(f"No stream takes {subject}.")

    def _spread(self, subject: str, data: bytes) -> None:
        for pattern, mailbox in self._mailboxes:
            if is_match(pattern, subject):
                mailbox.put(data)


class _MemoryConsumer(Consumer):
    def __init__(self, bus: MemoryBus, stream: MemoryStream, state: DurableState) -> None:
        self._bus = bus
        self._stream = stream
        self._state = state

    async def fetch(self, *, count_max: int, wait_s: float) -> Sequence[Delivery]:
        """Return up to `count_max` deliveries, as soon as there is one; none after `wait_s`."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        while True:
            if self._bus.is_connected and (deliveries := self._take(count_max)):
                return deliveries
            left_s = deadline_s - loop.time()
            if left_s <= 0:
                return []
            # What is pending falls due by the clock, of which the loop knows nothing.
            await self._bus.wait_changed(min(left_s, _LOOK_S) if self._state.pending else left_s)

    def _take(self, count_max: int) -> list[Delivery]:
        handed = self._stream.hand_out(
            self._state, count_max=count_max, now_s=self._bus.clock.monotonic_s()
        )
        return [
            _MemoryDelivery(self._bus, self._state, message, delivery_count)
            for message, delivery_count in handed
        ]


class _MemoryDelivery(Delivery):
    def __init__(
        self, bus: MemoryBus, state: DurableState, message: Stored, delivery_count: int
    ) -> None:
        self._bus = bus
        self._state = state
        self._message = message
        self._delivery_count = delivery_count

    @property
    def subject(self) -> str:
        """Subject it was published on."""
        return self._message.subject

    @property
    def data(self) -> bytes:
        """What was published."""
        return self._message.data

    @property
    def stream_seq(self) -> int:
        """Position in the stream."""
        return self._message.seq

    @property
    def delivery_count(self) -> int:
        """How often it was handed out, this time included."""
        return self._delivery_count

    async def ack(self) -> None:
        """Say that it was dealt with."""
        self._settle()

    async def nak(self, delay_s: float) -> None:
        """Ask for it again after `delay_s`."""
        entry = self._state.pending.get(self._message.seq)
        if entry is not None and self._bus.is_connected:
            entry.due_s = self._bus.clock.monotonic_s() + delay_s
            self._bus.wake()

    async def term(self) -> None:
        """Give it up."""
        self._settle()

    def _settle(self) -> None:
        if self._bus.is_connected:
            self._state.pending.pop(self._message.seq, None)
            self._bus.wake()
