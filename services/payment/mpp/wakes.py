"""Waiting for vouchers: woken by this process and, over the bus, by others; polled as a safety."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from kit.bus.port import Bus
from kit.errors import Reason, TurnpikeError
from turnpike.events.v1.events_pb2 import ChannelChanged

CHANNEL_SUBJECT: Final = "payment.channel.v1"
_log = structlog.get_logger("services.payment.mpp")


class ChannelWakes:
    """Wakes whoever waits for a channel."""

    def __init__(self, bus: Bus, *, waiters_max: int) -> None:
        self._bus = bus
        self._waiters_max = waiters_max
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._count = 0

    async def tell(self, channel_id: str, *, is_closed: bool = False) -> None:
        """Say, here and everywhere, that a channel has changed."""
        self._wake(channel_id)
        message = ChannelChanged(channel_id=channel_id, is_closed=is_closed)
        await self._bus.publish(CHANNEL_SUBJECT, message.SerializeToString())

    async def run(self) -> None:
        """Listen for changes that others tell, for ever."""
        async with self._bus.subscribe(CHANNEL_SUBJECT) as messages:
            async for data in messages:
                try:
                    self._wake(ChannelChanged.FromString(data).channel_id)
                except DecodeError:
                    _log.warning("channel_change_unreadable")

    @contextmanager
    def waiting(self, channel_id: str) -> Iterator[asyncio.Event]:
        """Return an event that is set when the channel changes.

        Raises:
            TurnpikeError: OVERLOADED, too many wait.
        """
        if self._count >= self._waiters_max:
            raise TurnpikeError(
                Reason.OVERLOADED, "Too many requests wait for vouchers.", retry_after_s="1"
            )
        event = asyncio.Event()
        self._waiters[channel_id].add(event)
        self._count += 1
        try:
            yield event
        finally:
            self._count -= 1
            self._waiters[channel_id].discard(event)
            if not self._waiters[channel_id]:
                del self._waiters[channel_id]

    def _wake(self, channel_id: str) -> None:
        for event in tuple(self._waiters.get(channel_id, ())):
            event.set()
