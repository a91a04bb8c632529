"""The bus as rooms see it: light messages that may be lost, a stream that keeps them, and buckets.

Pure: implementations live beside this file.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class BusUnavailableError(Exception):
    """The bus did not answer in time; the message may or may not have been stored."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A durable stream.

    `duplicate_window_s` is how long a repeated message id is dropped; it is a convenience, never
    a guarantee. A full stream refuses new messages.
    """

    name: str
    subjects: tuple[str, ...]
    bytes_max: int = 8 * 1024**3
    age_max_s: float = 7 * 24 * 3600.0
    duplicate_window_s: float = 600.0
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """Values by key that everybody on the bus can read, each for a time.

    A full bucket forgets what is oldest. `value_bytes_max` is far below what NATS takes for one
    message.
    """

    name: str
    ttl_s: float
    value_bytes_max: int = 512 * 1024
    bytes_max: int = 256 * 1024**2
    replicas: int = 1


class ValueTooBigError(Exception):
    """A value is bigger than its bucket takes."""


class Bucket(Protocol):
    """Values by key; a key consists of letters, digits, `-`, `_`, `=` and `.` between them."""

    async def get(self, key: str, *, timeout_s: float) -> bytes | None:
        """Return a value, None when there is none any more.

        Raises:
            BusUnavailableError: No answer came in time.
        """

    async def put(self, key: str, value: bytes, *, timeout_s: float) -> None:
        """Keep a value in the place of an older one, making the bucket when it is missing.

        Raises:
            BusUnavailableError: No acknowledgement came in time; it may have been kept or not.
            ValueTooBigError: It is bigger than `value_bytes_max`.
        """


class Delivery(Protocol):
    """A message of a stream, handed to one consumer until it is acknowledged."""

    @property
    def subject(self) -> str:
        """Subject it was published on."""

    @property
    def data(self) -> bytes:
        """What was published."""

    @property
    def stream_seq(self) -> int:
        """Position in the stream, from 1, gapless but for expired messages."""

    @property
    def delivery_count(self) -> int:
        """How often it was handed out, this time included."""

    async def ack(self) -> None:
        """Say that it was dealt with, for good."""

    async def nak(self, delay_s: float) -> None:
        """Ask for it again after `delay_s`."""

    async def term(self) -> None:
        """Give it up: it is poison, and is kept in the stream but not handed out again."""


class Consumer(Protocol):
    """A durable reader of a stream; several processes may share its name."""

    async def fetch(self, *, count_max: int, wait_s: float) -> Sequence[Delivery]:
        """Return what is there, at least one delivery if any comes within `wait_s`.

        Returns an empty sequence when nothing came or the bus is away; it comes back by itself.
        """


class Bus(Protocol):
    """Publish and subscribe."""

    @property
    def is_connected(self) -> bool:
        """Whether the bus can be reached right now."""

    async def publish(self, subject: str, data: bytes) -> None:
        """Send to whoever listens now; lost when nobody does or the bus is away. Never raises."""

    async def publish_durable(self, subject: str, data: bytes, *, message_id: str) -> int:
        """Store in the stream that covers `subject` and return the message's position.

        A repeat with the same `message_id` within the stream's window is stored once.

        Raises:
            BusUnavailableError: No acknowledgement came in time; repeat with the same id.
        """

    def subscribe(self, subject: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open an iterator of light messages; it outlives reconnects, full drops the oldest."""

    def consume(self, stream: StreamSpec, *, durable: str) -> AbstractAsyncContextManager[Consumer]:
        """Open the durable consumer `durable` of a stream, making both when they are missing."""

    async def ensure_stream(self, stream: StreamSpec) -> None:
        """Make the stream, or bring an existing one to this form."""

    def bucket(self, spec: BucketSpec) -> Bucket:
        """Return a bucket; nothing is asked of the bus before its first use."""
