"""A model's deployments at one moment, as routes are chosen from them; pure.

A snapshot never changes. What of it does not depend on the request is worked out once, so that a
choice among many costs little.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from services.router.catalog import DeploymentType
from services.router.chance import name_hash
from services.router.pricing import PriceRow
from services.router.speed import PRIORS, UNKNOWN
from services.router.usage_events import price_message
from turnpike.router.v1 import route_pb2

KEPT_SELECTIONS_MAX: Final = 64
"""Most answers to "who can do this" that one snapshot remembers."""


class Candidate(NamedTuple):
    """One deployment; `rest_s` is how long it may not be called, counted from the snapshot.

    `ttft_s` is by size of prompt, `tokens_per_s` is 0 where nothing was measured.
    """

    name: str
    provider: str
    type: DeploymentType
    priority: int
    price: PriceRow
    features: frozenset[str]
    adapters: tuple[str, ...]
    facts: frozenset[str]
    rest_s: float
    ttft_s: tuple[float, ...]
    tokens_per_s: float
    is_stale: bool
    open_failure_count: int

    def predicted_s(self, size: int, tokens: int) -> float:
        """Return how long an answer of so many tokens will take to a prompt of this size."""
        ttft_s, rate = PRIORS[self.type]
        if self.tokens_per_s > 0:
            rate = self.tokens_per_s
            ttft_s = self.ttft_s[size]
            if ttft_s < 0:
                ttft_s = max(self.ttft_s)
        return ttft_s + tokens / rate


class Selection:
    """Candidates that can do the same things, with their figures side by side.

    `ceiling` is the price that no candidate exceeds in any figure but the unit's. `favoured` are
    those that the owner prefers: by its own order, then native before quota before external.
    """

    __slots__ = (
        "_favoured",
        "_predicted_us",
        "candidates",
        "ceiling",
        "fees",
        "has_open_failures",
        "has_stale",
        "hashes",
        "inputs",
        "outputs",
    )

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.inputs = [each.price.input_pusd_per_token for each in candidates]
        self.outputs = [each.price.output_pusd_per_token for each in candidates]
        self.fees = [each.price.request_pusd for each in candidates]
        self.ceiling = PriceRow(
            "",
            max(self.inputs, default=0),
            max(self.outputs, default=0),
            max(self.fees, default=0),
        )
        self.hashes = [name_hash(each.name) for each in candidates]
        self.has_stale = any(each.is_stale for each in candidates)
        self.has_open_failures = any(each.open_failure_count for each in candidates)
        self._favoured: Selection | None = None
        self._predicted_us: dict[tuple[int, int], Sequence[int]] = {}

    def predicted_us(self, size: int, tokens: int) -> Sequence[int]:
        """Return how long each takes for so many tokens after a prompt of this size, µs."""
        found = self._predicted_us.get((size, tokens))
        if found is None:
            found = [round(each.predicted_s(size, tokens) * 1_000_000) for each in self.candidates]
            if len(self._predicted_us) < KEPT_SELECTIONS_MAX:
                self._predicted_us[size, tokens] = found
        return found

    @property
    def favoured(self) -> "Selection":
        """Those that the owner prefers; itself when it prefers none."""
        if self._favoured is None:
            best = min(map(rank_of_owner, self.candidates))
            same = [each for each in self.candidates if rank_of_owner(each) == best]
            is_all = len(same) == len(self.candidates)
            self._favoured = self if is_all else Selection(same)
        return self._favoured


def rank_of_owner(candidate: Candidate) -> tuple[int, int]:
    """Return what the owner prefers: its own order first, then native, quota, external."""
    return candidate.priority, candidate.type


class Snapshot:
    """The deployments of one model.

    `answer_tokens` is how long an answer usually is; `remembered` is who can do what, by kind of
    request.
    """

    __slots__ = (
        "answer_tokens",
        "candidates",
        "data",
        "is_resting",
        "model_id",
        "prompt_tokens_per_kilobyte_max",
        "remembered",
        "snapshot_id",
        "unix_ms",
    )

    def __init__(self, message: route_pb2.Snapshot) -> None:
        self.snapshot_id = message.snapshot_id
        self.model_id = message.model_id
        self.unix_ms = message.unix_ms
        self.prompt_tokens_per_kilobyte_max = message.prompt_tokens_per_kilobyte_max
        self.answer_tokens = message.answer_tokens
        self.candidates = tuple(map(_candidate, message.candidates))
        self.is_resting = any(each.rest_s > 0 for each in self.candidates)
        self.remembered: dict[object, Any] = {}
        self.data = message.SerializeToString(deterministic=True)

    def remember(self, key: object, found: object) -> None:
        """Keep what was found for requests of one kind."""
        if len(self.remembered) >= KEPT_SELECTIONS_MAX:
            self.remembered.clear()
        self.remembered[key] = found


def candidate_message(candidate: Candidate) -> route_pb2.Candidate:
    """Return a candidate as it is stored."""
    return route_pb2.Candidate(
        deployment=candidate.name,
        provider=candidate.provider,
        capacity=_CAPACITIES[candidate.type],
        priority=candidate.priority,
        price=price_message(candidate.price),
        features=sorted(candidate.features),
        adapters=candidate.adapters,
        facts=sorted(candidate.facts),
        rest_s=candidate.rest_s,
        ttft_s=candidate.ttft_s,
        tokens_per_s=candidate.tokens_per_s,
        is_stale=candidate.is_stale,
        open_failure_count=candidate.open_failure_count,
    )


_CAPACITIES: Final = {
    DeploymentType.NATIVE: route_pb2.CAPACITY_UNSPECIFIED,
    DeploymentType.QUOTA: route_pb2.CAPACITY_QUOTA,
    DeploymentType.EXTERNAL: route_pb2.CAPACITY_EXTERNAL,
}


def _candidate(message: route_pb2.Candidate) -> Candidate:
    price = message.price
    return Candidate(
        name=message.deployment,
        provider=message.provider,
        type=DeploymentType(message.capacity),
        priority=message.priority,
        price=PriceRow(
            price.price_id,
            price.input_pusd_per_token,
            price.output_pusd_per_token,
            price.request_pusd,
            price.unit_pusd,
            price.unit,
        ),
        features=frozenset(message.features),
        adapters=tuple(message.adapters),
        facts=frozenset(message.facts),
        rest_s=message.rest_s,
        ttft_s=tuple(message.ttft_s) or (UNKNOWN,),
        tokens_per_s=message.tokens_per_s,
        is_stale=message.is_stale,
        open_failure_count=message.open_failure_count,
    )
