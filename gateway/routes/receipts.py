"""`GET /v1/receipts/{request_id}`: the proof of what one request was charged."""

import grpc
import msgspec
from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.schema import encode
from gateway.serve import JSON_TYPE
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc
from turnpike.payment.v1 import receipts_pb2

REQUEST_ID_CHARS_MAX = 100


async def get_receipt(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return the receipts of a request of the caller's own account; 404 for any other.

    They are passed on as payment gives them, in the form of docs/receipts.md.
    """
    exchange.route = "GET /v1/receipts/{request_id}"
    caller = await deps.admission.identify(request.headers, exchange.dialect, "usage")
    exchange.caller, exchange.key_id = caller, caller.principal.key_id
    request_id = request.path.partition("/receipts/")[2]
    if len(request_id) > REQUEST_ID_CHARS_MAX or not request_id.isascii():
        raise TurnpikeError(Reason.NOT_FOUND, "There is no receipt of this request.")
    try:
        found = await deps.receipts.GetReceipt(
            receipts_pb2.GetReceiptRequest(
                account_id=caller.principal.account_id, request_id=request_id
            ),
            timeout=deps.settings.rpc_timeout_s,
        )
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    body = {
        "object": "receipt",
        "request_id": request_id,
        "receipts": [msgspec.Raw(each.encode()) for each in found.receipts],
        "roots": [msgspec.Raw(each.encode()) for each in found.roots],
    }
    return web.Response(
        body=encode(body), headers={"Content-Type": JSON_TYPE, "X-Request-Id": deps.new_id()}
    )
