"""`POST /v1/quotes`: what a request costs at most, and for how long that holds."""

import grpc
import msgspec
from aiohttp import web

from gateway.call import ModelCall
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.inquiry import inquire
from gateway.openai.quotes import QuoteApi, quoted
from gateway.openai.schema import encode
from gateway.quotes import most_nusd
from gateway.serve import JSON_TYPE
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc
from turnpike.payment.v1 import receipts_pb2


async def create_quote(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Answer with the dearest prices of a model, signed; it counts as one request of the key."""
    api = QuoteApi()

    def as_served(call: ModelCall) -> ModelCall:
        """Let bounds alone stand for whatever the model serves."""
        if api.bounds is None or exchange.caller is None:
            return call
        model = deps.models.find(call.model, exchange.caller.verdict).model
        return msgspec.structs.replace(call, operation=model.operations[0])

    ticket = await inquire(deps, request, exchange, api, changed=as_served)
    limit, units = ticket.bounds, ticket.call.unit_count_max
    if api.bounds is not None:
        limit, units = api.bounds, api.unit_count_max
        if (longest := max(limit)) > ticket.model.context_length > 0 and not units:
            param = "prompt_tokens_max" if limit.prompt_tokens_max == longest else _COMPLETION
            raise TurnpikeError(
                Reason.INVALID_VALUE,
                f"{param} is {longest}; the model takes {ticket.model.context_length}.",
                param=param,
            )
    price = ticket.model.message.ceiling_price
    try:
        answer = await deps.receipts.SignQuote(
            receipts_pb2.SignQuoteRequest(
                account_id=ticket.caller.principal.account_id,
                model_id=ticket.model.model_id,
                price=price,
            ),
            timeout=deps.settings.rpc_timeout_s,
        )
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    fields = quoted(
        price,
        quote_id=answer.quote_id,
        expires_at=answer.expire_time.seconds,
        most_nusd=most_nusd(price, limit, units),
    )
    headers = {
        **deps.admission.rate_headers(ticket.caller),
        "Content-Type": JSON_TYPE,
        "X-Request-Id": exchange.report.request_id,
    }
    return web.Response(body=encode({**fields, "model": ticket.model.model_id}), headers=headers)


_COMPLETION = "completion_tokens_max"
