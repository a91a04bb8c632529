"""Requests that ask about a request instead of running it: the same reading, nothing is charged."""

import asyncio
from collections.abc import Callable

from gateway.admission import Ticket
from gateway.call import Api, Bounds, ModelCall
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.serve import Arrival, ReadBody, ended_by, read_json

_NOTHING = Bounds(max_tokens=0, prompt_tokens_max=0, completion_tokens_max=0)


def _as_read(call: ModelCall) -> ModelCall:
    return call


async def inquire(
    deps: Deps,
    request: Arrival,
    exchange: Exchange,
    api: Api,
    *,
    read: ReadBody = read_json,
    changed: Callable[[ModelCall], ModelCall] = _as_read,
) -> Ticket:
    """Return the ticket that a request would get; it is settled and counts as one request.

    `read` reads the body; `changed` is called with what was read, before its needs are worked out.

    Raises:
        TurnpikeError: The refusal that the request itself would get.
    """
    exchange.route, exchange.api = api.route, api
    admission = deps.admission
    caller = await admission.identify(request.headers, exchange.dialect, "chat")
    exchange.caller, exchange.dialect = caller, caller.dialect
    exchange.key_id = caller.principal.key_id
    running = deps.running.enter(exchange.key_id)
    try:
        body = await read(deps, request, exchange)
        call = api.read(body, admission.rules(caller, request.headers))
        if exchange.long_body is not None:
            exchange.long_body.check(len(body), call.media)
        ticket = admission.order(caller, changed(call))
        kept = ticket.bounds, ticket.hold_nusd, ticket.fallbacks
        ticket.bounds, ticket.hold_nusd, ticket.fallbacks = _NOTHING, 0, ()
        if not admission.try_draw(ticket):
            await admission.draw(ticket)
    except asyncio.CancelledError:
        raise ended_by(running) from None
    finally:
        deps.running.leave(running)
        if exchange.long_body is not None:
            exchange.long_body.close()
    admission.settle(ticket, None, 0)
    ticket.bounds, ticket.hold_nusd, ticket.fallbacks = kept
    exchange.model_id = ticket.model.model_id
    exchange.report.request_id = deps.new_id()
    return ticket
