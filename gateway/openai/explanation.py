"""How the choice of a route is told to a caller; pure."""

from typing import Any, Final

from kit.money import format_usd
from turnpike.router.v1 import route_pb2, router_pb2

_STRATEGIES: Final = {
    router_pb2.STRATEGY_UNSPECIFIED: "balanced",
    router_pb2.STRATEGY_CHEAPEST: "cheapest",
    router_pb2.STRATEGY_FASTEST: "fastest",
    router_pb2.STRATEGY_BALANCED: "balanced",
}


def explanation(
    found: router_pb2.ExplainRouteResponse, model_id: str, routing: router_pb2.Routing | None
) -> dict[str, Any]:
    """Return the JSON object for a choice; money is in USD, as exact decimals.

    `score` is pico-USD where price decides and microseconds where speed does.
    """
    decision, candidates = found.decision, found.candidates
    chosen = next((each for each in candidates if each.deployment == decision.first), None)
    strategy = router_pb2.STRATEGY_UNSPECIFIED if routing is None else routing.strategy
    return {
        "object": "route.explanation",
        "model": model_id,
        "strategy": _STRATEGIES.get(strategy, "balanced"),
        "score_unit": "us" if strategy == router_pb2.STRATEGY_FASTEST else "pusd",
        "deployment": decision.first or None,
        "quote": None if chosen is None else _quote(chosen),
        "candidates": [_candidate(each) for each in candidates],
        "excluded": dict(sorted(decision.excluded_counts.items())),
        "snapshot_id": decision.snapshot_id,
        "rules_version": decision.version,
        # A number of 64 bits is not safe in JSON.
        "seed": str(decision.seed),
    }


def _quote(candidate: route_pb2.RankedCandidate) -> dict[str, str]:
    return {
        "estimated_usd": format_usd(candidate.estimated_nusd),
        "worst_case_usd": format_usd(candidate.worst_case_nusd),
    }


def _candidate(candidate: route_pb2.RankedCandidate) -> dict[str, Any]:
    return {
        "deployment": candidate.deployment,
        "excluded": candidate.excluded_reason or None,
        "score": candidate.score,
        "is_in_band": candidate.is_in_band,
        **_quote(candidate),
        "retry_after_s": round(candidate.rest_s, 3) if candidate.rest_s < _FOR_EVER_S else None,
    }


_FOR_EVER_S: Final = 86_400.0
