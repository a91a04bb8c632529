"""The admin port: probes and metrics for everyone on it, every unary RPC for who has the token."""

import hmac
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from app.errors import StartError
from app.settings_sections import AdminSettings
from kit.errors import Reason, TurnpikeError
from kit.rpc.transcode import Transcoder, error_json

_BEARER: Final = "Bearer "
_CLOSE_S: Final = 5.0
_log = structlog.get_logger("app.admin")


@dataclass(frozen=True, slots=True)
class AdminPort:
    """Where the admin port listens."""

    host: str
    port: int


@asynccontextmanager
async def open_admin(
    settings: AdminSettings,
    *,
    port: int,
    transcoder: Transcoder,
    registry: CollectorRegistry,
    readiness: Callable[[], bool],
) -> AsyncIterator[AdminPort]:
    """Serve the admin port; on exit calls in progress have ended.

    Args:
        settings: Interface, token and limits.
        port: Port to listen on; 0 takes a free one.
        transcoder: Runs the calls.
        registry: What `/metrics` shows.
        readiness: Whether this process takes work.

    Raises:
        StartError: The port is taken.
    """
    handlers = _Handlers(settings, transcoder=transcoder, registry=registry, readiness=readiness)
    application = web.Application(
        middlewares=[handlers.refusals], client_max_size=settings.body_bytes_max
    )
    application.router.add_get("/livez", handlers.livez)
    application.router.add_get("/readyz", handlers.readyz)
    application.router.add_get("/metrics", handlers.metrics)
    application.router.add_post("/rpc/{service}/{method}", handlers.rpc)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLOSE_S)
    await runner.setup()
    try:
        listener = _listen(settings.host, port)
        await web.SockSite(runner, listener).start()
        yield AdminPort(settings.host, listener.getsockname()[1])
    finally:
        await runner.cleanup()


class _Handlers:
    def __init__(
        self,
        settings: AdminSettings,
        *,
        transcoder: Transcoder,
        registry: CollectorRegistry,
        readiness: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._token = settings.token.get_secret_value().encode()
        self._transcoder = transcoder
        self._registry = registry
        self._readiness = readiness

    async def livez(self, _request: web.Request) -> web.Response:
        """Say that the process answers."""
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """Say whether the process takes work."""
        if self._readiness():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="not ready\n")

    async def metrics(self, _request: web.Request) -> web.Response:
        """Show the metrics in Prometheus's text form."""
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def rpc(self, request: web.Request) -> web.Response:
        """Run one unary call."""
        self._admit(request)
        service, method = request.match_info["service"], request.match_info["method"]
        answer = await self._transcoder.call(
            service, method, await request.read(), deadline_s=self._settings.call_s
        )
        _log.info("admin_call", service=service, method=method)
        return web.Response(body=answer, content_type="application/json")

    @web.middleware
    async def refusals(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Turn every failure into JSON."""
        try:
            return await handler(request)
        except TurnpikeError as error:
            return _refusal(error)
        except web.HTTPRequestEntityTooLarge:
            limit = self._settings.body_bytes_max
            message = f"The body is longer than {limit} bytes."
            return _refusal(TurnpikeError(Reason.PAYLOAD_TOO_LARGE, message))
        except web.HTTPMethodNotAllowed:
            message = f"{request.method} is not allowed here."
            return _refusal(TurnpikeError(Reason.METHOD_NOT_ALLOWED, message))
        except web.HTTPNotFound:
            return _refusal(TurnpikeError(Reason.NOT_FOUND, "There is nothing at this path."))
        except Exception:  # noqa: BLE001 - a border: it is logged, and nobody sees a trace
            _log.exception("admin_call_failed", path=request.path)
            return _refusal(TurnpikeError(Reason.INTERNAL, "Something went wrong; see the log."))

    def _admit(self, request: web.Request) -> None:
        shown = request.headers.get("Authorization", "")
        token = shown[len(_BEARER) :].encode() if shown.startswith(_BEARER) else b""
        if not self._token or not hmac.compare_digest(token, self._token):
            raise TurnpikeError(Reason.INVALID_API_KEY, "The admin token is missing or wrong.")


def _refusal(error: TurnpikeError) -> web.Response:
    return web.Response(
        status=error.outward.http_status, body=error_json(error), content_type="application/json"
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise StartError(
            f"The admin port {host}:{port} is taken; set admin.port (TURNPIKE__ADMIN__PORT)."
        ) from error
    listener.settimeout(0)
    return listener
