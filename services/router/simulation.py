"""Recorded traffic, played against other strategies, prices and outages; pure.

The rules that choose, the breakers and the averages are the router's own; only what upstreams would
have done is made up: as fast as the sample saw them, or as their type usually is, with some
scatter. One seed, one result.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from services.router.candidates import Features
from services.router.catalog import Catalogue, Deployment, Model
from services.router.chance import Chance
from services.router.decisions import Decision
from services.router.health import Breaker
from services.router.pricing import charge_nusd
from services.router.snapshot_keeper import ANSWER_TOKENS, FIGURES_S
from services.router.snapshots import Candidate, Snapshot, candidate_message
from services.router.speed import PRIORS, PROMPT_TOKENS, SAMPLES_MIN, UNKNOWN, Speed
from turnpike.router.v1 import route_pb2, router_pb2

ATTEMPTS_MAX: Final = 3
FAILURE_S: Final = 0.05
"""How long a call takes that fails."""

SCATTER_PERCENT: Final = 25
_HOLD_NUSD: Final = 10**15
_PARTS: Final = 1_000_000
STRATEGIES: Final = {
    "balanced": router_pb2.STRATEGY_BALANCED,
    "cheapest": router_pb2.STRATEGY_CHEAPEST,
    "fastest": router_pb2.STRATEGY_FASTEST,
}


class Traffic(NamedTuple):
    """One request of a sample, without a word of its content; times from the sample's start.

    `deployment`, `ttft_s` and `tokens_per_s` are what happened, where that is known.
    """

    start_s: float
    model_id: str
    prompt_tokens: int
    max_tokens: int
    completion_tokens: int
    strategy: str = "balanced"
    needs: frozenset[str] = frozenset()
    deployment: str = ""
    ttft_s: float = 0.0
    tokens_per_s: float = 0.0


class Outage(NamedTuple):
    """A span in which every call of a deployment fails."""

    deployment: str
    from_s: float
    to_s: float


class World(NamedTuple):
    """What is changed; an empty `strategy` keeps each request's own."""

    strategy: str = ""
    outages: Sequence[Outage] = ()
    seed: int = 1


class Result(NamedTuple):
    """What came of a simulation; times in seconds, by percent of the requests served."""

    request_count: int
    served_count: int
    attempt_count: int
    cost_nusd: int
    ttft_s: Mapping[int, float]
    duration_s: Mapping[int, float]
    shares: Mapping[str, int]


class _Upstream:
    """One deployment: what the router knows of it, and what it really does."""

    def __init__(self, deployment: Deployment, truth: tuple[float, float]) -> None:
        self.deployment = deployment
        self.ttft_s, self.tokens_per_s = truth
        self.speed = Speed()
        self.is_changed = True
        self.breaker = Breaker(self._changed)
        self.in_flight = 0

    def _changed(self) -> None:
        self.is_changed = True

    def candidate(self, now_s: float) -> Candidate:
        """Return it as a snapshot shows it."""
        place, speed = self.deployment, self.speed
        is_known = speed.sample_count >= SAMPLES_MIN
        return Candidate(
            name=place.name,
            provider=place.provider,
            type=place.type,
            priority=place.priority,
            price=place.price,
            features=place.capabilities,
            adapters=place.adapters,
            facts=place.facts,
            rest_s=self.breaker.rest_s(now_s),
            ttft_s=tuple(speed.ttft_s) if is_known else (UNKNOWN,) * (len(PROMPT_TOKENS) + 1),
            tokens_per_s=speed.tokens_per_s if is_known else 0.0,
            is_stale=speed.is_stale(now_s),
            open_failure_count=0,
        )


