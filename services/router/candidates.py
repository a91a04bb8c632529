"""Which deployments may serve a request, and why the others may not; pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from kit.errors import Reason, TurnpikeError
from services.router.capabilities import param_of
from services.router.catalog import Deployment, DeploymentType, Model
from services.router.pricing import charge_nusd
from turnpike.router.v1 import router_pb2

_CHEAPEST: Final = router_pb2.STRATEGY_CHEAPEST
_NOTHING: Final[frozenset[str]] = frozenset()
_BY_NAME: Final = "name"
"""The reason of who was not meant; such are not counted."""


class Choice(NamedTuple):
    """Candidates, and why others were excluded, counted by reason.

    `waits_s` has one entry for each that is not healthy: how long it still rests, seconds.
    `missing` are the features that an otherwise fitting deployment lacks.
    """

    deployments: list[Deployment]
    excluded: Mapping[str, int]
    waits_s: Sequence[float]
    missing: frozenset[str]


def choose(
    model: Model,
    envelope: router_pb2.Envelope,
    *,
    wait_s: Callable[[Deployment, float], float],
    now_s: float,
) -> Choice:
    """Return the candidates for one request, in the catalogue's order.

    `wait_s` tells for how long from `now_s` a deployment must be left alone, 0 when it may be
    called. The hold is a ceiling: who could cost more is excluded.
    """
    found: list[Deployment] = []
    excluded: dict[str, int] = {}
    waits_s: list[float] = []
    missing = _NOTHING
    features = envelope.features
    needs = frozenset(features) if features else _NOTHING
    wished = envelope.routing if envelope.HasField("routing") else None
    has_wishes = wished is not None or envelope.adapter != ""
    hold_nusd, prompt_tokens = envelope.hold_nusd, envelope.prompt_tokens_max
    completion_tokens, units = envelope.completion_tokens_max, envelope.unit_count_max
    for deployment in model.deployments:
        if has_wishes and (reason := _unwanted(deployment, envelope, wished)):
            pass
        elif needs and not needs <= deployment.capabilities:
            reason = "parameters"
            missing |= needs - deployment.capabilities
        elif hold_nusd < charge_nusd(
            deployment.price,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            units=units,
        ):
            reason = "price"
        elif (left_s := wait_s(deployment, now_s)) > 0:
            reason = "health"
            waits_s.append(left_s)
        else:
            found.append(deployment)
            continue
        if reason != _BY_NAME:
            excluded[reason] = excluded.get(reason, 0) + 1
    return Choice(found, excluded, waits_s, missing)


def _unwanted(
    deployment: Deployment, envelope: router_pb2.Envelope, routing: router_pb2.Routing | None
) -> str:
    """Return why the caller does not want a deployment; empty when it may serve."""
    if envelope.adapter and envelope.adapter not in deployment.adapters:
        return _BY_NAME
    if routing is None:
        return ""
    if routing.deployments and deployment.name not in routing.deployments:
        return _BY_NAME
    is_allowed = routing.strategy != _CHEAPEST
    if routing.HasField("is_external_allowed"):
        is_allowed = routing.is_external_allowed
    if deployment.type is DeploymentType.EXTERNAL and not is_allowed:
        return "external"
    price = deployment.price
    if routing.HasField("input_pusd_per_token_max") and (
        price.input_pusd_per_token > routing.input_pusd_per_token_max
        or price.output_pusd_per_token > routing.output_pusd_per_token_max
        or price.request_pusd
        or price.unit_pusd
    ):
        return "ceiling"
    return ""


def none_available(model: Model, choice: Choice) -> TurnpikeError:
    """Return the refusal of a request that nobody can serve.

    When only its parameters stand in the way the request has to change; else it may be repeated.
    """
    counts = dict(sorted(choice.excluded.items()))
    if list(counts) == ["parameters"]:
        param = min(param_of(feature) for feature in choice.missing)
        return TurnpikeError(
            Reason.UNSUPPORTED_PARAMETER,
            f"No route of {model.model_id} supports {', '.join(sorted(choice.missing))}.",
            param=param,
        )
    reasons = ",".join(f"{name}={count}" for name, count in counts.items())
    metadata = {"excluded": reasons}
    if choice.waits_s:
        metadata["retry_after_s"] = str(max(1, round(min(choice.waits_s))))
    return TurnpikeError(
        Reason.NO_PROVIDERS_AVAILABLE,
        f"No provider of {model.model_id} is available ({reasons or 'none is configured'}).",
        **metadata,
    )
