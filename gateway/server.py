"""The HTTP server: one listening socket, and an answer in the usual form for what is no HTTP."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from gateway.settings import GatewaySettings
from gateway.wire import refusal_bytes
from kit.errors import Reason, TurnpikeError
from kit.outbox import HeldTransport, Outbox

_BACKLOG: Final = 1024
_CLOSE_S: Final = 1.0
_TOO_MANY: Final = "Too many headers received"
"""What aiohttp says of more headers than it takes; it has no error of its own for it."""
Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers a request."""
Refuse = Callable[[TurnpikeError, BaseException | None], web.Response]
"""Turns a refusal, and what caused it, into an answer."""


class HeadTimeoutError(HttpProcessingError):
    """The headers of a request did not arrive in time."""


@dataclass(slots=True, eq=False)
class Door:
    """What the connections of one server have in common; `count` of them are open."""

    refuse: Refuse
    outbox: Outbox
    connections_max: int
    head_timeout_s: float
    count: int = 0


class Connection(web.RequestHandler):
    """One client's connection.

    The head of its first request has to come in time, and that of each later one once it has
    begun; between two requests aiohttp closes a connection that is idle for long.
    """

    __slots__ = ("_door", "_head_timer", "_is_begun", "_is_inside")

    def __init__(
        self,
        server: web.Server,
        door: Door,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, **options)
        self._door = door
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_begun = False
        self._is_inside = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client's connection; what its answers write leaves with those of others."""
        door = self._door
        # uvloop's transports have the methods without the base class.
        inner = cast("asyncio.Transport", transport)
        if door.count >= door.connections_max:
            self._force_close = True
            inner.write(refusal_bytes(door.refuse(_full(), None)))
            inner.close()
            return
        door.count += 1
        self._is_inside = True
        super().connection_made(HeldTransport(inner, door.outbox))
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another connection."""
        if self._is_inside:
            self._is_inside = False
            self._door.count -= 1
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and see whether the head of a request is under way or there."""
        super().data_received(data)
        if self._messages:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
                self._is_begun = False
        elif self._waiter is not None:
            self._is_begun = True
            if self._head_timer is None:
                self._expect_head()

    def _expect_head(self) -> None:
        self._head_timer = self._loop.call_later(self._door.head_timeout_s, self._end_head)

    def _end_head(self) -> None:
        """Refuse a head that is still under way; who has sent nothing is told nothing."""
        self._head_timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if not self._is_begun:
            self.force_close()
            return
        error = HeadTimeoutError(code=408)
        self._messages.append((_ErrInfo(408, error, error.message), EMPTY_PAYLOAD))
        waiter.set_result(None)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Read again; a connection that was never stopped has nothing left to parse."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def close(self) -> None:
        """Take no further request; a connection that waits for one ends at once."""
        is_waiting = self._waiter is not None
        super().close()
        if is_waiting:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read, and close; aiohttp's own text would quote it.

        Raises:
            ConnectionError: An answer is under way already.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("An answer is under way already.")
        response = self._door.refuse(_unreadable(exc), exc)
        response.force_close()
        return response


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server that listens."""

    port: int
    _server: web.Server
    _listening: asyncio.Server

    def leave(self) -> None:
        """Take no connection and no request any more; what runs goes on."""
        self._listening.close()
        self._server.pre_shutdown()

    async def close(self) -> None:
        """Close every connection."""
        await self._server.shutdown(_CLOSE_S)


async def start_server(handle: Handle, settings: GatewaySettings, *, refuse: Refuse) -> HttpServer:
    """Listen where the settings say."""
    loop = asyncio.get_running_loop()
    server = web.Server(
        handle,
        request_factory=_requests(loop, settings.body_bytes_max),
        handler_cancellation=True,
    )
    door = Door(refuse, Outbox(loop), settings.connections_max, settings.head_timeout_s)
    listening = await loop.create_server(
        lambda: Connection(
            server,
            door,
            loop=loop,
            access_log=None,
            keepalive_timeout=settings.idle_connection_s,
            max_line_size=settings.header_bytes_max,
            max_field_size=_field_bytes_max(settings),
        ),
        sock=_listener(settings),
        backlog=_BACKLOG,
    )
    return HttpServer(listening.sockets[0].getsockname()[1], server, listening)


def _field_bytes_max(settings: GatewaySettings) -> int:
    """Return how long a header may be: payment credentials are longer than anything else."""
    if not settings.machine_payments.is_enabled:
        return settings.header_bytes_max
    return max(settings.header_bytes_max, settings.machine_payments.header_bytes_max)


def _requests(loop: asyncio.AbstractEventLoop, body_bytes_max: int) -> Callable[..., Any]:
    def make(
        message: Any,  # noqa: ANN401 - aiohttp's own types
        payload: Any,  # noqa: ANN401
        protocol: web.RequestHandler,
        writer: Any,  # noqa: ANN401
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=body_bytes_max
        )

    return make


def _listener(settings: GatewaySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets take this over: it bounds what the kernel holds for a client that is slow.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.send_buffer_bytes)
    listener.bind((settings.host, settings.port))
    return listener


def _full() -> TurnpikeError:
    return TurnpikeError(
        Reason.OVERLOADED, "The gateway has too many connections.", retry_after_s="1"
    )


def _unreadable(error: BaseException | None) -> TurnpikeError:
    if isinstance(error, LineTooLong):
        return TurnpikeError(
            Reason.HEADERS_TOO_LARGE, "The request line or a header is longer than is allowed."
        )
    if isinstance(error, HeadTimeoutError):
        return TurnpikeError(Reason.REQUEST_TIMEOUT, "The headers did not arrive in time.")
    if isinstance(error, BadHttpMessage) and error.message == _TOO_MANY:
        return TurnpikeError(Reason.HEADERS_TOO_LARGE, "The request has too many headers.")
    if isinstance(error, HttpProcessingError):
        return TurnpikeError(Reason.BAD_REQUEST, "The request is not valid HTTP.")
    return TurnpikeError(Reason.INTERNAL, "Something went wrong inside Turnpike.")
