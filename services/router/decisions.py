"""Choices of routes: made, stored, replayed and explained; pure.

A choice follows from a snapshot, the request's features, a seed and the loads that were compared,
and from nothing else: so it can be made again, bit for bit.
"""

from collections.abc import Iterator
from typing import Final

from services.router.candidates import Eligible, Features, eligible, worst_case_nusd
from services.router.chance import Chance, sticky_seed
from services.router.pricing import charge_nusd
from services.router.snapshots import Candidate, Snapshot
from services.router.strategies import InFlight, Ranking, estimate, order, rank
from turnpike.router.v1 import route_pb2, router_pb2

VERSION: Final = 1
"""Grows whenever a rule changes; a decision is replayed by the rules that made it."""


class ReplayError(ValueError):
    """A stored decision cannot be made again; the text says why."""


class Decision:
    """One choice; `first` is None when nobody may serve."""

    __slots__ = ("age_s", "eligible", "features", "first", "ranking", "seed", "snapshot")

    def __init__(
        self,
        snapshot: Snapshot,
        features: Features,
        *,
        seed: int,
        age_s: float,
        in_flight: InFlight,
    ) -> None:
        self.snapshot = snapshot
        self.features = features
        self.seed = seed
        self.age_s = age_s
        self.eligible: Eligible = eligible(snapshot, features, age_s)
        self.ranking: Ranking | None = None
        self.first: Candidate | None = None
        candidates = self.eligible.selection.candidates
        if len(candidates) == 1:
            self.first = candidates[0]
        elif candidates:
            self.ranking = self._ranked(Chance(seed), in_flight)
            self.first = self.ranking.first

    def _ranked(self, chance: Chance, in_flight: InFlight) -> Ranking:
        selection, features = self.eligible.selection, self.features
        return rank(selection, features, estimate(self.snapshot, features), chance, in_flight)

    @property
    def count(self) -> int:
        """How many may be tried."""
        routing = self.features.routing
        count = len(self.eligible.selection.candidates)
        return min(1, count) if routing is not None and routing.has_no_fallback else count

    def tries(self) -> Iterator[Candidate]:
        """Yield who may serve, in the order in which they are tried; who follows costs extra."""
        if self.first is None:
            return
        routing, count = self.features.routing, self.count
        if routing is None or not routing.preferred:
            yield self.first
            if count > 1:
                yield from self.order()[1:count]
        else:
            yield from self.order()[:count]

    def order(self) -> list[Candidate]:
        """Return all that may serve, in their order."""
        if self.ranking is None:
            return [] if self.first is None else [self.first]
        needed = estimate(self.snapshot, self.features)
        return order(self.eligible.selection, self.ranking, self.features, needed)

    def message(self, tried_first: str) -> route_pb2.Decision:
        """Return the choice as it is stored; `tried_first` is the deployment it led to."""
        features, ranking = self.features, self.ranking
        message = route_pb2.Decision(
            snapshot_id=self.snapshot.snapshot_id,
            version=VERSION,
            seed=self.seed,
            age_s=self.age_s,
            routing=b"" if features.routing is None else features.routing.SerializeToString(),
            features=sorted(features.needs),
            adapter=features.adapter,
            hold_nusd=features.hold_nusd,
            prompt_tokens_max=features.prompt_tokens_max,
            max_tokens=features.max_tokens,
            completion_tokens_max=features.completion_tokens_max,
            unit_count_max=features.unit_count_max,
            is_constrained=features.is_constrained,
            first=tried_first,
            sticky_seed=features.sticky_seed,
        )
        if ranking is not None:
            message.in_flight_counts.extend(ranking.in_flight)
            message.score = ranking.score
            message.band_count = len(ranking.band)
        if self.eligible.counts:
            message.excluded_counts.update(self.eligible.counts)
        return message

    def explained(self) -> Iterator[route_pb2.RankedCandidate]:
        """Yield what became of every candidate: those that are tried, then those left out."""
        features, needed = self.features, estimate(self.snapshot, self.features)
        ranking = self.ranking
        scores: dict[str, int] = {}
        band: set[str] = set()
        if self.first is not None:
            # Of one candidate nothing was drawn: it is scored here alone.
            ranking = ranking or self._ranked(Chance(self.seed), lambda _: 0)
            names = [each.name for each in ranking.among.candidates]
            scores = dict(zip(names, ranking.scores, strict=True))
            band = {names[index] for index in ranking.band}
        tried = list(self.tries())
        reasons = self.eligible.reasons
        named = {each.name for each in tried}
        others = [each for each in self.snapshot.candidates if each.name not in named]
        for each in (*tried, *others):
            yield route_pb2.RankedCandidate(
                deployment=each.name,
                excluded_reason=reasons.get(each.name, "" if each.name in named else "fallbacks"),
                score=scores.get(each.name, 0),
                is_in_band=each.name in band,
                estimated_nusd=charge_nusd(
                    each.price,
                    prompt_tokens=needed.prompt_tokens,
                    completion_tokens=needed.answer_tokens,
                    units=features.unit_count_max,
                ),
                worst_case_nusd=worst_case_nusd(each.price, features),
                rest_s=max(0.0, each.rest_s - self.age_s),
            )


def replayed(message: route_pb2.Decision, snapshot: Snapshot) -> Decision:
    """Make a stored choice again.

    Raises:
        ReplayError: It was made by other rules or from another snapshot.
    """
    if message.version != VERSION:
        raise ReplayError(f"It was made by version {message.version} of the rules, not {VERSION}.")
    if message.snapshot_id != snapshot.snapshot_id:
        raise ReplayError(f"It was made from the snapshot {message.snapshot_id}.")
    loads = iter(message.in_flight_counts)
    features = Features(
        needs=frozenset(message.features),
        adapter=message.adapter,
        hold_nusd=message.hold_nusd,
        prompt_tokens_max=message.prompt_tokens_max,
        max_tokens=message.max_tokens,
        completion_tokens_max=message.completion_tokens_max,
        unit_count_max=message.unit_count_max,
        routing=router_pb2.Routing.FromString(message.routing) if message.routing else None,
        sticky_seed=message.sticky_seed,
        is_constrained=message.is_constrained,
    )
    return Decision(
        snapshot,
        features,
        seed=message.seed,
        age_s=message.age_s,
        in_flight=lambda _: next(loads, 0),
    )


def _without_sticky_key(routing: router_pb2.Routing) -> router_pb2.Routing | None:
    """Return the other wishes: the key is the caller's own word, and no two sessions share it."""
    others = router_pb2.Routing()
    others.CopyFrom(routing)
    others.ClearField("sticky_key")
    return others if others.ByteSize() else None


def features_of(envelope: router_pb2.Envelope, *, is_constrained: bool) -> Features:
    """Return what of an envelope decides about its route."""
    needs, routing, sticky = envelope.features, None, b""
    if envelope.HasField("routing"):
        routing = envelope.routing
        if routing.sticky_key:
            sticky = sticky_seed(envelope.account_id, routing.sticky_key)
            routing = _without_sticky_key(routing)
    return Features(
        frozenset(needs) if needs else _NOTHING,
        envelope.adapter,
        # Whoever serves is charged by the quote's prices, which the hold was taken at.
        _UNBOUNDED_NUSD if envelope.HasField("price_cap") else envelope.hold_nusd,
        envelope.prompt_tokens_max,
        envelope.max_tokens,
        envelope.completion_tokens_max,
        envelope.unit_count_max,
        routing,
        sticky,
        is_constrained,
    )


_NOTHING: Final[frozenset[str]] = frozenset()
_UNBOUNDED_NUSD: Final = 2**62
