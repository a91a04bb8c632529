"""Takes the snapshots that routes are chosen from, and no more often than they are needed."""

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from kit.clock import Clock
from kit.ids import Uuid7Source
from services.router.catalog import Deployment, Model
from services.router.fleet import Fleet
from services.router.snapshots import Candidate, Snapshot, candidate_message
from services.router.speed import PROMPT_TOKENS, SAMPLES_MIN, UNKNOWN
from turnpike.router.v1 import route_pb2

FIGURES_S: Final = 0.25
"""New figures of speed wait so long before they count; health counts at once."""

QUIET_S: Final = 5.0
"""A snapshot that nothing new was measured for is used so long."""

ANSWER_WEIGHT: Final = 0.05
ANSWER_TOKENS: Final = 256
"""How long an answer is taken to be before any was seen, tokens."""

_UNKNOWN_FIGURES: Final = (UNKNOWN,) * (len(PROMPT_TOKENS) + 1)


class Taken(NamedTuple):
    """A snapshot, when it was taken, and the state of things that it shows."""

    snapshot: Snapshot
    taken_s: float
    revision: int
    model: Model
    deployments: Mapping[str, Deployment]


class SnapshotKeeper:
    """The latest snapshot of each model; `answered` tells it how answers turn out."""

    def __init__(self, fleet: Fleet, clock: Clock) -> None:
        self._fleet = fleet
        self._clock = clock
        self._ids = Uuid7Source()
        self._new_id: Callable[[], str] = lambda: self._ids.new(clock.unix_ms())
        self._taken: dict[str, Taken] = {}
        self._answer_tokens: dict[str, float] = {}
        self._measured: set[str] = set()

    def of(self, model: Model, now_s: float) -> Taken:
        """Return the snapshot of a model to choose from at this loop time."""
        taken = self._taken.get(model.model_id)
        if taken is not None and taken.revision == self._fleet.revision and taken.model is model:
            age_s = now_s - taken.taken_s
            if age_s < FIGURES_S or (age_s < QUIET_S and model.model_id not in self._measured):
                return taken
        snapshot = Snapshot(self._message(model, now_s))
        deployments = {each.name: each for each in model.deployments}
        taken = Taken(snapshot, now_s, self._fleet.revision, model, deployments)
        self._taken[model.model_id] = taken
        self._measured.discard(model.model_id)
        return taken

    def answered(self, model: Model, tokens: int) -> None:
        """Take the length of an answer, after its deployment was measured."""
        model_id = model.model_id
        known = self._answer_tokens.get(model_id)
        self._answer_tokens[model_id] = (
            float(tokens) if known is None else known + ANSWER_WEIGHT * (tokens - known)
        )
        self._measured.add(model_id)

    def keep_only(self, model_ids: frozenset[str]) -> None:
        """Forget models that are no longer offered."""
        for known in (self._taken, self._answer_tokens):
            for model_id in known.keys() - model_ids:
                del known[model_id]
        self._measured &= model_ids

    def _message(self, model: Model, now_s: float) -> route_pb2.Snapshot:
        tokens = self._answer_tokens.get(model.model_id, ANSWER_TOKENS)
        return route_pb2.Snapshot(
            snapshot_id=self._new_id(),
            model_id=model.model_id,
            unix_ms=self._clock.unix_ms(),
            prompt_tokens_per_kilobyte_max=model.prompt_tokens_per_kilobyte_max,
            answer_tokens=max(1, round(tokens)),
            candidates=[
                candidate_message(self._candidate(deployment, now_s))
                for deployment in model.deployments
            ],
        )

    def _candidate(self, deployment: Deployment, now_s: float) -> Candidate:
        member = self._fleet.member(deployment)
        rest_s, figures, rate, is_stale, flaws = math.inf, _UNKNOWN_FIGURES, 0.0, True, 0
        if member is not None:
            speed = member.speed
            rest_s = member.breaker.rest_s(now_s)
            is_stale = speed.is_stale(now_s)
            flaws = member.open_failures.weight(now_s)
            if speed.sample_count >= SAMPLES_MIN:
                figures, rate = tuple(speed.ttft_s), speed.tokens_per_s
        return Candidate(
            name=deployment.name,
            provider=deployment.provider,
            type=deployment.type,
            priority=deployment.priority,
            price=deployment.price,
            features=deployment.capabilities,
            adapters=deployment.adapters,
            facts=deployment.facts,
            rest_s=rest_s,
            ttft_s=figures,
            tokens_per_s=rate,
            is_stale=is_stale,
            open_failure_count=flaws,
        )
