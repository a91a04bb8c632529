"""In which order candidates are tried: cheapest, fastest or balanced; pure.

The first is drawn from a band of equals, so that load and income are spread; the rest follow as
fallbacks. Source: `facts/features.md` section 3.2.
"""

import hashlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple

from services.router.catalog import Deployment
from services.router.speed import Speed
from turnpike.router.v1 import router_pb2

PRICE_BAND_PERCENT: Final = 20
TIME_BAND_PERCENT: Final = 10
ANSWER_TOKENS: Final = 256
"""How long an answer is taken to be, unless less is allowed."""


class View(NamedTuple):
    """What is known of deployments while a request is routed."""

    in_flight: Callable[[Deployment], int]
    speed: Callable[[Deployment], Speed]
    random: Random


def ranked(
    candidates: Sequence[Deployment], envelope: router_pb2.Envelope, view: View
) -> list[Deployment]:
    """Return the candidates in the order in which they are tried."""
    if len(candidates) < 2:
        return list(candidates)
    routing = envelope.routing
    if routing.strategy == router_pb2.STRATEGY_CHEAPEST:
        band, rest = _cheap(candidates, envelope)
        first = _stuck(band, envelope) or view.random.choice(band)
        return _led_by(first, [*band, *rest])
    if routing.strategy == router_pb2.STRATEGY_FASTEST:
        band, rest = _fast(candidates, envelope, view)
    else:
        best = min(_group(each) for each in candidates)
        same = [each for each in candidates if _group(each) == best]
        others = sorted((each for each in candidates if _group(each) != best), key=_group)
        band, rest = _cheap(same, envelope)
        rest = [*rest, *others]
    first = _stuck(band, envelope) or _less_busy(band, view)
    return _led_by(first, [*band, *rest])


def _group(deployment: Deployment) -> tuple[int, int]:
    """Return what the owner prefers: its own order first, then native, quota, external."""
    return deployment.priority, deployment.type


def _cheap(
    candidates: Sequence[Deployment], envelope: router_pb2.Envelope
) -> tuple[list[Deployment], list[Deployment]]:
    """Return who costs at most a fifth more than the cheapest, and the others by cost."""
    costs = {each.name: _cost_pusd(each, envelope) for each in candidates}
    ordered = sorted(candidates, key=lambda each: costs[each.name])
    limit = costs[ordered[0].name] * (100 + PRICE_BAND_PERCENT)
    count = sum(100 * costs[each.name] <= limit for each in ordered)
    return ordered[:count], ordered[count:]


def _cost_pusd(deployment: Deployment, envelope: router_pb2.Envelope) -> int:
    price = deployment.price
    if envelope.routing.is_ranked_by_sum:
        return price.input_pusd_per_token + price.output_pusd_per_token
    tokens = min(envelope.max_tokens, ANSWER_TOKENS)
    return (
        price.request_pusd
        + envelope.prompt_tokens_max * price.input_pusd_per_token
        + tokens * price.output_pusd_per_token
    )


def _fast(
    candidates: Sequence[Deployment], envelope: router_pb2.Envelope, view: View
) -> tuple[list[Deployment], list[Deployment]]:
    """Return who is predicted to take at most a tenth longer than the fastest, and the others."""
    tokens = min(envelope.max_tokens, ANSWER_TOKENS)
    times = {each.name: view.speed(each).predicted_s(each.type, tokens) for each in candidates}
    ordered = sorted(candidates, key=lambda each: times[each.name])
    limit = times[ordered[0].name] * (100 + TIME_BAND_PERCENT) / 100
    count = sum(times[each.name] <= limit for each in ordered)
    return ordered[:count], ordered[count:]


def _less_busy(band: Sequence[Deployment], view: View) -> Deployment:
    """Return the less busy of two that are drawn: power of two choices."""
    if len(band) == 1:
        return band[0]
    one, other = view.random.sample(list(band), 2)
    return one if view.in_flight(one) <= view.in_flight(other) else other


def _stuck(band: Sequence[Deployment], envelope: router_pb2.Envelope) -> Deployment | None:
    """Return whom the sticky key means: the highest hash of key and name (rendezvous)."""
    key = envelope.routing.sticky_key
    if not key:
        return None
    seed = f"{envelope.account_id}\0{key}\0"
    return max(band, key=lambda each: hashlib.blake2b((seed + each.name).encode()).digest())


def _led_by(first: Deployment, others: Sequence[Deployment]) -> list[Deployment]:
    return [first, *(each for each in others if each is not first)]
