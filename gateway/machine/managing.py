"""Credentials that ask for no content: vouchers, top-ups and closes; they never reach a model.

A body decides: with one a request wants content, without one its credential is all there is.
"""

from typing import Final

from aiohttp import web

from gateway.bodies import has_body
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.machine.rail import Offer
from gateway.spending import PRIVATE, RECEIPT_HEADER
from kit.errors import Reason, TurnpikeError

ROUTE: Final = "payment credential"
"""What these are called in metrics and access lines, whichever method and path they came by."""


async def manage_unless_content(
    deps: Deps, request: web.BaseRequest, exchange: Exchange, offer: Offer
) -> web.Response | None:
    """Take a credential that comes without a body; None for what wants content.

    Raises:
        TurnpikeError: As `MachineRail.manage`, or `REQUEST_TIMEOUT` when a body does not come.
    """
    if not offer.sent.credential or await has_body(request, deps.settings.body_timeout_s):
        return None
    return await managed(deps, exchange, offer)


async def managed(deps: Deps, exchange: Exchange, offer: Offer) -> web.Response:
    """Take a credential and answer with its receipt.

    Raises:
        TurnpikeError: As `MachineRail.manage`.
    """
    exchange.route = ROUTE
    receipt = await offer.rail.manage(offer.sent.credential)
    exchange.report.request_id = deps.new_id()
    headers = {RECEIPT_HEADER: receipt, "X-Request-Id": exchange.report.request_id, **PRIVATE}
    return web.Response(status=204, headers=headers)


async def refuse_body(deps: Deps, request: web.BaseRequest) -> None:
    """Refuse a body where a method must have none.

    Raises:
        TurnpikeError: `BAD_REQUEST`.
    """
    if await has_body(request, deps.settings.body_timeout_s):
        raise TurnpikeError(
            Reason.BAD_REQUEST, f"A payment credential that comes by {request.method} has no body."
        )
