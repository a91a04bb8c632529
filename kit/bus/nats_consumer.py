"""A durable pull consumer on NATS JetStream that comes back by itself.

One pull asks for what is there and waits for the first message when nothing is; the server ends
it as soon as it gave something. What arrives too late for its pull is kept for the next fetch.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Final

from nats.aio.msg import Msg

from kit.bus.nats_link import NatsLink, status_of
from kit.bus.nats_streams import API, make_consumer, make_stream
from kit.bus.port import BusUnavailableError, Delivery, StreamSpec

_ROUND_TRIP_S: Final = 0.05
_TAIL_S: Final = 0.02
_PAUSE_S: Final = 0.1
_MAKE_S: Final = 2.0
_NOTHING: Final = ("404", "408")
_LOST: Final = "lost"
_ACK_PREFIX: Final = "$JS.ACK."
_ACK_TOKENS: Final = 9


class NatsDelivery:
    """A message and the subject that takes its acknowledgement; one sent in vain is redelivered."""

    __slots__ = ("_link", "_reply", "data", "delivery_count", "stream_seq", "subject")

    def __init__(self, link: NatsLink, message: Msg) -> None:
        self._link = link
        self._reply = message.reply
        self.subject = message.subject
        self.data = message.data
        # Source: docs.nats.io, "JetStream wire API": the long form has a domain and an account.
        tokens = message.reply.split(".")
        at = 4 if len(tokens) == _ACK_TOKENS else 6
        self.delivery_count = int(tokens[at])
        self.stream_seq = int(tokens[at + 1])

    async def ack(self) -> None:
        """Say that it was dealt with."""
        await self._answer(b"+ACK")

    async def nak(self, delay_s: float) -> None:
        """Ask for it again after `delay_s`."""
        delay = json.dumps({"delay": int(delay_s * 1e9)}).encode() if delay_s > 0 else b""
        await self._answer(b"-NAK " + delay if delay else b"-NAK")

    async def term(self) -> None:
        """Give it up."""
        await self._answer(b"+TERM")

    async def _answer(self, verdict: bytes) -> None:
        with suppress(BusUnavailableError):
            await self._link.send(self._reply, verdict)


class NatsConsumer:
    """Fetches for one durable name; one fetch at a time."""

    def __init__(self, link: NatsLink, stream: StreamSpec, durable: str) -> None:
        self._link = link
        self._stream = stream
        self._durable = durable
        self._pull_subject = f"{API}.CONSUMER.MSG.NEXT.{stream.name}.{durable}"
        self._inbox = link.new_inbox()
        self._pulls = count(1)
        self._pull = ""
        self._status = ""
        self._waiting: deque[NatsDelivery] = deque()
        self._changed = asyncio.Event()
        self._is_made = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["NatsConsumer"]:
        """Listen for deliveries; on exit what nobody fetched is handed back to others."""
        async with self._link.listening(
            f"{self._inbox}.*", self._on_message, on_lost=self._on_lost
        ):
            if self._link.is_connected:
                await self._make(_MAKE_S)
            try:
                yield self
            finally:
                for delivery in self._waiting:
                    await delivery.nak(0.0)

    async def fetch(self, *, count_max: int, wait_s: float) -> Sequence[Delivery]:
        """Return up to `count_max` deliveries, as soon as there is one; none after `wait_s`."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + max(wait_s, _ROUND_TRIP_S)
        is_one_shot = True
        while not self._waiting:
            left_s = deadline_s - loop.time()
            if left_s <= _TAIL_S or not await self._link.wait_connected(left_s):
                return []
            if not self._is_made and not await self._make(left_s):
                await asyncio.sleep(min(_PAUSE_S, left_s))
                continue
            status = await self._ask(count_max, deadline_s, is_one_shot=is_one_shot)
            if status in _NOTHING:
                # Others wait on the same durable: stand in the queue for one message.
                is_one_shot = False
            elif status and not self._waiting:
                self._is_made = self._is_made and status == _LOST
                await asyncio.sleep(min(_PAUSE_S, max(deadline_s - loop.time(), 0.0)))
        return [self._waiting.popleft() for _ in range(min(count_max, len(self._waiting)))]

    async def _ask(self, count_max: int, deadline_s: float, *, is_one_shot: bool) -> str:
        left_s = max(deadline_s - asyncio.get_running_loop().time(), _TAIL_S)
        expires_ns = int(max(left_s - _TAIL_S, _TAIL_S / 2) * 1e9)
        request: dict[str, object] = {"batch": count_max, "expires": expires_ns, "no_wait": True}
        if not is_one_shot:
            request = {"batch": 1, "expires": expires_ns}
        self._pull, self._status = f"{self._inbox}.{next(self._pulls)}", ""
        try:
            await self._link.send(
                self._pull_subject, json.dumps(request).encode(), reply=self._pull
            )
        except BusUnavailableError:
            return _LOST
        await self._gather(count_max if is_one_shot else 1, deadline_s)
        return self._status

    async def _gather(self, count_max: int, deadline_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline_s) as until:
                while not self._status and len(self._waiting) < count_max:
                    self._changed.clear()
                    await self._changed.wait()
                    if self._waiting:
                        now_s = asyncio.get_running_loop().time()
                        until.reschedule(min(deadline_s, now_s + _TAIL_S))

    async def _make(self, wait_s: float) -> bool:
        timeout_s = min(wait_s, _MAKE_S)
        try:
            await make_stream(self._link, self._stream, timeout_s=timeout_s)
            await make_consumer(self._link, self._stream, self._durable, timeout_s=timeout_s)
        except BusUnavailableError as error:
            self._link.log.warning(
                "consumer_not_made",
                stream=self._stream.name,
                durable=self._durable,
                reason=str(error),
            )
            return False
        self._is_made = True
        return True

    def _on_message(self, message: Msg) -> None:
        if message.reply.startswith(_ACK_PREFIX):
            self._waiting.append(NatsDelivery(self._link, message))
        elif message.subject == self._pull:
            self._status = status_of(message)
        self._changed.set()

    def _on_lost(self) -> None:
        self._status = _LOST
        self._changed.set()
