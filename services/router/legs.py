"""The models that may answer a request, one after the other, and who of each is tried.

Nearly always there is one. A further one is looked at only when nobody of those before gave an
answer, and then with the bounds that the gateway worked out for it.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from kit.errors import Reason, TurnpikeError
from services.router.candidates import none_available
from services.router.catalog import Catalogue, Deployment, Model
from services.router.decisions import Decision, features_of
from services.router.snapshot_keeper import SnapshotKeeper, Taken
from services.router.strategies import InFlight
from turnpike.router.v1 import router_pb2


class Leg(NamedTuple):
    """One model's turn: what is asked of it, and the choice among its deployments."""

    envelope: router_pb2.Envelope
    model: Model
    taken: Taken
    decision: Decision


class Try(NamedTuple):
    """One deployment's turn; `left` is how many share the time that is left, this one included."""

    leg: Leg
    deployment: Deployment
    left: int


class Legs:
    """Makes the choices of a request."""

    def __init__(
        self,
        *,
        catalogue: Callable[[], Catalogue],
        snapshots: SnapshotKeeper,
        in_flight: InFlight,
        seed: Callable[[int], int],
        attempts_max: int,
    ) -> None:
        self._catalogue = catalogue
        self._snapshots = snapshots
        self._in_flight = in_flight
        self._seed = seed
        self._attempts_max = attempts_max
        self._generation = 0

    def decided(self, envelope: router_pb2.Envelope, now_s: float, *, is_constrained: bool) -> Leg:
        """Return the choice among a model's deployments, which may be nobody.

        Raises:
            TurnpikeError: `MODEL_NOT_FOUND` or `INVALID_VALUE`.
        """
        catalogue = self._catalogue()
        if catalogue.generation != self._generation:
            self._generation = catalogue.generation
            self._snapshots.keep_only(frozenset(each.model_id for each in catalogue.models))
        model = catalogue.find(envelope.model_id)
        if model is None:
            raise TurnpikeError(
                Reason.MODEL_NOT_FOUND, f"There is no model {envelope.model_id}.", param="model"
            )
        if envelope.operation not in model.operations:
            raise TurnpikeError(
                Reason.INVALID_VALUE, f"{model.model_id} does not serve this.", param="model"
            )
        taken = self._snapshots.of(model, now_s)
        decision = Decision(
            taken.snapshot,
            features_of(envelope, is_constrained=is_constrained),
            seed=self._seed(64),
            age_s=now_s - taken.taken_s,
            in_flight=self._in_flight,
        )
        return Leg(envelope, model, taken, decision)

    def tries(
        self, envelope: router_pb2.Envelope, now_s: float, *, is_constrained: bool
    ) -> Iterator[Try]:
        """Return who is tried, in order.

        Raises:
            TurnpikeError: Nobody can be: what stands in the way for the first model. With further
                models it is raised when the first one is asked for.
        """
        if envelope.fallback_models:
            return self._over_models(envelope, now_s, is_constrained=is_constrained)
        leg = self._able(envelope, now_s, is_constrained=is_constrained)
        if leg.decision.ranking is None and leg.decision.first is not None:
            # One deployment is the usual case, and needs no generators.
            return iter((Try(leg, leg.taken.deployments[leg.decision.first.name], 1),))
        return self._of(leg, 0)

    def _able(self, envelope: router_pb2.Envelope, now_s: float, *, is_constrained: bool) -> Leg:
        """Return a choice among a model's deployments which is somebody.

        Raises:
            TurnpikeError: Nobody may serve.
        """
        leg = self.decided(envelope, now_s, is_constrained=is_constrained)
        decision = leg.decision
        if decision.first is None:
            raise none_available(leg.taken.snapshot, decision.features, decision.eligible)
        return leg

    def _of(self, leg: Leg, others: int) -> Iterator[Try]:
        """Yield who of one model is tried; `others` are models that may have to be."""
        decision = leg.decision
        count = min(decision.count, self._attempts_max)
        for place, candidate in enumerate(islice(decision.tries(), count)):
            deployment = leg.taken.deployments[candidate.name]
            yield Try(leg, deployment, count - place + others)

    def _over_models(
        self, envelope: router_pb2.Envelope, now_s: float, *, is_constrained: bool
    ) -> Iterator[Try]:
        refusal: TurnpikeError | None = None
        has_tried = False
        others = len(envelope.fallback_models)
        for number, asked in enumerate(_envelopes(envelope)):
            try:
                leg = self._able(asked, now_s, is_constrained=is_constrained)
            except TurnpikeError as error:
                refusal = refusal or error
                continue
            has_tried = True
            yield from self._of(leg, others - number)
        if refusal is not None and not has_tried:
            raise refusal


def _envelopes(envelope: router_pb2.Envelope) -> Iterator[router_pb2.Envelope]:
    """Yield what is asked of each model."""
    yield envelope
    for other in envelope.fallback_models:
        changed = router_pb2.Envelope()
        changed.CopyFrom(envelope)
        changed.ClearField("fallback_models")
        changed.model_id = other.model_id
        changed.max_tokens = other.max_tokens
        changed.prompt_tokens_max = other.prompt_tokens_max
        changed.completion_tokens_max = other.completion_tokens_max
        changed.adapter = other.adapter
        if changed.HasField("routing") or other.deployments:
            changed.routing.ClearField("deployments")
            changed.routing.deployments.extend(other.deployments)
        yield changed
