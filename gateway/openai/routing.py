"""What a request wants of its route: strategy, price ceilings, and whom it sticks to; pure.

Ceilings are cents per million tokens; one cent per million is 10,000 pico-USD per token.
"""

from typing import Final, TypeAlias

import msgspec

from gateway.call import ReadRules
from gateway.openai.fields import ROUTING, TURNPIKE
from gateway.openai.figures import whole, wrong
from gateway.openai.provider_wishes import put_wishes
from gateway.openai.schema import RoutedRequest
from kit.errors import Reason, TurnpikeError
from kit.ids import uuid7_unix_ms
from turnpike.router.v1 import router_pb2

PUSD_PER_TOKEN_PER_CENT_PER_MILLION: Final = 10_000
CEILING_CENTS_MAX: Final = 10**9
EPISODE_AHEAD_MS_MAX: Final = 10_000
"""How far the clock of whoever made an episode's id may run ahead, milliseconds."""

_INPUT: Final = "max_input_price_per_million"
_OUTPUT: Final = "max_output_price_per_million"
_STRATEGIES: Final = {
    "cheapest": router_pb2.STRATEGY_CHEAPEST,
    "fastest": router_pb2.STRATEGY_FASTEST,
    "balanced": router_pb2.STRATEGY_BALANCED,
}


Wishes: TypeAlias = tuple[str, router_pb2.Routing | None, tuple[str, ...]]
"""The episode that a request names, or got; what it wants of its route, if anything; and what of
that is not honoured."""

_NO_WISHES: Final[Wishes] = ("", None, ())


def take_wishes(request: RoutedRequest, fields: dict[str, msgspec.Raw], rules: ReadRules) -> Wishes:
    """Return a request's wishes; Turnpike's own fields go out of `fields`.

    Raises:
        TurnpikeError: As `episode_of` and `routing_of`.
    """
    has_defaults = rules.routing_strategy or rules.is_external_allowed is not None
    if not (rules.episode_id or has_defaults) and ROUTING.isdisjoint(fields):
        fields.pop("timeout_ms", None)
        return (rules.new_id(), None, ()) if rules.dialect.has_empty_fields else _NO_WISHES
    episode_id = episode_of(request, rules)
    routing = routing_of(request, rules, episode_id)
    for name in TURNPIKE:
        fields.pop(name, None)
    if rules.dialect.has_empty_fields and not episode_id:
        episode_id = rules.new_id()
    return episode_id, routing, request.provider.ignored if request.provider else ()


def timeout_ms_of(request: RoutedRequest, most: int) -> int:
    """Return the time limit of a request, milliseconds: what it asked, else the most.

    Raises:
        TurnpikeError: `INVALID_VALUE`.
    """
    asked = request.timeout_ms
    return most if asked is None else whole("timeout_ms", asked, 1, most)


def routing_of(
    request: RoutedRequest, rules: ReadRules, episode_id: str
) -> router_pb2.Routing | None:
    """Return what the caller wants of a route; None when it wants nothing.

    Raises:
        TurnpikeError: `INVALID_VALUE`, or `PRICE_CEILING_INCOMPLETE` naming the ceiling that is
            missing.
    """
    wanted = router_pb2.Routing()
    wanted.strategy = _strategy_of(request) or _STRATEGIES.get(
        rules.routing_strategy, router_pb2.STRATEGY_UNSPECIFIED
    )
    is_allowed = request.allow_external
    if is_allowed is None:
        is_allowed = rules.is_external_allowed
    if is_allowed is not None:
        wanted.is_external_allowed = is_allowed
    low, high = request.max_input_price_per_million, request.max_output_price_per_million
    if (low is None) != (high is None):
        given, missing = (_INPUT, _OUTPUT) if high is None else (_OUTPUT, _INPUT)
        raise TurnpikeError(
            Reason.PRICE_CEILING_INCOMPLETE, f"{given} needs {missing} too.", param=missing
        )
    if request.provider is not None:
        if low is not None and request.provider.max_price is not None:
            raise wrong(
                "provider.max_price", f"{_INPUT} and provider.max_price exclude each other."
            )
        put_wishes(wanted, request.provider)
    if low is not None and high is not None:
        scale = PUSD_PER_TOKEN_PER_CENT_PER_MILLION
        wanted.input_pusd_per_token_max = whole(_INPUT, low, 0, CEILING_CENTS_MAX) * scale
        wanted.output_pusd_per_token_max = whole(_OUTPUT, high, 0, CEILING_CENTS_MAX) * scale
    sticky = episode_id or request.session_id or request.prompt_cache_key
    if sticky:
        wanted.sticky_key = sticky
    if not wanted.ByteSize():
        return None
    wanted.is_ranked_by_sum = rules.dialect.is_ranked_by_sum
    return wanted


def _strategy_of(request: RoutedRequest) -> "router_pb2.Strategy.ValueType":
    """Return the strategy by either of its names.

    Raises:
        TurnpikeError: `INVALID_VALUE`: both are given and differ.
    """
    sort = router_pb2.STRATEGY_UNSPECIFIED
    if request.provider is not None:
        sort = request.provider.strategy
    if request.routing_strategy is None:
        return sort
    strategy = _STRATEGIES[request.routing_strategy]
    if sort not in (router_pb2.STRATEGY_UNSPECIFIED, strategy):
        raise wrong("provider.sort", "routing_strategy and provider.sort differ; send one.")
    return strategy


def episode_of(request: RoutedRequest, rules: ReadRules) -> str:
    """Return the episode that a request names, in the body or by header; empty for none.

    Raises:
        TurnpikeError: `INVALID_VALUE`: two differ, or one is no UUIDv7 of the past.
    """
    named = {
        "episode_id": request.episode_id,
        "tensorzero::episode_id": request.tensorzero_episode_id,
        "X-Episode-Id": rules.episode_id or None,
    }
    given = {name: value.lower() for name, value in named.items() if value is not None}
    if not given:
        return ""
    name, episode_id = next(iter(given.items()))
    if len(set(given.values())) > 1:
        raise wrong(name, f"{' and '.join(given)} differ; send one.")
    made_unix_ms = uuid7_unix_ms(episode_id)
    if made_unix_ms is None:
        raise wrong(name, f"{name} must be a UUID of version 7.")
    if made_unix_ms > rules.unix_ms() + EPISODE_AHEAD_MS_MAX:
        raise wrong(name, f"{name} lies in the future.")
    return episode_id
