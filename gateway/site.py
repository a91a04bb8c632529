"""The border to HTTP: finds handlers, gives errors their OpenAI body, counts every exchange."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

from aiohttp import web

from gateway.access import finish
from gateway.deps import Deps
from gateway.errors import error_headers, status_of
from gateway.exchange import CLIENT_ID_CHARS_MAX, Exchange
from gateway.machine.refusals import PaymentRefusedError, problem_body, problem_headers
from gateway.openai.dialect import OPENAI
from kit.errors import Reason, TurnpikeError

Handler: TypeAlias = Callable[[Deps, web.BaseRequest, Exchange], Awaitable[web.StreamResponse]]
_CLIENT_CLOSED: Final = 499
_SERVER: Final = "turnpike"
"""What aiohttp would fill with its own version, and Python's."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Routes:
    """Handlers by path and method; a path that ends in `/*` takes everything below it."""

    def __init__(self, routes: Iterable[tuple[str, str, Handler]]) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._below: dict[str, dict[str, Handler]] = {}
        for method, path, handler in routes:
            by_path = self._below if path.endswith("/*") else self._exact
            methods = by_path.setdefault(path.removesuffix("*"), {})
            methods[method] = handler
            if method == "GET":
                methods["HEAD"] = handler

    def listed(self) -> list[tuple[str, str]]:
        """Return method and path of every route, without the `HEAD` of each `GET`."""
        below = {f"{folder}*": methods for folder, methods in self._below.items()}
        return [
            (method, path)
            for path, methods in {**self._exact, **below}.items()
            for method in methods
            if method != "HEAD"
        ]

    def find(self, method: str, path: str) -> Handler:
        """Return the handler of a request.

        Raises:
            TurnpikeError: `NOT_FOUND` or `METHOD_NOT_ALLOWED`.
        """
        methods = self._exact.get(path) or self._find_below(path)
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            raise TurnpikeError(
                Reason.METHOD_NOT_ALLOWED,
                f"{method} is not allowed; use {allowed}.",
                allow=allowed,
            )
        return handler

    def _find_below(self, path: str) -> dict[str, Handler]:
        for folder, methods in self._below.items():
            if path.startswith(folder) and len(path) > len(folder):
                return methods
        raise TurnpikeError(Reason.NOT_FOUND, "There is nothing at this path.")


class Site:
    """Answers requests."""

    def __init__(self, deps: Deps, routes: Routes) -> None:
        self._deps = deps
        self._routes = routes

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Run a request's handler and translate whatever comes out of it."""
        deps, path = self._deps, request.path
        exchange = Exchange(deps.dialects.of(path), deps.clock.monotonic_s())
        try:
            handler = self._routes.find(request.method, path)
            if "Expect" in request.headers:
                _let_continue(request, deps.settings.body_bytes_max)
            response = await handler(deps, request, exchange)
        except TurnpikeError as error:
            response = self._refusal(exchange, error)
        except asyncio.CancelledError:
            finish(self._deps, exchange, _CLIENT_CLOSED)
            raise
        except Exception:
            response = self._refusal(exchange, _internal())
            deps.log.exception("request_failed", request_id=exchange.report.request_id)
        if not response.prepared:
            response.headers["Server"] = _SERVER
            client_id = request.headers.get("X-Request-Id")
            if client_id is not None:
                response.headers["X-Client-Request-Id"] = client_id[:CLIENT_ID_CHARS_MAX]
        finish(self._deps, exchange, response.status)
        return response

    def refuse(self, error: TurnpikeError, cause: BaseException | None) -> web.Response:
        """Return the answer to what never became a request."""
        exchange = Exchange(OPENAI, self._deps.clock.monotonic_s())
        response = self._refusal(exchange, error)
        response.headers["Server"] = _SERVER
        if error.reason is Reason.INTERNAL:
            request_id = exchange.report.request_id
            self._deps.log.error("request_failed", request_id=request_id, exc_info=cause)
        finish(self._deps, exchange, response.status)
        return response

    def _refusal(self, exchange: Exchange, error: TurnpikeError) -> web.Response:
        report = exchange.report
        report.error = error
        report.request_id = error.metadata.get("request_id") or self._deps.new_id()
        headers = {}
        if exchange.caller is not None:
            headers = self._deps.admission.rate_headers(exchange.caller)
        # Where a limit refuses, its own figures replace those of the tightest one.
        headers |= {**error_headers(error), "X-Request-Id": report.request_id}
        body = exchange.api.error_body(error, exchange.dialect, report.request_id)
        if isinstance(error, PaymentRefusedError):
            refusal = error.refusal
            return web.Response(
                status=refusal.http_status,
                body=problem_body(refusal, body),
                headers=problem_headers(refusal, headers),
            )
        return web.Response(status=status_of(error), body=body, headers=headers)


def _let_continue(request: web.BaseRequest, body_bytes_max: int) -> None:
    """Ask for the body of a client that waits to be asked. Source: RFC 9110, section 10.1.1."""
    if request.headers["Expect"].lower() != "100-continue":
        raise TurnpikeError(Reason.BAD_REQUEST, "The Expect header is not understood.")
    if (request.content_length or 0) > body_bytes_max:
        # Nothing is asked for; the handler refuses what was announced.
        return
    if request.version >= (1, 1) and request.transport is not None:
        request.transport.write(_CONTINUE)


def _internal() -> TurnpikeError:
    return TurnpikeError(Reason.INTERNAL, "Something went wrong inside Turnpike.")
