"""`POST /v1/chat/completions`: parse, admit, open the router stream, pump."""

import asyncio

import grpc
from aiohttp import web

from gateway.admission import Caller, Ticket, router_request
from gateway.deps import DEPS, Deps
from gateway.exchange import CLIENT_ID_CHARS_MAX, EXCHANGE, Exchange
from gateway.running import Running
from gateway.stream import RouterCall, StreamAnswer, route_headers
from gateway.traces import chat_span
from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from kit.rpc.status import error_from_rpc
from kit.rpc.streams import close_stream
from turnpike.type.v1 import usage_pb2

JSON_TYPE = "application/json; charset=utf-8"


async def create_chat_completion(request: web.Request) -> web.StreamResponse:
    """Answer one chat completion, streamed or whole."""
    deps, exchange = request.app[DEPS], request[EXCHANGE]
    exchange.route = "POST /v1/chat/completions"
    caller = await deps.admission.identify(request.headers, exchange.dialect, "chat")
    exchange.caller, exchange.dialect = caller, caller.dialect
    exchange.key_id = caller.principal.key_id
    running = deps.running.enter(caller.principal.key_id)
    try:
        ticket = await _admit(request, deps, caller, running)
        return await _settled(request, deps, exchange, ticket, running)
    finally:
        deps.running.leave(running)


async def _admit(request: web.Request, deps: Deps, caller: Caller, running: Running) -> Ticket:
    try:
        return await deps.admission.admit(caller, await read_json(request, deps))
    except asyncio.CancelledError:
        raise _ended_by(running) from None


async def _settled(
    request: web.Request, deps: Deps, exchange: Exchange, ticket: Ticket, running: Running
) -> web.StreamResponse:
    """Run an admitted request and give back what it did not use."""
    exchange.model_id, exchange.is_streaming = ticket.model.model_id, ticket.call.is_streaming
    try:
        above = deps.tracing.sampled(request.headers.get("traceparent", ""))
        if above is None:
            return await _run(request, deps, exchange, ticket, running)
        with chat_span(deps.tracing, above, exchange) as span:
            return await _run(request, deps, exchange, ticket, running, span.traceparent)
    except TurnpikeError:
        # Refused before anything was delivered: nothing is charged, no token counts.
        exchange.report.usage, exchange.report.charge_nusd = usage_pb2.TokenUsage(), 0
        raise
    finally:
        deps.admission.settle(ticket, exchange.report.usage, exchange.report.charge_nusd)


async def read_json(request: web.Request, deps: Deps) -> bytes:
    """Return the body.

    Raises:
        TurnpikeError: `UNSUPPORTED_MEDIA_TYPE`, `REQUEST_TIMEOUT` when it does not come, or
            `BAD_REQUEST` when it cannot be read.
    """
    if request.content_type != "application/json":
        raise TurnpikeError(
            Reason.UNSUPPORTED_MEDIA_TYPE, "The Content-Type must be application/json."
        )
    try:
        if request.content.is_eof():
            return await request.read()
        async with asyncio.timeout(deps.settings.body_timeout_s):
            return await request.read()
    except TimeoutError as error:
        raise TurnpikeError(Reason.REQUEST_TIMEOUT, "The body did not arrive in time.") from error
    except web.RequestPayloadError as error:
        raise TurnpikeError(
            Reason.BAD_REQUEST, "The body is not encoded as its headers say."
        ) from error


async def _run(
    request: web.Request,
    deps: Deps,
    exchange: Exchange,
    ticket: Ticket,
    running: Running,
    traceparent: str = "",
) -> web.StreamResponse:
    call = deps.router.CreateChatCompletion(router_request(ticket, traceparent))
    headers = deps.admission.rate_headers(ticket.caller)
    headers["X-Route-Model"] = ticket.call.request.model
    if (client_id := request.headers.get("X-Request-Id")) is not None:
        headers["X-Client-Request-Id"] = client_id[:CLIENT_ID_CHARS_MAX]
    if not ticket.call.is_streaming:
        try:
            return await _whole(call, exchange, headers)
        except asyncio.CancelledError:
            raise _ended_by(running) from None
    answer = StreamAnswer(
        request=request,
        ticket=ticket,
        running=running,
        report=exchange.report,
        clock=deps.clock,
        headers=headers,
        keep_alive_s=deps.settings.keep_alive_s,
        header_hold_s=deps.settings.header_hold_s,
        start_s=exchange.start_s,
    )
    try:
        return await answer.pump(call)
    except asyncio.CancelledError:
        return await _ended(request, running, answer)
    except ConnectionResetError as error:
        # The client left while its answer was being written; nobody failed.
        raise asyncio.CancelledError from error
    except Exception:
        if answer.response is None:
            raise
        # The border could only begin a second answer on the same connection.
        deps.log.exception("stream_failed", request_id=exchange.report.request_id)
        return await answer.fail(
            TurnpikeError(Reason.INTERNAL, "Something went wrong inside Turnpike.")
        )
    finally:
        await close_stream(call)


async def _whole(call: RouterCall, exchange: Exchange, headers: dict[str, str]) -> web.Response:
    report = exchange.report
    try:
        async for batch in call:
            if not batch.HasField("finish"):
                continue
            report.route, report.request_id = batch.route, batch.route.request_id
            report.usage, report.charge_nusd = batch.finish.usage, batch.finish.charge_nusd
            headers |= route_headers(batch.route)
            headers["X-Request-Id"] = report.request_id
            headers["X-Turnpike-Cost"] = format_usd(batch.finish.charge_nusd)
            headers["Content-Type"] = JSON_TYPE
            return web.Response(body=batch.completion, headers=headers)
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    finally:
        await close_stream(call)
    raise TurnpikeError(Reason.INTERNAL, "The router ended without an answer.")


def _ended_by(running: Running) -> TurnpikeError:
    """Return why a request was ended from outside; one whose client left stays cancelled."""
    error, task = running.ended_by, asyncio.current_task()
    if error is None or task is None:
        raise asyncio.CancelledError
    task.uncancel()
    return error


async def _ended(
    request: web.Request, running: Running, answer: StreamAnswer
) -> web.StreamResponse:
    """Finish a stream that was ended from outside."""
    error = _ended_by(running)
    if error.reason is Reason.CLIENT_CLOSED_REQUEST:
        if request.transport is not None:
            request.transport.abort()
        answer.report.error = error
        raise asyncio.CancelledError
    return await answer.fail(error)
