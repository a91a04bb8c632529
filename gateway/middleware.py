"""The border to HTTP: every error gets its OpenAI body, every exchange its line and its counts."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.deps import DEPS, Deps
from gateway.errors import error_body, error_headers, status_of
from gateway.exchange import CLIENT_ID_CHARS_MAX, EXCHANGE, Exchange
from gateway.openai.dialect import OPENAI
from kit.errors import Reason, TurnpikeError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CLIENT_CLOSED = 499


@web.middleware
async def border(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run a handler and translate whatever comes out of it."""
    deps = request.app[DEPS]
    exchange = Exchange(deps.dialects.of(request.path), deps.clock.monotonic_s())
    request[EXCHANGE] = exchange
    try:
        response = await handler(request)
    except TurnpikeError as error:
        response = _refusal(deps, exchange, error)
    except web.HTTPException as error:
        response = _refusal(deps, exchange, _from_http(error, deps))
    except asyncio.CancelledError:
        _finish(deps, exchange, _CLIENT_CLOSED)
        raise
    except Exception:
        response = _refusal(
            deps, exchange, TurnpikeError(Reason.INTERNAL, "Something went wrong inside Turnpike.")
        )
        deps.log.exception("request_failed", request_id=exchange.report.request_id)
    client_id = request.headers.get("X-Request-Id")
    if client_id is not None and not response.prepared:
        response.headers["X-Client-Request-Id"] = client_id[:CLIENT_ID_CHARS_MAX]
    _finish(deps, exchange, response.status)
    return response


def refuse(deps: Deps, error: TurnpikeError, cause: BaseException | None) -> web.Response:
    """Return the answer to what never became a request."""
    exchange = Exchange(OPENAI, deps.clock.monotonic_s())
    response = _refusal(deps, exchange, error)
    if error.reason is Reason.INTERNAL:
        request_id = exchange.report.request_id
        deps.log.error("request_failed", request_id=request_id, exc_info=cause)
    _finish(deps, exchange, response.status)
    return response


def _refusal(deps: Deps, exchange: Exchange, error: TurnpikeError) -> web.Response:
    report = exchange.report
    report.error = error
    report.request_id = error.metadata.get("request_id") or deps.new_id()
    headers = {**error_headers(error), "X-Request-Id": report.request_id}
    if exchange.caller is not None:
        headers |= deps.admission.rate_headers(exchange.caller)
    return web.Response(
        status=status_of(error),
        body=error_body(error, exchange.dialect, report.request_id),
        headers=headers,
    )


def _from_http(error: web.HTTPException, deps: Deps) -> TurnpikeError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return TurnpikeError(
            Reason.METHOD_NOT_ALLOWED,
            f"{error.method} is not allowed; use {allowed}.",
            allow=allowed,
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TurnpikeError(
            Reason.PAYLOAD_TOO_LARGE,
            f"The body is longer than {deps.settings.body_bytes_max} bytes.",
        )
    if error.status == web.HTTPNotFound.status_code:
        return TurnpikeError(Reason.NOT_FOUND, "There is nothing at this path.")
    return TurnpikeError(Reason.BAD_REQUEST, "The request is not valid HTTP for this server.")


def _finish(deps: Deps, exchange: Exchange, status: int) -> None:
    duration_s = deps.clock.monotonic_s() - exchange.start_s
    deps.metrics.count(exchange, status, duration_s)
    report = exchange.report
    line: dict[str, object] = {
        "event": "request_finished",
        "level": "info",
        "unix_ms": deps.clock.unix_ms(),
        "request_id": report.request_id,
        "route": exchange.route,
        "status": status,
        "ms": round(duration_s * 1000, 1),
    }
    if exchange.model_id:
        line["model"] = exchange.model_id
        line["key_id"] = exchange.key_id
        line["is_streaming"] = exchange.is_streaming
    if report.route is not None:
        line["deployment"] = report.route.deployment
        line["attempts"] = report.route.attempt_count
        line["ttft_ms"] = round(report.ttft_s * 1000, 1)
    if report.usage is not None:
        line["tokens_in"] = report.usage.prompt_token_count
        line["tokens_out"] = report.usage.completion_token_count
    if report.charge_nusd is not None:
        line["cost_nusd"] = report.charge_nusd
    if report.error is not None:
        line["error"] = report.error.reason
    deps.access_log.add(line)
