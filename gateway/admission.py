"""From credential and body to a Ticket: who calls, within which limits, paid by which hold.

Everything is drawn from caches and leases in memory; auth or payment is asked only for the first
use of a key, a new rate window or a new credit lease.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec
from multidict import MultiMapping

from gateway.call import Bounds, ModelCall, ReadRules
from gateway.credentials import check_form, credential
from gateway.leases import CreditLeases, Draw
from gateway.limit_headers import limit_headers, tightest
from gateway.machine.headers import sole_key
from gateway.models import KnownModel, Models
from gateway.openai.answer import wants_null_usage
from gateway.openai.dialect import DIALECTS, Dialect
from gateway.openai.envelope import bounds
from gateway.openai.media import media_bounds
from gateway.openai.schema import encode
from gateway.openai.texts import text_bounds
from gateway.principal import Principal
from gateway.rates import RateDraw, Rates
from gateway.settings import GatewaySettings
from gateway.slots import SlotDraw, Slots
from gateway.spending import Spending
from gateway.verdicts import Verdict, Verdicts
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.ids import Uuid7Source
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2


class Caller(NamedTuple):
    """A verified caller and the dialect that is spoken with it."""

    principal: Principal
    verdict: Verdict
    dialect: Dialect


class Ticket(msgspec.Struct, eq=False):
    """The right to run one request, once it is drawn; it is settled exactly once.

    `spending` is there where the request pays for itself; what a key has is held whole in `credit`.
    """

    caller: Caller
    call: ModelCall
    model: KnownModel
    bounds: Bounds
    hold_nusd: int
    deployments: tuple[str, ...] = ()
    adapter: str = ""
    fallbacks: tuple[router_pb2.FallbackModel, ...] = ()
    rate: RateDraw | None = None
    credit: Draw | None = None
    slot: SlotDraw | None = None
    spending: Spending | None = None
    price_cap: usage_pb2.Price | None = None


class Shares(NamedTuple):
    """What is drawn from in memory: shares of rate windows, of slots and of credit."""

    rates: Rates
    slots: Slots
    leases: CreditLeases


class Admission:
    """Lets requests in and settles what they used."""

    def __init__(
        self,
        *,
        settings: GatewaySettings,
        verdicts: Verdicts,
        models: Models,
        shares: Shares,
        clock: Clock,
    ) -> None:
        ids = Uuid7Source()
        self._settings = settings
        self._timeout_max_ms = settings.timeout_max_ms
        self._unix_ms = clock.unix_ms
        self._new_id: Callable[[], str] = lambda: ids.new(clock.unix_ms())
        self._key = sole_key if settings.machine_payments.is_enabled else credential
        self._verdicts = verdicts
        self._models = models
        self._rates, self._slots, self._leases = shares

    def known(self, headers: MultiMapping[str], dialect: Dialect, scope: str) -> Caller | None:
        """Return the caller, None when auth has to be asked.

        Raises:
            NoKeyError: There is no key.
            TurnpikeError: 400, 401 or 403 as the credential deserves.
        """
        verdict = self._verdicts.cached(self._key(headers))
        return None if verdict is None else _caller(verdict, dialect, scope)

    async def identify(self, headers: MultiMapping[str], dialect: Dialect, scope: str) -> Caller:
        """Return the caller, asking auth when need be.

        Raises:
            NoKeyError: There is no key.
            TurnpikeError: 400, 401, 403 or 503 as the credential deserves.
        """
        key = self._key(headers)
        verdict = self._verdicts.cached(key)
        if verdict is None:
            check_form(key, self._settings)
            verdict = await self._verdicts.verify(key)
        return _caller(verdict, dialect, scope)

    def rules(self, caller: Caller, headers: Mapping[str, str]) -> ReadRules:
        """Return how the caller's requests are read."""
        return ReadRules(
            caller.dialect,
            self._timeout_max_ms,
            self._unix_ms,
            self._new_id,
            caller.verdict.scopes,
            caller.principal.is_strict,
            headers.get("X-Episode-Id", ""),
            self._models.presets,
            caller.principal.routing_strategy,
            caller.principal.is_external_allowed,
        )

    def order(self, caller: Caller, call: ModelCall) -> Ticket:
        """Say what a checked request needs; nothing is drawn yet.

        Raises:
            TurnpikeError: The refusal.
        """
        if call.fallback_models:
            return _with_fallbacks(partial(self.order, caller), call)
        if not self._models.is_loaded:
            raise TurnpikeError(
                Reason.NO_PROVIDERS_AVAILABLE, "The catalogue is not there yet.", retry_after_s="1"
            )
        model, deployments, adapter = self._models.find(call.model, caller.verdict)
        if call.operation not in model.operations:
            raise model.not_served(call.operation)
        if call.unit_count_max:
            limit = media_bounds(call, model)
        else:
            limit = text_bounds(call, model) if call.prompts else bounds(call, model)
        hold_nusd = model.worst_case_nusd(limit, call.routing, unit_count_max=call.unit_count_max)
        return Ticket(caller, call, model, limit, hold_nusd, deployments, adapter)

    def try_draw(self, ticket: Ticket) -> bool:
        """Draw what a ticket needs from what is held; False when somebody has to be asked."""
        principal = ticket.caller.principal
        if principal.concurrent_requests:
            ticket.slot = self._slots.try_draw(principal)
            if ticket.slot is None:
                return False
        if principal.requests_per_minute or principal.tokens_per_minute:
            ticket.rate = self._rates.try_draw(principal, _tokens(ticket))
            if ticket.rate is None:
                return False
        if ticket.hold_nusd:
            episode_id = ticket.call.episode_id
            ticket.credit = self._leases.try_draw(principal, ticket.hold_nusd, episode_id)
            return ticket.credit is not None
        return True

    async def draw(self, ticket: Ticket) -> None:
        """Draw what `try_draw` did not find.

        Raises:
            TurnpikeError: The refusal; nothing stays drawn then.
        """
        try:
            await self._draw_missing(ticket, ticket.caller.principal)
        except BaseException:
            if ticket.rate is not None:
                self._rates.settle(ticket.rate, 0)
            if ticket.slot is not None:
                self._slots.settle(ticket.slot)
            raise

    async def _draw_missing(self, ticket: Ticket, principal: Principal) -> None:
        # The slot comes first: it is the one that can be put back whole.
        if ticket.slot is None and principal.concurrent_requests:
            ticket.slot = await self._slots.draw(principal)
        if ticket.rate is None and (principal.requests_per_minute or principal.tokens_per_minute):
            ticket.rate = await self._rates.draw(principal, _tokens(ticket))
        if ticket.credit is None and ticket.hold_nusd:
            episode_id = ticket.call.episode_id
            ticket.credit = await self._leases.draw(principal, ticket.hold_nusd, episode_id)

    async def hold_episodes_singly(self, account_id: str) -> None:
        """Draw for the account's episodes singly from now on; payment may not have said so yet."""
        if not self._leases.holds_episodes_singly(account_id):
            await self._leases.recall(account_id, holds_episodes_singly=True)

    def settle(
        self, ticket: Ticket, usage: usage_pb2.TokenUsage | None, charge_nusd: int | None
    ) -> None:
        """Give back what was not used; `charge_nusd` None means that only payment will know."""
        if ticket.slot is not None:
            self._slots.settle(ticket.slot)
        if ticket.credit is not None:
            charged = ticket.hold_nusd if charge_nusd is None else charge_nusd
            self._leases.settle(ticket.credit, charged)
        if ticket.rate is not None and usage is not None:
            used = usage.prompt_token_count + usage.completion_token_count
            self._rates.settle(ticket.rate, used)

    def rate_headers(self, caller: Caller) -> dict[str, str]:
        """Return the X-RateLimit headers; without a limit only that of the tier."""
        principal = caller.principal
        reading = self._rates.reading(principal)
        if principal.concurrent_requests:
            reading = tightest(reading, self._slots.reading(principal))
        headers = {} if reading is None else limit_headers(reading)
        headers["X-RateLimit-Tier"] = principal.tier
        return headers


