"""One HTTP/1.1 connection to an upstream: sends a request, parses the answer, keeps every bound.

It knows one exchange at a time and nothing of pools, retries or JSON. One loop timer serves all
of its waits: a timer that fires early only arms itself again, so that a read costs no timer.
"""

import asyncio
from collections.abc import Callable
from enum import IntEnum
from typing import Final, cast

import httptools

from kit.outbox import HeldTransport, Outbox
from services.router.upstream_types import (
    HttpLimits,
    ResponseHead,
    UpstreamClosedError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    keep_alive_s,
)

PIECE_OVERHEAD: Final = 64
"""Bytes that a piece of body counts on top of its length: what the object itself costs."""

_NO_BODY: Final = frozenset({204, 304})
_RETRY_TICK_S: Final = 0.001


class _Phase(IntEnum):
    CONNECTED = 0
    IDLE = 1
    BUSY = 2
    LINGERING = 3
    CLOSED = 4


class HttpConnection(asyncio.Protocol):
    """Calls `on_free` when it may serve the next exchange, and `on_lost` once it is gone."""

    __slots__ = (
        "_chunks",
        "_deadline_s",
        "_failure",
        "_head",
        "_header_bytes",
        "_headers",
        "_is_complete",
        "_is_paused",
        "_is_reusable",
        "_is_until_close",
        "_limits",
        "_loop",
        "_on_free",
        "_on_lost",
        "_outbox",
        "_parser",
        "_phase",
        "_silent_bytes",
        "_timer",
        "_transport",
        "_unread_bytes",
        "_unread_max",
        "_waiter",
        "_wants_all",
        "is_reused",
        "sent_s",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: HttpLimits,
        *,
        outbox: Outbox,
        on_free: Callable[["HttpConnection"], None],
        on_lost: Callable[["HttpConnection"], None],
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._outbox = outbox
        self._on_free = on_free
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._phase = _Phase.CONNECTED
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._deadline_s = 0.0
        self.is_reused = False
        self.sent_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._head: ResponseHead | None = None
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._chunks: list[bytes] = []
        self._failure: UpstreamError | None = None
        self._is_complete = False
        self._is_reusable = False
        self._is_until_close = False
        self._is_paused = False
        self._wants_all = False
        self._unread_bytes = 0
        self._unread_max = self._limits.unread_bytes_max
        self._silent_bytes = 0

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent on it now."""
        transport = self._transport
        return (
            self._phase in (_Phase.CONNECTED, _Phase.IDLE)
            and transport is not None
            and not transport.is_closing()
        )

    def send(self, head: bytes, body: bytes) -> None:
        """Write a request and expect its answer."""
        if self._transport is None:
            raise UpstreamClosedError(is_untouched=True)
        self.is_reused = self._phase is _Phase.IDLE
        self._reset()
        self._phase = _Phase.BUSY
        self.sent_s = self._loop.time()
        self._transport.writelines((head, body))

    async def head(self, deadline_s: float) -> ResponseHead:
        """Return status and headers of the answer; interim answers (1xx) are passed over."""
        while self._head is None:
            if self._failure is not None:
                raise self._failure
            await self._wait(deadline_s, "head")
        return self._head

    async def read(self, deadline_s: float) -> bytes:
        """Return all the body that has come since the last read; empty at the end."""
        while not (chunks := self._chunks):
            if self._is_complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait(deadline_s, "body")
        if len(chunks) > 1 or self._is_paused:
            return self._take()
        self._chunks, self._unread_bytes = [], 0
        return chunks[0]

    async def read_all(self, deadline_s: float, bytes_max: int) -> bytes:
        """Return the whole body, waking once; more than `bytes_max` is a protocol error.

        Each piece after the first counts `PIECE_OVERHEAD` on top of its length.
        """
        self._wants_all = True
        self._unread_max = bytes_max + PIECE_OVERHEAD
        self._check_unread()
        if self._is_paused and self._failure is None:
            self._resume()
        while not self._is_complete:
            if self._failure is not None:
                raise self._failure
            await self._wait(deadline_s, "body")
        if self._failure is not None:
            raise self._failure
        return self._take()

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._unread_bytes = 0
        if self._is_paused:
            self._resume()
        return data

    def _resume(self) -> None:
        self._is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def release(self, *, may_linger: bool) -> None:
        """End the exchange: give the connection back when its answer is complete, else abort it.

        With `may_linger` the rest of the answer may still come, for `linger_s` at most, and is
        dropped; nobody waits for it.
        """
        if self._phase is not _Phase.BUSY:
            return
        if self._is_complete:
            self._free()
        elif may_linger and self._failure is None and self._head is not None:
            self._phase = _Phase.LINGERING
            self._chunks = []
            self._unread_bytes = 0
            if self._is_paused:
                self._resume()
            self._arm(self._loop.time() + self._limits.linger_s)
        else:
            self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._phase = _Phase.CLOSED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def _free(self) -> None:
        transport = self._transport
        if (
            not self._is_reusable
            or transport is None
            or transport.is_closing()
            or transport.get_write_buffer_size() > 0
        ):
            self.abort()
            return
        self._phase = _Phase.IDLE
        if self._is_paused:
            self._resume()
        self._arm(self._loop.time() + keep_alive_s(self._headers, self._limits.idle_s))
        self._on_free(self)

    async def _wait(self, deadline_s: float, phase: str) -> None:
        if self._loop.time() >= deadline_s:
            raise UpstreamTimeoutError(phase)
        waiter = self._waiter = self._loop.create_future()
        self._deadline_s = deadline_s
        if self._timer is None or self._timer.when() > deadline_s:
            self._arm(deadline_s)
        try:
            await waiter
        finally:
            self._waiter = None
        if self._loop.time() >= deadline_s and self._is_waiting_still(phase):
            raise UpstreamTimeoutError(phase)

    def _is_waiting_still(self, phase: str) -> bool:
        if self._failure is not None or self._is_complete:
            return False
        if phase == "head":
            return self._head is None
        return self._wants_all or not self._chunks

    def _arm(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        timer = self._timer
        if timer is not None:
            if timer.when() <= deadline_s:
                return
            timer.cancel()
        self._timer = self._loop.call_at(deadline_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        left_s = self._deadline_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(max(left_s, _RETRY_TICK_S), self._on_timer)
        elif self._waiter is not None:
            self._wake()
        elif self._phase in (_Phase.IDLE, _Phase.LINGERING):
            self.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports have the methods without the base class.
        self._transport = HeldTransport(cast("asyncio.Transport", transport), self._outbox)

    def data_received(self, data: bytes) -> None:
        """Parse what came and wake the exchange."""
        is_busy = self._phase is _Phase.BUSY
        if self._is_complete or not (is_busy or self._phase is _Phase.LINGERING):
            self._is_reusable = False
            if not is_busy:
                self.abort()
            return
        before = self._unread_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._is_reusable = False
            if not self._is_complete:
                self._fail(UpstreamProtocolError("The upstream's answer is not valid HTTP/1.1."))
                return
        if self._phase is _Phase.LINGERING:
            self._linger()
            return
        if self._unread_bytes == before or self._head is None:
            self._silent_bytes += len(data)
            if self._silent_bytes > self._limits.head_bytes_max and not self._is_complete:
                self._fail(UpstreamProtocolError("The upstream's headers are too long."))
                return
        elif self._unread_bytes > self._unread_max:
            self._check_unread()
        waiter = self._waiter
        if waiter and not waiter.done() and (not self._wants_all or self._is_complete):
            waiter.set_result(None)

    def _check_unread(self) -> None:
        if self._unread_bytes <= self._unread_max:
            return
        if self._wants_all:
            self._fail(UpstreamProtocolError("The upstream's answer is too long.", is_too_big=True))
        elif not self._is_paused and not self._is_complete and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _linger(self) -> None:
        self._chunks = []
        if self._is_complete:
            self._free()
        elif self._unread_bytes > self._limits.linger_bytes_max:
            self.abort()

    def _fail(self, failure: UpstreamError) -> None:
        if self._failure is None:
            self._failure = failure
        is_busy = self._phase is _Phase.BUSY
        self.abort()
        if is_busy:
            self._wake()

    def eof_received(self) -> bool:
        """Take the end of the stream as the end of a body that has no other."""
        if self._is_until_close and not self._is_complete:
            self._is_complete = True
            self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange, if its answer is still open, and the pool."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        is_untouched = self._head is None and self._silent_bytes == 0 and not self._headers
        self._phase = _Phase.CLOSED
        self._transport = None
        if not self._is_complete and self._failure is None:
            self._failure = UpstreamClosedError(is_untouched=is_untouched)
        self._wake()
        self._on_lost(self)

    def on_message_begin(self) -> None:
        """Notice bytes after the answer: such a connection is not used again."""
        if self._is_complete:
            self._is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, within the limit; trailers are dropped."""
        if self._head is not None:
            return
        limits = self._limits
        self._header_bytes += len(name) + len(value)
        if (
            self._header_bytes > limits.head_bytes_max
            or len(self._headers) >= limits.header_count_max
        ):
            raise UpstreamProtocolError("The upstream sent too many headers.")
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        """Fix the head, unless it is an interim one or belongs to bytes after the answer."""
        if self._head is not None:
            return
        status = self._parser.get_status_code()
        headers = self._headers
        if status < 200:
            self._headers = {}
            return
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise UpstreamProtocolError("The upstream uses a transfer coding that was not asked.")
        self._is_until_close = (
            coding is None and b"content-length" not in headers and status not in _NO_BODY
        )
        self._head = ResponseHead(status, headers)

    def on_body(self, body: bytes) -> None:
        """Keep a piece of body until it is read."""
        if not self._is_complete:
            self._silent_bytes = 0
            self._chunks.append(body)
            self._unread_bytes += len(body) + PIECE_OVERHEAD

    def on_message_complete(self) -> None:
        """Mark the answer complete."""
        if self._head is not None and not self._is_complete:
            self._is_complete = True
            self._is_reusable = self._parser.should_keep_alive()
