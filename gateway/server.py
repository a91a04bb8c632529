"""The HTTP server: one listening socket, and an answer in the usual form for what is no HTTP."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from gateway.settings import GatewaySettings
from kit.errors import Reason, TurnpikeError
from kit.outbox import HeldTransport, Outbox

_BACKLOG: Final = 1024
_CLOSE_S: Final = 1.0
Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers a request."""
Refuse = Callable[[TurnpikeError, BaseException | None], web.Response]
"""Turns a refusal, and what caused it, into an answer."""


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_outbox", "_refuse")

    def __init__(
        self,
        server: web.Server,
        *,
        refuse: Refuse,
        outbox: Outbox,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, **options)
        self._refuse = refuse
        self._outbox = outbox

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client's connection; what its answers write leaves with those of others."""
        # uvloop's transports have the methods without the base class.
        inner = cast("asyncio.Transport", transport)
        super().connection_made(HeldTransport(inner, self._outbox))

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
        response = self._refuse(_unreadable(exc), exc)
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
    outbox = Outbox(loop)
    listening = await loop.create_server(
        lambda: Connection(
            server,
            refuse=refuse,
            outbox=outbox,
            loop=loop,
            access_log=None,
            keepalive_timeout=settings.idle_connection_s,
            max_line_size=settings.header_bytes_max,
            max_field_size=settings.header_bytes_max,
        ),
        sock=_listener(settings),
        backlog=_BACKLOG,
    )
    return HttpServer(listening.sockets[0].getsockname()[1], server, listening)


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


def _unreadable(error: BaseException | None) -> TurnpikeError:
    if isinstance(error, LineTooLong):
        return TurnpikeError(
            Reason.HEADERS_TOO_LARGE, "The request line or a header is longer than is allowed."
        )
    if isinstance(error, HttpProcessingError):
        return TurnpikeError(Reason.BAD_REQUEST, "The request is not valid HTTP.")
    return TurnpikeError(Reason.INTERNAL, "Something went wrong inside Turnpike.")