def _caller(verdict: Verdict, dialect: Dialect, scope: str) -> Caller:
    if scope not in verdict.scopes:
        raise TurnpikeError(Reason.KEY_SCOPE, f"The key lacks the scope {scope}.")
    principal = verdict.principal
    return Caller(principal, verdict, DIALECTS.get(principal.dialect) or dialect)


def _tokens(ticket: Ticket) -> int:
    """Return the most tokens that a request may use, of any of its models."""
    limit = ticket.bounds
    tokens = limit.prompt_tokens_max + limit.completion_tokens_max
    for other in ticket.fallbacks:
        tokens = max(tokens, other.prompt_tokens_max + other.completion_tokens_max)
    return tokens


def _with_fallbacks(order: Callable[[ModelCall], Ticket], call: ModelCall) -> Ticket:
    """Return one ticket for several models: the dearest of them decides what is held.

    A model whose context the prompt fills is passed over; the first that is left leads.
    """
    tickets: list[Ticket] = []
    refusals: list[TurnpikeError] = []
    for place, name in enumerate((call.model, *call.fallback_models)):
        try:
            tickets.append(order(msgspec.structs.replace(call, model=name, fallback_models=())))
        except TurnpikeError as error:
            if error.reason is not Reason.CONTEXT_LENGTH_EXCEEDED:
                if place:
                    error.metadata["param"] = f"models[{place - 1}]"
                raise
            refusals.append(error)
    if not tickets:
        raise refusals[0]
    lead, *others = tickets
    lead.call = call
    lead.hold_nusd = max(ticket.hold_nusd for ticket in tickets)
    lead.fallbacks = tuple(map(_fallback, others))
    return lead


