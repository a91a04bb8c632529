"""`POST /v1/route:explain`: which route a chat completion would take, why, at what price."""

from typing import Final

import grpc
from aiohttp import web

from gateway.admission import Ticket, router_request
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.inquiry import inquire
from gateway.openai.chat import ChatApi
from gateway.openai.explanation import explanation
from gateway.openai.schema import encode
from gateway.serve import JSON_TYPE
from kit.rpc.status import error_from_rpc
from turnpike.router.v1 import router_pb2


class _ExplainApi(ChatApi):
    route = "POST /v1/route:explain"


EXPLAIN: Final = _ExplainApi()


async def explain_route(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Answer with the choice that the same body would get at chat completions.

    It counts as one request in the key's rate and costs nothing.
    """
    ticket = await inquire(deps, request, exchange, EXPLAIN)
    found = await explained(deps, ticket)
    headers = {
        **deps.admission.rate_headers(ticket.caller),
        "Content-Type": JSON_TYPE,
        "X-Request-Id": exchange.report.request_id,
        "X-Route-Model": ticket.call.model,
    }
    body = encode(explanation(found, ticket.model.model_id, ticket.call.routing))
    return web.Response(body=body, headers=headers)


async def explained(deps: Deps, ticket: Ticket) -> router_pb2.ExplainRouteResponse:
    """Return the choice that an admitted request would get.

    Raises:
        TurnpikeError: The router's refusal.
    """
    asked = router_request(ticket, "")
    try:
        return await deps.router.ExplainRoute(
            router_pb2.ExplainRouteRequest(envelope=asked.envelope, body=asked.body),
            timeout=deps.settings.rpc_timeout_s,
        )
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
