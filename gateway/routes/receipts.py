"""`GET /v1/receipts/{request_id}`: the proof of what one request was charged."""

from collections.abc import Sequence

import grpc
import msgspec
from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.schema import encode
from gateway.serve import JSON_TYPE
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc
from kit.sheet import SHEET_TYPE, sheet, wants_sheet
from turnpike.payment.v1 import receipts_pb2

REQUEST_ID_CHARS_MAX = 100


async def get_receipt(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return the receipts of a request of the caller's own account; 404 for any other.

    They are passed on as payment gives them, in the form of docs/receipts.md; as a table they are
    without what proves them.
    """
    exchange.route = "GET /v1/receipts/{request_id}"
    caller = await deps.admission.identify(request.headers, exchange.dialect, "usage")
    exchange.caller, exchange.key_id = caller, caller.principal.key_id
    name = request.path.partition("/receipts/")[2]
    request_id = name.removesuffix(".csv")
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
    is_sheet = wants_sheet(request.headers, name)
    headers = {"Content-Type": SHEET_TYPE if is_sheet else JSON_TYPE, "X-Request-Id": deps.new_id()}
    if is_sheet:
        return web.Response(body=_sheet(found.receipts), headers=headers)
    body = {
        "object": "receipt",
        "request_id": request_id,
        "receipts": [msgspec.Raw(each.encode()) for each in found.receipts],
        "roots": [msgspec.Raw(each.encode()) for each in found.roots],
    }
    return web.Response(body=encode(body), headers=headers)


def _sheet(receipts: Sequence[str]) -> bytes:
    """Return receipts as a table, a row for each."""
    rows = [msgspec.json.decode(each) for each in receipts]
    columns = [*rows[0]["receipt"], "hash"]
    cells = ([*row["receipt"].values(), row["hash"]] for row in rows)
    return "".join(sheet(columns, cells)).encode()