def _fallback(ticket: Ticket) -> router_pb2.FallbackModel:
    limit = ticket.bounds
    return router_pb2.FallbackModel(
        model_id=ticket.model.model_id,
        max_tokens=limit.max_tokens,
        prompt_tokens_max=limit.prompt_tokens_max,
        completion_tokens_max=limit.completion_tokens_max,
        deployments=ticket.deployments,
        adapter=ticket.adapter,
    )


def router_request(ticket: Ticket, traceparent: str) -> router_pb2.RunRequest:
    """Return what the router is asked to do; the body is encoded anew, key by key."""
    call, principal, dialect = ticket.call, ticket.caller.principal, ticket.caller.dialect
    limit = ticket.bounds
    envelope = router_pb2.Envelope(
        account_id=principal.account_id,
        key_id=principal.key_id,
        model_id=ticket.model.model_id,
        is_streaming=call.is_streaming,
        max_tokens=limit.max_tokens,
        lease_id=ticket.credit.lease.lease_id if ticket.credit else "",
        hold_nusd=ticket.hold_nusd,
        timeout_ms=call.timeout_ms,
        id_prefix=dialect.id_prefix,
        has_null_usage=call.is_streaming
        and wants_null_usage(dialect, include_usage=call.include_usage),
        prompt_tokens_max=limit.prompt_tokens_max,
        completion_tokens_max=limit.completion_tokens_max,
        traceparent=traceparent,
    )
    _add_rare(envelope, call, dialect)
    if ticket.spending is not None and ticket.spending.has_slices:
        envelope.is_sliced = True
    if ticket.deployments:
        envelope.routing.deployments.extend(ticket.deployments)
    if ticket.adapter:
        envelope.adapter = ticket.adapter
    if ticket.fallbacks:
        envelope.fallback_models.extend(ticket.fallbacks)
    if ticket.price_cap is not None:
        envelope.price_cap.CopyFrom(ticket.price_cap)
    return router_pb2.RunRequest(envelope=envelope, body=call.form or encode(call.fields))


def _add_rare(envelope: router_pb2.Envelope, call: ModelCall, dialect: Dialect) -> None:
    """Fill in what most requests do not have, at no cost to them."""
    if call.operation:
        envelope.operation = call.operation
        if call.operation == router_pb2.OPERATION_COMPLETION:
            envelope.id_prefix = dialect.text_id_prefix
    if call.features:
        envelope.features.extend(call.features)
    if call.unknown_fields:
        envelope.unknown_fields.extend(call.unknown_fields)
    if call.routing is not None:
        envelope.routing.CopyFrom(call.routing)
    if call.answer_defaults:
        envelope.answer_defaults = call.answer_defaults
    if call.episode_id:
        envelope.episode_id = call.episode_id
    if call.unit_count_max:
        envelope.unit_count_max = call.unit_count_max
        envelope.content_type = call.content_type
