"""The bus on NATS: core messages for what may be lost, JetStream for what may not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from kit.bus.limits import PENDING_MESSAGES_MAX
from kit.bus.mailbox import Mailbox
from kit.bus.nats_bucket import NatsBucket
from kit.bus.nats_consumer import NatsConsumer
from kit.bus.nats_link import NatsAddress, NatsLink
from kit.bus.nats_login import read_nats_login
from kit.bus.nats_streams import decode_answer, make_stream
from kit.bus.port import Bucket, BucketSpec, Bus, BusUnavailableError, Consumer, StreamSpec
from kit.tasks import background

_MAKE_STREAM_S: Final = 5.0


@asynccontextmanager
async def open_nats_bus(
    url: str,
    *,
    name: str,
    user_credentials: Path | None = None,
    publish_timeout_s: float = 1.0,
    connect_timeout_s: float = 2.0,
    pending_messages_max: int = PENDING_MESSAGES_MAX,
) -> AsyncIterator["NatsBus"]:
    """Open the bus; when NATS is away it opens all the same and connects as soon as it can.

    Args:
        url: `nats://` or `tls://` address, with `user:password@` if need be; a comma separates
            the servers of one cluster.
        name: What NATS shows for this connection.
        user_credentials: A `.creds` file, or a file with a user's seed; read at each connect.
        publish_timeout_s: Longest wait for an acknowledgement.
        connect_timeout_s: Longest wait for one connect, and for the first one here.
        pending_messages_max: Light messages kept for one slow subscriber.

    Raises:
        OSError: The credentials cannot be read.
        ValueError: The credentials hold no user.
    """
    if user_credentials is not None:
        await asyncio.to_thread(read_nats_login, user_credentials)
    urls = tuple(part.strip() for part in url.split(","))
    link = NatsLink(NatsAddress(urls, name, user_credentials, connect_timeout_s))
    async with background(link.run, name=f"nats:{name}"):
        await link.wait_connected(connect_timeout_s)
        yield NatsBus(
            link, publish_timeout_s=publish_timeout_s, pending_messages_max=pending_messages_max
        )


class NatsBus(Bus):
    """A `Bus` over one connection.

    `dropped_count` light messages could not be sent; `missed_count` came and were ousted by newer
    ones before their subscriber took them.
    """

    def __init__(
        self, link: NatsLink, *, publish_timeout_s: float, pending_messages_max: int
    ) -> None:
        self._link = link
        self._publish_timeout_s = publish_timeout_s
        self._pending_messages_max = pending_messages_max
        self.dropped_count = 0
        self._missed_count = 0
        self._mailboxes: set[Mailbox] = set()

    @property
    def missed_count(self) -> int:
        """Light messages that slow subscribers missed."""
        return self._missed_count + sum(mailbox.dropped_count for mailbox in self._mailboxes)

    @property
    def is_connected(self) -> bool:
        """Whether NATS can be reached right now."""
        return self._link.is_connected

    async def publish(self, subject: str, data: bytes) -> None:
        """Send to whoever listens now; what cannot be sent at once is dropped and counted."""
        try:
            await self._link.send(subject, data)
        except BusUnavailableError as error:
            self.dropped_count += 1
            self._link.log.warning(
                "publish_dropped", reason=str(error), dropped_count=self.dropped_count
            )

    async def publish_durable(self, subject: str, data: bytes, *, message_id: str) -> int:
        """Store in the stream that covers `subject` and return the message's position.

        Raises:
            BusUnavailableError: Not acknowledged in time, no stream, or the stream is full.
        """
        message = await self._link.request(
            subject,
            data,
            headers={"Nats-Msg-Id": message_id},
            timeout_s=self._publish_timeout_s,
        )
        position = decode_answer(message).get("seq")
        if not isinstance(position, int):
            raise BusUnavailableError("The answer is not JetStream's.")
        return position

    @asynccontextmanager
    async def subscribe(self, subject: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an iterator of light messages; it outlives reconnects, full drops the oldest."""
        mailbox = Mailbox(messages_max=self._pending_messages_max)
        async with self._link.listening(
            subject, lambda message: mailbox.put(message.data), on_lost=_stay
        ):
            self._mailboxes.add(mailbox)
            try:
                yield mailbox
            finally:
                self._mailboxes.discard(mailbox)
                self._missed_count += mailbox.dropped_count
                mailbox.close()

    def consume(self, stream: StreamSpec, *, durable: str) -> AbstractAsyncContextManager[Consumer]:
        """Open the durable consumer `durable` of a stream, making both when they are missing."""
        return NatsConsumer(self._link, stream, durable).opened()

    async def ensure_stream(self, stream: StreamSpec) -> None:
        """Make the stream, or bring an existing one to this form.

        Raises:
            BusUnavailableError: NATS is away or refuses.
        """
        await make_stream(self._link, stream, timeout_s=_MAKE_STREAM_S)

    def bucket(self, spec: BucketSpec) -> Bucket:
        """Return a bucket of JetStream's key-value store; it is made by the first put."""
        return NatsBucket(self._link, spec)


def _stay() -> None:
    """A subscriber has nothing to do when the connection breaks; it is subscribed again."""
