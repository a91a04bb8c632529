"""`GET` and `HEAD` where content is bought by `POST`: another way to bring a payment credential."""

import asyncio

from aiohttp import web

from gateway.credentials import NoKeyError
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.machine.managing import ROUTE, managed, refuse_body
from gateway.machine.rail import Offer
from gateway.serve import ended_by
from kit.errors import Reason, TurnpikeError


async def manage_payment(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Take a voucher, a top-up or a close; anything else must be posted."""
    exchange.route = ROUTE
    offer = _offer(deps, request, exchange)
    if offer is None:
        raise TurnpikeError(
            Reason.METHOD_NOT_ALLOWED, f"{request.method} is not allowed; use POST.", allow="POST"
        )
    await refuse_body(deps, request)
    running = deps.running.enter("")
    try:
        return await managed(deps, exchange, offer)
    except asyncio.CancelledError:
        raise ended_by(running) from None
    finally:
        deps.running.leave(running)


def _offer(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> Offer | None:
    """Return the credential that a request brings; None when it brings none."""
    nothing = NoKeyError("No payment credential was sent.")
    if deps.rail is None:
        return None
    try:
        offer = deps.rail.offer(request.headers, exchange.dialect, nothing)
    except NoKeyError:
        return None
    return offer if offer.sent.credential else None
