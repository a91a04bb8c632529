"""`/v1/billing`: top-ups, recharges, where the account stands, and its invoices."""

from collections.abc import Awaitable
from typing import Final, TypeVar

import grpc
from aiohttp import web

from gateway.billing import (
    as_asked,
    billing_object,
    invoice_csv,
    invoice_object,
    read_checkout,
    read_recharge,
)
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.schema import encode
from gateway.serve import JSON_TYPE, read_json
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc
from kit.sheet import SHEET_TYPE, wants_sheet
from turnpike.payment.v1 import billing_pb2 as pb

_READ: Final = "usage"
_CHANGE: Final = "billing"
_KEY_CHARS_MAX: Final = 200
_T = TypeVar("_T")


async def create_checkout(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Answer with a page of Stripe's on which a top-up is paid."""
    exchange.route = "POST /v1/billing/checkout"
    account_id = await _account(deps, request, exchange, _CHANGE)
    asked = read_checkout(await read_json(deps, request))
    asked.account_id, asked.request_id = account_id, _request_id(deps, request)
    found = await _asked(
        deps.billing.CreateCheckout(asked, timeout=deps.settings.billing_timeout_s)
    )
    answer = {"object": "billing.checkout", "id": found.session_id, "url": found.url}
    return _json(deps, answer)


async def get_billing(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Answer with how the account pays and where it stands."""
    exchange.route = "GET /v1/billing"
    account_id = await _account(deps, request, exchange, _READ)
    asked = pb.GetBillingRequest(account_id=account_id)
    found = await _asked(deps.billing.GetBilling(asked, timeout=deps.settings.rpc_timeout_s))
    return _json(deps, billing_object(found.billing))


async def set_auto_recharge(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.Response:
    """Set or end the recharge from the saved card, and answer with what holds now."""
    exchange.route = "POST /v1/billing/auto-recharge"
    account_id = await _account(deps, request, exchange, _CHANGE)
    asked = read_recharge(await read_json(deps, request))
    asked.account_id = account_id
    found = await _asked(deps.billing.SetAutoRecharge(asked, timeout=deps.settings.rpc_timeout_s))
    return _json(deps, billing_object(found.billing))


async def list_invoices(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """List the account's months, newest first."""
    exchange.route = "GET /v1/billing/invoices"
    account_id = await _account(deps, request, exchange, _READ)
    asked = pb.ListInvoicesRequest(account_id=account_id)
    found = await _asked(deps.billing.ListInvoices(asked, timeout=deps.settings.rpc_timeout_s))
    data = [invoice_object(invoice, has_lines=False) for invoice in found.invoices]
    return _json(deps, {"object": "list", "data": data})


async def get_invoice(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Answer with one month, as JSON or as a table."""
    exchange.route = "GET /v1/billing/invoices/{id}"
    account_id = await _account(deps, request, exchange, _READ)
    name = request.path.partition("/billing/invoices/")[2].removesuffix("/")
    asked = pb.GetInvoiceRequest(account_id=account_id, period=name.removesuffix(".csv"))
    found = await _asked(deps.billing.GetInvoice(asked, timeout=deps.settings.rpc_timeout_s))
    if wants_sheet(request.headers, name):
        headers = {"Content-Type": SHEET_TYPE, "X-Request-Id": deps.new_id()}
        return web.Response(body=invoice_csv(found.invoice), headers=headers)
    return _json(deps, invoice_object(found.invoice, has_lines=True))


async def _account(deps: Deps, request: web.BaseRequest, exchange: Exchange, scope: str) -> str:
    caller = await deps.admission.identify(request.headers, exchange.dialect, scope)
    exchange.caller, exchange.dialect = caller, caller.dialect
    exchange.key_id = caller.principal.key_id
    return caller.principal.account_id


async def _asked(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except grpc.RpcError as error:
        raise as_asked(error_from_rpc(error)) from error


def _request_id(deps: Deps, request: web.BaseRequest) -> str:
    """Return what makes a repeat harmless: the client's own key, or a new one."""
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > _KEY_CHARS_MAX or not key.isprintable():
        raise TurnpikeError(
            Reason.INVALID_VALUE,
            f"Idempotency-Key must be printable and at most {_KEY_CHARS_MAX} characters long.",
            param="Idempotency-Key",
        )
    return key or deps.new_id()


def _json(deps: Deps, value: object) -> web.Response:
    headers = {"Content-Type": JSON_TYPE, "X-Request-Id": deps.new_id()}
    return web.Response(body=encode(value), headers=headers)
