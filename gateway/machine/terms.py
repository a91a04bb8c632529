"""What a request is sold for by the machine rail: its whole price, and its slices."""

from functools import partial
from typing import Final

from gateway.admission import Ticket
from gateway.call import Bounds
from gateway.exchange import Exchange
from gateway.machine.settings import MachinePaymentSettings
from gateway.models import KnownModel, Models
from gateway.openai.constraints import CONSTRAINTS
from gateway.spending import Tariff
from turnpike.payment.v1 import machine_pb2
from turnpike.router.v1 import router_pb2

_TOKEN_STREAMS: Final = (router_pb2.OPERATION_UNSPECIFIED, router_pb2.OPERATION_COMPLETION)


def terms_of(
    ticket: Ticket, tariff: Tariff, exchange: Exchange, settings: MachinePaymentSettings
) -> machine_pb2.Terms:
    """Return what a challenge binds and a credential is checked against.

    What is no stream of tokens is one slice, and so is an answer that is held to a form: it is
    paid for once it is valid.
    """
    hold_nusd = max(1, ticket.hold_nusd)
    slice_nusd = hold_nusd
    call = ticket.call
    if (
        call.is_streaming
        and call.operation in _TOKEN_STREAMS
        and CONSTRAINTS.isdisjoint(call.fields)
    ):
        slice_nusd = max(1, min(hold_nusd, tariff(settings.slice_tokens)))
    return machine_pb2.Terms(
        realm=settings.realm,
        resource=f"{exchange.api.route} {ticket.model.model_id}",
        hold_nusd=hold_nusd,
        slice_nusd=slice_nusd,
    )


def tariff_of(ticket: Ticket, models: Models) -> Tariff:
    """Return what so much output costs at most, at whichever of the request's models."""
    sold = [(ticket.model, ticket.bounds)]
    for other in ticket.fallbacks:
        model = models.find(other.model_id, ticket.caller.verdict).model
        limit = Bounds(other.max_tokens, other.prompt_tokens_max, other.completion_tokens_max)
        sold.append((model, limit))
    return partial(_cost_nusd, sold, ticket.call.routing)


def _cost_nusd(
    sold: list[tuple[KnownModel, Bounds]], routing: router_pb2.Routing | None, tokens: int
) -> int:
    return max(
        model.worst_case_nusd(
            limit._replace(completion_tokens_max=min(tokens, limit.completion_tokens_max)), routing
        )
        for model, limit in sold
    )