class Simulation:
    """Plays a sample once."""

    def __init__(self, catalogue: Catalogue, sample: Sequence[Traffic], world: World) -> None:
        self._catalogue = catalogue
        self._sample = sorted(sample, key=lambda each: each.start_s)
        self._world = world
        self._chance = Chance(world.seed)
        truths = _truths(self._sample)
        self._upstreams = {
            place.name: _Upstream(place, truths.get(place.name, PRIORS[place.type]))
            for model in catalogue.models
            for place in model.deployments
        }
        self._ends: list[tuple[float, int, str]] = []
        self._taken: dict[str, tuple[float, Snapshot]] = {}
        self._counts: Counter[str] = Counter()
        self._shares: Counter[str] = Counter()
        self._ttfts_s: list[float] = []
        self._durations_s: list[float] = []

    def run(self) -> Result:
        """Return what came of it."""
        for number, each in enumerate(self._sample):
            self._pass_time(each.start_s)
            model = self._catalogue.find(each.model_id)
            if model is not None:
                self._serve(number, model, each)
        return Result(
            request_count=len(self._sample),
            served_count=self._counts["served"],
            attempt_count=self._counts["attempts"],
            cost_nusd=self._counts["cost_nusd"],
            ttft_s=_percentiles(self._ttfts_s),
            duration_s=_percentiles(self._durations_s),
            shares=dict(sorted(self._shares.items())),
        )

    def _serve(self, number: int, model: Model, each: Traffic) -> None:
        now_s = each.start_s
        taken_s, snapshot = self._snapshot(model, now_s)
        decision = Decision(
            snapshot,
            _features(each, self._world.strategy or each.strategy),
            seed=self._chance.below(2**64),
            age_s=now_s - taken_s,
            in_flight=lambda name: self._upstreams[name].in_flight,
        )
        for count, candidate in enumerate(decision.tries(), 1):
            upstream = self._upstreams[candidate.name]
            self._counts["attempts"] += 1
            upstream.breaker.claim()
            if not self._is_down(candidate.name, now_s):
                self._answer(number, upstream, each, now_s)
                return
            now_s += FAILURE_S
            upstream.breaker.failed(now_s)
            if count == ATTEMPTS_MAX:
                return

    def _answer(self, number: int, upstream: _Upstream, each: Traffic, now_s: float) -> None:
        ttft_s = upstream.ttft_s * self._scatter()
        duration_s = ttft_s + each.completion_tokens / (upstream.tokens_per_s * self._scatter())
        end_s = now_s + duration_s
        upstream.breaker.succeeded(now_s)
        upstream.speed.measured(
            prompt_tokens=each.prompt_tokens,
            ttft_s=ttft_s,
            duration_s=duration_s,
            tokens=each.completion_tokens,
            now_s=now_s,
        )
        upstream.in_flight += 1
        heapq.heappush(self._ends, (end_s, number, upstream.deployment.name))
        self._counts["served"] += 1
        self._counts["cost_nusd"] += charge_nusd(
            upstream.deployment.price,
            prompt_tokens=each.prompt_tokens,
            completion_tokens=each.completion_tokens,
        )
        self._shares[upstream.deployment.name] += 1
        self._ttfts_s.append(now_s - each.start_s + ttft_s)
        self._durations_s.append(end_s - each.start_s)

    def _snapshot(self, model: Model, now_s: float) -> tuple[float, Snapshot]:
        places = [self._upstreams[place.name] for place in model.deployments]
        known = self._taken.get(model.model_id)
        is_fresh = known is not None and now_s - known[0] < FIGURES_S
        if known is not None and is_fresh and not any(place.is_changed for place in places):
            return known
        for place in places:
            place.is_changed = False
        message = route_pb2.Snapshot(
            snapshot_id=f"{model.model_id}@{now_s}",
            model_id=model.model_id,
            prompt_tokens_per_kilobyte_max=model.prompt_tokens_per_kilobyte_max,
            answer_tokens=ANSWER_TOKENS,
            candidates=[candidate_message(place.candidate(now_s)) for place in places],
        )
        self._taken[model.model_id] = now_s, Snapshot(message)
        return self._taken[model.model_id]

    def _pass_time(self, now_s: float) -> None:
        while self._ends and self._ends[0][0] <= now_s:
            _, _, name = heapq.heappop(self._ends)
            self._upstreams[name].in_flight -= 1

    def _is_down(self, name: str, now_s: float) -> bool:
        return any(
            outage.deployment == name and outage.from_s <= now_s < outage.to_s
            for outage in self._world.outages
        )

    def _scatter(self) -> float:
        part = self._chance.below(2 * _PARTS + 1) / _PARTS - 1
        return 1 + part * SCATTER_PERCENT / 100


def _features(each: Traffic, strategy: str) -> Features:
    return Features(
        needs=each.needs,
        adapter="",
        hold_nusd=_HOLD_NUSD,
        prompt_tokens_max=each.prompt_tokens,
        max_tokens=each.max_tokens,
        completion_tokens_max=each.max_tokens,
        unit_count_max=0,
        routing=router_pb2.Routing(strategy=STRATEGIES[strategy]),
    )


def _truths(sample: Iterable[Traffic]) -> dict[str, tuple[float, float]]:
    """Return how fast each deployment was in a sample: seconds to the first token, tokens/s."""
    seen: dict[str, list[Traffic]] = {}
    for each in sample:
        if each.deployment and each.tokens_per_s > 0:
            seen.setdefault(each.deployment, []).append(each)
    return {
        name: (
            math.fsum(each.ttft_s for each in rows) / len(rows),
            math.fsum(each.tokens_per_s for each in rows) / len(rows),
        )
        for name, rows in seen.items()
    }


def _percentiles(values: Sequence[float]) -> dict[int, float]:
    """Return the nearest-rank percentiles that are shown; none of nothing."""
    ordered = sorted(values)
    return {
        percent: ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]
        for percent in (50, 95)
        if ordered
    }
