"""One request to a model, whichever API it came by: parse, admit, open the router stream, pump."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import grpc
from aiohttp import web
from multidict import MultiMapping

from gateway.admission import Ticket, router_request
from gateway.binary import BinaryAnswer
from gateway.bodies import LongBody, check_length
from gateway.call import Api
from gateway.credentials import NoKeyError
from gateway.deps import Deps
from gateway.exchange import CLIENT_ID_CHARS_MAX, Exchange
from gateway.machine.managing import manage_unless_content
from gateway.machine.rail import MachineRail, Offer
from gateway.machine.stream import PaidBinary, PaidStream, conclusion_of, receipt_headers
from gateway.openai.dialect import Dialect
from gateway.quotes import QUOTE_HEADER, hold_price
from gateway.running import Running
from gateway.stream import RouterCall, StreamAnswer, ignored_header, route_headers
from gateway.traces import chat_span
from gateway.wire import WholeAnswer
from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from kit.rpc.status import error_from_rpc
from kit.rpc.streams import close_stream
from turnpike.router.v1.router_pb2 import OPERATION_SPEECH
from turnpike.type.v1 import usage_pb2

JSON_TYPE: Final = "application/json; charset=utf-8"


ReadBody: TypeAlias = Callable[[Deps, Any, Exchange], Coroutine[Any, Any, bytes]]


class Arrival(Protocol):
    """A request as it came, over HTTP or gRPC."""

    @property
    def headers(self) -> MultiMapping[str]:
        """Its headers; names in any case."""


async def take_no_payment(
    _deps: Deps, _request: Arrival, _exchange: Exchange, offer: Offer
) -> None:
    """Refuse a request that wants to pay for itself.

    Raises:
        TurnpikeError: `PAYMENT_METHOD_UNSUPPORTED`, or `INVALID_API_KEY` when it brings nothing.
    """
    if not offer.sent.credential:
        raise NoKeyError("No API key was sent; send Authorization: Bearer <key>.")
    raise TurnpikeError(
        Reason.PAYMENT_METHOD_UNSUPPORTED, "Payment credentials are taken over HTTP only."
    )


class Way(NamedTuple):
    """One way in: how a request's body is read, and how an admitted request is answered.

    `route` names it in metrics and access lines; empty means as the API is called. `manage` answers
    what brings a payment credential and asks for no content, and gives None for what does.
    """

    read: ReadBody
    run: Callable[[Deps, Any, Exchange, Ticket, Running, str], Coroutine[Any, Any, Any]]
    route: str = ""
    manage: Callable[[Deps, Any, Exchange, Offer], Coroutine[Any, Any, Any]] = take_no_payment


def serve(
    deps: Deps,
    request: web.BaseRequest,
    exchange: Exchange,
    api: Api,
    read: ReadBody | None = None,
) -> Coroutine[Any, Any, web.StreamResponse]:
    """Answer one HTTP request, streamed or whole; `read` reads a body that is no JSON."""
    way = _HTTP if read is None else _HTTP._replace(read=read)
    return serve_by(way, deps, request, exchange, api)


async def serve_by(way: Way, deps: Deps, request: Arrival, exchange: Exchange, api: Api) -> Any:  # noqa: ANN401 - what the way's own `run` returns
    """Answer one request that came by `way`: identify, admit, run, settle."""
    exchange.route, exchange.api = way.route or api.route, api
    admission, headers = deps.admission, request.headers
    rail = deps.rail
    try:
        caller = admission.known(headers, exchange.dialect, "chat")
        if caller is None:
            caller = await admission.identify(headers, exchange.dialect, "chat")
        offer = None if rail is None else rail.offer_beside(headers, caller)
    except NoKeyError as refusal:
        offer = _offer(rail, headers, exchange.dialect, refusal)
        caller = offer.caller
    exchange.caller, exchange.dialect = caller, caller.dialect
    exchange.key_id = caller.principal.key_id
    running = deps.running.enter(exchange.key_id)
    try:
        try:
            if offer is not None and (managed := await way.manage(deps, request, exchange, offer)):
                return managed
            body = await way.read(deps, request, exchange)
            call = api.read(body, admission.rules(caller, headers))
            if exchange.long_body is not None:
                exchange.long_body.check(len(body), call.media)
            ticket = admission.order(caller, call)
            if QUOTE_HEADER in headers:
                await hold_price(deps, ticket, headers[QUOTE_HEADER])
            if offer is not None:
                await offer.admit(ticket, exchange, running)
            elif not admission.try_draw(ticket):
                await _drawn(deps, ticket, exchange, headers)
        except asyncio.CancelledError:
            raise ended_by(running) from None
        return await _settled(way, deps, request, exchange, ticket, running)
    finally:
        deps.running.leave(running)
        if exchange.long_body is not None:
            exchange.long_body.close()


async def _settled(
    way: Way, deps: Deps, request: Arrival, exchange: Exchange, ticket: Ticket, running: Running
) -> Any:  # noqa: ANN401 - see `serve_by`
    """Run an admitted request and give back what it did not use."""
    exchange.model_id, exchange.is_streaming = ticket.model.model_id, ticket.call.is_streaming
    report = exchange.report
    try:
        above = deps.tracing.sampled(request.headers.get("traceparent", ""))
        if above is None:
            return await way.run(deps, request, exchange, ticket, running, "")
        with chat_span(deps.tracing, above, exchange, ticket.call.operation) as span:
            return await way.run(deps, request, exchange, ticket, running, span.traceparent)
    except TurnpikeError:
        # Refused before anything was delivered: nothing is charged, no token counts.
        report.usage, report.charge_nusd = usage_pb2.TokenUsage(), 0
        raise
    finally:
        deps.admission.settle(ticket, report.usage, report.charge_nusd)
        if ticket.spending is not None:
            is_known = report.charge_nusd is not None
            ticket.spending.settle(conclusion_of(report) if is_known else None)


def _offer(
    rail: MachineRail | None, headers: MultiMapping[str], dialect: Dialect, refusal: NoKeyError
) -> Offer:
    """Return what a request without a key offers; where nobody can pay it is refused."""
    if rail is None:
        raise refusal
    return rail.offer(headers, dialect, refusal)


async def _drawn(
    deps: Deps, ticket: Ticket, exchange: Exchange, headers: MultiMapping[str]
) -> None:
    """Draw what has to be asked for; where it can be paid for instead, the refusal offers that."""
    try:
        await deps.admission.draw(ticket)
    except TurnpikeError as error:
        rail = deps.rail
        refusal = None if rail is None else await rail.refuse(error, ticket, exchange, headers)
        if refusal is None:
            raise
        raise refusal from error


async def read_json(
    deps: Deps, request: web.BaseRequest, exchange: Exchange | None = None
) -> bytes:
    """Return the body; one with media may be long where there is an exchange to hold it.

    Raises:
        TurnpikeError: `UNSUPPORTED_MEDIA_TYPE`, `LENGTH_REQUIRED` when nothing says that there is
            one, or as `LongBody.read`.
    """
    said = request.headers.get("Content-Type")
    if said != "application/json" and request.content_type != "application/json":
        raise TurnpikeError(
            Reason.UNSUPPORTED_MEDIA_TYPE, "The Content-Type must be application/json."
        )
    settings, content, start = deps.settings, request.content, b""
    if content.is_eof():
        start = content.read_nowait()
        if not start:
            check_length(request)
        if len(start) <= settings.body_bytes_max:
            return start
    room = None if exchange is None else deps.long_bodies
    long_body = LongBody(settings, room)
    if exchange is not None:
        exchange.long_body = long_body
    long_body.check_announced(request.content_length)
    return await long_body.read(content, start)


def _run(
    deps: Deps,
    request: web.BaseRequest,
    exchange: Exchange,
    ticket: Ticket,
    running: Running,
    traceparent: str,
) -> Coroutine[Any, Any, web.StreamResponse]:
    call = deps.router.Run(router_request(ticket, traceparent))
    headers = early_headers(deps, request.headers, ticket)
    if not ticket.call.is_streaming:
        return _whole(deps, request, exchange, _Answering(ticket, running, call), headers)
    kind: type[StreamAnswer] = StreamAnswer
    if ticket.call.operation == OPERATION_SPEECH:
        kind = BinaryAnswer if ticket.spending is None else PaidBinary
    elif ticket.spending is not None:
        kind = PaidStream
    answer = kind(
        request=request,
        ticket=ticket,
        api=exchange.api,
        running=running,
        report=exchange.report,
        clock=deps.clock,
        headers=headers,
        keep_alive_s=deps.settings.keep_alive_s,
        header_hold_s=deps.settings.header_hold_s,
        start_s=exchange.start_s,
    )
    return _streamed(deps, running, answer, call)


_HTTP: Final = Way(read_json, _run, manage=manage_unless_content)


def early_headers(deps: Deps, sent: Mapping[str, str], ticket: Ticket) -> dict[str, str]:
    """Return the headers of an answer that are known before its upstream is.

    Args:
        deps: The gateway's parts.
        sent: The request's headers.
        ticket: The admitted request.
    """
    headers = deps.admission.rate_headers(ticket.caller)
    headers["X-Route-Model"] = ticket.call.model
    if ticket.call.episode_id:
        headers["X-Episode-Id"] = ticket.call.episode_id
    if ticket.call.ignored:
        headers |= ignored_header(ticket.call.ignored)
    if (client_id := sent.get("X-Request-Id")) is not None:
        headers["X-Client-Request-Id"] = client_id[:CLIENT_ID_CHARS_MAX]
    if ticket.spending is not None:
        headers |= ticket.spending.headers()
    return headers


class _Answering(NamedTuple):
    """A request on its way through the router."""

    ticket: Ticket
    running: Running
    call: RouterCall


async def _whole(
    deps: Deps,
    request: web.BaseRequest,
    exchange: Exchange,
    answering: _Answering,
    headers: dict[str, str],
) -> web.StreamResponse:
    report, (ticket, running, call) = exchange.report, answering
    try:
        async for batch in call:
            if not batch.HasField("finish"):
                continue
            route, finish = batch.route, batch.finish
            report.route, report.request_id = route, route.request_id
            report.usage, report.charge_nusd = finish.usage, finish.charge_nusd
            headers |= route_headers(route, ticket.call.ignored)
            headers["X-Request-Id"] = report.request_id
            headers.setdefault("X-Episode-Id", report.request_id)
            headers["X-Turnpike-Cost"] = format_usd(report.charge_nusd)
            headers["Content-Type"] = batch.content_type or JSON_TYPE
            unix_s = deps.clock.unix_ms() // 1000
            body = exchange.api.whole(batch.completion, ticket.call, report.request_id)
            if ticket.spending is not None:
                headers |= await receipt_headers(ticket.spending, report)
            return WholeAnswer(request, headers, body, unix_s=unix_s)
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    except asyncio.CancelledError:
        raise ended_by(running) from None
    finally:
        await close_stream(call)
    raise TurnpikeError(Reason.INTERNAL, "The router ended without an answer.")


async def _streamed(
    deps: Deps, running: Running, answer: StreamAnswer, call: RouterCall
) -> web.StreamResponse:
    try:
        return await answer.pump(call)
    except asyncio.CancelledError:
        return await _ended(running, answer)
    except ConnectionResetError as error:
        # The client left while its answer was being written; nobody failed.
        raise asyncio.CancelledError from error
    except TurnpikeError as error:
        return await answer.fail(error)
    except Exception:
        if answer.response is None:
            raise
        # The border could only begin a second answer on the same connection.
        deps.log.exception("stream_failed", request_id=answer.report.request_id)
        return await answer.fail(
            TurnpikeError(Reason.INTERNAL, "Something went wrong inside Turnpike.")
        )
    finally:
        await close_stream(call)


def ended_by(running: Running) -> TurnpikeError:
    """Return why a request was ended from outside; one whose client left stays cancelled.

    Raises:
        CancelledError: Its client left.
    """
    error, task = running.ended_by, asyncio.current_task()
    if error is None or task is None:
        raise asyncio.CancelledError
    task.uncancel()
    return error


async def _ended(running: Running, answer: StreamAnswer) -> web.StreamResponse:
    """Finish a stream that was ended from outside."""
    error = ended_by(running)
    if error.reason is Reason.CLIENT_CLOSED_REQUEST:
        if answer.request.transport is not None:
            answer.request.transport.abort()
        answer.report.error = error
        raise asyncio.CancelledError
    return await answer.fail(error)
