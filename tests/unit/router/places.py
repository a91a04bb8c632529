"""Candidates, snapshots and requests for tests of routing."""

from collections.abc import Iterable
from random import Random
from typing import Any

from services.router.candidates import Features
from services.router.catalog import DeploymentType
from services.router.decisions import Decision, features_of
from services.router.pricing import PriceRow
from services.router.snapshots import Candidate, Snapshot, candidate_message
from services.router.speed import PROMPT_TOKENS, UNKNOWN
from turnpike.router.v1 import route_pb2, router_pb2

NATIVE, QUOTA, EXTERNAL = DeploymentType
CHEAPEST = router_pb2.STRATEGY_CHEAPEST
FASTEST = router_pb2.STRATEGY_FASTEST
BALANCED = router_pb2.STRATEGY_BALANCED
SIZES = len(PROMPT_TOKENS) + 1


def place(name: str, price: int = 100, **more: Any) -> Candidate:
    """Return a healthy candidate that sells tokens at one price, pico-USD."""
    usual = Candidate(
        name=name,
        provider=f"{name}-provider",
        type=NATIVE,
        priority=0,
        price=PriceRow("p", price, price),
        features=frozenset({"tools"}),
        adapters=(),
        facts=frozenset(),
        rest_s=0.0,
        ttft_s=(UNKNOWN,) * SIZES,
        tokens_per_s=0.0,
        is_stale=False,
        open_failure_count=0,
    )
    return usual._replace(**more)


def snapshot(*places: Candidate, answer_tokens: int = 256) -> Snapshot:
    """Return a snapshot of these."""
    return Snapshot(
        route_pb2.Snapshot(
            snapshot_id="s",
            model_id="m",
            prompt_tokens_per_kilobyte_max=512,
            answer_tokens=answer_tokens,
            candidates=map(candidate_message, places),
        )
    )


def asked(features: tuple[str, ...] = (), *, adapter: str = "", **routing: Any) -> Features:
    """Return what a request decides by; `routing` are fields of the message."""
    envelope = router_pb2.Envelope(
        account_id=routing.pop("account_id", "a"),
        hold_nusd=routing.pop("hold_nusd", 10**9),
        max_tokens=100,
        prompt_tokens_max=routing.pop("prompt_tokens_max", 100),
        completion_tokens_max=100,
        features=features,
        adapter=adapter,
    )
    is_constrained = routing.pop("is_constrained", False)
    if routing:
        envelope.routing.CopyFrom(router_pb2.Routing(**routing))
    return features_of(envelope, is_constrained=is_constrained)


def decided(
    features: Features,
    places: Iterable[Candidate] | Snapshot,
    *,
    seed: int = 1,
    age_s: float = 0.0,
    **loads: int,
) -> Decision:
    """Return the choice among some places."""
    from_ = places if isinstance(places, Snapshot) else snapshot(*places)
    drawn = Random(seed).getrandbits(64)
    return Decision(
        from_, features, seed=drawn, age_s=age_s, in_flight=lambda name: loads.get(name, 0)
    )


def tried(features: Features, places: Iterable[Candidate] | Snapshot, **more: Any) -> list[str]:
    """Return the names of those that are tried, in their order."""
    return [each.name for each in decided(features, places, **more).tries()]
