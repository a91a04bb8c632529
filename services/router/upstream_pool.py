"""Which connections are open, per origin, and which of them wait for work.

Bounds are those of `HttpLimits`. The connection used last is lent first, so that a pool that is
too large shrinks by itself. A connection reports here when it is free and when it is gone.
"""

import asyncio
import socket
import ssl
from typing import cast

from kit.outbox import Outbox
from services.router.upstream_connection import HttpConnection
from services.router.upstream_types import (
    HttpLimits,
    Target,
    UpstreamBusyError,
    UpstreamConnectError,
)


class _Origin:
    """Connections to one host and port; `opening_count` are being made."""

    __slots__ = ("_is_closed", "_limits", "idle", "live", "opening_count")

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._is_closed = False
        self.idle: dict[HttpConnection, None] = {}
        self.live: set[HttpConnection] = set()
        self.opening_count = 0

    @property
    def count(self) -> int:
        return len(self.live) + self.opening_count

    def pop_idle(self) -> HttpConnection | None:
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.is_usable:
                return connection
        return None

    def on_free(self, connection: HttpConnection) -> None:
        if self._is_closed or len(self.idle) >= self._limits.idle_max:
            connection.abort()
        else:
            self.idle[connection] = None

    def on_lost(self, connection: HttpConnection) -> None:
        self.live.discard(connection)
        self.idle.pop(connection, None)

    def close(self) -> None:
        self._is_closed = True
        for connection in tuple(self.live):
            connection.abort()


class ConnectionPool:
    """Lends connections; `close` drops all of them at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: HttpLimits,
        tls_context: ssl.SSLContext,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._tls_context = tls_context
        self._outbox = Outbox(loop)
        self._origins: dict[tuple[str, int, bool], _Origin] = {}
        self._is_closed = False

    def counts(self, target: Target) -> tuple[int, int]:
        """Return how many connections to the target's origin are open, and how many are idle."""
        origin = self._origins.get((target.host, target.port, target.tls))
        return (origin.count, len(origin.idle)) if origin is not None else (0, 0)

    def take_idle(self, target: Target) -> HttpConnection | None:
        """Return a connection that waits for work, if there is one."""
        origin = self._origins.get((target.host, target.port, target.tls))
        return origin.pop_idle() if origin is not None else None

    async def connect(self, target: Target, *, connect_s: float) -> HttpConnection:
        """Return a new connection, TLS handshake and certificate check included.

        Raises:
            UpstreamBusyError: `connections_max` are open to this origin.
            UpstreamConnectError: There is no connection within `connect_s`.
        """
        if self._is_closed:
            raise UpstreamConnectError("The HTTP client is closed.")
        key = (target.host, target.port, target.tls)
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = _Origin(self._limits)
        if origin.count >= self._limits.connections_max:
            raise UpstreamBusyError("All connections to this upstream are in use.")
        origin.opening_count += 1
        try:
            connection = await self._open(target, origin, connect_s)
        finally:
            origin.opening_count -= 1
        if self._is_closed:
            connection.abort()
            raise UpstreamConnectError("The HTTP client is closed.")
        return connection

    async def _open(self, target: Target, origin: _Origin, connect_s: float) -> HttpConnection:
        def make() -> HttpConnection:
            return HttpConnection(
                self._loop,
                self._limits,
                outbox=self._outbox,
                on_free=origin.on_free,
                on_lost=origin.on_lost,
            )

        try:
            async with asyncio.timeout(connect_s):
                transport, connection = await self._loop.create_connection(
                    make,
                    target.host,
                    target.port,
                    ssl=self._tls_context if target.tls else None,
                    server_hostname=target.host if target.tls else None,
                )
        except ssl.SSLCertVerificationError:
            raise UpstreamConnectError("The upstream's TLS certificate is not trusted.") from None
        except ssl.SSLError:
            raise UpstreamConnectError("The TLS handshake with the upstream failed.") from None
        except socket.gaierror:
            raise UpstreamConnectError("The upstream's host name was not found.") from None
        except TimeoutError:
            raise UpstreamConnectError(
                "The upstream did not accept a connection in time."
            ) from None
        except (OSError, UnicodeError):
            raise UpstreamConnectError("The upstream refused the connection.") from None
        origin.live.add(connection)
        # uvloop wraps the socket; both kinds have setsockopt.
        sock = cast("socket.socket", transport.get_extra_info("socket"))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def close(self) -> None:
        """Abort every connection; later requests fail."""
        self._is_closed = True
        for origin in self._origins.values():
            origin.close()
