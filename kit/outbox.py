"""Writes that leave together at the end of the event loop's turn.

A write to a socket whose reader sleeps costs its wake-up, several times what the copy costs. What
one turn writes to many connections goes out back to back, so that one wake-up serves them all.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog

_log = structlog.get_logger("kit.outbox")
HELD_BYTES_MAX: Final = 64 * 1024
"""What a connection may hold back within a turn; more is written at once."""


class Outbox:
    """The connections of one loop that have something to write in this turn."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Callable[[], None]] = []

    def add(self, flush: Callable[[], None]) -> None:
        """Call `flush` at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(flush)

    def flush(self) -> None:
        """Write everything now."""
        waiting, self._waiting = self._waiting, []
        for flush in waiting:
            try:
                flush()
            except Exception as error:  # noqa: BLE001 - the others' writes do not depend on it
                _log.error("write_failed", exc_info=error)


class HeldTransport(asyncio.Transport):
    """A transport whose writes wait in an outbox; everything else is the inner one's."""

    __slots__ = ("_inner", "_is_closing", "_outbox", "_parts", "_size")

    def __init__(self, inner: asyncio.Transport, outbox: Outbox) -> None:
        super().__init__()
        self._inner = inner
        self._is_closing = inner.is_closing
        self._outbox = outbox
        self._parts: list[Any] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write at the end of the turn."""
        if not self._parts:
            self._outbox.add(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > HELD_BYTES_MAX:
            self.flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write several pieces at the end of the turn."""
        parts = self._parts
        if not parts:
            self._outbox.add(self.flush)
        for data in list_of_data:
            parts.append(data)
            self._size += len(data)
        if self._size > HELD_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what is held; nothing when the connection is on its way down."""
        parts = self._parts
        if not parts:
            return
        self._parts, self._size = [], 0
        if self._is_closing():
            return
        try:
            if len(parts) == 1:
                self._inner.write(parts[0])
            else:
                self._inner.writelines(parts)
        except Exception:
            # What was promised to be written is lost, so the connection is out of step.
            self._inner.abort()
            raise

    def write_eof(self) -> None:
        """Write what is held and close the sending side."""
        self.flush()
        self._inner.write_eof()

    def close(self) -> None:
        """Write what is held and close."""
        self.flush()
        self._inner.close()

    def abort(self) -> None:
        """Drop what is held, and the connection."""
        self._parts, self._size = [], 0
        self._inner.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is on its way down."""
        return self._is_closing()

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._inner.resume_reading()

    def is_reading(self) -> bool:
        """Return whether the connection is read."""
        return self._inner.is_reading()

    def can_write_eof(self) -> bool:
        """Return whether the sending side can be closed alone."""
        return self._inner.can_write_eof()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that are not with the kernel yet."""
        return self._size + self._inner.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the inner transport's marks."""
        return self._inner.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the inner transport's marks."""
        self._inner.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._inner.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the connection's protocol."""
        return self._inner.get_protocol()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's
        """Return what the inner transport knows of the connection."""
        return self._inner.get_extra_info(name, default)
