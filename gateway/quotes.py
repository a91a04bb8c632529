"""Quotes at admission: a request that shows one is held at, and charged by, its prices.

Only a request that brings the header comes here; it costs one call to payment.
"""

from typing import Final

import grpc

from gateway.admission import Ticket
from gateway.call import Bounds
from gateway.deps import Deps
from kit.errors import Reason, TurnpikeError
from kit.money import round_up_nusd
from kit.rpc.status import error_from_rpc
from turnpike.payment.v1 import receipts_pb2
from turnpike.type.v1 import usage_pb2

QUOTE_HEADER: Final = "X-Quote-Id"
_QUOTE_CHARS_MAX: Final = 2_048


async def hold_price(deps: Deps, ticket: Ticket, quote_id: str) -> None:
    """Give a ticket that is not drawn yet the prices of a quote, and the hold that covers them.

    Raises:
        TurnpikeError: `INVALID_VALUE` naming the header: it is no quote, another account's or
            model's, or over; UNAVAILABLE.
    """
    if ticket.fallbacks or ticket.call.fallback_models:
        raise _refused("holds the prices of one model; the request names several")
    if not quote_id.isascii() or not 0 < len(quote_id) <= _QUOTE_CHARS_MAX:
        raise _refused("is no quote of this service")
    try:
        found = await deps.receipts.ReadQuote(
            receipts_pb2.ReadQuoteRequest(
                account_id=ticket.caller.principal.account_id,
                model_id=ticket.model.model_id,
                quote_id=quote_id,
            ),
            timeout=deps.settings.rpc_timeout_s,
        )
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    ticket.price_cap = found.price
    ticket.hold_nusd = most_nusd(found.price, ticket.bounds, ticket.call.unit_count_max)


def most_nusd(price: usage_pb2.Price, limit: Bounds, unit_count_max: int) -> int:
    """Return the most that a request can cost by a price row, nano-USD."""
    return round_up_nusd(
        price.request_pusd
        + limit.prompt_tokens_max * price.input_pusd_per_token
        + limit.completion_tokens_max * price.output_pusd_per_token
        + unit_count_max * price.unit_pusd
    )


def _refused(why: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{QUOTE_HEADER} {why}.", param=QUOTE_HEADER)
