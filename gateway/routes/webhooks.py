"""`POST /webhooks/stripe`: the body goes on as it came; payment alone looks into it."""

import asyncio
from typing import Final

import grpc
from aiohttp import web

from gateway.bodies import not_encoded, too_large, too_late
from gateway.deps import Deps
from gateway.exchange import Exchange
from kit.rpc.status import error_from_rpc
from turnpike.payment.v1 import billing_pb2 as pb

_BODY_BYTES_MAX: Final = 64 * 1024
_SIGNATURE: Final = "Stripe-Signature"


async def take_stripe_webhook(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.Response:
    """Answer 200 once the event is booked, or is of no matter here; Stripe repeats all others."""
    exchange.route = "POST /webhooks/stripe"
    asked = pb.TakeWebhookRequest(
        body=await _read(deps, request), signature=request.headers.get(_SIGNATURE, "")
    )
    try:
        await deps.billing.TakeWebhook(asked, timeout=deps.settings.billing_timeout_s)
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    return web.json_response({"received": True}, headers={"X-Request-Id": deps.new_id()})


async def _read(deps: Deps, request: web.BaseRequest) -> bytes:
    if (request.content_length or 0) > _BODY_BYTES_MAX:
        raise too_large(_BODY_BYTES_MAX)
    body = bytearray()
    try:
        async with asyncio.timeout(deps.settings.body_timeout_s):
            while piece := await request.content.readany():
                body += piece
                if len(body) > _BODY_BYTES_MAX:
                    raise too_large(_BODY_BYTES_MAX)
    except TimeoutError as error:
        raise too_late() from error
    except web.RequestPayloadError as error:
        raise not_encoded() from error
    return bytes(body)
