"""A bounded queue of light messages with one reader, in which a new message ousts the oldest."""

import asyncio
from collections import deque


class Mailbox:
    """An async iterator over what was put; it ends when closed."""

    def __init__(self, *, messages_max: int) -> None:
        self._messages: deque[bytes] = deque(maxlen=messages_max)
        self._changed = asyncio.Event()
        self._is_closed = False
        self.dropped_count = 0

    def put(self, data: bytes) -> None:
        """Add a message; when there is no room the oldest goes."""
        if len(self._messages) == self._messages.maxlen:
            self.dropped_count += 1
        self._messages.append(data)
        self._changed.set()

    def close(self) -> None:
        """End the iteration, at once."""
        self._is_closed = True
        self._changed.set()

    def __aiter__(self) -> "Mailbox":
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._is_closed:
                raise StopAsyncIteration
            if self._messages:
                return self._messages.popleft()
            self._changed.clear()
            await self._changed.wait()
