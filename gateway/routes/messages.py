"""`POST /v1/messages` and `POST /v1/messages/count_tokens`, Anthropic's API."""

import asyncio
from collections.abc import Awaitable

import msgspec
from aiohttp import web

from gateway.admission import Ticket
from gateway.anthropic.api import MessagesApi
from gateway.call import Bounds
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.schema import encode
from gateway.serve import JSON_TYPE, ended_by, read_json, serve
from gateway.stream import ignored_header

_NOTHING = Bounds(max_tokens=0, prompt_tokens_max=0, completion_tokens_max=0)


def create_message(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> Awaitable[web.StreamResponse]:
    """Answer one message, streamed or whole."""
    return serve(deps, request, exchange, MessagesApi(_betas(request)))


async def count_message_tokens(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Say how many input tokens a message would have, as far as its size tells.

    It counts as one request in the key's rate and costs nothing.
    """
    api = MessagesApi(_betas(request), is_counting=True)
    exchange.route, exchange.api = api.route, api
    admission = deps.admission
    caller = await admission.identify(request.headers, exchange.dialect, "chat")
    exchange.caller, exchange.dialect = caller, caller.dialect
    exchange.key_id = caller.principal.key_id
    running = deps.running.enter(exchange.key_id)
    ticket: Ticket | None = None
    try:
        body = await read_json(deps, request, exchange)
        call = api.read(body, admission.rules(caller, request.headers))
        if exchange.long_body is not None:
            exchange.long_body.check(len(body), call.media)
        # A prompt that is too long for the model can be counted all the same.
        ticket = admission.order(caller, msgspec.structs.replace(call, prompt_bytes=0))
        ticket.bounds, ticket.hold_nusd = _NOTHING, 0
        if not admission.try_draw(ticket):
            await admission.draw(ticket)
    except asyncio.CancelledError:
        raise ended_by(running) from None
    finally:
        deps.running.leave(running)
        if exchange.long_body is not None:
            exchange.long_body.close()
    admission.settle(ticket, None, 0)
    exchange.model_id = ticket.model.model_id
    exchange.report.request_id = deps.new_id()
    headers = {
        **admission.rate_headers(caller),
        "Content-Type": JSON_TYPE,
        "X-Request-Id": exchange.report.request_id,
        "X-Turnpike-Estimated": "true",
    }
    if call.ignored:
        headers |= ignored_header(call.ignored)
    return web.Response(body=encode({"input_tokens": api.prompt_tokens}), headers=headers)


def _betas(request: web.BaseRequest) -> list[str]:
    return request.headers.getall("anthropic-beta", [])
