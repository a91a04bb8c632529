"""`GET /v1/balance` and `GET /v1/usage`: what a caller's own account has, and what it used."""

from typing import Final

from aiohttp import web

from gateway.account.asked import UsageQuery, usage_query
from gateway.account.shapes import balance_object, usage_object
from gateway.account.sums import Sums
from gateway.asking import answered, asking, check_key
from gateway.deps import Deps
from gateway.exchange import Exchange
from kit.errors import Reason, TurnpikeError
from turnpike.metering.v1 import metering_pb2
from turnpike.payment.v1 import caps_pb2, payment_pb2

_CAPS_MAX: Final = 1_000
_SUMS_PAGE: Final = 10_000
_SUMS_PAGES_MAX: Final = 20
"""Pages of hourly sums that one question may add up."""


async def get_balance(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Answer with the account's balance, and the caps of the account and of the key."""
    exchange.route = "GET /v1/balance"
    limit_s = deps.settings.rpc_timeout_s
    async with asking(deps, request, exchange, "usage") as asker:
        account_id = asker.principal.account_id
        balance = await deps.payment.GetBalance(
            payment_pb2.GetBalanceRequest(account_id=account_id), timeout=limit_s
        )
        caps = await deps.caps.ListCaps(
            caps_pb2.ListCapsRequest(
                account_id=account_id, key_id=asker.own_key_id, page_size=_CAPS_MAX
            ),
            timeout=limit_s,
        )
    has_more = bool(caps.next_page_token)
    shown = balance_object(balance.balance, list(caps.caps), has_more_caps=has_more)
    return answered(deps, exchange, shown)


async def get_usage(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.StreamResponse:
    """Answer with a page of requests, newest first, or with sums by day, model and key."""
    exchange.route = "GET /v1/usage"
    async with asking(deps, request, exchange, "usage") as asker:
        query = usage_query(request.query)
        query = query._replace(key_id=check_key(asker, query.key_id))
        account_id = asker.principal.account_id
        if query.groups:
            data = await _sums(deps, account_id, query)
            return answered(deps, exchange, {"object": "list", "data": data})
        found = await deps.metering.ListUsage(
            metering_pb2.ListUsageRequest(
                account_id=account_id,
                key_id=query.key_id,
                model_id=query.model_id,
                episode_id=query.episode_id,
                start_time=query.start_time,
                end_time=query.end_time,
                page_size=query.page_size,
                page_token=query.page_token,
            ),
            timeout=deps.settings.rpc_timeout_s,
        )
    page = {
        "object": "list",
        "data": [usage_object(record) for record in found.records],
        "has_more": bool(found.next_page_token),
        "next_page": found.next_page_token or None,
    }
    return answered(deps, exchange, page)


async def _sums(deps: Deps, account_id: str, query: UsageQuery) -> list[dict[str, object]]:
    sums, token = Sums(query.groups), ""
    for _ in range(_SUMS_PAGES_MAX):
        found = await deps.metering.SummarizeUsage(
            metering_pb2.SummarizeUsageRequest(
                account_id=account_id,
                key_id=query.key_id,
                model_id=query.model_id,
                start_time=query.start_time,
                end_time=query.end_time,
                page_size=_SUMS_PAGE,
                page_token=token,
            ),
            timeout=deps.settings.rpc_timeout_s,
        )
        sums.add(found.summaries)
        token = found.next_page_token
        if not token:
            return sums.shown()
    raise TurnpikeError(
        Reason.INVALID_VALUE,
        "That is too much to add up at once; ask for a shorter time.",
        param="start_time",
    )
