"""The HTTP/1.1 client for upstreams: `HttpPool` sends a request, `HttpExchange` reads its answer.

No redirects, no proxies, no compression, no cookies. Every wait has a deadline in loop time,
every buffer a bound of `HttpLimits`. Cancelling a wait and closing the exchange aborts the
connection at once, unless its answer was complete.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from services.router.upstream_connection import HttpConnection
from services.router.upstream_pool import ConnectionPool
from services.router.upstream_types import (
    HttpLimits,
    ResponseHead,
    Target,
    UpstreamBusyError,
    UpstreamClosedError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    build_headers,
)

__all__ = [
    "HttpExchange",
    "HttpLimits",
    "HttpPool",
    "ResponseHead",
    "Target",
    "UpstreamBusyError",
    "UpstreamClosedError",
    "UpstreamConnectError",
    "UpstreamError",
    "UpstreamProtocolError",
    "UpstreamTimeoutError",
    "build_headers",
    "open_http_pool",
]


class _Request(NamedTuple):
    target: Target
    head: bytes
    body: bytes
    connect_s: float


class HttpExchange:
    """One request and its answer; the holder closes it, always."""

    __slots__ = (
        "_connection",
        "_is_compressed",
        "_is_over",
        "_loop",
        "_pool",
        "_request",
        "_stale_s",
    )

    def __init__(
        self,
        pool: "HttpPool",
        request: _Request,
        connection: HttpConnection,
        *,
        loop: asyncio.AbstractEventLoop,
        stale_s: float,
    ) -> None:
        self._pool = pool
        self._request = request
        self._connection = connection
        self._loop = loop
        self._stale_s = stale_s
        self._is_compressed = False
        self._is_over = False

    async def head(self, deadline_s: float) -> ResponseHead:
        """Return the answer's status and headers.

        A reused connection that closes within `stale_s` and before any byte had most likely been
        closed while it was idle: the request is sent once more, on a new connection.

        Args:
            deadline_s: Loop time after which the wait ends.

        Raises:
            UpstreamError: There is no answer; see the subclasses.
        """
        try:
            head = await self._connection.head(deadline_s)
        except UpstreamClosedError as error:
            now_s = self._loop.time()
            if not (
                error.is_untouched
                and self._connection.is_reused
                and now_s - self._connection.sent_s <= self._stale_s
            ):
                raise
            request = self._request
            connect_s = min(request.connect_s, deadline_s - now_s)
            self._connection = await self._pool.connect(request.target, connect_s=connect_s)
            self._connection.send(request.head, request.body)
            head = await self._connection.head(deadline_s)
        coding = head.headers.get(b"content-encoding")
        self._is_compressed = coding is not None and coding.lower() != b"identity"
        return head

    def reader(self) -> Callable[[float], Awaitable[bytes]]:
        """Return what reads the body, once `head` has come.

        Each call gives all that has come since the last one, joined; empty at the end. It takes the
        loop time after which the wait for the next byte ends, and raises `UpstreamError` when the
        answer broke off or stalled.

        Raises:
            UpstreamError: The answer is not as asked for.
        """
        if self._is_compressed:
            raise _compressed()
        return self._connection.read

    def read_all(self, deadline_s: float, bytes_max: int) -> Awaitable[bytes]:
        """Return the whole body, which must be there by the deadline and within the bound.

        Raises:
            UpstreamError: The answer broke off, stalled, is too long or is not as asked for.
        """
        if self._is_compressed:
            raise _compressed()
        return self._connection.read_all(deadline_s, bytes_max)

    def close(self) -> None:
        """End the exchange: keep the connection when the answer was complete, else abort it."""
        self._release(may_linger=False)

    def finish(self) -> None:
        """End the exchange after the last byte that matters.

        The connection is kept when the answer ends by itself within `linger_s`; nobody waits.
        """
        self._release(may_linger=True)

    def _release(self, *, may_linger: bool) -> None:
        # Once released the connection may serve somebody else: it is touched only once.
        if not self._is_over:
            self._is_over = True
            self._connection.release(may_linger=may_linger)


def _compressed() -> UpstreamProtocolError:
    return UpstreamProtocolError("The upstream compressed its answer, which was not asked.")


class HttpPool:
    """Sends requests over kept-alive connections; opened by `open_http_pool`."""

    def __init__(
        self,
        *,
        limits: HttpLimits,
        tls_context: ssl.SSLContext,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.limits = limits
        self._loop = loop
        self._connections = ConnectionPool(loop, limits, tls_context)

    async def request(
        self,
        method: str,
        target: Target,
        *,
        headers: bytes,
        body: bytes = b"",
        connect_s: float | None = None,
    ) -> HttpExchange:
        """Send a request and return its exchange, which the caller closes.

        Args:
            method: Such as `POST`.
            target: Where to.
            headers: From `build_headers`.
            body: Sent as it is, with its length.
            connect_s: Bound for a new connection; the pool's own when absent.

        Raises:
            UpstreamConnectError: No connection in time.
            UpstreamBusyError: Too many are open.
        """
        limit_s = self.limits.connect_s if connect_s is None else connect_s
        start = f"{method} {target.path} HTTP/1.1\r\n".encode("ascii")
        head = b"%b%bcontent-length: %d\r\n\r\n" % (start, headers, len(body))
        connection = self._connections.take_idle(target)
        if connection is None:
            connection = await self.connect(target, connect_s=limit_s)
        connection.send(head, body)
        request = _Request(target, head, body, limit_s)
        return HttpExchange(self, request, connection, loop=self._loop, stale_s=self.limits.stale_s)

    async def connect(self, target: Target, *, connect_s: float) -> HttpConnection:
        """Return a new connection; see `ConnectionPool.connect`."""
        return await self._connections.connect(target, connect_s=connect_s)

    def counts(self, target: Target) -> tuple[int, int]:
        """Return how many connections to the target's origin are open, and how many are idle."""
        return self._connections.counts(target)

    def close(self) -> None:
        """Abort every connection at once."""
        self._connections.close()


@asynccontextmanager
async def open_http_pool(
    limits: HttpLimits, *, tls_context: ssl.SSLContext | None = None
) -> AsyncIterator[HttpPool]:
    """Open the HTTP client of this event loop; on exit all connections are dropped.

    Args:
        limits: The bounds.
        tls_context: How certificates are checked; the system's store when absent.
    """
    pool = HttpPool(
        limits=limits,
        tls_context=tls_context or ssl.create_default_context(),
        loop=asyncio.get_running_loop(),
    )
    try:
        yield pool
    finally:
        pool.close()
